// Prompts of models that know few words.
#pragma once

#include <string>
#include <vector>

#include "opensora/config.h"

namespace opensora::pipeline {

// The words of a prompt that are not in the vocabulary, in lower case, each once, in order. A word is a run of letters;
// whatever is not ASCII counts as one.
std::vector<std::string> unknown_words(const Vocabulary& vocabulary, const std::string& prompt);

// One line for all prompts together, if the configuration has a vocabulary and they say more than it.
void warn_of_unknown_words(const Config& config, const std::vector<std::string>& prompts);

}  // namespace opensora::pipeline
