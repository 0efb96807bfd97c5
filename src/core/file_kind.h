// What a file is, told from its first bytes.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace opensora {

enum class FileGroup {
  kPicture,  // still or animated: PNG, GIF, HEIC, a camera's raw file
  kVideo,    // with a container for moving pictures, even if it holds one frame or only sound
  kSound,
  kModel,  // weights
  kOther,  // a document, an archive, text
};

inline constexpr std::string_view kSvgName = "an SVG drawing";

struct FileKind {
  FileGroup group = FileGroup::kOther;
  std::string_view name;    // as in "is …": "a PNG picture", "an HTML page"
  std::string_view advice;  // what to do with one that cannot be read as a picture or a video; empty: nothing special
};

// nullopt for what is not known, empty or unreadable. Reads the first 4 KiB; a file's name means nothing.
std::optional<FileKind> file_kind(const std::filesystem::path& path);

// The same of bytes at hand: `head` is how the file begins, `size` how long it is.
std::optional<FileKind> file_kind(std::string_view head, size_t size);

// Whether a file is called like a video, in any case: for those of which file_kind() knows nothing.
bool has_video_name(const std::filesystem::path& path);

}  // namespace opensora
