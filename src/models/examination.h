// Checks models by the names and shapes in their files, which takes milliseconds and reads no weights. `verify` does
// it, and so does every run before it starts.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "autoencoder/autoencoder.h"
#include "io/checkpoint.h"
#include "models/model_files.h"
#include "models/model_set.h"
#include "opensora/checkpoint.h"

namespace opensora::models {

struct ExamineOptions {
  autoencoder::Half half = autoencoder::Half::kBoth;  // of the video autoencoder
  bool warns_unused = true;                           // whether to warn of tensors that the model does not ask for
  Tokenizers* tokenizers = nullptr;                   // receives a text encoder's tokenizer, unless it is nullptr
};

struct Examination {
  VerifiedComponent result;
  std::vector<std::string> errors;   // as they were thrown; in result.problems lists are taken apart
  std::vector<std::string> missing;  // of weights that are not there: a short line each, beside `errors`
  std::shared_ptr<const io::Checkpoint> checkpoint;  // nullptr: it cannot be opened
  std::shared_ptr<const io::HeaderSource> headers;   // knows what the model has bound
};

// Examines one model: finds its files, opens them, reads a text encoder's sizes and tokenizer, and binds the model on
// the meta device. Errors are collected in the result and not thrown. kImgFlux and kImgFluxAe need
// config.text_to_image.
Examination examine(Component component, const ModelChoice& choice, const ExamineOptions& options = {});

// If the configuration is not the folder's own config.json, whose sizes the files have: one sentence that says what to
// do ("the demo model has one configuration, …"). Otherwise "".
std::string other_configuration(const ModelChoice& choice);

// Throws one CheckpointError that says all that is wrong with these models: files that are not there (with sizes and
// where they come from), damaged or another model's, tensors that are missing or of another shape, parts that do not
// fit each other. `half` is the video autoencoder's. Returns the text encoders' tokenizers, which take a while to read:
// a run that hands them to ModelSet::hold_tokenizers() does not read them again.
Tokenizers check_models(const std::vector<Component>& components, const ModelChoice& choice,
                        autoencoder::Half half = autoencoder::Half::kBoth);

}  // namespace opensora::models
