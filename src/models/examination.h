// Looking at the models of a run by the names and shapes in their files, which takes milliseconds and reads no weights:
// for verify, and for every run before it starts.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "autoencoder/autoencoder.h"
#include "io/checkpoint.h"
#include "io/header_source.h"
#include "models/model_files.h"
#include "opensora/checkpoint.h"

namespace opensora::models {

struct ExamineOptions {
  autoencoder::Half half = autoencoder::Half::kBoth;  // of the video autoencoder
  bool warns_unused = true;                           // of tensors that the model does not ask for
};

struct Examination {
  VerifiedComponent result;
  std::vector<std::string> errors;   // as they were thrown; in result.problems lists are taken apart
  std::vector<std::string> missing;  // of weights that are not there: a short line each, beside `errors`
  std::shared_ptr<const io::Checkpoint> checkpoint;  // nullptr: it cannot be opened
  std::shared_ptr<const io::HeaderSource> headers;   // knows what the model has bound
};

// One model: finds its files, opens them, reads the encoder's sizes and the tokenizer, and binds the model on the meta
// device. What is wrong is in what is returned. kImgFlux and kImgFluxAe need config.text_to_image.
Examination examine(Component component, const ModelChoice& choice, const ExamineOptions& options = {});

// Where the configuration is another than the folder's own config.json, whose sizes the files have: what to do, in one
// sentence ("the demo model has one configuration, …"); else "".
std::string other_configuration(const ModelChoice& choice);

// Throws one CheckpointError that says all that is wrong with these models: files that are not there (with sizes and
// where they come from), damaged or another model's, tensors that are missing or of another shape, parts that do not
// fit each other. `half` is the video autoencoder's.
void check_models(const std::vector<Component>& components, const ModelChoice& choice,
                  autoencoder::Half half = autoencoder::Half::kBoth);

}  // namespace opensora::models
