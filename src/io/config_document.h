// The JSON of a configuration: `_base_` files read and merged, and for each key the file that it came from.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

namespace opensora::io {

struct ConfigDocument {
  nlohmann::json root = nlohmann::json::object();
  std::filesystem::path file;                            // the file that was asked for
  int files = 0;                                         // how many were read
  std::map<std::string, std::filesystem::path> origins;  // "sampling_option.num_steps" -> the file that set it last

  // Throws UsageError: "FILE: KEY: PROBLEM", with the file that set the key.
  [[noreturn]] void fail(const std::string& key_path, const std::string& problem) const;
};

// Reads a file and, before it, those in its `_base_` (a name or a list of names, relative to the file); what comes
// later overrides, objects key by key. Unlike in a JSON merge patch, a null overrides too and stays: `"motion_score":
// null` means something. Throws UsageError: not readable, not JSON, no object, a wrong `_base_`, a circle of them.
ConfigDocument load_config_document(const std::filesystem::path& file);

}  // namespace opensora::io
