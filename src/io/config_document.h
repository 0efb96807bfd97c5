// The JSON of a configuration: `_base_` files read and merged, for each key the file that it came from, and typed
// reading of its objects.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

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

// Inclusive.
struct IntRange {
  int64_t min = 1;
  int64_t max = 1 << 24;  // no count or width is larger, and products of a few stay within 64 bits
};

// What is read is what is known: finish() refuses every key that nobody asked for. A key that is not there leaves the
// value, which is its default. All errors are UsageErrors that name the file and the key's full path, what was expected
// and what was found.
class ConfigSection {
 public:
  // `name` is a key of the document's root, "" the root itself. A section that is not there is read as an empty one.
  ConfigSection(const ConfigDocument& document, const std::string& name);

  void read(const std::string& key, bool& value);
  void read(const std::string& key, int64_t& value, IntRange range = {});
  void read(const std::string& key, uint64_t& value);
  void read(const std::string& key, double& value);
  void read(const std::string& key, std::string& value);
  void read(const std::string& key, std::vector<int64_t>& value);  // not empty; each in IntRange{}
  // null: no value.
  template <typename T, typename... Range>
  void read(const std::string& key, std::optional<T>& value, Range... range) {
    const nlohmann::json* found = find(key);
    if (!found) return;
    value.reset();
    if (!found->is_null()) read(key, value.emplace(), range...);
  }

  // A string that must be one of `choices`; an unknown one is an error that lists them.
  void read_choice(const std::string& key, std::string& value, const std::vector<std::string>& choices);
  // Throws unless the key, if there, is one of `choices`: for keys that only say what the reader takes for granted.
  void expect(const std::string& key, const std::vector<std::string>& choices);

  // The value as it stands, nullptr if there is none; makes the key a known one.
  const nlohmann::json* find(const std::string& key);
  // Keys that mean something to other programs only, and all keys that start with `prefix`.
  void ignore(std::initializer_list<const char*> keys);
  void ignore_prefix(std::string_view prefix);

  // Throws, saying what `key` must be and what it is, unless `valid`.
  void require(const std::string& key, bool valid, const std::string& expected) const;
  // Throws if there is an unknown key, with the nearest known one.
  void finish() const;

 private:
  std::string full_path(const std::string& key) const;
  bool is_ignored(const std::string& key) const;
  [[noreturn]] void fail_type(const std::string& key, const std::string& expected) const;

  const ConfigDocument& document_;
  std::string name_;
  nlohmann::json values_ = nlohmann::json::object();
  std::vector<std::string> known_;
  std::vector<std::string> ignored_;
  std::vector<std::string> ignored_prefixes_;
};

}  // namespace opensora::io
