#include "pipeline/text_stage.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>

#include "core/json_text.h"
#include "opensora/error.h"
#include "pipeline/examination.h"
#include "pipeline/text_embeddings.h"
#include "text/unicode.h"

namespace opensora::pipeline {
namespace {

constexpr TextEncoderKind kKinds[] = {TextEncoderKind::kClip, TextEncoderKind::kT5};

// The encoder's files, or nullopt where embeddings may do without it. A file that was chosen must be there.
std::optional<io::TextEncoderFiles> present_encoder(TextEncoderKind kind, const Config& config,
                                                    const TextStageOptions& options) {
  const bool chosen = !(kind == TextEncoderKind::kT5 ? options.t5_weights : options.clip_weights).empty();
  try {
    return find_encoder(kind, config, options);
  } catch (const CheckpointError&) {
    if (chosen || options.embeddings.empty()) throw;
    return std::nullopt;
  }
}

std::string sources_text(const TextStageOptions& options) {
  std::string list;
  for (const std::filesystem::path& source : options.embeddings) list += (list.empty() ? "" : ", ") + source.string();
  return list;
}

// Where the texts of one encoder come from.
class TextSource {
 public:
  TextSource(TextEncoderKind kind, const Config& config, const TextStageOptions& options)
      : kind_(kind), config_(config), options_(options), files_(present_encoder(kind, config, options)) {
    expected_.max_length = encoder_max_length(kind, config);
    expected_.width = encoder_width(kind, config);
    if (options.embeddings.empty() || !files_) return;
    expected_.identity = encoder_identity(*files_);
    expected_.identity_file = files_->weights;
  }

  // nullopt: the encoder must make it, and is there.
  std::optional<StoredEmbedding> stored(const std::string& text) {
    if (options_.embeddings.empty()) return std::nullopt;
    std::optional<StoredEmbedding> found = find_embedding(options_.embeddings, text, kind_, expected_);
    if (found && expected_.identity.empty()) {  // no encoder to compare with: the first file speaks for all
      expected_.identity = found->identity;
      expected_.identity_file = found->file;
    }
    if (!found && !files_) fail_missing(text);
    return found;
  }

  // On the options' device.
  at::Tensor states(const std::string& text) {
    if (const auto known = states_.find(text); known != states_.end()) return known->second;
    const std::optional<StoredEmbedding> found = stored(text);
    return states_[text] = found ? found->encoded.states.to(options_.device) : encode(text);
  }

 private:
  at::Tensor encode(const std::string& text) {
    if (!options_.embeddings.empty()) {
      spdlog::info("{}: no embedding of \"{}\" in {}; it is encoded", encoder_name(kind_), text::excerpt(text),
                   sources_text(options_));
    }
    if (!encode_) load();
    return encode_(text).states;
  }

  void load() {
    const auto start = std::chrono::steady_clock::now();
    encode_ = load_text_encoder(kind_, config_, options_);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    if (options_.on_load) options_.on_load(encoder_key(kind_), seconds.count());
  }

  [[noreturn]] void fail_missing(const std::string& text) const {
    throw CheckpointError(
        std::string("no ") + encoder_name(kind_) + " embedding of the text " + json_excerpt(text) + " in " +
        sources_text(options_) + ", and no " + encoder_name(kind_) + " in the model folder " +
        options_.model_dir.string() +
        "; make it with opensora encode-text (with the same --fps, --motion-score and negative prompt)");
  }

  TextEncoderKind kind_;
  const Config& config_;
  const TextStageOptions& options_;
  std::optional<io::TextEncoderFiles> files_;
  ExpectedEmbedding expected_;
  EncodeText encode_;                         // loaded when the first text needs it
  std::map<std::string, at::Tensor> states_;  // by text
};

std::vector<at::Tensor> states_of(TextEncoderKind kind, const std::vector<std::string>& prompts, const Config& config,
                                  const TextStageOptions& options) {
  TextSource source(kind, config, options);
  std::vector<at::Tensor> states;
  states.reserve(prompts.size());
  for (const std::string& prompt : prompts) states.push_back(source.states(prompt));
  return states;
}

}  // namespace

std::string negative_prompt(const GenerateRequest& request) {
  if (request.negative_text_embedding.empty()) return request.negative_prompt;
  std::string text = embedded_text(request.negative_text_embedding);
  if (request.negative_prompt.empty() || request.negative_prompt == text) return text;
  throw UsageError("--neg-text-embedding " + request.negative_text_embedding.string() + " is of the text \"" +
                   text::excerpt(text) + "\", but the negative prompt is \"" + text::excerpt(request.negative_prompt) +
                   "\"; give one of the two");
}

TextStageOptions text_options(const GenerateRequest& request, const Plan& plan) {
  TextStageOptions options = {.model_dir = request.model_dir,
                              .device = plan.device,
                              .dtype = plan.dtype,
                              .t5_weights = request.files.t5xxl,
                              .clip_weights = request.files.clip_l};
  for (const std::filesystem::path& source : {request.negative_text_embedding, request.text_embeddings}) {
    if (!source.empty()) options.embeddings.push_back(source);
  }
  return options;
}

void check_texts(const std::vector<std::string>& texts, const Config& config, const TextStageOptions& options) {
  std::vector<io::Component> wanted;
  for (const TextEncoderKind kind : kKinds) {
    TextSource source(kind, config, options);
    const auto is_to_be_made = [&](const std::string& text) { return !source.stored(text); };
    if (std::count_if(texts.begin(), texts.end(), is_to_be_made) > 0) wanted.push_back(encoder_component(kind));
  }
  if (options.embeddings.empty()) return;  // check_model_files() has looked
  ModelFiles files;
  files.t5xxl = options.t5_weights;
  files.clip_l = options.clip_weights;
  check_models(wanted, options.model_dir, config, files);
}

std::vector<sampling::TextEmbedding> encode_prompts(const std::vector<std::string>& prompts, const Config& config,
                                                    const TextStageOptions& options) {
  const std::vector<at::Tensor> vec = states_of(TextEncoderKind::kClip, prompts, config, options);
  const std::vector<at::Tensor> txt = states_of(TextEncoderKind::kT5, prompts, config, options);
  std::vector<sampling::TextEmbedding> embeddings;
  embeddings.reserve(prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) embeddings.push_back({.txt = txt[i], .vec = vec[i]});
  return embeddings;
}

}  // namespace opensora::pipeline
