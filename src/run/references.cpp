#include "run/references.h"

#include <ATen/CPUGeneratorImpl.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <vector>

#include "opensora/error.h"
#include "run/frames.h"
#include "run/resize.h"

namespace opensora::run {
namespace {

// [1, 3, 1, height, width]. Frames of videos are resized in another way than images are, as in training.
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

// Says how much of a reference is cut off.
void log_crop(const media::Picture& picture, int64_t height, int64_t width, const std::filesystem::path& path) {
  constexpr double kWorthSaying = 0.005;  // of an edge
  const double across = static_cast<double>(width) / picture.width, down = static_cast<double>(height) / picture.height;
  const double scale = std::max(across, down), share = 1 - std::min(across, down) / scale;
  if (share < kWorthSaying) return;
  spdlog::info("{}: {}x{} is scaled to fill {}x{}; {:.0f} % of its {} is cut off, half at each side", path.string(),
               picture.width, picture.height, width, height, std::max(1.0, share * 100),
               across < down ? "width" : "height");
}

// `found`: the number of pictures at the wanted rate, which need not be that of the frames in the file.
[[noreturn]] void throw_too_short(const std::filesystem::path& path, int64_t found, const media::MediaReader& reader,
                                  const ReferenceVideoOptions& wanted) {
  const int64_t decoded = reader.decoded();
  if (reader.is_image() && decoded == 1) {
    throw InputMediaError(
        fmt::format("{}: is a picture, and a video of at least {} frames is needed; give a picture with `image`",
                    path.string(), wanted.frames));
  }
  std::string rate = wanted.fps > 0 ? fmt::format(" at {:.5g} frames a second", wanted.fps) : "";
  if (found != decoded) rate += fmt::format(" ({} in the file)", decoded);
  throw InputMediaError(fmt::format("{}: has {} frame{}{}; at least {} are needed: give a longer video", path.string(),
                                    found, found == 1 ? "" : "s", rate, wanted.frames));
}

// How many pictures of a video come before the last `options.frames`.
int64_t count_before_last(const std::filesystem::path& path, const ReferenceVideoOptions& options) {
  media::MediaReader reader(path, {.fps = options.fps, .poll = options.poll, .quiet = true});
  const int64_t count = reader.skip(std::numeric_limits<int64_t>::max());
  if (count < options.frames) throw_too_short(path, count, reader, options);
  return count - options.frames;
}

}  // namespace

at::Tensor reference_picture(const at::Tensor& rgb, int64_t height, int64_t width) {
  return to_model_range(resize_crop_image(rgb, height, width));
}

at::Tensor read_reference_picture(const std::filesystem::path& path, int64_t height, int64_t width,
                                  media::Position position, const media::PollCallback& poll) {
  media::ReadPicture read = media::read_picture(path, position, poll);
  log_crop(read.picture, height, width, path);
  return prepare(read.picture, read.is_image, height, width, path);
}

at::Tensor read_reference_video(const std::filesystem::path& path, const ReferenceVideoOptions& options) {
  const bool are_last = options.position == media::Position::kLast && options.frames > 0;
  const int64_t skipped = are_last ? count_before_last(path, options) : 0;
  media::MediaReader reader(path, {.fps = options.fps, .poll = options.poll});
  reader.skip(skipped);

  std::vector<at::Tensor> frames;
  while (options.frames == 0 || static_cast<int64_t>(frames.size()) < options.frames) {
    std::optional<media::Picture> picture = reader.next();
    if (!picture) break;
    if (frames.empty()) log_crop(*picture, options.height, options.width, path);
    frames.push_back(prepare(*picture, reader.is_image(), options.height, options.width, path));
  }
  const auto found = static_cast<int64_t>(frames.size());
  if (found < options.frames) throw_too_short(path, found, reader, options);
  return at::cat(frames, /*dim=*/2);
}

std::vector<at::Tensor> read_references(const Job& job, const StageClock& clock) {
  const GenerateRequest& request = job.request;
  std::vector<at::Tensor> frames;
  const auto position = [&](bool last) { return last ? media::Position::kLast : media::Position::kFirst; };
  const media::PollCallback poll = [&] { clock.look(); };
  const bool at_tail = sampling::is_at_tail(job.condition);
  for (size_t i = 0; i < request.references.size(); ++i) {
    if (sampling::is_video_condition(job.condition)) {
      frames.push_back(read_reference_video(request.references[i], {.height = job.size.height,
                                                                    .width = job.size.width,
                                                                    .fps = request.config.fps_save.value(),
                                                                    .frames = sampling::reference_frames(job.condition),
                                                                    .position = position(at_tail),
                                                                    .poll = poll}));
    } else {
      // A video may stand for an image: its first frame, or at the end of the new video its last.
      frames.push_back(read_reference_picture(request.references[i], job.size.height, job.size.width,
                                              position(at_tail || i > 0), poll));
    }
  }
  return frames;
}

std::vector<at::Tensor> encode_references(const Job& job, const autoencoder::Autoencoder& encoder,
                                          const std::vector<at::Tensor>& references, const StageClock& clock) {
  const GenerateRequest& request = job.request;
  const auto progress = [&](int64_t done, int64_t total) { clock.report({"encode", done, total}); };
  std::optional<at::Generator> generator;
  // Another seed than the noise's: the two must not be the same numbers.
  if (request.sample_posterior) generator = at::make_generator<at::CPUGeneratorImpl>(job.seed + 1);
  std::vector<at::Tensor> latents;
  latents.reserve(references.size());
  for (const at::Tensor& frames : references) {
    latents.push_back(to_host(encoder.encode(frames.to(job.device), generator, progress).to(at::kFloat)));
  }
  return latents;
}

}  // namespace opensora::run
