#include "opensora/text.h"

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
#include "models/model_files.h"
#include "models/text_encoder.h"
#include "opensora/error.h"
#include "run/checkpoints.h"
#include "run/stage.h"
#include "run/text_embeddings.h"
#include "text/prompt.h"
#include "text/tokenizers.h"
#include "text/unicode.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;

struct EncodingRun {
  const EncodeTextRequest& request;
  std::vector<Component> encoders;  // CLIP first: what it makes is small and is kept until T5 is done
  models::ModelSet models;
  run::EncoderIdentities identities;
  run::StageClock& clock;
};

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directory(folder, error);
  if (error) throw OutputError("`output_dir` " + folder.string() + ": cannot be made: " + error.message());
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

run::EncoderIdentities identities_of(const EncodingRun& work) {
  run::EncoderIdentities identities;
  for (const Component encoder : work.encoders) {
    identities[encoder] = run::encoder_identity(locate(encoder, work.models.choice()));
  }
  return identities;
}

// True if the file is there and holds what this run would put into it (whatever the dtype).
bool is_done(const EncodingRun& work, const EncodedTextFile& target) {
  std::error_code unreadable;
  if (work.request.overwrite || !fs::exists(target.file, unreadable)) return false;
  try {
    for (const Component encoder : work.encoders) {
      run::ExpectedEmbedding expected = {.max_length = models::encoder_max_length(encoder, work.request.config),
                                         .width = models::encoder_width(encoder, work.request.config),
                                         .identity = work.identities.at(encoder),
                                         .identity_file = work.request.model_dir};
      if (!read_embedding(target.file, target.text, encoder, expected)) {
        throw CheckpointError(target.file.string() + ": holds another text");
      }
    }
  } catch (const CheckpointError& error) {
    throw OutputError(std::string(error.what()) + "; `overwrite` replaces it");
  }
  return true;
}

std::vector<EncodedTextFile> plan_files(const EncodingRun& work) {
  std::vector<EncodedTextFile> files;
  for (const std::string& text : distinct(work.request.texts)) {
    EncodedTextFile& file = files.emplace_back();
    file.text = text;
    file.file = work.request.output_dir / run::embedding_file_name(text, work.encoders);
    file.kept = is_done(work, file);
    if (!file.kept) check_output(file.file, work.request.overwrite);
  }
  return files;
}

// Runs one encoder over all texts that are still to be made. `write`: the last encoder's parts complete each file.
void run_encoder(EncodingRun& work, Component encoder, const std::vector<EncodedTextFile>& files,
                 std::map<std::string, run::EncodedParts>& parts, bool write) {
  const auto to_do = std::count_if(files.begin(), files.end(), [](const EncodedTextFile& file) { return !file.kept; });
  const models::TextEncoder encode(encoder, work.models);
  int64_t done = 0;
  for (const EncodedTextFile& file : files) {
    if (file.kept) continue;
    models::EncodedText encoded = encode(file.text);
    run::EncodedParts& all = parts[file.text];
    all[encoder] = {encoded.ids, encoded.states.cpu()};
    if (write) {
      run::save_embedding(file.file, file.text, all, work.identities, work.request.overwrite);
      parts.erase(file.text);
    }
    work.clock.report({models::component_name(encoder), ++done, to_do});
  }
}

void encode_all(EncodingRun& work, const std::vector<EncodedTextFile>& files) {
  if (std::all_of(files.begin(), files.end(), [](const EncodedTextFile& file) { return file.kept; })) return;
  std::map<std::string, run::EncodedParts> parts;  // by text
  for (const Component encoder : work.encoders) {
    work.clock.run(models::component_name(encoder),
                   [&] { run_encoder(work, encoder, files, parts, encoder == work.encoders.back()); });
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
  run::StageClock clock(device, progress);
  EncodingRun work{
      .request = request,
      .encoders = {},
      .models = models::ModelSet(
          models::choice_of(request),
          {.device = device, .dtype = resolve_dtype(request.dtype, device), .offload = models::Offload::kAuto}),
      .identities = {},
      .clock = clock};
  if (request.clip) work.encoders.push_back(Component::kClip);
  if (request.t5) work.encoders.push_back(Component::kT5);
  work.models.hold_tokenizers(check_models(work.encoders, work.models.choice()));
  work.identities = identities_of(work);
  use_threads(request.threads);

  make_folder(request.output_dir);
  EncodeTextResult result;
  result.files = plan_files(work);
  encode_all(work, result.files);
  result.device = device.str();
  result.dtype = dtype_name(work.models.options().dtype);
  result.seconds = clock.seconds();
  result.peak_resident_bytes = peak_resident_bytes();
  result.peak_device_bytes = peak_device_bytes(device);
  return result;
}

TokenizedPrompt tokenize(const std::string& text, const std::filesystem::path& model_dir, const Config& config) {
  text::check_utf8(text, "the text");
  const models::ModelChoice choice{model_dir, config};
  const text::ClipTokenizer clip(tokenizer_folder(Component::kClip, choice));
  const text::T5Tokenizer t5(tokenizer_folder(Component::kT5, choice));
  TokenizedPrompt tokens{.clip = clip.encode(text, config.clip.max_length),
                         .t5 = t5.encode(text, config.t5.max_length)};
  tokens.clip.ids = clip.pad(tokens.clip, config.clip.max_length);
  return tokens;
}

}  // namespace opensora
