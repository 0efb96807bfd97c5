#include "text/added_tokens.h"

#include <fmt/format.h>
#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <set>
#include <system_error>

#include "core/json_text.h"
#include "opensora/error.h"
#include "text/unicode.h"

namespace opensora::text {
namespace {

std::string_view strip_left(std::string_view text) {
  const auto length = static_cast<int32_t>(text.size());
  int32_t begin = 0;
  for (int32_t next = 0; next < length; begin = next) {
    UChar32 c = 0;
    U8_NEXT(text.data(), next, length, c);
    if (!is_space(c)) break;
  }
  return text.substr(begin);
}

std::string_view strip_right(std::string_view text) {
  auto end = static_cast<int32_t>(text.size());
  for (int32_t before = end; before > 0; end = before) {
    UChar32 c = 0;
    U8_PREV(text.data(), 0, before, c);
    if (!is_space(c)) break;
  }
  return text.substr(0, end);
}

// Neighbours within one text.
std::string_view join(std::string_view left, std::string_view right) {
  return {left.data(), static_cast<size_t>(right.data() + right.size() - left.data())};
}

using nlohmann::json;

constexpr const char* kAdditional = "additional_special_tokens";
constexpr std::array kRoles = {"bos_token", "eos_token", "unk_token", "sep_token",
                               "pad_token", "cls_token", "mask_token"};

class SettingsFile {
 public:
  SettingsFile(const std::filesystem::path& folder, const char* name) : path_(folder / name) {
    std::error_code unreadable;
    if (!std::filesystem::exists(path_, unreadable)) return;
    try {
      root = read_json_file(path_);
    } catch (const JsonError& error) {
      throw CheckpointError(path_.string() + ": " + error.what());
    }
    if (!root.is_object()) fail(fmt::format("expected a JSON object, found {}", root.type_name()));
  }

  [[noreturn]] void fail(const std::string& problem) const { throw CheckpointError(path_.string() + ": " + problem); }

  // nullptr: not there, or null.
  const json* find(const char* key) const {
    const auto found = root.find(key);
    return found == root.end() || found->is_null() ? nullptr : &*found;
  }

  // A name, or an object with the name as "content".
  AddedToken token(const std::string& key, const json& value) const {
    AddedToken token;
    if (value.is_string()) {
      token.content = value.get<std::string>();
      token.name_alone = true;
      return token;
    }
    const auto content = value.is_object() ? value.find("content") : value.end();
    if (!value.is_object() || content == value.end() || !content->is_string()) {
      fail(fmt::format("\"{}\": expected a token, found {}", key, json_excerpt(value)));
    }
    token.content = content->get<std::string>();
    const auto flag = [&](const char* name) {
      const auto found = value.find(name);
      if (found != value.end() && !found->is_boolean()) {
        fail(fmt::format("\"{}\": \"{}\": expected true or false, found {}", key, name, json_excerpt(*found)));
      }
      return found != value.end() && found->get<bool>();
    };
    token.lstrip = flag("lstrip");
    token.rstrip = flag("rstrip");
    token.single_word = flag("single_word");
    return token;
  }

  int64_t id(const std::string& key, const json& value) const {
    constexpr int64_t kLargest = std::numeric_limits<int32_t>::max();
    if (!value.is_number_unsigned() || value.get<uint64_t>() > static_cast<uint64_t>(kLargest)) {
      fail(fmt::format("\"{}\": expected an id, a whole number from 0 to {}, found {}", key, kLargest,
                       json_excerpt(value)));
    }
    return value.get<int64_t>();
  }

  json root = json::object();

 private:
  std::filesystem::path path_;
};

// "added_tokens_decoder": {"32099": {"content": "<extra_id_0>", …}, …}
void read_decoder(const SettingsFile& file, const json& decoder, TokenizerSettings& settings) {
  if (!decoder.is_object()) file.fail("\"added_tokens_decoder\": expected an object, found " + json_excerpt(decoder));
  for (const auto& [key, value] : decoder.items()) {
    AddedToken token = file.token(key, value);
    uint64_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    const bool is_number = error == std::errc() && end == key.data() + key.size();
    token.id = file.id("added_tokens_decoder", is_number ? json(id) : json(key));
    settings.tokens.push_back(std::move(token));
  }
}

bool holds(const std::vector<AddedToken>& tokens, const std::string& content) {
  return std::any_of(tokens.begin(), tokens.end(), [&](const AddedToken& token) { return token.content == content; });
}

void read_roles(const SettingsFile& file, TokenizerSettings& settings) {
  for (size_t i = 0; i < kRoles.size(); ++i) {
    if (const json* value = file.find(kRoles[i])) settings.roles[static_cast<int>(i)] = file.token(kRoles[i], *value);
  }
  const json* additional = file.find(kAdditional);
  if (additional == nullptr) return;
  if (!additional->is_array()) {
    file.fail(fmt::format("\"{}\": expected a list, found {}", kAdditional, json_excerpt(*additional)));
  }
  if (!settings.additional) settings.additional.emplace();
  for (const json& value : *additional) {
    AddedToken token = file.token(kAdditional, value);
    if (!holds(*settings.additional, token.content)) settings.additional->push_back(std::move(token));
  }
}

// {"<name>": 49408, …}
void read_added_tokens(const SettingsFile& file, TokenizerSettings& settings) {
  for (const auto& [name, id] : file.root.items()) {
    settings.tokens.push_back({.content = name, .id = file.id(name, id)});
  }
}

// "added_tokens": [{"id": 0, "content": "<pad>", …}, …]
void read_fast_tokens(const SettingsFile& file, TokenizerSettings& settings) {
  const json* tokens = file.find("added_tokens");
  if (tokens == nullptr) return;
  if (!tokens->is_array()) file.fail("\"added_tokens\": expected a list, found " + json_excerpt(*tokens));
  for (const json& value : *tokens) {
    AddedToken token = file.token("added_tokens", value);
    token.id = file.id("added_tokens", value.value("id", json()));
    settings.tokens.push_back(std::move(token));
  }
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) {
  for (AddedToken& token : tokens) {
    if (!token.content.empty()) tokens_.insert_or_assign(token.content, std::move(token));
  }
  for (const auto& [content, token] : tokens_) {
    by_first_byte_[content.front()].push_back(&token);
    by_id_[token.id] = &token;
  }
  for (auto& [byte, same] : by_first_byte_) {
    std::stable_sort(same.begin(), same.end(),
                     [](const AddedToken* a, const AddedToken* b) { return a->content.size() > b->content.size(); });
  }
}

const AddedToken* AddedTokens::find(std::string_view name) const {
  const auto found = tokens_.find(name);
  return found == tokens_.end() ? nullptr : &found->second;
}

const AddedToken* AddedTokens::find_id(int64_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : found->second;
}

// The token whose name the text starts with.
const AddedToken* AddedTokens::token_at(std::string_view text) const {
  const auto same = by_first_byte_.find(text.front());
  if (same == by_first_byte_.end()) return nullptr;
  for (const AddedToken* token : same->second) {
    if (text.starts_with(token->content)) return token;
  }
  return nullptr;
}

std::vector<TextPart> AddedTokens::split(std::string_view text) const {
  std::vector<std::string_view> parts;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const AddedToken* token = token_at(text.substr(at));
    if (token == nullptr) {
      ++at;
      continue;
    }
    if (at > begin) parts.push_back(text.substr(begin, at - begin));
    parts.push_back(text.substr(at, token->content.size()));
    begin = at += token->content.size();
  }
  if (begin < text.size()) parts.push_back(text.substr(begin));

  for (size_t i = 0; i < parts.size(); ++i) {
    const AddedToken* token = find(parts[i]);
    if (token == nullptr) continue;
    std::string_view* left = i > 0 && !parts[i - 1].empty() ? &parts[i - 1] : nullptr;
    std::string_view* right = i + 1 < parts.size() && !parts[i + 1].empty() ? &parts[i + 1] : nullptr;
    if (token->rstrip && right != nullptr) *right = strip_left(*right);
    if (token->lstrip && left != nullptr) *left = strip_right(*left);
    if (!token->single_word) continue;
    // Part of a word: plain text after all.
    if (left != nullptr && !left->empty() && left->back() != ' ') {
      *left = join(*left, parts[i]);
      parts[i] = {};
    } else if (right != nullptr && !right->empty() && right->front() != ' ') {
      *right = join(parts[i], *right);
      parts[i] = {};
    }
  }

  std::vector<TextPart> result;
  for (const std::string_view part : parts) {
    if (!part.empty()) result.push_back({part, find(part)});
  }
  return result;
}

std::string read_tokenizer_file(const std::filesystem::path& path, const std::string& origin) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    throw CheckpointError(fmt::format("{}: no such file; copy the tokenizer files of {} there", path.string(), origin));
  }
  if (!std::filesystem::is_regular_file(path, ignored)) {
    throw CheckpointError(fmt::format("{}: cannot be read; expected a tokenizer file of {}", path.string(), origin));
  }
  try {
    return read_text_file(path);
  } catch (const JsonError& error) {
    throw CheckpointError(fmt::format("{}: {}; expected a tokenizer file of {}", path.string(), error.what(), origin));
  }
}

void TokenizerSettings::set_default_role(std::string_view role, const char* name) {
  const auto place = static_cast<int>(std::find(kRoles.begin(), kRoles.end(), role) - kRoles.begin());
  if (roles.try_emplace(place, AddedToken{.content = name, .name_alone = true}).second) default_roles.insert(place);
}

TokenizerSettings read_tokenizer_settings(const std::filesystem::path& folder) {
  TokenizerSettings settings;
  const SettingsFile config(folder, "tokenizer_config.json");
  if (const json* extra_ids = config.find("extra_ids")) settings.extra_ids = config.id("extra_ids", *extra_ids);
  read_roles(config, settings);
  // The newer files say it all in one place; the others are older, or of the fast tokenizer.
  if (const json* decoder = config.find("added_tokens_decoder")) {
    read_decoder(config, *decoder, settings);
    return settings;
  }
  read_roles(SettingsFile(folder, "special_tokens_map.json"), settings);
  read_added_tokens(SettingsFile(folder, "added_tokens.json"), settings);
  read_fast_tokens(SettingsFile(folder, "tokenizer.json"), settings);
  return settings;
}

std::vector<AddedToken> settle_tokens(const std::vector<AddedToken>& own, const TokenizerSettings& settings,
                                      const FindPiece& find_piece, int64_t size) {
  std::map<int64_t, AddedToken> tokens;  // an id of the settings takes the place of one of `own`
  for (const AddedToken& token : own) tokens[token.id] = token;
  for (const AddedToken& token : settings.tokens) tokens[token.id] = token;
  std::map<std::string, int64_t> ids;
  const auto set_id = [&](const AddedToken& token) {
    if (ids.insert_or_assign(token.content, token.id).second && !find_piece(token.content)) ++size;
  };
  for (const auto& [id, token] : tokens) set_id(token);
  const auto add = [&](AddedToken token) {
    const auto known = ids.find(token.content);
    token.id = known != ids.end() ? known->second : find_piece(token.content).value_or(size);
    tokens[token.id] = token;
    set_id(token);
  };
  std::set<std::string> seen;  // of roles with one token the first counts
  for (const auto& [role, token] : settings.roles) {
    if (token.content.empty() || !seen.insert(token.content).second) continue;
    if (settings.default_roles.contains(role) || !holds(settings.tokens, token.content)) add(token);
  }
  for (const AddedToken& token : settings.additional.value_or(std::vector<AddedToken>())) {
    if (!token.content.empty() && !(token.name_alone && ids.contains(token.content))) add(token);
  }
  std::vector<AddedToken> all;
  all.reserve(tokens.size());
  for (auto& [id, token] : tokens) all.push_back(std::move(token));
  return all;
}

}  // namespace opensora::text
