// What a run that did not end has left beside its output, and whose it is: latent, picture, preview. Told by what is in
// the file and by whether its owner lives, never by the name alone.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "pipeline/video.h"

namespace opensora::pipeline {

// In the metadata of a latent's file.
inline constexpr const char* kLatentKey = "key";                // of the video: hash of all that determines it
inline constexpr const char* kLatentRowKey = "row_key";         // the same but for the seed, where that was drawn
inline constexpr const char* kLatentUnfinished = "unfinished";  // "yes": it goes when its video is done

// Notes what an earlier run has left of the video, whose key this is, so that nothing is made twice that was saved:
// has_latent, has_picture. What dead runs have left of other videos under these names is removed, or replaced when the
// time comes. Throws OutputError for a file that no unfinished run has left, where it would be lost, and for one that
// another run is working with.
void find_remains(Video& video, const std::string& key, bool keep_latents);

// True if `output` is the finished video of a run that died before it could remove the latent.
bool is_finished(const std::filesystem::path& output, const std::string& key);

// The seed that a run has drawn which left a latent beside `output`; empty: anywhere in the current folder.
std::optional<uint64_t> find_drawn_seed(const std::filesystem::path& output, const std::string& row_key);

// What the note in FLUX's picture says as long as its video is not finished.
std::string picture_note(const std::string& key);

// The video is done: what only an unfinished one needs goes, what stays loses its mark. What fails is a warning.
void settle_remains(Video& video, bool keep_latents) noexcept;
// The same for a video that an earlier run has finished, with its key; `is_left`: its latent, marked or not, was not to
// stay.
void settle_earlier_remains(Video& video, const std::string& key, bool keep_latents, bool is_left);

// The run is over, and nothing will go on with the video: all goes.
void remove_remains(const Video& video);

}  // namespace opensora::pipeline
