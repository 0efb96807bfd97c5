#include "cli/inspect_video.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "cli/result_json.h"
#include "core/byte_size.h"
#include "core/file_kind.h"
#include "core/json_text.h"
#include "opensora/video_info.h"

namespace opensora::cli {
namespace {

using nlohmann::ordered_json;

std::string dump(const ordered_json& value) {
  return value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

// Null unless the comment is an object, as this program writes it.
ordered_json metadata_of(const VideoInfo& info) {
  try {
    ordered_json parsed = parse_ordered_json(info.comment);
    return parsed.is_object() ? std::move(parsed) : ordered_json();
  } catch (const JsonError&) {  // another program's words
    return {};
  }
}

// On one line: strings as they are, unless they hold what would break the line or steer the terminal.
std::string readable(const ordered_json& value) {
  if (!value.is_string()) return dump(value);
  const auto& text = value.get_ref<const std::string&>();
  const bool has_control = std::any_of(text.begin(), text.end(), [](unsigned char c) { return std::iscntrl(c) != 0; });
  return has_control ? dump(value) : text;
}

std::string kind_name(const std::filesystem::path& path) {
  const std::optional<FileKind> kind = file_kind(path);
  return kind && kind->group == FileGroup::kPicture ? "picture" : "video";
}

void print_object(const std::filesystem::path& path, const VideoInfo& info, const ordered_json& metadata) {
  const bool is_plain = metadata.is_null() && !info.comment.empty();
  print_json({{"path", path.string()},
              {"kind", kind_name(path)},
              {"width", info.width},
              {"height", info.height},
              {"frames", info.frames},
              {"fps", info.fps},
              {"duration", info.duration},
              {"codec", info.codec},
              {"pixel_format", info.pixel_format},
              {"bytes", std::filesystem::file_size(path)},
              {"metadata", metadata},
              {"comment", is_plain ? ordered_json(info.comment) : ordered_json()}});
}

void print_text(const std::filesystem::path& path, const VideoInfo& info, const ordered_json& metadata) {
  const auto line = [](std::string_view name, const std::string& value) {
    std::cout << fmt::format("  {:<20} {}\n", name, value);
  };
  const auto bytes = static_cast<int64_t>(std::filesystem::file_size(path));
  std::cout << path.string() << ": " << kind_name(path) << '\n';
  line("size", fmt::format("{}x{}", info.width, info.height));
  line("frames", fmt::format("{}", info.frames));
  line("frames a second", fmt::format("{:.6g}", info.fps));
  line("duration", fmt::format("{:.3f} s", info.duration));
  line("codec", info.codec);
  line("pixel format", info.pixel_format);
  line("file", fmt::format("{} bytes ({})", bytes, format_bytes(bytes)));
  if (metadata.is_null() && !info.comment.empty()) line("comment", readable(info.comment));
  for (const auto& [key, value] : metadata.items()) {
    line(fmt::format("metadata {:<11}", readable(ordered_json(key))), readable(value));
  }
}

}  // namespace

bool is_video_or_picture(const std::filesystem::path& path) {
  if (const std::optional<FileKind> kind = file_kind(path)) {
    if (kind->group == FileGroup::kVideo || kind->group == FileGroup::kPicture) return true;
    if (kind->group == FileGroup::kModel) return false;
  }
  return has_video_name(path);
}

void inspect_video(const std::filesystem::path& path, bool json) {
  const VideoInfo info = read_video_info(path);
  const ordered_json metadata = metadata_of(info);
  if (json) {
    print_object(path, info, metadata);
  } else {
    print_text(path, info, metadata);
  }
}

}  // namespace opensora::cli
