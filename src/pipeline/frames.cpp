#include "pipeline/frames.h"

#include "media/png_writer.h"
#include "media/video_writer.h"
#include "opensora/error.h"
#include "pipeline/yuv.h"

namespace opensora::pipeline {

void check_finite_frames(const at::Tensor& frames, const std::string& what) {
  const at::Tensor finite = at::isfinite(frames).all();
  if (finite.is_meta() || finite.item<bool>()) return;
  throw NumericError(what + " is not finite; try --dtype bf16 or fp32, or check the autoencoder's weights");
}

at::Tensor rgb24_on_device(const at::Tensor& frames, int64_t t) {
  const at::Tensor frame = frames[0].select(1, t).to(at::kFloat).clamp(-1, 1);
  return ((frame + 1) * 127.5).round().to(at::kByte).permute({1, 2, 0}).contiguous();
}

at::Tensor to_rgb24(const at::Tensor& frames, int64_t t) { return to_host(rgb24_on_device(frames, t)); }

at::Tensor to_host(const at::Tensor& x) {
  if (x.is_cpu() || x.is_meta()) return x;
  return at::empty(x.sizes(), x.options().device(at::kCPU).pinned_memory(true)).copy_(x);
}

std::string encode_picture(const std::filesystem::path& path, const at::Tensor& rgb) {
  return media::encode_png(path, rgb.const_data_ptr<uint8_t>(), static_cast<int>(rgb.size(1)),
                           static_cast<int>(rgb.size(0)));
}

void write_frames(const FrameFile& file, int64_t count, const std::function<at::Tensor(int64_t t)>& frame,
                  const std::function<void(int64_t)>& written, const std::function<void(const StagedFile&)>& commit) {
  const auto finish = [&](const StagedFile& complete) {
    if (commit) return commit(complete);
    commit_together({&complete, 1});
  };
  const at::Tensor first = frame(0);
  media::VideoOptions video = file.video;
  video.height = static_cast<int>(first.size(0));
  video.width = static_cast<int>(first.size(1));
  if (count == 1) {
    const OutputFile output(file.path, file.overwrite);
    write_content(output.staged(), media::encode_png(file.path, to_host(first).const_data_ptr<uint8_t>(), video.width,
                                                     video.height, video.output_width, video.output_height));
    return finish(output.staged());
  }
  media::VideoWriter writer(file.path, video, file.overwrite);
  for (int64_t t = 0; t < count; ++t) {
    const at::Tensor rgb = t > 0 ? frame(t) : first;
    if (!rgb.is_cpu() && writer.takes_yuv420p()) {
      writer.write_yuv420p(to_host(to_yuv420p(rgb)).const_data_ptr<uint8_t>());
    } else {
      writer.write(to_host(rgb).const_data_ptr<uint8_t>());
    }
    written(t + 1);
  }
  finish(writer.complete());
}

}  // namespace opensora::pipeline
