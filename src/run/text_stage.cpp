#include "run/text_stage.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>

#include "core/json_text.h"
#include "models/examination.h"
#include "models/text_encoder.h"
#include "opensora/error.h"
#include "run/checkpoints.h"
#include "run/text_embeddings.h"
#include "text/unicode.h"

namespace opensora::run {
namespace {

using Sources = std::vector<std::filesystem::path>;

// The encoder's files; nullopt where they are missing and embeddings may do instead. A file that was chosen must be
// there.
std::optional<models::ComponentFiles> present_encoder(Component component, const models::ModelChoice& choice,
                                                      const Sources& sources) {
  try {
    return locate(component, choice);
  } catch (const CheckpointError&) {
    if (!models::chosen_file(component, choice.files).empty() || sources.empty()) throw;
    return std::nullopt;
  }
}

std::string sources_text(const Sources& sources) {
  std::string list;
  for (const std::filesystem::path& source : sources) list += (list.empty() ? "" : ", ") + source.string();
  return list;
}

// Finds an embedding that was made before; nullopt: the encoder must make it, and is there. Throws CheckpointError.
using FindStored = std::function<std::optional<models::EncodedText>(const std::string& text)>;

// Those of one encoder. `choice` and `sources` must outlive the result.
FindStored stored_texts(Component component, const models::ModelChoice& choice, const Sources& sources) {
  const std::optional<models::ComponentFiles> files = present_encoder(component, choice, sources);
  ExpectedEmbedding expected{.max_length = models::encoder_max_length(component, choice.config),
                             .width = models::encoder_width(component, choice.config)};
  if (!sources.empty() && files) {
    expected.identity = encoder_identity(*files);
    expected.identity_file = files->weights;
  }
  return [=, &choice, &sources](const std::string& text) mutable -> std::optional<models::EncodedText> {
    if (sources.empty()) return std::nullopt;
    auto found = find_embedding(sources, text, component, expected);
    if (found || files) return found;
    const char* encoder = models::encoder_name(component);
    throw CheckpointError(
        std::string("no ") + encoder + " embedding of the text " + json_excerpt(text) + " in " + sources_text(sources) +
        ", and no " + encoder + " in the model folder " + choice.model_dir.string() +
        "; make it with opensora encode-text (with the same `fps`, `motion_score` and negative prompt)");
  };
}

// One result for each prompt, in order. The encoder is loaded when the first text needs it.
std::vector<at::Tensor> states_of(Component component, const std::vector<std::string>& prompts,
                                  models::ModelSet& models, const Sources& sources) {
  const FindStored find_stored = stored_texts(component, models.choice(), sources);
  std::optional<models::TextEncoder> encoder;
  const auto make = [&](const std::string& text) -> at::Tensor {
    if (const auto found = find_stored(text)) return found->states.to(models.device());
    if (!sources.empty()) {
      spdlog::info("{}: no embedding of \"{}\" in {}; it is encoded", models::encoder_name(component),
                   text::excerpt(text), sources_text(sources));
    }
    if (!encoder) encoder.emplace(component, models);
    return (*encoder)(text).states;
  };
  std::map<std::string, at::Tensor> known;
  std::vector<at::Tensor> states;
  states.reserve(prompts.size());
  for (const std::string& prompt : prompts) {
    if (!known.contains(prompt)) known[prompt] = make(prompt);
    states.push_back(known[prompt]);
  }
  return states;
}

bool is_letter(unsigned char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80; }

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool contains(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

}  // namespace

std::string negative_prompt(const GenerateRequest& request) {
  if (request.negative_text_embedding.empty()) return request.negative_prompt;
  std::string text = embedded_text(request.negative_text_embedding);
  if (request.negative_prompt.empty() || request.negative_prompt == text) return text;
  throw UsageError("`neg_text_embedding` " + request.negative_text_embedding.string() + " is of the text \"" +
                   text::excerpt(text) + "\", but the negative prompt is \"" + text::excerpt(request.negative_prompt) +
                   "\"; give one of the two");
}

Sources embedding_sources(const GenerateRequest& request) {
  Sources sources;
  for (const std::filesystem::path& source : {request.negative_text_embedding, request.text_embeddings}) {
    if (!source.empty()) sources.push_back(source);
  }
  return sources;
}

void check_texts(const std::vector<std::string>& texts, const models::ModelChoice& choice, const Sources& sources) {
  std::vector<Component> wanted;
  for (const Component component : {Component::kClip, Component::kT5}) {
    const FindStored find_stored = stored_texts(component, choice, sources);
    const auto is_to_be_made = [&](const std::string& text) { return !find_stored(text); };
    if (std::count_if(texts.begin(), texts.end(), is_to_be_made) > 0) wanted.push_back(component);
  }
  if (sources.empty()) return;  // check_model_files() has looked
  check_models(wanted, choice);
}

std::vector<sampling::TextEmbedding> encode_prompts(const std::vector<std::string>& prompts, models::ModelSet& models,
                                                    const Sources& sources) {
  const std::vector<at::Tensor> vec = states_of(Component::kClip, prompts, models, sources);
  const std::vector<at::Tensor> txt = states_of(Component::kT5, prompts, models, sources);
  std::vector<sampling::TextEmbedding> embeddings;
  embeddings.reserve(prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) embeddings.push_back({.txt = txt[i], .vec = vec[i]});
  return embeddings;
}

std::vector<std::string> unknown_words(const Vocabulary& vocabulary, const std::string& prompt) {
  std::vector<std::string> unknown;
  for (auto begin = prompt.begin(); begin != prompt.end();) {
    begin = std::find_if(begin, prompt.end(), is_letter);
    const auto end = std::find_if_not(begin, prompt.end(), is_letter);
    std::string word(begin, end);
    std::transform(word.begin(), word.end(), word.begin(), lower);
    if (!word.empty() && !contains(vocabulary.words, word) && !contains(unknown, word)) unknown.push_back(word);
    begin = end;
  }
  return unknown;
}

void warn_of_unknown_words(const Config& config, const std::vector<std::string>& prompts) {
  if (!config.vocabulary) return;
  constexpr size_t kMostWords = 5;
  std::vector<std::string> unknown;
  for (const std::string& prompt : prompts) {
    for (const std::string& word : unknown_words(*config.vocabulary, prompt)) {
      if (!contains(unknown, word)) unknown.push_back(word);
    }
  }
  if (unknown.empty()) return;
  std::string list;
  for (size_t i = 0; i < std::min(unknown.size(), kMostWords); ++i) {
    list.append(i == 0 ? "\"" : ", \"").append(unknown[i]).append("\"");
  }
  if (unknown.size() > kMostWords) list.append(", …");
  spdlog::warn("{}, but not {}; real videos need the published weights: see \"Real videos\" in the README",
               config.vocabulary->about, list);
}

}  // namespace opensora::run
