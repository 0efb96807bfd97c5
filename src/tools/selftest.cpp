// The golden checks: what the official code computed with tiny checkpoints, through every model and through whole runs;
// and how all checks are run.
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/device.h"
#include "core/json_text.h"
#include "core/text.h"
#include "core/threads.h"
#include "core/weights.h"
#include "io/safetensors.h"
#include "models/model_set.h"
#include "nn/attention.h"
#include "opensora/config.h"
#include "opensora/error.h"
#include "opensora/generate.h"
#include "opensora/machine.h"
#include "opensora/process.h"
#include "tools/scratch_folder.h"
#include "tools/selftest_check.h"

namespace opensora::tools {
namespace {

namespace fs = std::filesystem;

// The reference data, and what a case is run on.
struct Golden {
  fs::path data;
  at::Device device;
  at::ScalarType dtype;

  fs::path checkpoints() const { return data / "ckpts"; }
  io::SafetensorsFile open_case(const std::string& name) const {
    return io::SafetensorsFile(data / "cases" / (name + ".safetensors"));
  }
  Config config(const char* file) const { return load_config(checkpoints() / file); }
  models::ModelSet models(const Config& its_config, models::Offload offload = models::Offload::kModel) const {
    return models::ModelSet({.model_dir = checkpoints(), .config = its_config},
                            {.device = device, .dtype = dtype, .offload = offload});
  }
};

using RunCase = std::function<Outcome(const Golden&, double limit)>;

Outcome run_clip(const Golden& golden, double limit) {
  const io::SafetensorsFile reference = golden.open_case("clip");
  const auto encoder = golden.models(golden.config("tiny.json")).clip();
  return compare(encoder->forward(reference.tensor("ids").to(golden.device)).last_hidden_state,
                 reference.tensor("last_hidden_state"), limit);
}

Outcome run_t5(const Golden& golden, double limit) {
  const io::SafetensorsFile reference = golden.open_case("t5");
  const auto encoder = golden.models(golden.config("tiny.json")).t5();
  return compare(encoder->forward(reference.tensor("ids").to(golden.device)), reference.tensor("out"), limit);
}

// The last of so many forwards counts.
RunCase transformer_case(const char* name, const char* config_file, Component component = Component::kModel,
                         models::Offload offload = models::Offload::kModel, int forwards = 1) {
  return [=](const Golden& golden, double limit) {
    const io::SafetensorsFile reference = golden.open_case(name);
    const auto input = [&](const char* key) { return reference.tensor(key).to(golden.device); };
    const auto model = golden.models(golden.config(config_file), offload).transformer(component);
    const MMDiTConfig& config = model->config;
    const at::Tensor ids = at::cat({input("in.txt_ids")[0], input("in.img_ids")[0]});
    at::Tensor out;
    for (int i = 0; i < forwards; ++i) {
      out = model->forward({.img = input("in.img"),
                            .txt = input("in.txt"),
                            .y_vec = input("in.y_vec"),
                            .timesteps = input("in.timesteps"),
                            .cond = config.cond_embed ? input("in.cond") : at::Tensor(),
                            .guidance = config.guidance_embed ? input("in.guidance") : at::Tensor()},
                           diffusion::rotary_embedding(ids, config));
    }
    return compare(out, reference.tensor("out"), limit);
  };
}

// Both halves of an autoencoder, the worse of which counts; `latent` is the name of what is decoded.
Outcome compare_halves(const Golden& golden, const autoencoder::Autoencoder& model,
                       const io::SafetensorsFile& reference, const char* latent, double limit) {
  const auto input = [&](const char* key) { return reference.tensor(key).to(golden.device, golden.dtype); };
  const Outcome encoded = compare(model.encode(input("in.x")), reference.tensor("z"), limit);
  const Outcome decoded = compare(model.decode(input(latent)), reference.tensor("out"), limit);
  const Verdict verdict = encoded.verdict == Verdict::kFailed ? Verdict::kFailed : decoded.verdict;
  return {verdict, "encoder: " + encoded.text + "; decoder: " + decoded.text};
}

// Without tiles.
RunCase autoencoder_case(const char* name, const char* config_file, Component component = Component::kAe) {
  return [=](const Golden& golden, double limit) {
    const io::SafetensorsFile reference = golden.open_case(name);
    Config config = golden.config(config_file);
    std::visit([](auto& ae) { ae.use_spatial_tiling = ae.use_temporal_tiling = false; }, config.ae);
    const auto model = golden.models(config).autoencoder(component, autoencoder::Half::kBoth);
    return compare_halves(golden, *model, reference, "z", limit);
  };
}

// With weights of random numbers, which are the same everywhere: it has one size, of 45 MB.
Outcome run_tiny_autoencoder(const Golden& golden, double limit) {
  const io::SafetensorsFile reference = golden.open_case("taehv");
  models::ModelSet models({.model_dir = {}, .config = golden.config("tiny.json")},
                          {.source = models::Source::kRandom, .device = golden.device, .dtype = golden.dtype});
  const auto model = models.autoencoder(Component::kTinyAe, autoencoder::Half::kBoth);
  return compare_halves(golden, *model, reference, "in.z", limit);
}

GenerateRequest whole_run(const Golden& golden, const nlohmann::json& description, const fs::path& folder) {
  const nlohmann::json& options = description["options"];
  GenerateRequest request;
  request.prompt = description["user_prompt"];
  request.model_dir = golden.checkpoints();
  request.config = golden.config("tiny.json");
  request.config.cond_type = description["cond_type"];
  SamplingConfig& sampling = request.config.sampling;
  sampling.resolution = sampling.aspect_ratio = std::nullopt;
  sampling.height = options["height"];
  sampling.width = options["width"];
  sampling.num_frames = options["num_frames"];
  sampling.num_steps = options["num_steps"];
  request.seed = description["seed"];
  request.device = golden.device.str();
  request.dtype = dtype_name(golden.dtype);
  if (!description["refs"].is_null()) {
    request.references = {golden.data / "cases" / description["refs"][0][0].get<std::string>()};
  }
  request.output = folder / "video.mp4";
  request.save_tensors = folder / "tensors.safetensors";
  return request;
}

// From the prompt to the file.
RunCase whole_run_case(const char* name) {
  return [=](const Golden& golden, double limit) {
    const ScratchFolder folder("selftest");
    const io::SafetensorsFile reference = golden.open_case(name);
    generate(whole_run(golden, parse_json(reference.metadata().at("case")), folder.path()));
    const io::SafetensorsFile saved(folder.path() / "tensors.safetensors");
    return compare(saved.tensor("video"), reference.tensor("video"), limit);
  };
}

// Measured on a CPU: models 7e-6, 2e-3 and 2e-2 at most (fp32, fp16, bf16), whole runs 2e-4, 3e-3 and 2e-2. TF32 in
// place of float32 would be ten times over the limit.
constexpr Limits kModel{1e-4, 1e-2, 5e-2}, kWholeRun{2e-3, 2e-2, 1e-1};

}  // namespace

std::vector<SelfCheck> golden_checks(at::Device device, const Dtypes& dtypes, const fs::path& data) {
  constexpr const char* kVideo = "tiny.json";
  constexpr const char* kCompressed = "tiny_high_compression.json";
  constexpr const char* kFlux = "tiny_t2i2v.json";
  std::vector<SelfCheck> checks;
  const auto add = [&](const char* name, const Limits& limits, const RunCase& run) {
    for (const at::ScalarType dtype : dtypes) {
      const Golden golden{data, device, dtype};
      checks.push_back(
          {"golden", fmt::format("{} {}", name, dtype_name(dtype)), [=] { return run(golden, limits.of(dtype)); }});
    }
  };
  add("clip", kModel, run_clip);
  add("t5", kModel, run_t5);
  add("mmdit", kModel, transformer_case("mmdit", kVideo));
  add("mmdit, blocks streamed", kModel,
      transformer_case("mmdit", kVideo, Component::kModel, models::Offload::kBlock, 3));
  add("mmdit_dc_ae", kModel, transformer_case("mmdit_dc_ae", kCompressed));
  add("flux", kModel, transformer_case("flux", kFlux, Component::kImgFlux));
  add("flux_ae", kModel, autoencoder_case("flux_ae", kFlux, Component::kImgFluxAe));
  add("hunyuan_vae_image", kModel, autoencoder_case("hunyuan_vae_image", kVideo));
  add("hunyuan_vae", kModel, autoencoder_case("hunyuan_vae_untiled", kVideo));
  add("dc_ae_image", kModel, autoencoder_case("dc_ae_image", kCompressed));
  add("dc_ae", kModel, autoencoder_case("dc_ae_untiled", kCompressed));
  add("taehv", kModel, run_tiny_autoencoder);
  add("text to video", kWholeRun, whole_run_case("pipeline_t2v"));
  add("image to video", kWholeRun, whole_run_case("pipeline_i2v_head"));
  return checks;
}

}  // namespace opensora::tools

namespace opensora {

namespace fs = std::filesystem;

namespace tools {

Outcome compare(const at::Tensor& actual, const at::Tensor& expected, double limit) {
  if (actual.sizes() != expected.sizes()) {
    return {Verdict::kFailed,
            fmt::format("shape {}, expected {}", shape_string(actual.sizes()), shape_string(expected.sizes()))};
  }
  const at::Tensor want = expected.to(at::kCPU, at::kDouble);
  const at::Tensor difference = actual.to(at::kCPU).to(at::kDouble) - want;
  const double error = (difference.norm() / want.norm()).item<double>();
  const bool ok = error <= limit;  // false for NaN
  return {ok ? Verdict::kOk : Verdict::kFailed, fmt::format("error {:.1e}, at most {:.1e}", error, limit)};
}

Outcome skipped(std::string why) { return {Verdict::kSkipped, std::move(why)}; }

fs::path selftest_data_dir() {
  const fs::path configs = bundled_configs_dir();
  const fs::path in_source = configs.parent_path() / "tests/data/reference", installed = configs / "../selftest";
  for (const fs::path& folder : {in_source, installed}) {
    std::error_code unreadable;
    if (fs::is_directory(folder / "cases", unreadable)) return folder.lexically_normal();
  }
  throw CheckpointError("the selftest's cases are neither in " + in_source.string() + " nor in " +
                        installed.lexically_normal().string() + "; install the program with cmake --install");
}

}  // namespace tools

namespace {

using tools::Outcome;
using tools::SelfCheck;

SelftestResult perform(const SelfCheck& check) {
  const auto start = std::chrono::steady_clock::now();
  Outcome outcome;
  try {
    outcome = check.run();
  } catch (const InterruptedError&) {
    throw;
  } catch (const std::exception& error) {
    outcome = {Verdict::kFailed, first_line(error.what())};
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return {check.topic, check.name, outcome.verdict, outcome.text, seconds.count()};
}

}  // namespace

int64_t SelftestReport::count(Verdict verdict) const {
  return std::count_if(results.begin(), results.end(), [&](const auto& result) { return result.verdict == verdict; });
}

SelftestReport selftest(const SelftestOptions& options) {
  const c10::InferenceMode inference;
  use_threads(options.threads);
  const fs::path data = tools::selftest_data_dir();
  const at::Device device = resolve_device(options.device);
  tools::Dtypes dtypes;
  for (const std::string& name : options.dtypes) dtypes.push_back(resolve_dtype(name, device));
  if (options.dtypes.empty()) dtypes = {at::kFloat, at::kBFloat16, at::kHalf};
  nn::prefer_fast_attention();

  SelftestReport report{.device = device.str(), .results = {}};
  for (const auto& checks : {tools::golden_checks(device, dtypes, data), tools::attention_checks(device, dtypes),
                             tools::kernel_checks(device, dtypes), tools::size_checks(device, dtypes),
                             tools::speed_checks(device, dtypes)}) {
    for (const SelfCheck& check : checks) {
      throw_if_stopped();
      report.results.push_back(perform(check));
      if (options.on_result) options.on_result(report.results.back());
    }
  }
  return report;
}

}  // namespace opensora
