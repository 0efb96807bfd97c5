// What is to be made: every video of every row, with its seed, its file and its key.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "opensora/batch.h"
#include "pipeline/video.h"

namespace opensora::batch {

class History;

struct Task {
  pipeline::Video video;
  int64_t line = 0;    // of its row in the prompts file
  int64_t row = 0;     // number of its row, from 1
  int64_t sample = 0;  // among the row's videos, from 0
  std::string place;   // "prompts.csv:12"; empty: the command line
  std::string name;    // of its row
  bool seed_is_drawn = false;
  std::string row_key;   // with a drawn seed: all that determines the video but the seed
  std::string key;       // hash of all that determines the video
  bool is_done = false;  // by an earlier run
};

// One a row and seed; each is planned, seeds are drawn where none is given, outputs are not settled yet.
// Throws one UsageError with a line for each row that is wrong.
std::vector<Task> make_tasks(const std::vector<BatchRow>& rows, const BatchOptions& options);

// Gives drawn seeds the value that they had in an earlier run, which the journal knows, or without one the latent that
// it has left; and every task its key. Of a row with several videos one seed is drawn: seed, seed + 1, ….
void settle_seeds(std::vector<Task>& tasks, const pipeline::CheckpointIdentities& checkpoints, const History& history);

// Names each request's output after the template, in `folder`; without a folder and a template they keep what they
// have. Throws one UsageError with a line for each collision.
void name_outputs(std::vector<Task>& tasks, const BatchOptions& options, const std::filesystem::path& folder);

}  // namespace opensora::batch
