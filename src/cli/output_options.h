// The flags that say how a video is written, and what beside it.
#pragma once

#include <CLI/CLI.hpp>

#include "opensora/generate.h"

namespace opensora::cli {

// --codec, --pix-fmt, --contact-sheet, --save-frames, --preview-every, --strict.
void add_video_options(CLI::App& command, GenerateRequest& request);

// Throws UsageError for flags that do not go together.
void check_video_options(const CLI::App& command, const GenerateRequest& request);

}  // namespace opensora::cli
