// The table of a run's parameters: all that a flag, a column of a prompts file or an earlier video can set.
//
// What the program knows of a parameter is in its row, and comes from there alone: the command line's options with
// their help, the columns of prompts files, the metadata and the key of a video's content, how layers of values
// combine, and --print-config.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "request/settings.h"

namespace opensora::request {

// From min to max, both included.
template <typename T>
struct Range {
  T min = 0, max = 0;
};
using WholeRange = Range<int64_t>;
using RealRange = Range<double>;

// What was given for a parameter, before it is read.
struct Given {
  std::string name;  // what messages call it: "`steps`", or the flag of a command's own option
  std::string text;
  std::string hint = {};  // what a refusal ends with
};

enum class Kind {
  kText,    // as it is
  kPrompt,  // a text that may be empty
  kNumber,  // with its range, in its setter
  kSwitch,  // on or off
  kSize,    // WIDTHxHEIGHT
  kPath,
  kPaths,  // a flag that may be given several times
  kSeeds,  // 64-bit numbers with commas between them
  kChoice  // one of `choices`
};

enum class Scope {
  kContent,     // decides what a single video holds: a column of prompts files, in metadata and key
  kRunContent,  // likewise, but of all videos of a run: no column
  kModels,      // which weights, configuration and embeddings: the key has what they are
  kMachine,     // where and how it is computed
  kOutput,      // what is written, and where
  kBatch        // how a run of many videos goes
};

struct Parameter {
  std::string names;  // as CLI11 takes them: "-W,--width", "--t2i2v,!--no-t2i2v"
  std::string help;
  Kind kind = Kind::kText;
  std::string type = "TEXT";  // what its value is called in the help; completion offers folders for DIR, files for FILE
  std::function<void(Settings&, const Given&)> set = {};  // throws UsageError for what is no such value
  // The value as JSON, null where there is none. A parameter without a getter is another way to give one that is
  // `decided_by` it. For the content of a video the settings must be settled (run/metadata.h).
  std::function<nlohmann::ordered_json(const Settings&)> get = {};

  std::string group = {};  // heading in the help; empty: the first
  Scope scope = Scope::kContent;
  std::vector<std::string> choices = {};
  std::string default_text = {};              // shown in the help; empty: the description says it
  std::vector<std::string> config_keys = {};  // keys of the configuration that set it
  std::vector<std::string> decided_by = {};   // other parameters that do
  // It is not recorded where it has its default, as it came after the first videos, whose metadata and keys must stay.
  bool omits_default = false;
  bool decodes = false;  // it says how a latent becomes a file: opensora decode takes it anew

  std::vector<std::string> needs = {}, excludes = {};  // other parameters, in the same layer or what layers give
  // Parameters of the layers below that are dropped where this one is given, with the text `replaces_if` (empty: any).
  // Where the layer below is a finished video's whole request, also what had followed from the replaced values.
  std::vector<std::string> replaces = {}, replaces_effective = {};
  std::string replaces_if = {};

  std::string name() const;                          // the first long one, without its dashes: "negative-prompt"
  std::string key() const;                           // in JSON: "negative_prompt"
  std::string field() const;                         // in messages: "`negative_prompt`"
  bool is_recorded(const Settings& settings) const;  // in metadata and key
  bool is_column() const { return scope == Scope::kContent; }

  // Fluent setters, for the table.
  Parameter from_config(std::vector<std::string> keys) &&;
  Parameter also_by(std::vector<std::string> parameters) &&;
  Parameter replacing(std::vector<std::string> below, std::vector<std::string> of_effective, std::string text = {}) &&;
  Parameter needing(const std::string& other) &&;
  Parameter excluding(std::vector<std::string> others) &&;
  Parameter decoding() &&;
  Parameter unless_default() &&;   // sets omits_default
  Parameter showing_default() &&;  // what Settings{} has
  Parameter reported_as(std::function<nlohmann::ordered_json(const Settings&)> getter) &&;
};

// All rows, in the order of the help and of the metadata.
const std::vector<Parameter>& parameters();

// nullptr: there is none of that name.
const Parameter* find_parameter(std::string_view name);

// Messages name a parameter by its key in backticks, "`num_frames`: expected …", as they do not know how it is given.
// With its flag in place of that it is told to the user: "--num-frames: expected …". The flag is the long one, but -o
// for `output`. `others` are a command's own options, as long flags without dashes, which are named likewise. Any other
// name in backticks stays as it is.
std::string with_flags(std::string_view message, const std::vector<std::string>& others = {});
std::vector<std::string> with_flags(std::vector<std::string> messages, const std::vector<std::string>& others = {});

// Checks and sets one value. `hint` ends the message of a refusal. Throws UsageError.
void set_parameter(const Parameter& parameter, Settings& settings, const std::string& text, const std::string& hint);

// The hint for a value such as "10,30" of a setting that a run may try in several values; empty where it is no list.
std::string rows_hint(const Parameter& parameter, const std::string& text);

// The readers of values, for the setters. All throw UsageError that names the parameter, what it takes and what
// was found.
int64_t whole_number(const Given& given, WholeRange range);
double real_number(const Given& given, RealRange range);
uint64_t seed(const Given& given);
std::vector<uint64_t> seeds(const Given& given);  // "42", "1,2,3"
FrameRate frame_rate(const Given& given);
PixelSize pixel_size(const Given& given);                         // "512x288": two sides of 1 to kMaxEdge
std::optional<PixelSize> pixel_size_or_none(const Given& given);  // the same, or "none"
int64_t byte_count(const Given& given);                           // "4GiB"
bool switch_state(const Given& given);                            // "true", "false", "on", "no", …
std::string device_name(const Given& given);                      // "auto", "cpu", "cuda", "cuda:1"
std::string rng_name(const Given& given);                         // "cpu", "cuda", "cuda:1056"
std::string motion_score(const Given& given);                     // a number, or "none"

// What is wrong with a text that should be one of `words`: "expected fp32, bf16 or fp16, found …". Empty: nothing.
std::string choice_error(const std::string& text, const std::vector<std::string>& words);

// What is wrong with a value that is empty or nothing but spaces. Empty: nothing.
std::string blank_error(const std::string& text);

}  // namespace opensora::request
