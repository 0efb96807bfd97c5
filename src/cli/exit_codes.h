// The program's exit codes in words, for the man page; README.md has the same table, which a test compares.
#pragma once

#include <array>

namespace opensora::cli {

struct ExitCodeRow {
  const char* code;
  const char* meaning;
};

inline constexpr std::array<ExitCodeRow, 13> kExitCodes = {{
    {"0", "done"},
    {"1", "internal error, or a check of `selftest` failed"},
    {"2", "a flag, a configuration, a prompt or a prompts file that cannot be used"},
    {"3", "some videos of a batch failed; the others are done"},
    {"4", "a checkpoint, tokenizer or text embedding is missing, damaged or of another model"},
    {"5", "the device is absent, or its libraries cannot be opened"},
    {"6", "out of memory"},
    {"7", "the output cannot be written, or exists already"},
    {"8", "with `--strict`: the video was written, but is black, of one colour or frozen"},
    {"9", "a reference image or video cannot be read"},
    {"10", "NaN or infinity in the latent or the video"},
    {"124", "the video took longer than `--timeout`"},
    {"128 + n",
     "stopped by signal n (SIGHUP 129, SIGINT 130, SIGTERM 143), after it has cleaned up; a second "
     "signal stops at once"},
}};

}  // namespace opensora::cli
