// What other programs call our flags: what users of diffusers, ComfyUI, stable-diffusion.cpp, llama.cpp, ffmpeg and the
// official script type.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

namespace opensora::cli {

// "use -o", "LoRA is not supported yet", for an argument that `command` does not know: its first dashes and all,
// without
// "=value". nullopt: nobody calls anything so that the command has.
std::optional<std::string> answer_for(const CLI::App& command, const std::string& argument);

}  // namespace opensora::cli
