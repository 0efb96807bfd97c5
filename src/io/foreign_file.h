// What a file is that is no checkpoint of ours: formats of other programs, adapters, quantised weights that cannot be
// read, pages that were saved in place of the file. One table of each.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace opensora::io {

// By the name and the first bytes of a file; nullopt: nothing that is known. "is an HDF5 file (…); take …".
std::optional<std::string> foreign_file(const std::filesystem::path& path, std::string_view start);

// How many first bytes tell.
constexpr size_t kForeignBytes = 512;

// By the names of a well-formed file's tensors: adapters, quantised weights, other programs' names; nullopt: none of
// these. "is a LoRA adapter, which is not supported yet; …".
std::optional<std::string> foreign_tensors(const std::vector<std::string>& names);

}  // namespace opensora::io
