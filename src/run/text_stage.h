// Turns prompts into embeddings: by both text encoders, which are loaded one after the other and released, or from
// files that encode-text wrote. Also warns of prompts that a model with a small vocabulary does not understand.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "models/model_set.h"
#include "opensora/config.h"
#include "opensora/generate.h"
#include "sampling/sampler.h"

namespace opensora::run {

// The request's negative prompt, or the text of its negative_text_embedding. Throws UsageError if both are given and
// differ, CheckpointError if the file cannot be read.
std::string negative_prompt(const GenerateRequest& request);

// The folders and files of embeddings that the request names, in the order in which they are searched.
std::vector<std::filesystem::path> embedding_sources(const GenerateRequest& request);

// Checks, before anything is loaded, that an embedding of each text can be had: from `sources`, or else from an encoder
// that is there. Throws CheckpointError, which names the text and where it was looked for, or the file of embeddings
// and what does not fit: its length, its width, or its encoder, which must be the model folder's or, where there is
// none, that of the other files.
void check_texts(const std::vector<std::string>& texts, const models::ModelChoice& choice,
                 const std::vector<std::filesystem::path>& sources);

// One embedding per prompt, in order, on the models' device. Each distinct text is encoded once, and only if `sources`
// do not hold it; an encoder without work is not loaded. A prompt that is too long gets a warning that says where it is
// cut. Throws CheckpointError as check_texts() does, and if a file is missing, damaged, or of another model than the
// others.
std::vector<sampling::TextEmbedding> encode_prompts(const std::vector<std::string>& prompts, models::ModelSet& models,
                                                    const std::vector<std::filesystem::path>& sources);

// The words of a prompt that are not in the vocabulary: in lower case, in order, without repetitions. A word is a run
// of letters; everything that is not ASCII counts as a letter.
std::vector<std::string> unknown_words(const Vocabulary& vocabulary, const std::string& prompt);

// Logs one warning for all prompts together, if the configuration has a vocabulary and they go beyond it.
void warn_of_unknown_words(const Config& config, const std::vector<std::string>& prompts);

}  // namespace opensora::run
