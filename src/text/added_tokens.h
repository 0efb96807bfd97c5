// Tokens that are no pieces of a text but stand in it by their names: "</s>", "<extra_id_0>", "<|endoftext|>". As
// Hugging Face's (slow) tokenizers find them and read them from a tokenizer's files.
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
  bool lstrip = false, rstrip = false;  // takes the white space on its left, on its right
  bool single_word = false;             // only where a space or nothing is beside it
  bool name_alone = false;              // the file gives no more than the name
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
  // nullptr: none of this name, of this id.
  const AddedToken* find(std::string_view name) const;
  const AddedToken* find_id(int64_t id) const;

 private:
  const AddedToken* token_at(std::string_view text) const;

  std::map<std::string, AddedToken, std::less<>> tokens_;
  std::map<char, std::vector<const AddedToken*>> by_first_byte_;  // longest first
  std::map<int64_t, const AddedToken*> by_id_;
};

// What the files beside a vocabulary say of special tokens, each of them if it is there: tokenizer_config.json,
// special_tokens_map.json, added_tokens.json, tokenizer.json.
struct TokenizerSettings {
  std::vector<AddedToken> tokens;                     // with ids of their own
  std::map<int, AddedToken> roles;                    // bos, eos, unk, …, in this order; without ids
  std::set<int> default_roles;                        // those of `roles` that no file says
  std::optional<std::vector<AddedToken>> additional;  // "additional_special_tokens"; without ids
  std::optional<int64_t> extra_ids;                   // T5: how many <extra_id_N>

  // `role` ("eos_token") where no file says it.
  void set_default_role(std::string_view role, const char* name);
};

// Throws CheckpointError that names the file: cannot be read, not JSON, a token of another form, an id that is none.
TokenizerSettings read_tokenizer_settings(const std::filesystem::path& folder);

// A vocabulary without added tokens.
struct PlainVocabulary {
  std::function<std::optional<int64_t>(const std::string& piece)> find;
  int64_t size = 0;  // pieces that differ
};

// All of a tokenizer's tokens with their ids: `own`, which its program adds by itself, those of the settings that have
// ids, then those without, which have the vocabulary's or new ones at its end.
std::vector<AddedToken> settle_tokens(const std::vector<AddedToken>& own, const TokenizerSettings& settings,
                                      const PlainVocabulary& vocabulary);

}  // namespace opensora::text
