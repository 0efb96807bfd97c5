// What the official code computed with tiny checkpoints, through every model and through whole runs.
#include <fmt/format.h>
#include <unistd.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "core/device.h"
#include "core/json_text.h"
#include "io/safetensors.h"
#include "models/model_set.h"
#include "opensora/generate.h"
#include "pipeline/selftest_check.h"

namespace opensora::pipeline {
namespace {

namespace fs = std::filesystem;

// Where a case is run, and on what.
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

struct GoldenCase {
  const char* name;
  Limits limits;
  RunCase run;
};

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

// Both halves of an autoencoder, without tiles; the worse of the two counts.
RunCase autoencoder_case(const char* name, const char* config_file, Component component = Component::kAe) {
  return [=](const Golden& golden, double limit) {
    const io::SafetensorsFile reference = golden.open_case(name);
    Config config = golden.config(config_file);
    std::visit([](auto& ae) { ae.use_spatial_tiling = ae.use_temporal_tiling = false; }, config.ae);
    const auto model = golden.models(config).autoencoder(component, autoencoder::Half::kBoth);
    const auto input = [&](const char* key) { return reference.tensor(key).to(golden.device, golden.dtype); };
    Outcome encoded = compare(model->encode(input("in.x")), reference.tensor("z"), limit);
    Outcome decoded = compare(model->decode(input("z")), reference.tensor("out"), limit);
    const Verdict verdict = encoded.verdict == Verdict::kFailed ? Verdict::kFailed : decoded.verdict;
    return Outcome{verdict, "encoder: " + encoded.text + "; decoder: " + decoded.text};
  };
}

// A folder that goes with what is in it.
struct ScratchFolder {
  fs::path path = fs::temp_directory_path() / fmt::format("opensora-selftest-{}", ::getpid());

  ScratchFolder() { fs::create_directories(path); }
  ~ScratchFolder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
};

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
    const ScratchFolder folder;
    const io::SafetensorsFile reference = golden.open_case(name);
    generate(whole_run(golden, parse_json(reference.metadata().at("case")), folder.path));
    const io::SafetensorsFile saved(folder.path / "tensors.safetensors");
    return compare(saved.tensor("video"), reference.tensor("video"), limit);
  };
}

// Measured on a CPU: models 7e-6, 2e-3 and 2e-2 at most (fp32, fp16, bf16), whole runs 2e-4, 3e-3 and 2e-2. TF32 in
// place of float32 would be ten times over the limit.
constexpr Limits kModel{1e-4, 1e-2, 5e-2}, kWholeRun{2e-3, 2e-2, 1e-1};

std::vector<GoldenCase> golden_cases() {
  constexpr const char* kVideo = "tiny.json";
  constexpr const char* kCompressed = "tiny_high_compression.json";
  constexpr const char* kFlux = "tiny_t2i2v.json";
  return {
      {"clip", kModel, run_clip},
      {"t5", kModel, run_t5},
      {"mmdit", kModel, transformer_case("mmdit", kVideo)},
      {"mmdit, blocks streamed", kModel,
       transformer_case("mmdit", kVideo, Component::kModel, models::Offload::kBlock, 3)},
      {"mmdit_dc_ae", kModel, transformer_case("mmdit_dc_ae", kCompressed)},
      {"flux", kModel, transformer_case("flux", kFlux, Component::kImgFlux)},
      {"flux_ae", kModel, autoencoder_case("flux_ae", kFlux, Component::kImgFluxAe)},
      {"hunyuan_vae_image", kModel, autoencoder_case("hunyuan_vae_image", kVideo)},
      {"hunyuan_vae", kModel, autoencoder_case("hunyuan_vae_untiled", kVideo)},
      {"dc_ae_image", kModel, autoencoder_case("dc_ae_image", kCompressed)},
      {"dc_ae", kModel, autoencoder_case("dc_ae_untiled", kCompressed)},
      {"text to video", kWholeRun, whole_run_case("pipeline_t2v")},
      {"image to video", kWholeRun, whole_run_case("pipeline_i2v_head")},
  };
}

}  // namespace

std::vector<SelfCheck> golden_checks(const SelftestMachine& machine, const fs::path& data) {
  std::vector<SelfCheck> checks;
  for (const GoldenCase& each : golden_cases()) {
    for (const at::ScalarType dtype : machine.dtypes) {
      const Golden golden{data, machine.device, dtype};
      checks.push_back({"golden", fmt::format("{} {}", each.name, dtype_name(dtype)),
                        [=] { return each.run(golden, each.limits.of(dtype)); }});
    }
  }
  return checks;
}

}  // namespace opensora::pipeline
