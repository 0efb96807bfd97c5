// opensora compare: how much two videos, pictures or latents differ.
#include "opensora/compare.h"

#include <fmt/format.h>

#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/parameter_options.h"
#include "cli/process.h"
#include "cli/standard_error.h"
#include "cli/standard_output.h"
#include "core/local_file.h"

namespace opensora::cli {
namespace {

nlohmann::ordered_json to_json(const FrameComparison& frames) {
  return {{"width", frames.width},
          {"height", frames.height},
          {"frames", frames.psnr.size()},
          {"first_frames", frames.first_frames},
          {"second_frames", frames.second_frames},
          {"worst_frame", frames.worst_frame},
          {"psnr", {{"total", finite_or_null(frames.total_psnr)}, {"frames", finite_or_null(frames.psnr)}}},
          {"ssim", {{"mean", frames.mean_ssim}, {"frames", frames.ssim}}}};
}

nlohmann::ordered_json to_json(const LatentComparison& latents) {
  return {{"latent_shape", latents.shape}, {"relative_error", finite_or_null(latents.relative_error)}};
}

void print(const CompareResult& result) {
  if (result.latents) {
    std::cout << fmt::format("latents: relative L2 error {:.3g}\n", result.latents->relative_error);
    return;
  }
  const FrameComparison& frames = *result.frames;
  const auto worst = static_cast<size_t>(frames.worst_frame - 1);
  std::cout << fmt::format("{} frame(s) of {}x{}: PSNR {:.2f} dB, SSIM {:.4f}; worst frame {}: {:.2f} dB, {:.4f}\n",
                           frames.psnr.size(), frames.width, frames.height, frames.total_psnr, frames.mean_ssim,
                           frames.worst_frame, frames.psnr[worst], frames.ssim[worst]);
}

void run(const CommandOptions& options, CompareRequest request) {
  options.apply_log();
  const ProgressStyle style = resolve_progress_style(options.progress, options.quiet);
  request.first = local_file(request.first.string());
  request.second = local_file(request.second.string());
  request.overwrite = options.settings.request.overwrite;
  catch_signals();
  ProgressReporter reporter(style);
  const CompareResult result = compare(request, std::ref(reporter));
  if (options.json) {
    print_json(result.latents ? to_json(*result.latents) : to_json(*result.frames));
  } else {
    print(result);
  }
}

}  // namespace

void add_compare(CLI::App& app) {
  auto options = std::make_shared<CommandOptions>();
  auto request = std::make_shared<CompareRequest>();
  CLI::App* command = app.add_subcommand("compare", "Say how much two videos, pictures or latents differ");
  command->add_option("FIRST", request->first, "A video, a picture, a folder of .png frames, or a .latent.safetensors")
      ->required()
      ->type_name("PATH");
  command->add_option("SECOND", request->second, "What to compare with it")->required()->type_name("PATH");
  command->add_option("--worst", request->worst, "Write the frame that differs most, the two side by side")
      ->type_name("FILE");
  add_parameters(*command, options->settings, {"overwrite"});
  options->add_json_to(*command, "Print one JSON object, with PSNR and SSIM of each frame");
  options->add_progress_to(*command);
  options->add_log_to(*command);
  command->footer(
      "Frames are compared in 8-bit RGB. PSNR is over all channels, in total of the mean squared error of all frames;\n"
      "SSIM is the mean over the channels (Wang et al. 2004: Gaussian window, 11x11, sigma 1.5). FFmpeg's filters "
      "work\n"
      "on YUV planes, and its SSIM on blocks of 8x8: their numbers are others. Where one has more frames, these are\n"
      "left out, with a warning. Of latents it is the relative L2 error, |second - first| / |first|.\n"
      "Examples:\n"
      "  opensora compare exact.mp4 fast.mp4\n"
      "  opensora compare exact.mp4 fast.mp4 --worst worst.png --json\n"
      "  opensora compare frames-a frames-b\n"
      "  opensora compare exact.latent.safetensors fast.latent.safetensors");
  command->callback([options, request] { run(*options, *request); });
}

}  // namespace opensora::cli
