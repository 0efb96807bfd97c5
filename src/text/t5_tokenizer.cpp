#include "text/t5_tokenizer.h"

#include <fmt/format.h>
#include <sentencepiece_processor.h>

#include <algorithm>
#include <stdexcept>

#include "opensora/error.h"
#include "text/tokenizer_file.h"
#include "text/unicode.h"

namespace opensora::text {
namespace {

constexpr const char* kOrigin = "google/t5-v1_1-xxl";

}  // namespace

T5Tokenizer::T5Tokenizer(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "spiece.model";
  const std::string model = read_tokenizer_file(path, kOrigin);
  const auto processor = std::make_shared<sentencepiece::SentencePieceProcessor>();
  if (!processor->LoadFromSerializedProto(model).ok()) {
    throw CheckpointError(fmt::format("{}: not a SentencePiece model ({} bytes); expected that of {}", path.string(),
                                      model.size(), kOrigin));
  }
  if (processor->eos_id() < 0 || processor->pad_id() < 0) {
    throw CheckpointError(fmt::format("{}: a SentencePiece model without the piece {}; expected that of {}",
                                      path.string(), processor->eos_id() < 0 ? "</s>" : "<pad>", kOrigin));
  }
  processor_ = processor;
}

Tokens T5Tokenizer::encode(std::string_view text, size_t max_length) const {
  check_utf8(text, "text");
  if (max_length < 1) throw UsageError("T5: max_length must be at least 1, found 0");
  const sentencepiece::ImmutableSentencePieceText encoded = processor_->EncodeAsImmutableProto(text);
  const size_t kept = std::min(encoded.pieces_size(), max_length - 1);
  Tokens tokens;
  for (size_t i = 0; i < kept; ++i) {
    tokens.ids.push_back(encoded.pieces(static_cast<int>(i)).id());
    tokens.pieces.push_back(encoded.pieces(static_cast<int>(i)).piece());
  }
  tokens.ids.push_back(processor_->eos_id());
  tokens.pieces.push_back(processor_->IdToPiece(processor_->eos_id()));
  tokens.total = encoded.pieces_size() + 1;
  if (kept < encoded.pieces_size()) {
    tokens.cut_before = excerpt(text.substr(encoded.pieces(static_cast<int>(kept)).begin()));
  }
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
