// The files beside a vocabulary, of text/added_tokens.h: read_tokenizer_settings().
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <set>
#include <system_error>

#include "core/json_text.h"
#include "opensora/error.h"
#include "text/added_tokens.h"

namespace opensora::text {
namespace {

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
  for (const auto& [name, id] : file.root.items())
    settings.tokens.push_back({.content = name, .id = file.id(name, id)});
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
                                      const PlainVocabulary& vocabulary) {
  std::map<int64_t, AddedToken> tokens;  // an id of the settings takes the place of one of `own`
  for (const AddedToken& token : own) tokens[token.id] = token;
  for (const AddedToken& token : settings.tokens) tokens[token.id] = token;
  std::map<std::string, int64_t> ids;
  int64_t size = vocabulary.size;
  const auto set_id = [&](const AddedToken& token) {
    if (ids.insert_or_assign(token.content, token.id).second && !vocabulary.find(token.content)) ++size;
  };
  for (const auto& [id, token] : tokens) set_id(token);
  const auto add = [&](AddedToken token) {
    const auto known = ids.find(token.content);
    token.id = known != ids.end() ? known->second : vocabulary.find(token.content).value_or(size);
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
