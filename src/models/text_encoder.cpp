#include "models/text_encoder.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <string>
#include <variant>

#include "models/model_set.h"
#include "opensora/error.h"
#include "text/prompt.h"

namespace opensora::models {
namespace {

// The file that the encoder's sizes come from.
std::filesystem::path size_source(const ComponentFiles& files) {
  return files.config_folder.empty() ? files.weights : files.config_folder / "config.json";
}

void check_width(const ComponentFiles& files, const char* key, int64_t found, const char* model_key, int64_t expected) {
  if (found == expected) return;
  throw CheckpointError(size_source(files).string() + ": \"" + key + "\" is " + std::to_string(found) +
                        ", but the transformer's \"" + model_key + "\" is " + std::to_string(expected));
}

// Names the first layer that one of the two lacks. Weights without any are another model's, as binding them will say.
void check_layers(const ComponentFiles& files, const WeightSource& weights, const char* key, int64_t configured,
                  const std::string& prefix, const std::string& suffix) {
  const int64_t held = count_numbered(weights, prefix, suffix);
  if (held == configured || held == 0) return;
  throw CheckpointError((files.config_folder / "config.json").string() + ": \"" + key + "\" is " +
                        std::to_string(configured) + ", but the weights have " + std::to_string(held) + " (" +
                        (held < configured ? "no " : "there is ") + prefix +
                        std::to_string(std::min(held, configured)) + ")");
}

[[noreturn]] void fail_vocabulary(const ComponentFiles& files, const char* tokenizer_file, int64_t found,
                                  int64_t expected) {
  throw CheckpointError((files.tokenizer_folder / tokenizer_file).string() + ": " + std::to_string(found) +
                        " tokens, but the \"vocab_size\" of " + size_source(files).string() + " is " +
                        std::to_string(expected) + ": a tokenizer of another model");
}

text::ClipConfig read_clip_sizes(const ComponentFiles& files, const WeightSource& weights) {
  if (files.config_folder.empty()) return text::deduce_clip_config(weights);
  text::ClipConfig sizes = text::load_clip_config(files.config_folder);
  check_layers(files, weights, "num_hidden_layers", sizes.num_hidden_layers, "text_model.encoder.layers.",
               ".mlp.fc1.weight");
  return sizes;
}

text::T5Config read_t5_sizes(const ComponentFiles& files, const WeightSource& weights) {
  if (files.config_folder.empty()) return text::deduce_t5_config(weights);
  text::T5Config sizes = text::load_t5_config(files.config_folder);
  check_layers(files, weights, "num_layers", sizes.num_layers, "encoder.block.", ".layer.1.DenseReluDense.wi_0.weight");
  return sizes;
}

void check_ids(const text::Tokens& tokens, int64_t vocab_size, const char* encoder) {
  for (size_t i = 0; i < tokens.ids.size(); ++i) {
    if (tokens.ids[i] < vocab_size) continue;
    throw UsageError(std::string(encoder) + ": the text holds the special token " + tokens.pieces[i] +
                     ", for which this model has no row (id " + std::to_string(tokens.ids[i]) + " of " +
                     std::to_string(vocab_size) + ")");
  }
}

}  // namespace

TextSizes read_text_sizes(Component component, const ComponentFiles& files, const WeightSource& weights) {
  TextSizes sizes;
  if (component == Component::kClip) sizes.clip = read_clip_sizes(files, weights);
  if (component == Component::kT5) sizes.t5 = read_t5_sizes(files, weights);
  return sizes;
}

TextSizes proportioned_text_sizes(const Config& config) {
  TextSizes sizes;
  sizes.clip.hidden_size = config.model.vec_in_dim;
  sizes.clip.intermediate_size = 4 * sizes.clip.hidden_size;
  sizes.clip.num_attention_heads = std::max<int64_t>(1, sizes.clip.hidden_size / 64);
  sizes.clip.max_position_embeddings = config.clip.max_length;
  sizes.t5.d_model = config.model.context_in_dim;
  sizes.t5.d_ff = sizes.t5.d_model * 5 / 2;
  sizes.t5.num_heads = std::max<int64_t>(1, sizes.t5.d_model / sizes.t5.d_kv);
  return sizes;
}

Tokenizer open_tokenizer(Component component, const std::filesystem::path& folder) {
  if (component == Component::kT5) return text::T5Tokenizer(folder);
  return text::ClipTokenizer(folder);
}

void check_text_sizes(Component component, const ComponentFiles& files, const TextSizes& sizes, const Config& config) {
  if (component == Component::kT5) {
    return check_width(files, "d_model", sizes.t5.d_model, "context_in_dim", config.model.context_in_dim);
  }
  check_width(files, "hidden_size", sizes.clip.hidden_size, "vec_in_dim", config.model.vec_in_dim);
  if (config.clip.max_length <= sizes.clip.max_position_embeddings) return;
  throw CheckpointError(size_source(files).string() + ": \"max_position_embeddings\" is " +
                        std::to_string(sizes.clip.max_position_embeddings) + ", but the configuration reads " +
                        std::to_string(config.clip.max_length) + " tokens (\"clip.max_length\")");
}

void check_vocabulary(const ComponentFiles& files, const Tokenizer& tokenizer, const TextSizes& sizes) {
  if (const auto* clip = std::get_if<text::ClipTokenizer>(&tokenizer)) {
    const int64_t rows = sizes.clip.vocab_size;
    if (clip->vocab_size() == rows || clip->total_size() == rows) return;
    fail_vocabulary(files, "vocab.json", clip->vocab_size(), rows);
  }
  // T5's embedding table is the vocabulary and 100 sentinels, rounded up to a multiple of 128.
  constexpr int64_t kMostUnused = 256;
  const int64_t pieces = std::get<text::T5Tokenizer>(tokenizer).vocab_size(), rows = sizes.t5.vocab_size;
  if (pieces <= rows && rows - pieces < kMostUnused) return;
  fail_vocabulary(files, "spiece.model", pieces, rows);
}

int64_t encoder_max_length(Component component, const Config& config) {
  return component == Component::kT5 ? config.t5.max_length : config.clip.max_length;
}

int64_t encoder_width(Component component, const Config& config) {
  return component == Component::kT5 ? config.model.context_in_dim : config.model.vec_in_dim;
}

TextEncoder::TextEncoder(Component component, ModelSet& models)
    : component_(component),
      models_(models),
      tokenizer_(models.take_tokenizer(component)),
      max_length_(encoder_max_length(component, models.choice().config)) {
  models.bind(component);
}

TextEncoder::~TextEncoder() { models_.release(component_); }

// The suffixes that this program adds come last, and are the first to go: nobody needs to be told of that.
void TextEncoder::warn_if_cut(const std::string& text) const {
  const Config& config = models_.choice().config;
  const std::string own_text = text::without_suffixes(text, config.fps_save.rounded(), config.motion_score);
  const text::Tokens own =
      std::visit([&](const auto& tokenizer) { return tokenizer.encode(own_text, max_length_); }, tokenizer_);
  if (!own.cut_before) return;
  spdlog::warn("{} reads {} of the prompt's {} tokens; it was cut before \"{}\"", encoder_name(component_),
               own.ids.size(), own.total, *own.cut_before);
}

EncodedText TextEncoder::operator()(const std::string& text) const {
  const text::Tokens tokens =
      std::visit([&](const auto& tokenizer) { return tokenizer.encode(text, max_length_); }, tokenizer_);
  check_ids(tokens, models_.vocab_size(component_), encoder_name(component_));
  if (tokens.cut_before) warn_if_cut(text);
  const std::vector<int64_t> padded =
      std::visit([&](const auto& tokenizer) { return tokenizer.pad(tokens, max_length_); }, tokenizer_);
  const at::Tensor ids = at::tensor(padded, at::kLong).unsqueeze(0);  // [1, L]
  return {ids, models_.encode_text(component_, ids)};
}

}  // namespace opensora::models
