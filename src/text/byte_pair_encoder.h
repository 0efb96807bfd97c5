// Byte-level byte pair encoding as CLIP's tokenizer uses it.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace opensora::text {

// A vocabulary (vocab.json: piece -> id) and its merges (merges.txt: a header line, then two pieces a line, the first
// to be merged first). A piece spells each byte as one printable character; the last byte of a word carries "</w>".
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

}  // namespace opensora::text
