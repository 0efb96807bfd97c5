#include "text/added_tokens.h"

#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include <algorithm>

namespace opensora::text {
namespace {

// As Python's str.isspace().
bool is_space(UChar32 c) { return u_isUWhiteSpace(c) != 0 || (c >= 0x1C && c <= 0x1F); }

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

}  // namespace opensora::text
