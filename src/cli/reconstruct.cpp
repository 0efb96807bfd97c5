// opensora reconstruct: a video or image through an autoencoder and back.
#include <fmt/format.h>

#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "batch/events.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/parameter_options.h"
#include "cli/process.h"
#include "cli/standard_error.h"
#include "cli/standard_output.h"
#include "core/local_file.h"
#include "opensora/reconstruct.h"
#include "opensora/video.h"

namespace opensora::cli {
namespace {

nlohmann::ordered_json quality_json(const std::vector<double>& frames, double mean) {
  return {{"mean", finite_or_null(mean)}, {"frames", finite_or_null(frames)}};
}

nlohmann::ordered_json to_json(const ReconstructResult& result) {
  return {{"output", result.output.string()},
          {"autoencoder", result.autoencoder},
          {"width", result.width},
          {"height", result.height},
          {"frames", result.frames},
          {"latent_shape", result.latent_shape},
          {"psnr", quality_json(result.psnr, result.mean_psnr)},
          {"ssim", quality_json(result.ssim, result.mean_ssim)},
          {"device", result.device},
          {"dtype", result.dtype},
          {"seconds", batch::stage_seconds(result.seconds)},
          {"peak_memory_bytes", result.peak_resident_bytes},
          {"peak_device_memory_bytes", result.peak_device_bytes}};
}

void run(const CommandOptions& options, ReconstructRequest request) {
  options.apply_log();
  const ProgressStyle style = resolve_progress_style(options.progress, options.quiet);
  request.input = local_file(request.input.string());
  const GenerateRequest& given = options.settings.request;
  request.model_dir = resolve_model_dir(given.model_dir);
  request.config = resolve_config(options.settings.config, request.model_dir);
  request.device = given.device;
  request.dtype = given.dtype;
  request.threads = given.threads;
  request.crf = given.crf;
  request.overwrite = given.overwrite;

  catch_signals();
  ProgressReporter reporter(style);
  const ReconstructResult result = reconstruct(request, std::ref(reporter));
  if (options.json) {
    print_json(to_json(result));
  } else {
    std::cout << fmt::format("PSNR {:.2f} dB, SSIM {:.4f}: {}\n", result.mean_psnr, result.mean_ssim,
                             result.output.string());
  }
}

void add_autoencoder_options(CLI::App& command, ReconstructRequest& request) {
  const char* group = "Model";
  auto* choice = command
                     .add_option_function<std::string>(
                         "--autoencoder",
                         [&request](const std::string& word) {
                           request.autoencoder = word == "flux" ? Component::kImgFluxAe : Component::kAe;
                         },
                         "video: the configuration's ae (default); flux: its img_flux_ae")
                     ->check(one_of({"video", "flux"}))
                     ->group(group);
  command.add_option("--vae", request.vae, "Weights of any of the three autoencoders instead; the kind is recognised")
      ->type_name("PATH")
      ->excludes(choice)
      ->group(group);
  command
      .add_flag_function(
          "--vae-tiling,!--no-vae-tiling", [&request](int64_t count) { request.tiling = count > 0; },
          "Encode and decode in tiles of space and time, or whole (default: configuration)")
      ->group(group);
  auto* sample =
      command.add_flag("--sample-posterior", request.sample_posterior, "Draw from the posterior instead of its mean")
          ->group(group);
  add_seed(command, "-s,--seed", request.seed, "Seed of that draw")
      ->needs(sample)
      ->default_str(std::to_string(request.seed))
      ->group(group);
}

void add_output_options(CLI::App& command, CommandOptions& options, ReconstructRequest& request) {
  const char* group = "Output";
  command.add_option("-o,--output", request.output, "File to write, .mp4 (.png for one frame)")
      ->required()
      ->type_name("FILE")
      ->group(group);
  command
      .add_flag("--side-by-side", request.side_by_side, "Show the input on the left, the reconstruction on the right")
      ->group(group);
  options.add_json_to(command, "Print one JSON object, with PSNR and SSIM of each frame", group);
  options.add_progress_to(command);
}

}  // namespace

void add_reconstruct(CLI::App& app) {
  auto options = std::make_shared<CommandOptions>();
  auto request = std::make_shared<ReconstructRequest>();
  CLI::App* command =
      app.add_subcommand("reconstruct", "Put a video or image through an autoencoder and back, and say what is lost");
  command->add_option("INPUT", request->input, "An image or a video")->required()->type_name("FILE");
  add_whole(*command, "--max-frames", request->max_frames, {1, kMaxFrames},
            "Read only the first frames (default: all)");
  add_autoencoder_options(*command, *request);
  add_parameters(*command, options->settings,
                 {"model-dir", "config", "device", "dtype", "threads", "overwrite", "crf"});
  add_output_options(*command, *options, *request);
  options->add_log_to(*command);
  command->footer(
      "PSNR and SSIM compare the frames in 8 bits, before H.264.\n"
      "Examples:\n"
      "  opensora reconstruct clip.mp4 -o reconstructed.mp4\n"
      "  opensora reconstruct clip.mp4 -o both.mp4 --side-by-side --config high_compression\n"
      "  opensora reconstruct picture.png -o back.png --autoencoder flux --config t2i2v_256px --json\n"
      "  opensora reconstruct picture.png -o back.png --vae ae.safetensors");
  command->callback([options, request] { run(*options, *request); });
}

}  // namespace opensora::cli
