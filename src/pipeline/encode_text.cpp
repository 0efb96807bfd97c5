#include "opensora/encode_text.h"

#include <c10/core/InferenceMode.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>
#include <set>
#include <system_error>

#include "core/device.h"
#include "core/output_file.h"
#include "core/threads.h"
#include "models/examination.h"
#include "models/text_encoder.h"
#include "opensora/error.h"
#include "pipeline/identity.h"
#include "pipeline/stage.h"
#include "pipeline/text_embeddings.h"
#include "text/prompt.h"
#include "text/unicode.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;

struct Job {
  const EncodeTextRequest& request;
  std::vector<Component> encoders;  // CLIP first: what it makes is small and is kept until T5 is done
  models::ModelSet models;
  pipeline::EncoderIdentities identities;
  pipeline::StageClock& clock;
};

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directory(folder, error);
  if (error) throw OutputError("--output-dir " + folder.string() + ": cannot be made: " + error.message());
}

std::vector<std::string> distinct(const std::vector<std::string>& texts) {
  std::vector<std::string> kept;
  std::set<std::string> seen;
  for (const std::string& text : texts) {
    text::check_utf8(text, "the text \"" + text::excerpt(text) + "\"");
    if (seen.insert(text).second) kept.push_back(text);
  }
  return kept;
}

pipeline::EncoderIdentities identities_of(const Job& job) {
  pipeline::EncoderIdentities identities;
  for (const Component encoder : job.encoders) {
    identities[encoder] = pipeline::encoder_identity(locate(encoder, job.models.choice()));
  }
  return identities;
}

// True if the file is there and holds what this run would put into it (whatever the dtype).
bool is_done(const Job& job, const EncodedTextFile& target) {
  std::error_code unreadable;
  if (job.request.overwrite || !fs::exists(target.file, unreadable)) return false;
  try {
    for (const Component encoder : job.encoders) {
      const pipeline::ExpectedEmbedding expected = {
          .max_length = models::encoder_max_length(encoder, job.request.config),
          .width = models::encoder_width(encoder, job.request.config),
          .identity = job.identities.at(encoder),
          .identity_file = job.request.model_dir};
      if (!read_embedding(target.file, target.text, encoder, expected)) {
        throw CheckpointError(target.file.string() + ": holds another text");
      }
    }
  } catch (const CheckpointError& error) {
    throw OutputError(std::string(error.what()) + "; --overwrite replaces it");
  }
  return true;
}

std::vector<EncodedTextFile> plan_files(const Job& job) {
  std::vector<EncodedTextFile> files;
  for (const std::string& text : distinct(job.request.texts)) {
    EncodedTextFile& file = files.emplace_back();
    file.text = text;
    file.file = job.request.output_dir / pipeline::embedding_file_name(text, job.encoders);
    file.kept = is_done(job, file);
    if (!file.kept) check_output(file.file, job.request.overwrite);
  }
  return files;
}

// Runs one encoder over all texts that are still to be made. `write`: the last encoder's parts complete each file.
void run_encoder(Job& job, Component encoder, const std::vector<EncodedTextFile>& files,
                 std::map<std::string, pipeline::EncodedParts>& parts, bool write) {
  const auto to_do = std::count_if(files.begin(), files.end(), [](const EncodedTextFile& file) { return !file.kept; });
  const models::TextEncoder encode(encoder, job.models);
  int64_t done = 0;
  for (const EncodedTextFile& file : files) {
    if (file.kept) continue;
    models::EncodedText encoded = encode(file.text);
    pipeline::EncodedParts& all = parts[file.text];
    all[encoder] = {encoded.ids, encoded.states.cpu()};
    if (write) {
      pipeline::save_embedding(file.file, file.text, all, job.identities, job.request.overwrite);
      parts.erase(file.text);
    }
    job.clock.report({models::component_name(encoder), ++done, to_do});
  }
}

void encode_all(Job& job, const std::vector<EncodedTextFile>& files) {
  if (std::all_of(files.begin(), files.end(), [](const EncodedTextFile& file) { return file.kept; })) return;
  std::map<std::string, pipeline::EncodedParts> parts;  // by text
  for (const Component encoder : job.encoders) {
    job.clock.run(models::component_name(encoder),
                  [&] { run_encoder(job, encoder, files, parts, encoder == job.encoders.back()); });
  }
}

}  // namespace

std::vector<std::string> embedded_texts(const std::string& prompt, const std::string& negative_prompt,
                                        const Config& config) {
  return {prompt, text::add_suffixes(prompt, config.fps_save.rounded(), config.motion_score), negative_prompt};
}

EncodeTextResult encode_text(const EncodeTextRequest& request, const ProgressCallback& progress) {
  const c10::InferenceMode inference;
  if (!request.t5 && !request.clip) throw UsageError("no text encoder was asked for");
  const at::Device device = resolve_device(request.device);
  pipeline::StageClock clock(device, progress);
  Job job{.request = request,
          .encoders = {},
          .models = models::ModelSet(models::choice_of(request),
                                     {.device = device, .dtype = resolve_dtype(request.dtype, device)}),
          .identities = {},
          .clock = clock};
  if (request.clip) job.encoders.push_back(Component::kClip);
  if (request.t5) job.encoders.push_back(Component::kT5);
  check_models(job.encoders, job.models.choice());
  job.identities = identities_of(job);
  use_threads(request.threads);

  make_folder(request.output_dir);
  EncodeTextResult result;
  result.files = plan_files(job);
  encode_all(job, result.files);
  result.device = device.str();
  result.dtype = dtype_name(job.models.options().dtype);
  result.seconds = clock.seconds();
  result.peak_resident_bytes = peak_resident_bytes();
  result.peak_device_bytes = peak_device_bytes(device);
  return result;
}

}  // namespace opensora
