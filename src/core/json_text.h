// JSON that comes from outside: strict, with limits, and with errors that fit on one line. All of the program's parsing
// goes through here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>

namespace opensora {

// Text that is not JSON, or a file that cannot be read: what() is one line (with line and column), without a file's
// name. Callers catch it and throw the error of their own kind with the name in front.
struct JsonError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Lists and objects in each other. What is read is walked by functions that call themselves (printing, copying,
// comparing), and no file of ours or of the hub's comes near it.
constexpr int kMaxJsonDepth = 64;
// Of a file. The largest that are read, tokenizers', have a few MiB.
constexpr uint64_t kMaxJsonBytes = uint64_t{64} << 20;

// Beyond what JSON itself forbids (NaN, infinity, numbers that overflow, invalid UTF-8, anything after the value) these
// throw JsonError for a key that an object holds twice, more than kMaxJsonDepth levels, and text in UTF-16. A byte
// order mark of UTF-8 is let pass. The second keeps an object's keys in their order.
nlohmann::json parse_json(std::string_view text);
nlohmann::ordered_json parse_ordered_json(std::string_view text);

// The text of a file of at most `max_bytes`, and what parse_json() makes of it. Throw JsonError: "cannot be read: …",
// "is a folder", "is larger than …", "is a Git LFS pointer …", "is a web page …", "not valid JSON: …".
std::string read_text_file(const std::filesystem::path& file, uint64_t max_bytes = kMaxJsonBytes);
nlohmann::json read_json_file(const std::filesystem::path& file);

// What the parser says, on one line and not too long: "parse error at line 2, column 3: …" without the exception's
// identifier in front.
std::string json_error_text(const nlohmann::json::exception& error);

// A name or value for a message: quoted, escaped, on one line, cut short where it is long.
std::string json_excerpt(const nlohmann::json& value);

}  // namespace opensora
