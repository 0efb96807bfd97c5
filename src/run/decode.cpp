#include "opensora/generate.h"

#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <variant>

#include "core/json_text.h"
#include "models/examination.h"
#include "opensora/error.h"
#include "opensora/metadata.h"
#include "request/parameter.h"
#include "run/metadata.h"
#include "run/remains.h"
#include "run/runner.h"
#include "run/suspicious.h"
#include "sampling/size.h"

namespace opensora {
namespace {

using run::Job;

constexpr const char* kDocument = "opensora";  // in the metadata of a latent's file

// The most frames that the autoencoder makes of that many latent ones.
int64_t most_frames(const Config& config, int64_t latent_frames) {
  const int64_t reduction = config.sampling.temporal_reduction;
  if (latent_frames == 1) return 1;
  if (std::holds_alternative<DCAEConfig>(config.ae)) return latent_frames * reduction;
  return (latent_frames - 1) * reduction + 1;
}

void check_channels(const std::filesystem::path& file, const Config& config, const at::Tensor& latent) {
  const int64_t patch = config.model.patch_size, expected = config.model.in_channels / (patch * patch);
  if (latent.size(1) == expected) return;
  throw UsageError(fmt::format("{}: a latent of {} channels, but the configuration {} has {}; give another `config`",
                               file.string(), latent.size(1), config.name, expected));
}

// The request for a video of the latent's size, without what only sampling needs.
GenerateRequest request_of(const GenerateRequest& given, const at::Tensor& latent) {
  GenerateRequest request = given;
  Config& config = request.config;
  SamplingConfig& s = config.sampling;
  const int64_t pixels = config.ae_spatial_compression / config.model.patch_size;
  s.resolution = s.aspect_ratio = std::nullopt;
  s.height = latent.size(3) * pixels;
  s.width = latent.size(4) * pixels;
  if (sampling::latent_frames(s.num_frames, s.temporal_reduction) != latent.size(2)) {
    s.num_frames = most_frames(config, latent.size(2));
  }
  config.cond_type = "t2v";
  config.use_t2i2v = request.image_only = false;
  request.references.clear();
  if (!request.seed) request.seed = 0;
  return request;
}

std::filesystem::path default_name(const std::filesystem::path& latent, const GenerateRequest& request) {
  const std::string extension = default_output("", 0, request.config.sampling.num_frames, request.codec).extension();
  std::filesystem::path output = latent;
  output.replace_extension();
  return output.replace_extension(extension);  // "sea.latent.safetensors" -> "sea.mp4"
}

// What was noted when the latent was sampled, with the values by which it is decoded now.
std::string updated_document(const std::filesystem::path& file, const std::map<std::string, std::string>& metadata,
                             const Job& job) {
  const auto found = metadata.find(kDocument);
  if (found == metadata.end()) return {};
  nlohmann::ordered_json document;
  try {
    document = parse_ordered_json(found->second);
  } catch (const JsonError& error) {
    throw CheckpointError(file.string() + ": how it was sampled is not valid JSON: " + error.what());
  }
  if (!document.is_object() || !document["request"].is_object()) {
    throw CheckpointError(file.string() + ": how it was sampled is not said as opensora says it, found " +
                          json_excerpt(document));
  }
  const nlohmann::ordered_json now = run::request_json(job);
  for (const request::Parameter& parameter : request::parameters()) {
    if (parameter.decodes) document["request"][parameter.key()] = now[parameter.key()];
  }
  return document.dump();
}

Job plan_decoding(const std::filesystem::path& file, const GenerateRequest& given) {
  const at::Tensor latent = run::read_latent(file);
  check_channels(file, given.config, latent);
  GenerateRequest request = request_of(given, latent);
  if (request.output.empty()) request.output = default_name(file, request);
  Job job = run::make_job(request);
  job.latent_file = file;
  job.has_latent = true;
  run::settle_output(job);
  job.metadata = updated_document(file, run::read_latent_metadata(file), job);
  if (job.metadata.empty()) job.request.metadata = job.request.sidecar = false;
  return job;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> read_latent_flags(const std::filesystem::path& latent) {
  const std::map<std::string, std::string> metadata = run::read_latent_metadata(latent);
  const auto document = metadata.find(kDocument);
  if (document == metadata.end()) return {};
  return parse_request_flags(document->second, latent.string());
}

GenerateResult decode(const std::filesystem::path& latent, const GenerateRequest& request,
                      const ProgressCallback& progress) {
  const c10::InferenceMode inference;
  Job job = plan_decoding(latent, request);
  check_models({Component::kAe}, models::choice_of(request), autoencoder::Half::kDecoder);
  run::prepare_machine(request);
  run::RunObserver observer(progress);
  BatchOptions options;
  options.keep_latents = true;
  run::run_jobs({&job, 1}, options, observer);
  if (job.error) std::rethrow_exception(job.error);
  if (request.strict && !job.result.suspicious.empty()) {
    throw SuspiciousError(run::suspicion_text(job.result.suspicious, job.result.output));
  }
  return job.result;
}

}  // namespace opensora
