#include "pipeline/reference_media.h"

#include <spdlog/fmt/fmt.h>

#include <optional>
#include <vector>

#include "opensora/error.h"
#include "pipeline/resize.h"

namespace opensora::pipeline {
namespace {

// A view: `picture` must outlive it.
at::Tensor as_tensor(media::Picture& picture) {
  return at::from_blob(picture.rgb.data(), {picture.height, picture.width, 3}, at::kByte);
}

// [1, 3, 1, height, width]. Frames of videos are resized in another way than images, as in training.
at::Tensor prepare(media::Picture& picture, bool is_image, int64_t height, int64_t width,
                   const std::filesystem::path& path) {
  try {
    const at::Tensor rgb = as_tensor(picture);
    if (is_image) return reference_picture(rgb, height, width);
    return to_model_range(resize_crop_video(rgb.unsqueeze(0), height, width));
  } catch (const InputMediaError& error) {
    throw InputMediaError(path.string() + ": " + error.what());
  }
}

[[noreturn]] void throw_too_short(const std::filesystem::path& path, int64_t found,
                                  const ReferenceVideoOptions& wanted) {
  const std::string rate = wanted.fps > 0 ? fmt::format(" at {:.5g} frames a second", wanted.fps) : "";
  throw InputMediaError(fmt::format("{}: has {} frame{}{}; at least {} are needed", path.string(), found,
                                    found == 1 ? "" : "s", rate, wanted.frames));
}

}  // namespace

at::Tensor reference_picture(const at::Tensor& rgb, int64_t height, int64_t width) {
  return to_model_range(resize_crop_image(rgb, height, width));
}

at::Tensor read_reference_picture(const std::filesystem::path& path, int64_t height, int64_t width,
                                  media::Position position) {
  media::ReadPicture read = media::read_picture(path, position);
  return prepare(read.picture, read.is_image, height, width, path);
}

at::Tensor read_reference_video(const std::filesystem::path& path, const ReferenceVideoOptions& options) {
  int64_t skipped = 0;
  if (options.position == media::Position::kLast && options.frames > 0) {
    const int64_t count = media::count_pictures(path, options.fps);
    if (count < options.frames) throw_too_short(path, count, options);
    skipped = count - options.frames;
  }
  media::MediaReader reader(path, options.fps);
  for (int64_t i = 0; i < skipped; ++i) reader.skip();

  std::vector<at::Tensor> frames;
  while (options.frames == 0 || static_cast<int64_t>(frames.size()) < options.frames) {
    std::optional<media::Picture> picture = reader.next();
    if (!picture) break;
    frames.push_back(prepare(*picture, reader.is_image(), options.height, options.width, path));
  }
  const auto found = static_cast<int64_t>(frames.size());
  if (found < options.frames) throw_too_short(path, found, options);
  return at::cat(frames, /*dim=*/2);
}

}  // namespace opensora::pipeline
