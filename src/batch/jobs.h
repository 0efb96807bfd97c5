// The jobs of a batch: one for each video of each row, with its seed, key and file; and what earlier runs have done of
// them, according to the journal.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "batch/journal_line.h"
#include "opensora/batch.h"
#include "run/checkpoints.h"
#include "run/job.h"

namespace opensora::batch {

// What a journal says about earlier runs.
class History {
 public:
  History() = default;  // nothing was done
  // `prompts_file` is that of the run that is resumed; empty: none.
  History(const std::vector<JournalLine>& journal, const std::string& prompts_file);

  // The seed that was drawn for a row.
  std::optional<uint64_t> seed(const std::string& row_key) const;
  // True if the resumed run has written the job's file or was about to, so that it may be replaced. A file that a run
  // of another prompts file has finished under that name is not its own.
  bool owns(const run::Job& job) const;
  // True if the video is finished, and its file is as it was left.
  bool is_done(const run::Job& job) const;
  // True if the video's latent is there because it was not finished, and not because it was to stay. Older versions did
  // not mark such latents.
  bool has_left_latent(const run::Job& job) const;

 private:
  std::map<std::string, uint64_t> seeds_;        // by row key
  std::map<std::string, bool> outputs_;          // those that were planned; false: another run's, and finished
  std::map<std::string, JournalLine> finished_;  // the last video_done by key
  std::set<std::string> sampled_;                // keys
};

// A job for each seed of each row. Seeds are drawn where none is given; outputs are not settled yet.
// Throws one UsageError with a line for each row that is wrong.
std::vector<run::Job> make_jobs(const std::vector<BatchRow>& rows, const BatchOptions& options);

// Gives drawn seeds the value that they had in an earlier run, as the journal has it, or, without a journal, the latent
// that it left; and gives every job its key. One seed is drawn for a row: its videos have seed, seed + 1, ….
void settle_seeds(std::vector<run::Job>& jobs, const run::CheckpointIdentities& checkpoints, const History& history);

// Names each request's output after the template and its row, in `folder`; without a folder and a template they keep
// what they have. Throws one UsageError with a line for each collision.
void name_outputs(std::vector<run::Job>& jobs, const std::vector<BatchRow>& rows, const BatchOptions& options,
                  const std::filesystem::path& folder);

}  // namespace opensora::batch
