#include "run/remains.h"

#include <spdlog/spdlog.h>

#include <charconv>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "core/output_file.h"
#include "core/weights.h"
#include "io/safetensors.h"
#include "media/png.h"
#include "media/video_info.h"
#include "opensora/error.h"

namespace fs = std::filesystem;

namespace opensora::run {
namespace {

constexpr const char* kTensor = "latent";

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

// Throws CheckpointError if there is none, or it has another form.
at::Tensor latent_in(const io::SafetensorsFile& file) {
  const auto found = file.tensors().find(kTensor);
  if (found == file.tensors().end()) {
    throw CheckpointError(file.path().string() + ": has no tensor \"" + kTensor + "\": it is no latent");
  }
  at::Tensor latent = file.tensor(kTensor);
  if (latent.dim() == 5 && latent.size(0) == 1 && latent.is_floating_point()) return latent;
  throw CheckpointError(file.path().string() + ": tensor \"" + kTensor + "\": expected floats [1, C, T, H, W], found " +
                        shape_string(latent.sizes()));
}

// The metadata of a latent's file; empty where there is no latent, or none of this program.
Metadata latent_metadata(const fs::path& path) {
  try {
    std::error_code error;
    return fs::is_regular_file(path, error) ? read_latent_metadata(path) : Metadata();
  } catch (const Error&) {
    return {};
  }
}

[[noreturn]] void throw_busy(const fs::path& file) {
  throw OutputError(file.string() + ": another run is making this video; wait for it or give another `output`");
}

// Keeps other runs from `file` as long as the job lives.
void lock_for(Job& job, const fs::path& file) {
  FileLock lock;
  if (lock.take(file) == FileLock::Outcome::kHeldElsewhere) throw_busy(file);
  job.locks.push_back(std::make_shared<FileLock>(std::move(lock)));
}

// Nothing is left of the noise and the latent of FLUX's picture, which are among the tensors.
bool needs_all_tensors(const Job& job) { return job.makes_picture && !job.request.save_tensors.empty(); }

void find_latent(Job& job, bool keep_latents) {
  const fs::path& file = job.latent_file;
  if (!is_there(file)) return;
  const Metadata metadata = latent_metadata(file);
  const bool is_of_this = value_of(metadata, kLatentKey) == job.key && !needs_all_tensors(job);
  job.latent_is_marked = is_unfinished(metadata);
  if (job.latent_is_marked || is_of_this) lock_for(job, file);
  if (is_of_this) {
    job.has_latent = true;
    spdlog::info("{}{}: the latent of this video is there; it is not sampled again", job.label, file.string());
  } else if (job.latent_is_marked) {
    spdlog::warn("{}{}: left by an unfinished run; it cannot be used and will be replaced", job.label, file.string());
  } else if (!keep_latents) {  // it would be removed in the end
    throw OutputError(
        file.string() +
        " exists, and no unfinished run has left it; move it away, or give another `output`: the latent lies "
        "there until the video is done");
  } else if (!job.request.overwrite) {
    throw OutputError(file.string() + " exists; give `overwrite` or another `output`");
  }
}

void find_picture(Job& job) {
  const fs::path& file = job.picture_file;
  if (!job.makes_picture || job.request.image_only || !is_there(file)) return;
  const std::string note = media::read_note(file);
  if (note == picture_note(job.key) && !needs_all_tensors(job)) {
    lock_for(job, file);
    job.has_picture = true;
    spdlog::info("{}{}: the first picture of this video is there; it is not made again", job.label, file.string());
  } else if (note.starts_with(picture_note(""))) {
    lock_for(job, file);
    spdlog::warn("{}{}: left by an unfinished run; it cannot be used and is removed", job.label, file.string());
    fs::remove(file);
  } else {
    check_output(file, job.request.overwrite);
  }
}

void find_preview(const Job& job) {
  const fs::path file = preview_file(job.output);
  if (!is_there(file)) return;
  FileLock lock;
  if (media::read_note(file) == kPreviewNote) {
    std::error_code ignored;
    if (lock.take(file) == FileLock::Outcome::kTaken) fs::remove(file, ignored);
  } else if (job.request.preview_every > 0) {
    throw OutputError(file.string() +
                      " exists, and is no preview; move it away, or give another `output`: previews go there, and are "
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

std::filesystem::path latent_file(const std::filesystem::path& output) { return beside(output, ".latent.safetensors"); }

std::filesystem::path preview_file(const std::filesystem::path& output) { return beside(output, ".preview.png"); }

at::Tensor read_latent(const std::filesystem::path& path) {
  return latent_in(io::SafetensorsFile(path)).to(at::kFloat);
}

std::map<std::string, std::string> read_latent_metadata(const std::filesystem::path& path) {
  const io::SafetensorsFile file(path);
  latent_in(file);
  return file.metadata();
}

FileLock write_latent(const std::filesystem::path& path, const at::Tensor& latent,
                      const std::map<std::string, std::string>& metadata) {
  const auto output = io::stage_safetensors(path, {{kTensor, latent}}, metadata, /*overwrite=*/true);
  output->commit();
  return output->take_lock();
}

void find_remains(Job& job, bool keep_latents) {
  find_preview(job);
  if (job.request.image_only) return;
  find_latent(job, keep_latents);
  find_picture(job);
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

void settle_remains(Job& job, bool keep_latents) noexcept try {
  if (job.makes_picture && !job.request.image_only) remove_note(job.picture_file);
  if (!job.latent_is_marked) return;
  if (keep_latents) {
    write_latent(job.latent_file, read_latent(job.latent_file), job.latent_metadata);
  } else {
    std::error_code ignored;
    fs::remove(job.latent_file, ignored);
  }
  job.latent_is_marked = false;
} catch (const std::exception& error) {
  spdlog::warn("{}: is done, but what lies beside it is still marked as unfinished: {}", job.output.string(),
               error.what());
}

void settle_earlier_remains(Job& job, bool keep_latents, bool is_left) {
  const Metadata metadata = latent_metadata(job.latent_file);
  job.latent_is_marked = (is_left || is_unfinished(metadata)) && value_of(metadata, kLatentKey) == job.key;
  settle_remains(job, keep_latents);
}

void remove_remains(const Job& job) {
  std::error_code ignored;
  if (job.has_latent && job.latent_is_marked) fs::remove(job.latent_file, ignored);
  const bool may_have_picture = job.makes_picture && !job.request.image_only && !job.done;
  if (may_have_picture && media::read_note(job.picture_file).starts_with(picture_note(""))) {
    fs::remove(job.picture_file, ignored);
  }
}

}  // namespace opensora::run
