#include "pipeline/preview.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <system_error>

#include "core/output_file.h"
#include "media/png_note.h"
#include "media/png_writer.h"
#include "opensora/error.h"
#include "pipeline/frames.h"

namespace opensora::pipeline {
namespace {

constexpr int64_t kLongEdge = 256;  // pixels

int scaled(int64_t edge, int64_t longest) {
  return static_cast<int>(longest <= kLongEdge ? edge : std::max<int64_t>(1, edge * kLongEdge / longest));
}

}  // namespace

std::filesystem::path preview_file(const std::filesystem::path& output) { return beside(output, ".preview.png"); }

Preview::Preview(const GenerateRequest& request, const Plan& plan, models::ModelSet& models)
    : every_(request.preview_every), file_(preview_file(plan.output)) {
  if (every_ > 0) decoder_ = models.video_autoencoder(autoencoder::Half::kDecoder, request.config.ae);
}

Preview::~Preview() {
  std::error_code ignored;
  if (written_) std::filesystem::remove(file_, ignored);
}

void Preview::after_step(int64_t step, int64_t steps, const std::function<at::Tensor()>& clean) {
  if (!is_wanted() || step == steps || step % every_ != 0) return;
  try {
    write(clean());
  } catch (const OutputError& error) {
    spdlog::warn("no preview of step {}: {}", step, error.what());
  }
}

void Preview::write(const at::Tensor& latent) {
  const at::Tensor frames = decoder_->decode(latent.narrow(2, latent.size(2) / 2, 1));
  const at::Tensor rgb = to_rgb24(frames, 0);
  const int64_t height = rgb.size(0), width = rgb.size(1), longest = std::max(width, height);
  OutputFile output(file_, /*overwrite=*/true);
  write_content(output.staged(), media::with_note(media::encode_png(file_, rgb.const_data_ptr<uint8_t>(),
                                                                    static_cast<int>(width), static_cast<int>(height),
                                                                    scaled(width, longest), scaled(height, longest)),
                                                  kPreviewNote));
  output.commit();
  lock_ = output.take_lock();
  written_ = true;
}

}  // namespace opensora::pipeline
