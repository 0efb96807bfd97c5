// The suffixes that Open-Sora 2.0 was trained to find behind a prompt.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace opensora::text {

// "raining, sea" -> "raining, sea. 24 FPS. 4 motion score."
//
// White space around the prompt is removed; a full stop is added where there is none; "<fps> FPS." is added unless the
// prompt ends in "<digits> FPS."; "<motion_score> motion score." is added unless it is nullopt. `prompt` is UTF-8.
std::string add_suffixes(const std::string& prompt, int64_t fps, const std::optional<std::string>& motion_score);

// Takes away what add_suffixes() has added to a text, except for a full stop.
std::string without_suffixes(std::string text, int64_t fps, const std::optional<std::string>& motion_score);

}  // namespace opensora::text
