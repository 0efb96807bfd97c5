// Presets: values of several parameters that go together, for those who do not want to know them one by one.
#pragma once

#include <string>
#include <vector>

#include "request/settings.h"

namespace opensora::request {

struct Preset {
  std::string name;
  FlagValues values;  // what it sets; all else is as without it
};

// None of them changes steps or size.
const std::vector<Preset>& presets();

// What the preset that `given` names sets, less what `given` replaces: a layer below all that is given, and above an
// earlier video's values and the configuration. Empty without a preset.
FlagValues preset_values(const FlagValues& given);

}  // namespace opensora::request
