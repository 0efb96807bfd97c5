#include "text/byte_pair_encoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <sstream>

#include "core/json_text.h"
#include "opensora/error.h"
#include "text/tokenizer_file.h"
#include "text/unicode.h"

namespace opensora::text {
namespace {

constexpr std::string_view kWordEnd = "</w>";
constexpr const char* kOrigin = "openai/clip-vit-large-patch14";

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

}  // namespace

BytePairEncoder::BytePairEncoder(const std::filesystem::path& vocab_file, const std::filesystem::path& merges_file) {
  load_vocab(vocab_file);
  bind_bytes(vocab_file);
  load_merges(merges_file);
}

void BytePairEncoder::load_vocab(const std::filesystem::path& path) {
  nlohmann::json vocab;
  try {
    vocab = parse_json(read_tokenizer_file(path, kOrigin));
  } catch (const JsonError& error) {
    throw CheckpointError(
        fmt::format("{}: not valid JSON: {}; expected the vocabulary of {}", path.string(), error.what(), kOrigin));
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
      throw CheckpointError(fmt::format(kMessage, path.string(), json_excerpt(piece), kWordEnd, kOrigin));
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
  std::string content = read_tokenizer_file(path, kOrigin);
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
    throw CheckpointError(fmt::format("{}: no merges; expected those of {}", path.string(), kOrigin));
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

}  // namespace opensora::text
