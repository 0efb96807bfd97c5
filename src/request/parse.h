// From the text of a flag or a cell to its value, with errors in the same words for all of a kind.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "opensora/config.h"

namespace opensora::request {

// Inclusive.
struct WholeRange {
  int64_t min = 0, max = 0;
};
struct RealRange {
  double min = 0, max = 0;
};

struct Given {
  std::string flag;  // "--steps", for messages
  std::string text;
  std::string hint = {};  // what a refusal ends with
};

// All throw UsageError that names the flag, what it takes and what was found.
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
std::string motion_score(const Given& given);                     // a number, or "none"

// What is wrong with a text that should be one of `words`: "expected fp32, bf16 or fp16, found …". Empty: nothing.
std::string choice_error(const std::string& text, const std::vector<std::string>& words);

// What is wrong with a value that is empty or nothing but spaces. Empty: nothing.
std::string blank_error(const std::string& text);

}  // namespace opensora::request
