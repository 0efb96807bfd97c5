#include "opensora/reconstruct.h"

#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/InferenceMode.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <variant>

#include "core/device.h"
#include "core/output_file.h"
#include "core/threads.h"
#include "io/checkpoint.h"
#include "io/inspect.h"
#include "media/media_reader.h"
#include "models/model_set.h"
#include "nn/attention.h"
#include "opensora/error.h"
#include "opensora/video.h"
#include "run/frames.h"
#include "run/resize.h"
#include "run/stage.h"
#include "tools/quality.h"

namespace opensora {
namespace {

using autoencoder::Autoencoder;
using run::StageClock;

// Which autoencoder the request means: that of the weights, with the request's tiling.
struct ChosenAutoencoder {
  Component component;
  models::ModelChoice choice;
  std::string type;  // the configurations' word
};

std::filesystem::path weights_file(const ReconstructRequest& request) {
  if (!request.vae.empty()) return models::find_component(request.model_dir, Component::kAe, "", request.vae);
  if (request.autoencoder == Component::kImgFluxAe && !request.config.text_to_image) {
    throw UsageError("`autoencoder` flux: " + request.config.name + " has no img_flux_ae; try `config` t2i2v_256px");
  }
  return models::locate(request.autoencoder, {request.model_dir, request.config}).weights;
}

// `configured` if it is of this kind, else the official model's parameters.
template <typename AutoencoderConfig>
AutoencoderConfig config_of_kind(const Config& config, const AutoencoderConfig* configured, const char* type,
                                 const AutoencoderConfig& official) {
  if (configured != nullptr) return *configured;
  spdlog::info("{} has no {}: the official parameters are used", config.name, type);
  return official;
}

// Reads no weights. Throws UsageError if the configuration lacks what the request chooses, CheckpointError if there is
// no file, it is damaged, or it holds no autoencoder.
ChosenAutoencoder find_autoencoder(const ReconstructRequest& request) {
  const std::filesystem::path weights = weights_file(request);
  const auto checkpoint = io::Checkpoint::open(weights);
  const std::string kind = io::recognise(*checkpoint).name;
  ChosenAutoencoder found{Component::kAe, {request.model_dir, request.config}, ""};
  Config& config = found.choice.config;
  if (kind == "HunyuanVAE" || kind == "TAEHV") {
    found.type = kind == "TAEHV" ? "taehv" : "hunyuan_vae";
    HunyuanVAEConfig official;  // tiled as the bundled configurations tile it, and so the next
    official.use_spatial_tiling = true;
    config.ae = config_of_kind(config, std::get_if<HunyuanVAEConfig>(&config.ae), "hunyuan_vae", official);
  } else if (kind == "DC-AE") {
    found.type = "dc_ae";
    DCAEConfig official;
    official.use_spatial_tiling = official.use_temporal_tiling = true;
    config.ae = config_of_kind(config, std::get_if<DCAEConfig>(&config.ae), "dc_ae", official);
  } else if (kind == "FLUX autoencoder") {
    found.type = "autoencoder_2d";
    found.component = Component::kImgFluxAe;
    const auto* configured = config.text_to_image ? &config.text_to_image->ae : nullptr;
    const Autoencoder2DConfig ae = config_of_kind(config, configured, "autoencoder_2d", Autoencoder2DConfig{});
    config.text_to_image.emplace().ae = ae;
  } else {
    throw CheckpointError(checkpoint->description() +
                          ": no autoencoder; expected HunyuanVAE, TAEHV, DC-AE or FLUX's (see opensora inspect)");
  }
  found.choice.files.vae = found.choice.files.flux_ae = weights;
  if (request.tiling) {
    std::visit([&](auto& ae) { ae.use_spatial_tiling = ae.use_temporal_tiling = *request.tiling; }, config.ae);
  }
  return found;
}

void check_numbers(const ReconstructRequest& request) {
  if (request.max_frames < 0) {
    throw UsageError(fmt::format("`max_frames`: expected 0 or more, found {}", request.max_frames));
  }
  if (request.crf < 0 || request.crf > 51) {
    throw UsageError(fmt::format("`crf`: expected 0 to 51, found {}", request.crf));
  }
}

// The input's frames, uint8 [T, H, W, 3]. `fps` becomes its rate; 0: unknown.
at::Tensor read_input(const ReconstructRequest& request, const run::StageClock& clock, double& fps) {
  media::MediaReader reader(request.input, {.poll = [&] { clock.look(); }});
  std::vector<at::Tensor> frames;
  while (request.max_frames == 0 || static_cast<int64_t>(frames.size()) < request.max_frames) {
    std::optional<media::Picture> picture = reader.next();
    if (!picture) break;
    frames.push_back(run::as_tensor(*picture).clone());
    clock.report({"read", static_cast<int64_t>(frames.size()), request.max_frames});
  }
  fps = reader.fps();
  return at::stack(frames);
}

// Checks what only the input tells: the kind of the output, and its width.
void check_output_form(const ReconstructRequest& request, const at::Tensor& rgb) {
  const bool is_picture = rgb.size(0) == 1;
  const std::string expected = is_picture ? ".png" : ".mp4", found = request.output.extension();
  if (found != expected) {
    throw UsageError(fmt::format("`output` {}: {} is written as {}, found \"{}\"", request.output.string(),
                                 is_picture ? "one frame" : "a video", expected, found));
  }
  const int64_t width = rgb.size(2) * (request.side_by_side ? 2 : 1);
  if (width > kMaxEdge) {
    throw UsageError(fmt::format("`side_by_side`: {} pixels wide, at most {} can be written", width, kMaxEdge));
  }
}

at::Tensor encode(const ReconstructRequest& request, const Autoencoder& autoencoder, const at::Tensor& rgb,
                  at::Device device, const run::StageClock& clock) {
  const auto progress = [&](int64_t done, int64_t total) { clock.report({"encode", done, total}); };
  std::optional<at::Generator> generator;
  if (request.sample_posterior) generator = at::make_generator<at::CPUGeneratorImpl>(request.seed);
  return autoencoder.encode(pad_frames(autoencoder, run::to_model_range(rgb).to(device)), generator, progress);
}

// Cut to the input's size and rounded to 8 bits: uint8 [T, H, W, 3].
at::Tensor decode(const Autoencoder& autoencoder, const at::Tensor& latent, const at::Tensor& rgb,
                  const run::StageClock& clock) {
  at::Tensor result = at::empty_like(rgb);
  int64_t done = 0;
  run::RgbFrames frames(rgb.size(0), {rgb.size(2), rgb.size(1)}, "the reconstruction", [&](const at::Tensor& next) {
    result.narrow(0, done, next.size(0)).copy_(next);
    done += next.size(0);
  });
  autoencoder.decode_pieces(
      latent, [&](const autoencoder::Piece& piece) { frames.add(piece); },
      [&](int64_t tiles, int64_t total) {
        clock.report({"decode", tiles, total});
      });
  return result;
}

void compare(const at::Tensor& original, const at::Tensor& reconstructed, const run::StageClock& clock,
             ReconstructResult& result) {
  const int64_t count = original.size(0);
  for (int64_t t = 0; t < count; ++t) {
    result.psnr.push_back(tools::psnr(original[t], reconstructed[t]));
    result.ssim.push_back(tools::ssim(original[t], reconstructed[t]));
    clock.report({"compare", t + 1, count});
  }
  result.mean_psnr = tools::mean(result.psnr);
  result.mean_ssim = tools::mean(result.ssim);
}

void write(const ReconstructRequest& request, const at::Tensor& original, const at::Tensor& reconstructed,
           FrameRate fps, const run::StageClock& clock) {
  const auto frame = [&](int64_t t) -> at::Tensor {
    if (!request.side_by_side) return reconstructed[t];
    return at::cat({original[t], reconstructed[t]}, /*dim=*/1);
  };
  const run::FrameFile file{.path = request.output,
                            .video = {.fps = fps, .crf = request.crf, .threads = request.threads},
                            .overwrite = request.overwrite};
  const int64_t count = original.size(0);
  run::write_frames(file, count, frame, [&](int64_t written) { clock.report({"write", written, count}); });
}

void run_stages(const ReconstructRequest& request, const ChosenAutoencoder& chosen, at::Device device,
                at::ScalarType dtype, run::StageClock& clock, ReconstructResult& result) {
  double fps = 0;  // of the input
  const at::Tensor rgb = clock.run("read", [&] { return read_input(request, clock, fps); });
  check_output_form(request, rgb);
  result.frames = rgb.size(0);
  result.height = rgb.size(1);
  result.width = rgb.size(2);
  spdlog::info("{}: {}x{}, {} frame(s), {} {}", result.autoencoder, result.width, result.height, result.frames,
               result.device, result.dtype);

  auto model = clock.run("load", [&] {
    models::ModelSet models(chosen.choice, {.device = device, .dtype = dtype});
    return models.autoencoder(chosen.component, autoencoder::Half::kBoth);
  });
  const at::Tensor latent = clock.run("encode", [&] { return encode(request, *model, rgb, device, clock); });
  result.latent_shape = latent[0].sizes().vec();
  const at::Tensor reconstructed = clock.run("decode", [&] { return decode(*model, latent, rgb, clock); });
  model.reset();
  clock.run("compare", [&] { compare(rgb, reconstructed, clock, result); });
  const FrameRate rate = fps > 0 ? nearest_frame_rate(fps) : request.config.fps_save;
  clock.run("write", [&] { write(request, rgb, reconstructed, rate, clock); });
}

}  // namespace

ReconstructResult reconstruct(const ReconstructRequest& request, const ProgressCallback& progress) {
  const c10::InferenceMode inference;
  check_numbers(request);
  check_output(request.output, request.overwrite);
  const at::Device device = resolve_device(request.device);
  const at::ScalarType dtype = resolve_dtype(request.dtype, device);
  const ChosenAutoencoder chosen = find_autoencoder(request);
  models::ModelSet(chosen.choice, {.source = models::Source::kHeaders}).bind(chosen.component);
  use_threads(request.threads);
  nn::prefer_fast_attention();

  ReconstructResult result;
  result.output = request.output;
  result.autoencoder = chosen.type;
  result.device = device.str();
  result.dtype = dtype_name(dtype);
  run::StageClock clock(device, progress);
  run_stages(request, chosen, device, dtype, clock, result);
  result.seconds = clock.seconds();
  result.peak_resident_bytes = peak_resident_bytes();
  result.peak_device_bytes = peak_device_bytes(device);
  return result;
}

}  // namespace opensora
