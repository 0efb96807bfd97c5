#include "cli/request_layers.h"

#include <algorithm>
#include <set>

namespace opensora::cli {
namespace {

using Names = std::set<std::string>;

bool any_of(const Names& given, const Names& names) {
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) { return given.contains(name); });
}

bool says(const FlagValues& values, const std::string& name, const std::string& text) {
  return std::find(values.begin(), values.end(), std::pair(name, text)) != values.end();
}

// What `above` puts out of force in what lies below it.
Names contradicted(const FlagValues& above, bool below_is_effective) {
  const Names sizes = {"width", "height"}, ratios = {"resolution", "aspect-ratio"};
  const Names references = {"image", "end-image", "video"};
  const Names picture = {"t2i2v", "image-only", "image-size", "image-resolution"};
  Names given;
  for (const auto& [name, text] : above) given.insert(name);
  Names dropped = given;
  const auto drop = [&](const Names& names) { dropped.insert(names.begin(), names.end()); };

  if (any_of(given, sizes)) drop(ratios);
  if (any_of(given, ratios)) drop(sizes);
  if (given.contains("image-size")) dropped.insert("image-resolution");
  if (given.contains("image-resolution")) dropped.insert("image-size");
  if (any_of(given, references)) {
    drop(references);
    drop(picture);
  }
  if (says(above, "t2i2v", "true") || says(above, "cond-type", "t2v")) drop(references);
  if (!below_is_effective) return dropped;
  if (any_of(given, references) || says(above, "t2i2v", "true")) dropped.insert("cond-type");
  if (any_of(given, sizes) || any_of(given, ratios)) dropped.insert("image-size");
  return dropped;
}

}  // namespace

std::string flag_name(const CLI::Option& option) {
  return option.get_lnames().empty() ? std::string() : option.get_lnames().front();
}

bool is_switch(const CLI::Option& option) { return option.get_items_expected_max() == 0; }

FlagValues given_flags(const CLI::App& command) {
  FlagValues values;
  for (const CLI::Option* option : command.get_options()) {
    const std::string name = flag_name(*option);
    if (name.empty()) continue;
    for (const std::string& text : option->results()) values.emplace_back(name, text);
  }
  return values;
}

FlagValues lay_over(const FlagValues& below, const FlagValues& above, bool below_is_effective) {
  const Names dropped = contradicted(above, below_is_effective);
  FlagValues values;
  values.reserve(below.size() + above.size());
  std::copy_if(below.begin(), below.end(), std::back_inserter(values),
               [&](const auto& value) { return !dropped.contains(value.first); });
  values.insert(values.end(), above.begin(), above.end());
  return values;
}

void parse_flags(CLI::App& command, const FlagValues& values) {
  std::vector<std::string> arguments;
  arguments.reserve(2 * values.size());
  for (const auto& [name, text] : values) {
    std::string flag = "--" + name;
    const CLI::Option* option = command.get_option_no_throw(flag);
    if (option == nullptr) continue;
    // Two arguments, where the flag takes one: CLI11 takes "--prompt=" for a flag whose value is still to come.
    if (is_switch(*option)) {
      arguments.push_back(flag.append("=").append(text));
    } else {
      arguments.insert(arguments.end(), {flag, text});
    }
  }
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  command.parse(std::move(arguments));
}

}  // namespace opensora::cli
