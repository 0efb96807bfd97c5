// Prompts to embeddings: both tokenizers and both text encoders, loaded one after the other and released; or files that
// encode-text wrote, in place of them.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "models/model_set.h"
#include "opensora/generate.h"
#include "sampling/sampler.h"

namespace opensora::pipeline {

// The request's negative prompt, or the text of its negative_text_embedding. Throws UsageError if both are given and
// differ, CheckpointError if the file cannot be read.
std::string negative_prompt(const GenerateRequest& request);

// Folders and files that encode-text wrote for the request, in the order in which they are searched.
std::vector<std::filesystem::path> embedding_sources(const GenerateRequest& request);

// Checks, before anything is loaded, that each text can be had: from `sources`, or else from encoders that are there.
// Throws CheckpointError that names the text and where it was looked for, or the file of embeddings and what about it
// does not fit: of another encoder than the model folder's (or than the other files', where there is none), another
// length, another width.
void check_texts(const std::vector<std::string>& texts, const models::ModelChoice& choice,
                 const std::vector<std::filesystem::path>& sources);

// One embedding a prompt, in order, where the models are. Each distinct text is encoded once, and only where `sources`
// do not hold it; an encoder that has nothing to do is not loaded. A prompt that is cut gets a warning that says where.
// Throws CheckpointError: as check_texts(); a file is missing, damaged, or of another model than its neighbours.
std::vector<sampling::TextEmbedding> encode_prompts(const std::vector<std::string>& prompts, models::ModelSet& models,
                                                    const std::vector<std::filesystem::path>& sources);

}  // namespace opensora::pipeline
