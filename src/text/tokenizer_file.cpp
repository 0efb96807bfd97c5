#include "text/tokenizer_file.h"

#include <fmt/format.h>

#include <system_error>

#include "core/json_text.h"
#include "opensora/error.h"

namespace opensora::text {

std::string read_tokenizer_file(const std::filesystem::path& path, const std::string& origin) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    throw CheckpointError(fmt::format("{}: no such file; copy the tokenizer files of {} there", path.string(), origin));
  }
  if (!std::filesystem::is_regular_file(path, ignored)) {
    throw CheckpointError(fmt::format("{}: cannot be read; expected a tokenizer file of {}", path.string(), origin));
  }
  try {
    return read_text_file(path);
  } catch (const JsonError& error) {
    throw CheckpointError(fmt::format("{}: {}; expected a tokenizer file of {}", path.string(), error.what(), origin));
  }
}

}  // namespace opensora::text
