// The known name that a mistyped one most likely means, for messages about unknown keys, flags and names.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace opensora {

// The entry of `known` with the smallest edit distance to `name` (insertions, deletions, substitutions; case counts),
// or nullopt where even that one shares too little with it to be worth suggesting.
std::optional<std::string> nearest_name(std::string_view name, std::span<const std::string> known);

// The end of a message: `; did you mean "num_steps"?`, or nothing where no known name is near.
std::string did_you_mean(std::string_view name, std::span<const std::string> known);

// "256px, 360p, 480p"
std::string join_names(std::span<const std::string> names);

}  // namespace opensora
