// What lies beside the output of an unfinished video: latent, picture, preview; and to whom it belongs, which is
// decided by what is in the file and whether its owner still runs, never by the name alone.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "core/temporary.h"
#include "run/job.h"

namespace opensora::run {

// "sea.mp4" -> "sea.latent.safetensors", in the same folder.
std::filesystem::path latent_file(const std::filesystem::path& output);

// Where previews go: "sea.mp4" -> "sea.preview.png", in the same folder.
std::filesystem::path preview_file(const std::filesystem::path& output);

// The note in a preview's PNG. Nobody needs such a file once its lock is free.
inline constexpr const char* kPreviewNote = "preview";

// The latent of any safetensors file with a tensor "latent", including those of --save-tensors: [1, C, T, h, w],
// float32, a view of the file. Throws CheckpointError if there is no such file, if it is damaged, or if the tensor is
// missing or has another form.
at::Tensor read_latent(const std::filesystem::path& path);
// What such a file says of its latent. Throws likewise.
std::map<std::string, std::string> read_latent_metadata(const std::filesystem::path& path);

// Replaces an older file. Returns the file's lock: as long as it is held, no other run takes the latent for an
// abandoned one. Throws OutputError.
FileLock write_latent(const std::filesystem::path& path, const at::Tensor& latent,
                      const std::map<std::string, std::string>& metadata);

// Keys in the metadata of a latent's file.
inline constexpr const char* kLatentKey = "key";                // of the video: hash of all that determines it
inline constexpr const char* kLatentRowKey = "row_key";         // the same but for the seed, where that was drawn
inline constexpr const char* kLatentUnfinished = "unfinished";  // "yes": it is removed when its video is done

// Notes in has_latent and has_picture what an earlier run has left of this video, so that nothing saved is made twice.
// What dead runs have left of other videos under the same names is removed, or replaced when the time comes. Throws
// OutputError for a file that would be lost although no unfinished run has left it, and for one that another run is
// using.
void find_remains(Job& job, bool keep_latents);

// True if `output` is the finished video of a run that died before it could remove the latent.
bool is_finished(const std::filesystem::path& output, const std::string& key);

// The seed that was drawn by the run that left a latent beside `output`, or, if that is empty, anywhere in the current
// folder.
std::optional<uint64_t> find_drawn_seed(const std::filesystem::path& output, const std::string& row_key);

// The note in FLUX's picture as long as its video is not finished.
std::string picture_note(const std::string& key);

// For a video that is done: removes what only an unfinished one needs, and unmarks what stays. Failures are warnings.
void settle_remains(Job& job, bool keep_latents) noexcept;
// The same for a video that an earlier run has finished. `is_left`: its latent was not meant to stay, marked or not.
void settle_earlier_remains(Job& job, bool keep_latents, bool is_left);

// For a run that is over, and which nobody will resume: removes everything.
void remove_remains(const Job& job);

}  // namespace opensora::run
