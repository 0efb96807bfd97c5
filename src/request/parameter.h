// The table of a run's parameters: all that a flag, a column of a prompts file or an earlier video can set.
//
// What the program knows of a parameter is in its row, and comes from there alone: the command line's options with
// their help, the columns of prompts files, the metadata and the key of a video's content, how layers of values
// combine,
// --print-config.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "request/parse.h"
#include "request/settings.h"

namespace opensora::request {

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
  // The value as JSON, null where there is none. A parameter without a getter is another way to say one that has
  // `decided_by` it. Of a video's content: of settings that are settled (pipeline/request_json.h).
  std::function<nlohmann::ordered_json(const Settings&)> get = {};

  std::string group = {};  // heading in the help; empty: the first
  Scope scope = Scope::kContent;
  std::vector<std::string> choices = {};
  std::string default_text = {};              // shown in the help; empty: the description says it
  std::vector<std::string> config_keys = {};  // keys of the configuration that set it
  std::vector<std::string> decided_by = {};   // other parameters that do
  bool decodes = false;                       // it says how a latent becomes a file: opensora decode takes it anew

  std::vector<std::string> needs = {}, excludes = {};  // other parameters, in the same layer or what layers give
  // Parameters of the layers below that are dropped where this one is given, with the text `replaces_if` (empty: any).
  // Where the layer below is a finished video's whole request, also what had followed from the replaced values.
  std::vector<std::string> replaces = {}, replaces_effective = {};
  std::string replaces_if = {};

  std::string name() const;  // the first long one, without its dashes: "negative-prompt"
  std::string key() const;   // in JSON: "negative_prompt"
  bool is_recorded() const;  // in metadata and key
  bool is_column() const { return scope == Scope::kContent; }

  // Fluent setters, for the table.
  Parameter from_config(std::vector<std::string> keys) &&;
  Parameter also_by(std::vector<std::string> parameters) &&;
  Parameter replacing(std::vector<std::string> below, std::vector<std::string> of_effective, std::string text = {}) &&;
  Parameter needing(const std::string& other) &&;
  Parameter excluding(std::vector<std::string> others) &&;
  Parameter decoding() &&;
  Parameter showing_default() &&;  // what Settings{} has
  Parameter reported_as(std::function<nlohmann::ordered_json(const Settings&)> getter) &&;
};

// All rows, in the order of the help and of the metadata.
const std::vector<Parameter>& parameters();

// nullptr: there is none of that name.
const Parameter* find_parameter(std::string_view name);

// Checks and sets one value. `hint` ends the message of a refusal. Throws UsageError.
void set_parameter(const Parameter& parameter, Settings& settings, const std::string& text, const std::string& hint);

// What to say of a setting such as "10,30" where a run may have several: empty where it is no such list.
std::string rows_hint(const Parameter& parameter, const std::string& text);

}  // namespace opensora::request
