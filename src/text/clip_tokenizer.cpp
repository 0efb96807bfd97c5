#include <fmt/format.h>
#include <unicode/locid.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/json_text.h"
#include "opensora/error.h"
#include "text/added_tokens.h"
#include "text/fix_text.h"
#include "text/tokenizers.h"
#include "text/unicode.h"

namespace opensora::text {

// Byte-level byte pair encoding as CLIP's tokenizer uses it: a vocabulary (vocab.json: piece -> id) and its merges
// (merges.txt: a header line, then two pieces a line, the first to be merged first). A piece spells each byte as one
// printable character; the last byte of a word carries "</w>".
class BytePairEncoder {
 public:
  // Throws CheckpointError naming the file (and line) if one is missing or malformed, if the vocabulary lacks a byte,
  // or if a merge is not in the vocabulary (files of different models).
  BytePairEncoder(const std::filesystem::path& vocab_file, const std::filesystem::path& merges_file);
  BytePairEncoder(const BytePairEncoder&) = delete;
  BytePairEncoder& operator=(const BytePairEncoder&) = delete;

  // Appends the ids of one word of UTF-8 text. Time grows with n log n of the word's length. Nothing for an empty word.
  void encode(std::string_view word, std::vector<int64_t>& ids) const;

  std::optional<int64_t> find(const std::string& piece) const;
  // `id` must be one of the vocabulary.
  const std::string& piece(int64_t id) const { return *pieces_.at(id); }
  // How many bytes of text the piece of `id` stands for.
  size_t byte_length(int64_t id) const;
  // Largest id + 1.
  int64_t vocab_size() const { return vocab_size_; }
  int64_t piece_count() const { return static_cast<int64_t>(ids_.size()); }

 private:
  struct Merge {
    int32_t rank;  // line in the file: lower merges first
    int32_t id;    // of the merged piece
  };

  void load_vocab(const std::filesystem::path& path);
  void bind_bytes(const std::filesystem::path& path);
  void load_merges(const std::filesystem::path& path);
  std::pair<uint64_t, Merge> parse_merge(std::string_view line, int32_t rank) const;
  const Merge* find_merge(int32_t left, int32_t right) const;

  std::unordered_map<std::string, int32_t> ids_;
  std::unordered_map<int64_t, const std::string*> pieces_;  // the keys of ids_
  std::unordered_map<uint64_t, Merge> merges_;              // by the ids of the pair, see pair_key
  std::array<int32_t, 256> byte_ids_{};
  std::array<int32_t, 256> last_byte_ids_{};
  int64_t vocab_size_ = 0;
};

namespace {

constexpr std::string_view kWordEnd = "</w>";
constexpr const char* kClipOrigin = "openai/clip-vit-large-patch14";

uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

// The printable character that stands for each byte: a printable Latin-1 byte is itself, the other 68 are counted up
// from U+0100.
std::array<std::string, 256> byte_alphabet() {
  std::array<std::string, 256> alphabet;
  int32_t next = 0x100;
  for (int32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
    const int32_t character = printable ? byte : next++;
    if (character < 0x80) {
      alphabet[byte] = static_cast<char>(character);
    } else {
      alphabet[byte] = {static_cast<char>(0xC0 | character >> 6), static_cast<char>(0x80 | (character & 0x3F))};
    }
  }
  return alphabet;
}

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
  return settle_tokens(
      {}, settings, [&](const std::string& piece) { return encoder.find(piece); }, encoder.piece_count());
}

}  // namespace

BytePairEncoder::BytePairEncoder(const std::filesystem::path& vocab_file, const std::filesystem::path& merges_file) {
  load_vocab(vocab_file);
  bind_bytes(vocab_file);
  load_merges(merges_file);
}

void BytePairEncoder::load_vocab(const std::filesystem::path& path) {
  nlohmann::json vocab;
  try {
    vocab = parse_json(read_tokenizer_file(path, kClipOrigin));
  } catch (const JsonError& error) {
    throw CheckpointError(
        fmt::format("{}: not valid JSON: {}; expected the vocabulary of {}", path.string(), error.what(), kClipOrigin));
  }
  if (!vocab.is_object()) {
    throw CheckpointError(
        fmt::format("{}: expected a JSON object of pieces and their ids, found {}", path.string(), vocab.type_name()));
  }
  ids_.reserve(vocab.size());
  pieces_.reserve(vocab.size());
  for (const auto& [piece, id] : vocab.items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= std::numeric_limits<int32_t>::max()) {
      throw CheckpointError(fmt::format("{}: expected an id for {}, found {}", path.string(), json_excerpt(piece),
                                        id.is_structured() ? id.type_name() : json_excerpt(id)));
    }
    const auto entry = ids_.emplace(piece, id.get<int32_t>()).first;
    const auto [same, is_new] = pieces_.emplace(entry->second, &entry->first);
    if (!is_new) {
      throw CheckpointError(fmt::format("{}: {} and {} have the same id {}", path.string(), json_excerpt(*same->second),
                                        json_excerpt(piece), same->first));
    }
    vocab_size_ = std::max(vocab_size_, id.get<int64_t>() + 1);
  }
}

void BytePairEncoder::bind_bytes(const std::filesystem::path& path) {
  const auto bind = [&](const std::string& piece) {
    const auto found = ids_.find(piece);
    if (found == ids_.end()) {
      constexpr auto kMessage = "{}: no entry {}; expected byte-level pieces and \"{}\" word ends as {} has them";
      throw CheckpointError(fmt::format(kMessage, path.string(), json_excerpt(piece), kWordEnd, kClipOrigin));
    }
    return found->second;
  };
  const auto alphabet = byte_alphabet();
  for (size_t byte = 0; byte < alphabet.size(); ++byte) {
    byte_ids_[byte] = bind(alphabet[byte]);
    last_byte_ids_[byte] = bind(alphabet[byte] + std::string(kWordEnd));
  }
}

void BytePairEncoder::load_merges(const std::filesystem::path& path) {
  std::string content = read_tokenizer_file(path, kClipOrigin);
  content.erase(content.find_last_not_of(" \r\n") + 1);
  std::istringstream lines(content);
  std::string line;
  std::getline(lines, line);  // "#version: 0.2"
  merges_.reserve(ids_.size());
  for (int32_t number = 2; std::getline(lines, line); ++number) {
    const std::string_view trimmed = std::string_view(line).substr(0, line.find_last_not_of("\r ") + 1);
    try {
      const auto [pair, merge] = parse_merge(trimmed, number);
      merges_.insert_or_assign(pair, merge);
    } catch (const CheckpointError& error) {
      throw CheckpointError(fmt::format("{}:{}: {}", path.string(), number, error.what()));
    }
  }
  if (merges_.empty()) {
    throw CheckpointError(fmt::format("{}: no merges; expected those of {}", path.string(), kClipOrigin));
  }
}

std::pair<uint64_t, BytePairEncoder::Merge> BytePairEncoder::parse_merge(std::string_view line, int32_t rank) const {
  const size_t space = line.find(' ');
  if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
    throw CheckpointError(fmt::format("expected two pieces with a space between them, found \"{}\"", excerpt(line)));
  }
  const auto id_of = [&](const std::string& piece) {
    const auto found = ids_.find(piece);
    if (found == ids_.end()) {
      constexpr auto kMessage = "merge \"{}\": vocab.json has no \"{}\"; take both files from the same model";
      throw CheckpointError(fmt::format(kMessage, excerpt(line), excerpt(piece)));
    }
    return found->second;
  };
  const std::string left(line.substr(0, space));
  const std::string right(line.substr(space + 1));
  return {pair_key(id_of(left), id_of(right)), {rank, id_of(left + right)}};
}

std::optional<int64_t> BytePairEncoder::find(const std::string& piece) const {
  const auto found = ids_.find(piece);
  return found == ids_.end() ? std::nullopt : std::optional<int64_t>(found->second);
}

size_t BytePairEncoder::byte_length(int64_t id) const {
  std::string_view spelling = piece(id);
  if (spelling.ends_with(kWordEnd)) spelling.remove_suffix(kWordEnd.size());
  return std::ranges::count_if(spelling, [](char unit) { return (unit & 0xC0) != 0x80; });
}

const BytePairEncoder::Merge* BytePairEncoder::find_merge(int32_t left, int32_t right) const {
  const auto found = merges_.find(pair_key(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void BytePairEncoder::encode(std::string_view word, std::vector<int64_t>& ids) const {
  constexpr int32_t kNone = -1;
  struct Symbol {  // of a doubly linked list; a symbol that was merged into its left neighbour has no id
    int32_t id, previous, next;
  };
  const auto length = static_cast<int32_t>(word.size());
  std::vector<Symbol> symbols(length);
  for (int32_t i = 0; i < length; ++i) {
    const auto& byte_ids = i + 1 < length ? byte_ids_ : last_byte_ids_;
    symbols[i] = {byte_ids[static_cast<uint8_t>(word[i])], i - 1, i + 1 < length ? i + 1 : kNone};
  }

  const auto merge_at = [&](int32_t left) -> const Merge* {
    if (left == kNone || symbols[left].id == kNone || symbols[left].next == kNone) return nullptr;
    return find_merge(symbols[left].id, symbols[symbols[left].next].id);
  };
  // The left symbols of pairs that can be merged, by rank. All pairs of the lowest rank merge from left to right before
  // a pair that they give rise to is looked at, whatever its rank.
  std::map<int32_t, std::vector<int32_t>> waiting;
  const auto wait = [&](int32_t left) {
    if (const Merge* merge = merge_at(left)) waiting[merge->rank].push_back(left);
  };
  for (int32_t i = 0; i < length; ++i) wait(i);
  while (!waiting.empty()) {
    auto lowest = waiting.extract(waiting.begin());
    std::ranges::sort(lowest.mapped());
    for (const int32_t left : lowest.mapped()) {
      const Merge* merge = merge_at(left);
      if (merge == nullptr || merge->rank != lowest.key()) continue;  // an earlier merge took one of the two
      Symbol& right = symbols[symbols[left].next];
      symbols[left].id = merge->id;
      symbols[left].next = right.next;
      if (right.next != kNone) symbols[right.next].previous = left;
      right.id = kNone;
      wait(symbols[left].previous);
      wait(left);
    }
  }
  for (int32_t i = length > 0 ? 0 : kNone; i != kNone; i = symbols[i].next) ids.push_back(symbols[i].id);
}

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
