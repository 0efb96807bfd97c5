#include "text/clip_tokenizer.h"

#include <fmt/format.h>
#include <unicode/locid.h>

#include <algorithm>
#include <stdexcept>

#include "opensora/error.h"
#include "text/byte_pair_encoder.h"
#include "text/fix_text.h"
#include "text/unicode.h"

namespace opensora::text {
namespace {

constexpr std::string_view kStartOfText = "<|startoftext|>";
constexpr std::string_view kEndOfText = "<|endoftext|>";

// What byte pair encoding works on: special tokens, English contractions, runs of letters, single digits and runs of
// anything else. Only the fixed strings ignore case: ICU would widen the classes by their case variants. U+0345 is in
// no class: Python's `regex`, which ignores case everywhere, drops this accent too, for its capital is a letter.
constexpr char16_t kWordPattern[] =
    uR"((?i:<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}|)"
    uR"([^\p{White_Space}\p{L}\p{N}\u0345]+)";

int64_t special_id(const BytePairEncoder& encoder, std::string_view name, const std::filesystem::path& vocab_file) {
  const auto id = encoder.find(std::string(name));
  if (!id) {
    throw CheckpointError(fmt::format("{}: no entry \"{}\"; expected the vocabulary of openai/clip-vit-large-patch14",
                                      vocab_file.string(), name));
  }
  return *id;
}

std::vector<AddedToken> added_tokens(const BytePairEncoder& encoder, const std::filesystem::path& folder) {
  TokenizerSettings settings = read_tokenizer_settings(folder);
  settings.set_default_role("bos_token", kStartOfText.data());
  for (const char* role : {"eos_token", "unk_token", "pad_token"}) settings.set_default_role(role, kEndOfText.data());
  return settle_tokens({}, settings,
                       {[&](const std::string& piece) { return encoder.find(piece); }, encoder.piece_count()});
}

}  // namespace

ClipTokenizer::ClipTokenizer(const std::filesystem::path& folder)
    : encoder_(std::make_shared<BytePairEncoder>(folder / "vocab.json", folder / "merges.txt")),
      start_(special_id(*encoder_, kStartOfText, folder / "vocab.json")),
      end_(special_id(*encoder_, kEndOfText, folder / "vocab.json")) {
  added_ = std::make_shared<const AddedTokens>(added_tokens(*encoder_, folder));
}

Tokens ClipTokenizer::encode(std::string_view text, size_t max_length) const {
  check_utf8(text, "text");
  if (max_length < 2) throw UsageError(fmt::format("CLIP: max_length must be at least 2, found {}", max_length));
  Tokens tokens;
  tokens.ids = {start_};
  // Special tokens are taken out before the text is fixed, so that their '<' does not keep its HTML entities.
  for (const TextPart& part : added_->split(text)) {
    if (part.token == nullptr) {
      encode_segment(part.text, max_length, tokens);
      continue;
    }
    tokens.ids.push_back(part.token->id);
    note_cut(text.substr(part.text.data() - text.data()), tokens.ids.size() - 1, max_length, tokens);
  }
  tokens.total = tokens.ids.size() + 1;
  tokens.ids.resize(std::min(tokens.ids.size(), max_length - 1));
  tokens.ids.push_back(end_);
  for (const int64_t id : tokens.ids) tokens.pieces.push_back(piece(id));
  return tokens;
}

const std::string& ClipTokenizer::piece(int64_t id) const {
  const AddedToken* token = added_->find_id(id);
  return token != nullptr ? token->content : encoder_->piece(id);
}

void ClipTokenizer::encode_segment(std::string_view text, size_t max_length, Tokens& tokens) const {
  const icu::UnicodeString words =
      collapse_white_space(to_utf16(fix_text(text))).toLower(icu::Locale::getRoot());  // full mapping: İ -> i + U+0307
  static const auto kWord = compile_pattern(kWordPattern);
  UErrorCode status = U_ZERO_ERROR;
  const std::unique_ptr<icu::RegexMatcher> matcher(kWord->matcher(words, status));
  check_icu(status, "splitting into words");
  while (matcher->find(status)) {
    const int32_t begin = matcher->start(status);
    const std::string word = to_utf8(words.tempSubStringBetween(begin, matcher->end(status)));
    const size_t ids_before = tokens.ids.size();
    if (word == kStartOfText || word == kEndOfText) {  // in capitals or as entities in the text
      tokens.ids.push_back(word == kStartOfText ? start_ : end_);
    } else {
      encoder_->encode(word, tokens.ids);
    }
    if (!tokens.cut_before && tokens.ids.size() >= max_length) {
      note_cut(to_utf8(words.tempSubString(begin)), ids_before, max_length, tokens);
    }
  }
  check_icu(status, "splitting into words");
}

// Sets `cut_before` if the ids from `ids_before` on, which are those of the first word of `rest`, are the first not to
// leave room for <|endoftext|>.
void ClipTokenizer::note_cut(std::string_view rest, size_t ids_before, size_t max_length, Tokens& tokens) const {
  const size_t kept = max_length - 1;
  if (tokens.cut_before || tokens.ids.size() <= kept) return;
  size_t offset = 0;
  for (size_t i = ids_before; i < kept; ++i) offset += encoder_->byte_length(tokens.ids[i]);
  while (offset > 0 && (rest[offset] & 0xC0) == 0x80) --offset;  // not within a character
  tokens.cut_before = excerpt(rest.substr(offset));
}

std::vector<int64_t> ClipTokenizer::pad(const Tokens& tokens, size_t max_length) const {
  if (tokens.ids.size() > max_length) throw std::length_error("ClipTokenizer::pad: more ids than max_length");
  std::vector<int64_t> ids = tokens.ids;
  ids.resize(max_length, end_);
  return ids;
}

int64_t ClipTokenizer::vocab_size() const { return encoder_->vocab_size(); }

// Ids that lie elsewhere are another vocabulary's.
int64_t ClipTokenizer::total_size() const {
  int64_t size = vocab_size();
  while (added_->find_id(size) != nullptr) ++size;
  return size;
}

}  // namespace opensora::text
