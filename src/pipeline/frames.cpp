#include "pipeline/frames.h"

#include "media/png_writer.h"
#include "media/video_writer.h"
#include "opensora/error.h"

namespace opensora::pipeline {

void check_finite_frames(const at::Tensor& frames, const std::string& what) {
  if (at::isfinite(frames).all().item<bool>()) return;
  throw NumericError(what + " is not finite; try --dtype bf16 or fp32, or check the autoencoder's weights");
}

at::Tensor to_rgb24(const at::Tensor& frames, int64_t t) {
  const at::Tensor frame = frames[0].select(1, t).to(at::kFloat).clamp(-1, 1);
  return ((frame + 1) * 127.5).round().to(at::kByte).permute({1, 2, 0}).contiguous().cpu();
}

void write_picture(const std::filesystem::path& path, const at::Tensor& rgb, bool overwrite) {
  media::write_png(path, rgb.const_data_ptr<uint8_t>(), static_cast<int>(rgb.size(1)), static_cast<int>(rgb.size(0)),
                   overwrite);
}

void write_output(const GenerateRequest& request, const Plan& plan, const at::Tensor& frames, const StageClock& clock) {
  const int width = static_cast<int>(frames.size(4)), height = static_cast<int>(frames.size(3));
  const PixelSize scaled = request.output_size.value_or(PixelSize{});
  const int out_width = static_cast<int>(scaled.width), out_height = static_cast<int>(scaled.height);
  const int64_t count = frames.size(2);
  if (count == 1) {
    media::write_png(plan.output, to_rgb24(frames, 0).const_data_ptr<uint8_t>(), width, height, request.overwrite,
                     out_width, out_height);
    return;
  }
  media::VideoWriter writer(plan.output,
                            {.width = width,
                             .height = height,
                             .output_width = out_width,
                             .output_height = out_height,
                             .fps = static_cast<int>(request.config.fps_save),
                             .crf = request.crf,
                             .threads = request.threads},
                            request.overwrite);
  for (int64_t t = 0; t < count; ++t) {
    writer.write(to_rgb24(frames, t).const_data_ptr<uint8_t>());
    clock.report({"write", t + 1, count});
  }
  writer.finish();
}

}  // namespace opensora::pipeline
