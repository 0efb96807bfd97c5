// The known name that a mistyped one most likely means, for messages about unknown keys, flags and names.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace opensora {

// The entry of `known` that is only a few slips away from `name` (insertions, deletions, substitutions, swapped
// neighbours; case counts, dashes in front do not), else the only one of which `name` is a word ("steps" of
// "num_steps"), or nullopt: a wrong suggestion is worse than none.
std::optional<std::string> nearest_name(std::string_view name, std::span<const std::string> known);

// The end of a message: `; did you mean "num_steps"?`, or nothing where no known name is near.
std::string did_you_mean(std::string_view name, std::span<const std::string> known);

// "256px, 360p, 480p"
std::string join_names(std::span<const std::string> names);

}  // namespace opensora
