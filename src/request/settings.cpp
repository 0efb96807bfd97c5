#include "request/settings.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <vector>

#include "opensora/config.h"
#include "opensora/error.h"
#include "request/parameter.h"
#include "request/preset.h"

namespace opensora::request {
namespace {

// The parameters that `above` puts out of force in the layers below it.
std::set<std::string> replaced(const FlagValues& above, bool below_is_effective) {
  std::set<std::string> names;
  for (const auto& [name, text] : above) {
    names.insert(name);
    const Parameter* parameter = find_parameter(name);
    if (parameter == nullptr || (!parameter->replaces_if.empty() && parameter->replaces_if != text)) continue;
    names.insert(parameter->replaces.begin(), parameter->replaces.end());
    if (below_is_effective) names.insert(parameter->replaces_effective.begin(), parameter->replaces_effective.end());
  }
  return names;
}

void check_together(const Parameter& parameter, const FlagValues& values) {
  for (const std::string& other : parameter.needs) {
    if (!has(values, other)) throw UsageError(parameter.field() + " requires " + find_parameter(other)->field());
  }
  for (const std::string& other : parameter.excludes) {
    if (has(values, other)) throw UsageError(parameter.field() + " excludes " + find_parameter(other)->field());
  }
}

// What the references that were given mean by themselves: one image starts the video, two are its start and end, an
// end image alone its end.
std::string implied_type(const FlagValues& values) {
  const auto starts =
      std::count_if(values.begin(), values.end(), [](const auto& value) { return value.first == "image"; });
  const auto images = starts + (has(values, "end-image") ? 1 : 0);
  const bool has_video = has(values, "video");
  if (images > 2) throw UsageError("`image`: expected at most two images, first and last frame");
  if (images > 0 && has_video) throw UsageError("`video` and `image` exclude each other");
  if (has_video) return "v2v_head";
  if (images == 2) return "i2v_loop";
  if (images == 1) return starts == 1 ? "i2v_head" : "i2v_tail";
  return "t2v";
}

// Whether references that imply one type can serve another. An image that is not said to be the last frame may be that,
// too.
bool can_serve(const std::string& type, const std::string& implied) {
  if (type.starts_with("v2v")) return implied.starts_with("v2v");
  return type == implied || (type == "i2v_tail" && implied == "i2v_head");
}

std::string needed_by(const std::string& type) {
  if (type.starts_with("v2v")) return "`video`";
  if (type == "i2v_loop") return "two images: `image` twice, or `image` and `end_image`";
  if (type == "i2v_tail") return "`end_image`";
  return type == "t2v" ? "no reference" : "one `image`";
}

// `type` is the parameter's where that was given, else the configuration's, which yields to the references.
std::string effective_type(const std::string& implied, const std::string& type, bool was_given) {
  if (can_serve(type, implied)) return type;
  if (was_given) throw UsageError("`cond_type` " + type + " takes " + needed_by(type));
  if (implied == "t2v") throw UsageError("the configuration's cond_type " + type + " takes " + needed_by(type));
  return implied;
}

void settle_condition(const FlagValues& values, GenerateRequest& request) {
  Config& config = request.config;
  config.cond_type = effective_type(implied_type(values), config.cond_type, has(values, "cond-type"));
  if (!request.references.empty()) {
    if (has(values, "t2i2v") && config.use_t2i2v) {
      throw UsageError("`t2i2v` makes the first frame itself: it excludes `image` and `video`");
    }
    config.use_t2i2v = false;
  }
  if (config.use_t2i2v && !config.text_to_image) {
    throw UsageError("`t2i2v`: " + config.name + " has no img_flux; try `config` t2i2v_256px");
  }
  if (request.image_only && !config.use_t2i2v) throw UsageError("`image_only`: this run makes no picture; see `t2i2v`");
}

// Where a size was asked for, the configuration's output size does not count.
bool asks_for_size(const FlagValues& values) {
  return has(values, "resolution") || has(values, "aspect-ratio") || has(values, "width") || has(values, "output-size");
}

}  // namespace

bool has(const FlagValues& values, std::string_view name) {
  return std::any_of(values.begin(), values.end(), [&](const auto& value) { return value.first == name; });
}

FlagValues lay_over(const FlagValues& below, const FlagValues& above, bool below_is_effective) {
  const std::set<std::string> dropped = replaced(above, below_is_effective);
  FlagValues values;
  values.reserve(below.size() + above.size());
  std::copy_if(below.begin(), below.end(), std::back_inserter(values),
               [&](const auto& value) { return !dropped.contains(value.first); });
  values.insert(values.end(), above.begin(), above.end());
  return values;
}

void apply(const FlagValues& values, Settings& settings) {
  FlagValues all = preset_values(values);
  all.insert(all.end(), values.begin(), values.end());
  std::map<const Parameter*, std::vector<const std::string*>> texts;
  for (const auto& [name, text] : all) {
    const Parameter* parameter = find_parameter(name);
    if (parameter == nullptr) continue;
    std::vector<const std::string*>& list = texts[parameter];
    if (parameter->kind != Kind::kPaths) list.clear();
    list.push_back(&text);
  }
  for (const auto& [parameter, list] : texts) {  // by address: in the table's order
    for (const std::string* text : list) set_parameter(*parameter, settings, *text, rows_hint(*parameter, *text));
  }
  for (const auto& [parameter, list] : texts) check_together(*parameter, all);
}

GenerateRequest resolve(const FlagValues& values, const std::filesystem::path& model_dir, const Config& config) {
  Settings settings;
  settings.request.config = config;
  apply(values, settings);
  if (!has(values, "prompt")) throw UsageError("`prompt` is required (it may be empty: `prompt` \"\")");
  GenerateRequest& request = settings.request;
  request.model_dir = model_dir;
  if (!settings.seeds.empty()) request.seed = settings.seeds.front();
  settle_condition(values, request);
  if (!has(values, "num-frames")) request.config.sampling.num_frames = frames_with_room(request.config);
  if (!asks_for_size(values)) request.output_size = config.output_size;
  return std::move(settings.request);
}

}  // namespace opensora::request
