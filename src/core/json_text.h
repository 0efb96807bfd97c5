// JSON as both configurations and checkpoint headers need it: strict, and with errors that fit on one line.
#pragma once

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>

namespace opensora::io {

// Text that is not JSON: what() is one line with line and column, without a file's name. Callers catch it and throw
// the error of their own kind with the name in front.
struct JsonError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Throws JsonError also for a key that an object holds twice, which nlohmann::json::parse lets pass.
nlohmann::json parse_json(std::string_view text);

// What the parser says, on one line and not too long: "parse error at line 2, column 3: …" without the exception's
// identifier in front.
std::string json_error_text(const nlohmann::json::exception& error);

// A name or value for a message: quoted, escaped, on one line, cut short where it is long.
std::string json_excerpt(const nlohmann::json& value);

}  // namespace opensora::io
