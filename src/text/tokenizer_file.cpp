#include "text/tokenizer_file.h"

#include <fmt/format.h>

#include <fstream>
#include <iterator>

#include "opensora/error.h"

namespace opensora::text {

std::string read_tokenizer_file(const std::filesystem::path& path, const std::string& origin) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    throw CheckpointError(fmt::format("{}: no such file; copy the tokenizer files of {} there", path.string(), origin));
  }
  std::ifstream file(path, std::ios::binary);
  if (!file || !std::filesystem::is_regular_file(path, ignored)) {
    throw CheckpointError(fmt::format("{}: cannot be read; expected a tokenizer file of {}", path.string(), origin));
  }
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace opensora::text
