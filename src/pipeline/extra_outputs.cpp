#include "pipeline/extra_outputs.h"

#include <spdlog/fmt/fmt.h>

#include <system_error>

#include "core/output_file.h"
#include "media/png_writer.h"
#include "opensora/error.h"
#include "pipeline/frames.h"

namespace fs = std::filesystem;

namespace opensora::pipeline {
namespace {

// "frame-00001.png" is the first.
std::string frame_name(int64_t t) { return fmt::format("frame-{:05}.png", t + 1); }

// The folder is made where it is missing, and frames of an earlier run are not replaced unasked.
void check_frames_folder(const GenerateRequest& request, int64_t frames) {
  const fs::path& folder = request.save_frames;
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    throw OutputError(fmt::format("--save-frames {}: the folder cannot be made: {}", folder.string(), error.message()));
  }
  for (int64_t t = 0; t < frames; ++t) {
    const fs::path file = folder / frame_name(t);
    if (t == 0 || fs::exists(file, error)) check_output(file, request.overwrite);
  }
}

}  // namespace

void check_extra_outputs(const GenerateRequest& request, int64_t frames) {
  if (request.preview_every < 0) {
    throw UsageError(fmt::format("--preview-every: expected 0 (none) or more steps, found {}", request.preview_every));
  }
  if (!request.contact_sheet.empty()) {
    if (request.contact_sheet.extension() != ".png") {
      throw UsageError(fmt::format("--contact-sheet {}: is written as .png, found \"{}\"",
                                   request.contact_sheet.string(), request.contact_sheet.extension().string()));
    }
    check_output(request.contact_sheet, request.overwrite);
  }
  if (!request.save_frames.empty()) check_frames_folder(request, frames);
}

void ExtraOutputs::add(const at::Tensor& rgb) {
  const int64_t t = next_++;
  const auto* pixels = rgb.const_data_ptr<uint8_t>();
  detector_.add(pixels, rgb.size(1), rgb.size(0));
  if (!request_.save_frames.empty()) {
    if (!saved_) saved_.emplace(request_.save_frames, request_.overwrite);
    const StagedFile& file = saved_->add(frame_name(t));
    write_content(file, encode_picture(file.path, rgb));
  }
  if (request_.contact_sheet.empty()) return;
  if (!sheet_) {
    sheet_.emplace(frames_, media::Size{static_cast<int>(rgb.size(1)), static_cast<int>(rgb.size(0))});
  }
  sheet_->add(t, pixels);
}

std::string ExtraOutputs::finish() {
  if (sheet_) {
    const media::Picture& sheet = sheet_->picture();
    sheet_file_.emplace(request_.contact_sheet, request_.overwrite);
    write_content(sheet_file_->staged(),
                  media::encode_png(request_.contact_sheet, sheet.rgb.data(), sheet.width, sheet.height));
  }
  return detector_.finding();
}

std::vector<StagedFile> ExtraOutputs::staged() const {
  std::vector<StagedFile> files;
  if (saved_) files = saved_->staged();
  if (sheet_file_) files.push_back(sheet_file_->staged());
  return files;
}

}  // namespace opensora::pipeline
