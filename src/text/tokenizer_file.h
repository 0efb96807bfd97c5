#pragma once

#include <filesystem>
#include <string>

namespace opensora::text {

// The whole content of a tokenizer's file. Throws CheckpointError if it is missing or cannot be read; `origin` is the
// name of the published model that has such a file ("openai/clip-vit-large-patch14").
std::string read_tokenizer_file(const std::filesystem::path& path, const std::string& origin);

}  // namespace opensora::text
