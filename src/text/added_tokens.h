// Tokens that are no pieces of a text but stand in it by their names: "</s>", "<extra_id_0>", "<|endoftext|>". They are
// found in a text, and read from a tokenizer's files, as Hugging Face's (slow) tokenizers do it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace opensora::text {

struct AddedToken {
  std::string content;
  int64_t id = 0;
  bool lstrip = false, rstrip = false;  // whether it takes the white space on its left, on its right
  bool single_word = false;             // whether it counts only with a space or nothing beside it
  bool name_alone = false;              // whether the file gives no more than the name
};

// A stretch of a text: a token's name, or what lies between them.
struct TextPart {
  std::string_view text;
  const AddedToken* token = nullptr;  // nullptr: plain text
};

class AddedTokens {
 public:
  explicit AddedTokens(std::vector<AddedToken> tokens);
  AddedTokens(const AddedTokens&) = delete;  // its parts point at each other
  AddedTokens& operator=(const AddedTokens&) = delete;

  // The parts of a text in their order; white space that a token takes is left out. Of two names that begin at one
  // place the longer counts. The text must outlive what is returned.
  std::vector<TextPart> split(std::string_view text) const;
  // Both return nullptr if there is no token of this name or id.
  const AddedToken* find(std::string_view name) const;
  const AddedToken* find_id(int64_t id) const;

 private:
  const AddedToken* token_at(std::string_view text) const;

  std::map<std::string, AddedToken, std::less<>> tokens_;
  std::map<char, std::vector<const AddedToken*>> by_first_byte_;  // longest first
  std::map<int64_t, const AddedToken*> by_id_;
};

// What the files beside a vocabulary, as far as they are there, say about special tokens: tokenizer_config.json,
// special_tokens_map.json, added_tokens.json, tokenizer.json.
struct TokenizerSettings {
  std::vector<AddedToken> tokens;                     // with ids of their own
  std::map<int, AddedToken> roles;                    // bos, eos, unk, …, in this order; without ids
  std::set<int> default_roles;                        // those of `roles` that no file says
  std::optional<std::vector<AddedToken>> additional;  // "additional_special_tokens"; without ids
  std::optional<int64_t> extra_ids;                   // T5: how many <extra_id_N>

  // Gives `role` ("eos_token") to the token `name` unless a file has given it to another.
  void set_default_role(std::string_view role, const char* name);
};

// Throws CheckpointError that names the file if one cannot be read, is not JSON, or holds a token of another form or an
// id that is none.
TokenizerSettings read_tokenizer_settings(const std::filesystem::path& folder);

// Finds the id of a piece in a vocabulary, which has no added tokens.
using FindPiece = std::function<std::optional<int64_t>(const std::string& piece)>;

// All of a tokenizer's tokens with their ids: `own`, which its program adds by itself, those of the settings that have
// ids, then those without, which have the vocabulary's or new ones at its end. The vocabulary has `size` pieces that
// differ.
std::vector<AddedToken> settle_tokens(const std::vector<AddedToken>& own, const TokenizerSettings& settings,
                                      const FindPiece& find_piece, int64_t size);

// The whole content of a tokenizer's file. Throws CheckpointError if it is missing or cannot be read; `origin` is the
// name of the published model that has such a file ("openai/clip-vit-large-patch14").
std::string read_tokenizer_file(const std::filesystem::path& path, const std::string& origin);

}  // namespace opensora::text
