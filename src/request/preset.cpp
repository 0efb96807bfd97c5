#include "request/preset.h"

#include <algorithm>
#include <set>
#include <utility>

#include "request/rows.h"

namespace opensora::request {
namespace {

// All that any preset sets: with one of them, what an earlier video had of these does not count.
std::vector<std::string> names_of_all() {
  std::set<std::string> names;
  for (const Preset& preset : presets()) {
    for (const auto& [name, text] : preset.values) names.insert(name);
  }
  return {names.begin(), names.end()};
}

}  // namespace

const std::vector<Preset>& presets() {
  static const std::vector<Preset> all = {
      {"quality", {{"cache", "none"}, {"attention", "exact"}, {"quant-compute", "weights"}}},
      {"balanced", {{"cache", "pairs"}, {"attention", "exact"}, {"quant-compute", "weights"}}},
      {"fast", {{"cache", "pairs:0.06"}, {"attention", "auto"}, {"quant-compute", "auto"}}},
      {"low-vram", {{"offload", "block"}, {"vae-tiling", "true"}}},
  };
  return all;
}

FlagValues preset_values(const FlagValues& given) {
  std::string chosen;
  FlagValues others;
  for (const auto& [name, text] : given) {
    if (name == "preset") {
      chosen = text;
    } else {
      others.emplace_back(name, text);
    }
  }
  const auto preset =
      std::find_if(presets().begin(), presets().end(), [&](const Preset& one) { return one.name == chosen; });
  if (preset == presets().end()) return {};
  FlagValues values = lay_over(preset->values, others, false);
  values.resize(values.size() - others.size());
  return values;
}

void append_preset(Rows& table) {
  Parameter preset = {
      .names = "--preset",
      .help =
          "Flags that go together, below those that are given: quality (exact), balanced and fast (less "
          "exact), low-vram (slower); see README for what they set and cost",
      .kind = Kind::kChoice,
      .set = [](Settings&, const Given&) {}};  // apply() lays its values under the others
  for (const Preset& one : presets()) preset.choices.push_back(one.name);
  append(table, "", Scope::kRunContent, {std::move(preset).replacing(names_of_all(), {})});
}

}  // namespace opensora::request
