#include "pipeline/remains.h"

#include <spdlog/spdlog.h>

#include <charconv>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "core/output_file.h"
#include "io/safetensors.h"
#include "media/png_note.h"
#include "media/video_info.h"
#include "opensora/error.h"
#include "pipeline/latent_file.h"
#include "pipeline/preview.h"

namespace fs = std::filesystem;

namespace opensora::pipeline {
namespace {

using Metadata = std::map<std::string, std::string>;

constexpr const char* kLatentExtension = ".latent.safetensors";

bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(fs::symlink_status(path, error));
}

std::string value_of(const Metadata& metadata, const char* name) {
  const auto found = metadata.find(name);
  return found == metadata.end() ? std::string() : found->second;
}

bool is_unfinished(const Metadata& metadata) { return value_of(metadata, kLatentUnfinished) == "yes"; }

// Empty: no latent, or none of this program.
Metadata latent_metadata(const fs::path& path) {
  try {
    std::error_code error;
    return fs::is_regular_file(path, error) ? read_latent(path).metadata : Metadata();
  } catch (const Error&) {
    return {};
  }
}

[[noreturn]] void throw_busy(const fs::path& file) {
  throw OutputError(file.string() + ": another run is making this video; wait for it or give another -o");
}

// Keeps others from `file` as long as the video lives.
void lock_for(Video& video, const fs::path& file) {
  FileLock lock;
  if (lock.take(file) == FileLock::Outcome::kHeldElsewhere) throw_busy(file);
  video.locks.push_back(std::make_shared<FileLock>(std::move(lock)));
}

// Of the picture's noise and latent, which are among the tensors, nothing is left.
bool needs_all_tensors(const Video& video) { return video.plan.makes_picture && !video.request.save_tensors.empty(); }

void find_latent(Video& video, const std::string& key, bool keep_latents) {
  const fs::path& file = video.plan.latent;
  if (!is_there(file)) return;
  const Metadata metadata = latent_metadata(file);
  const bool is_of_this = value_of(metadata, kLatentKey) == key && !needs_all_tensors(video);
  video.latent_is_marked = is_unfinished(metadata);
  if (video.latent_is_marked || is_of_this) lock_for(video, file);
  if (is_of_this) {
    video.has_latent = true;
    spdlog::info("{}{}: the latent of this video is there; it is not sampled again", video.label, file.string());
  } else if (video.latent_is_marked) {
    spdlog::warn("{}{}: left by an unfinished run; it cannot be used and will be replaced", video.label, file.string());
  } else if (!keep_latents) {  // it would be removed in the end
    throw OutputError(file.string() +
                      " exists, and no unfinished run has left it; move it away, or give another -o: the latent lies "
                      "there until the video is done");
  } else if (!video.request.overwrite) {
    throw OutputError(file.string() + " exists; give --overwrite or another -o");
  }
}

void find_picture(Video& video, const std::string& key) {
  const fs::path& file = video.plan.picture;
  if (!video.plan.makes_picture || video.request.image_only || !is_there(file)) return;
  const std::string note = media::read_note(file);
  if (note == picture_note(key) && !needs_all_tensors(video)) {
    lock_for(video, file);
    video.has_picture = true;
    spdlog::info("{}{}: the first picture of this video is there; it is not made again", video.label, file.string());
  } else if (note.starts_with(picture_note(""))) {
    lock_for(video, file);
    spdlog::warn("{}{}: left by an unfinished run; it cannot be used and is removed", video.label, file.string());
    fs::remove(file);
  } else {
    check_output(file, video.request.overwrite);
  }
}

void find_preview(const Video& video) {
  const fs::path file = preview_file(video.plan.output);
  if (!is_there(file)) return;
  FileLock lock;
  if (media::read_note(file) == kPreviewNote) {
    std::error_code ignored;
    if (lock.take(file) == FileLock::Outcome::kTaken) fs::remove(file, ignored);
  } else if (video.request.preview_every > 0) {
    throw OutputError(file.string() +
                      " exists, and is no preview; move it away, or give another -o: previews go there, and are "
                      "removed in the end");
  }
}

// The seed in the document about a latent.
std::optional<uint64_t> seed_of(const Metadata& metadata) {
  const auto document = nlohmann::json::parse(value_of(metadata, "opensora"), nullptr, /*allow_exceptions=*/false);
  if (!document.is_object() || !document.contains("seed") || !document["seed"].is_number_integer()) return std::nullopt;
  return document["seed"].get<uint64_t>();
}

std::optional<uint64_t> drawn_seed_of(const fs::path& latent, const std::string& row_key) {
  const Metadata metadata = latent_metadata(latent);
  FileLock lock;
  if (value_of(metadata, kLatentRowKey) != row_key || !is_unfinished(metadata)) return std::nullopt;
  if (lock.take(latent) != FileLock::Outcome::kTaken) return std::nullopt;
  return seed_of(metadata);
}

void remove_note(const fs::path& picture) {
  if (media::read_note(picture).empty()) return;
  std::ifstream stream(picture, std::ios::binary);
  const std::string content(std::istreambuf_iterator<char>(stream), {});
  OutputFile file(picture, /*overwrite=*/true);
  write_content(file.staged(), media::without_note(content));
  file.commit();
}

}  // namespace

void find_remains(Video& video, const std::string& key, bool keep_latents) {
  find_preview(video);
  if (video.request.image_only) return;
  find_latent(video, key, keep_latents);
  find_picture(video, key);
}

bool is_finished(const fs::path& output, const std::string& key) {
  const fs::path latent = latent_file(output);
  const Metadata metadata = latent_metadata(latent);
  FileLock lock;
  const bool may_be = !output.empty() && is_there(output);
  if (!may_be || !is_unfinished(metadata) || value_of(metadata, kLatentKey) != key) return false;
  if (lock.take(latent) != FileLock::Outcome::kTaken) return false;
  try {
    return media::read_video_info(output).comment == value_of(metadata, "opensora");
  } catch (const Error&) {
    return false;
  }
}

std::optional<uint64_t> find_drawn_seed(const fs::path& output, const std::string& row_key) {
  if (!output.empty()) return drawn_seed_of(latent_file(output), row_key);
  std::error_code error;
  for (fs::directory_iterator entry(".", error), end; !error && entry != end; entry.increment(error)) {
    const fs::path path = entry->path().filename();
    if (!path.native().ends_with(kLatentExtension)) continue;
    if (const auto seed = drawn_seed_of(path, row_key)) return seed;
  }
  return std::nullopt;
}

std::string picture_note(const std::string& key) { return "picture " + key; }

void settle_remains(Video& video, bool keep_latents) noexcept try {
  const Plan& plan = video.plan;
  if (plan.makes_picture && !video.request.image_only) remove_note(plan.picture);
  if (!video.latent_is_marked) return;
  if (keep_latents) {
    write_latent(plan.latent, {read_latent(plan.latent).latent, video.latent_metadata});
  } else {
    std::error_code ignored;
    fs::remove(plan.latent, ignored);
  }
  video.latent_is_marked = false;
} catch (const std::exception& error) {
  spdlog::warn("{}: is done, but what lies beside it is still marked as unfinished: {}", video.plan.output.string(),
               error.what());
}

void settle_earlier_remains(Video& video, const std::string& key, bool keep_latents, bool is_left) {
  const Metadata metadata = latent_metadata(video.plan.latent);
  video.latent_is_marked = (is_left || is_unfinished(metadata)) && value_of(metadata, kLatentKey) == key;
  settle_remains(video, keep_latents);
}

void remove_remains(const Video& video) {
  std::error_code ignored;
  const Plan& plan = video.plan;
  if (video.has_latent && video.latent_is_marked) fs::remove(plan.latent, ignored);
  const bool may_have_picture = plan.makes_picture && !video.request.image_only && !video.done;
  if (may_have_picture && media::read_note(plan.picture).starts_with(picture_note(""))) {
    fs::remove(plan.picture, ignored);
  }
}

}  // namespace opensora::pipeline
