#include "core/json_text.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <unordered_set>
#include <vector>

#include "core/text.h"
#include "core/units.h"

namespace opensora {
namespace {

using nlohmann::json;

std::string shorten(std::string text, size_t limit) {
  if (text.size() > limit) text = std::string(cut_utf8(text, limit)) + "...";
  return text;
}

bool is_utf16(std::string_view text) { return text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF"); }

// Throws if the text is what a hub serves in place of the file.
void refuse_stand_in(std::string_view text) {
  if (text.starts_with("version https://git-lfs")) {
    throw JsonError("is a Git LFS pointer: the file itself was not downloaded; fetch it with \"git lfs pull\"");
  }
  const size_t begin = text.find_first_not_of(" \t\r\n");
  std::string tag(begin == std::string_view::npos ? std::string_view() : text.substr(begin, 14));
  std::transform(tag.begin(), tag.end(), tag.begin(), [](unsigned char c) { return std::tolower(c); });
  if (tag.starts_with("<!doctype html") || tag.starts_with("<html")) {
    throw JsonError("is a web page (HTML): the file itself was not downloaded");
  }
}

template <typename Json>
Json parse_strictly(std::string_view text) {
  if (is_utf16(text)) throw JsonError("text in UTF-16, expected UTF-8");
  // The keys seen so far in each object that the parser is inside of.
  std::vector<std::unordered_set<std::string>> open_objects;
  const auto check = [&](int depth, typename Json::parse_event_t event, Json& value) {
    using Event = typename Json::parse_event_t;
    const bool opens = event == Event::object_start || event == Event::array_start;
    if (opens && depth >= kMaxJsonDepth) {
      throw JsonError("lists and objects are nested more than " + std::to_string(kMaxJsonDepth) + " levels deep");
    }
    if (event == Event::object_start) open_objects.emplace_back();
    if (event == Event::object_end) open_objects.pop_back();
    if (event == Event::key && !open_objects.back().insert(value.template get<std::string>()).second) {
      throw JsonError("duplicate key " + json_excerpt(value));
    }
    return true;
  };
  try {
    return Json::parse(text, check);
  } catch (const json::exception& error) {
    throw JsonError(json_error_text(error));
  }
}

}  // namespace

std::string json_error_text(const json::exception& error) {
  std::string text = error.what();
  const size_t end = text.find("] ");
  if (text.starts_with("[json.exception") && end != std::string::npos) text.erase(0, end + 2);
  // The message quotes what the parser read last, which may be anything.
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
  }
  while (const auto offset = find_invalid_utf8(text)) text[*offset] = '?';
  return shorten(std::move(text), 300);
}

json parse_json(std::string_view text) { return parse_strictly<json>(text); }

nlohmann::ordered_json parse_ordered_json(std::string_view text) {
  return parse_strictly<nlohmann::ordered_json>(text);
}

std::string read_text_file(const std::filesystem::path& file, uint64_t max_bytes) {
  std::error_code unreadable;
  if (std::filesystem::is_directory(file, unreadable)) throw JsonError("is a folder, expected a file");
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw JsonError(std::string("cannot be read: ") + std::strerror(errno));
  // Read in pieces, since a device or a pipe has no size.
  std::string text;
  std::vector<char> piece(1 << 16);
  while (stream.read(piece.data(), static_cast<std::streamsize>(piece.size())) || stream.gcount() > 0) {
    text.append(piece.data(), static_cast<size_t>(stream.gcount()));
    if (text.size() > max_bytes) {
      throw JsonError("is larger than " + format_bytes(static_cast<int64_t>(max_bytes)) + ", which no such file is");
    }
  }
  if (stream.bad()) throw JsonError("cannot be read");
  refuse_stand_in(text);
  return text;
}

json read_json_file(const std::filesystem::path& file) {
  const std::string text = read_text_file(file);
  try {
    return parse_json(text);
  } catch (const JsonError& error) {
    throw JsonError(std::string("not valid JSON: ") + error.what());
  }
}

std::string json_excerpt(const json& value) {
  return shorten(value.dump(-1, ' ', false, json::error_handler_t::replace), 100);
}

}  // namespace opensora
