#include "pipeline/vocabulary.h"

#include <spdlog/spdlog.h>

#include <algorithm>

namespace opensora::pipeline {
namespace {

bool is_letter(unsigned char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80; }

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool contains(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

}  // namespace

std::vector<std::string> unknown_words(const Vocabulary& vocabulary, const std::string& prompt) {
  std::vector<std::string> unknown;
  for (auto begin = prompt.begin(); begin != prompt.end();) {
    begin = std::find_if(begin, prompt.end(), is_letter);
    const auto end = std::find_if_not(begin, prompt.end(), is_letter);
    std::string word(begin, end);
    std::transform(word.begin(), word.end(), word.begin(), lower);
    if (!word.empty() && !contains(vocabulary.words, word) && !contains(unknown, word)) unknown.push_back(word);
    begin = end;
  }
  return unknown;
}

void warn_of_unknown_words(const Config& config, const std::vector<std::string>& prompts) {
  if (!config.vocabulary) return;
  constexpr size_t kMostWords = 5;
  std::vector<std::string> unknown;
  for (const std::string& prompt : prompts) {
    for (const std::string& word : unknown_words(*config.vocabulary, prompt)) {
      if (!contains(unknown, word)) unknown.push_back(word);
    }
  }
  if (unknown.empty()) return;
  std::string list;
  for (size_t i = 0; i < std::min(unknown.size(), kMostWords); ++i) {
    list.append(i == 0 ? "\"" : ", \"").append(unknown[i]).append("\"");
  }
  if (unknown.size() > kMostWords) list.append(", …");
  spdlog::warn("{}, but not {}; real videos need the published weights: see \"Real videos\" in the README",
               config.vocabulary->about, list);
}

}  // namespace opensora::pipeline
