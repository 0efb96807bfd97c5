#include "text/tokenizers.h"

#include <fmt/format.h>
#include <sentencepiece_processor.h>

#include <algorithm>
#include <optional>
#include <stdexcept>

#include "opensora/error.h"
#include "text/added_tokens.h"
#include "text/unicode.h"

namespace opensora::text {
namespace {

using sentencepiece::SentencePieceProcessor;

constexpr const char* kT5Origin = "google/t5-v1_1-xxl";

std::optional<int64_t> find_piece(const SentencePieceProcessor& processor, const std::string& piece) {
  const int id = processor.PieceToId(piece);  // that of <unk> where there is none
  if (id < 0 || id >= processor.GetPieceSize() || processor.IdToPiece(id) != piece) return std::nullopt;
  return id;
}

// The tokens <extra_id_N> of T5Tokenizer, numbered backwards beyond the pieces, unless the settings name others.
std::vector<AddedToken> take_extra_tokens(TokenizerSettings& settings, int64_t pieces, const std::string& folder) {
  constexpr int64_t kMost = 10000;
  const int64_t extra_ids = settings.extra_ids.value_or(100);
  if (extra_ids > kMost) {
    throw CheckpointError(fmt::format("{}: \"extra_ids\" is {}, over {}", folder, extra_ids, kMost));
  }
  const auto is_extra = [](const AddedToken& token) { return token.content.find("<extra_id_") != std::string::npos; };
  const auto name = [](int64_t i) { return fmt::format("<extra_id_{}>", i); };
  int64_t count = extra_ids;
  if (settings.additional) {
    std::vector<AddedToken>& additional = *settings.additional;
    count = std::count_if(additional.begin(), additional.end(), is_extra);
    if (count == 0) {
      for (int64_t i = 0; i < extra_ids; ++i) additional.push_back({.content = name(i), .name_alone = true});
    } else if (extra_ids > 0 && extra_ids != count) {
      throw CheckpointError(
          fmt::format("{}: \"extra_ids\" is {}, but \"additional_special_tokens\" holds {} of "
                      "them; expected the files of {}",
                      folder, extra_ids, count, kT5Origin));
    }
  }
  std::vector<AddedToken> tokens;
  tokens.reserve(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    tokens.push_back({.content = name(i), .id = pieces - 1 + extra_ids - i, .lstrip = true, .rstrip = true});
  }
  return tokens;
}

std::vector<AddedToken> added_tokens(const SentencePieceProcessor& processor, const std::filesystem::path& folder) {
  TokenizerSettings settings = read_tokenizer_settings(folder);
  settings.set_default_role("eos_token", "</s>");
  settings.set_default_role("unk_token", "<unk>");
  settings.set_default_role("pad_token", "<pad>");
  const int64_t pieces = processor.GetPieceSize();
  const std::vector<AddedToken> extra = take_extra_tokens(settings, pieces, folder.string());
  return settle_tokens(
      extra, settings, [&](const std::string& piece) { return find_piece(processor, piece); }, pieces);
}

}  // namespace

T5Tokenizer::T5Tokenizer(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "spiece.model";
  const std::string model = read_tokenizer_file(path, kT5Origin);
  const auto processor = std::make_shared<SentencePieceProcessor>();
  if (!processor->LoadFromSerializedProto(model).ok()) {
    throw CheckpointError(fmt::format("{}: not a SentencePiece model ({} bytes); expected that of {}", path.string(),
                                      model.size(), kT5Origin));
  }
  if (processor->eos_id() < 0 || processor->pad_id() < 0) {
    throw CheckpointError(fmt::format("{}: a SentencePiece model without the piece {}; expected that of {}",
                                      path.string(), processor->eos_id() < 0 ? "</s>" : "<pad>", kT5Origin));
  }
  processor_ = processor;
  added_ = std::make_shared<const AddedTokens>(added_tokens(*processor, folder));
}

Tokens T5Tokenizer::encode(std::string_view text, size_t max_length) const {
  check_utf8(text, "text");
  if (max_length < 1) throw UsageError("T5: max_length must be at least 1, found 0");
  Tokens tokens;
  std::vector<size_t> offsets;  // where the text of each piece begins
  const auto add = [&](int64_t id, const std::string& piece, size_t offset) {
    tokens.ids.push_back(id);
    tokens.pieces.push_back(piece);
    offsets.push_back(offset);
  };
  for (const TextPart& part : added_->split(text)) {
    const auto begin = static_cast<size_t>(part.text.data() - text.data());
    if (part.token != nullptr) {
      add(part.token->id, part.token->content, begin);
      continue;
    }
    const sentencepiece::ImmutableSentencePieceText encoded = processor_->EncodeAsImmutableProto(part.text);
    for (const auto& piece : encoded.pieces()) {
      // A token that was added under the name of a piece stands for it wherever the piece comes up.
      const AddedToken* added = added_->find(piece.piece());
      add(added != nullptr ? added->id : piece.id(), piece.piece(), begin + piece.begin());
    }
  }
  // As in the official tokenizer, room is left for </s>, but a text that ends with one gets no other.
  const int64_t end = processor_->eos_id();
  const bool ends = !tokens.ids.empty() && tokens.ids.back() == end;
  const size_t kept = std::min(tokens.ids.size(), max_length - 1);
  tokens.total = tokens.ids.size() + (ends ? 0 : 1);
  tokens.ids.resize(kept);
  tokens.pieces.resize(kept);
  if (tokens.ids.empty() || tokens.ids.back() != end) {
    tokens.ids.push_back(end);
    tokens.pieces.push_back(processor_->IdToPiece(processor_->eos_id()));
  }
  if (tokens.ids.size() < tokens.total) tokens.cut_before = excerpt(text.substr(offsets[kept]));
  return tokens;
}

std::vector<int64_t> T5Tokenizer::pad(const Tokens& tokens, size_t max_length) const {
  if (tokens.ids.size() > max_length) throw std::length_error("T5Tokenizer::pad: more ids than max_length");
  std::vector<int64_t> ids = tokens.ids;
  ids.resize(max_length, processor_->pad_id());
  return ids;
}

int64_t T5Tokenizer::vocab_size() const { return processor_->GetPieceSize(); }

}  // namespace opensora::text
