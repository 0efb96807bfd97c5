// Many videos in one run, with a journal that a crash cannot take away.
#pragma once

#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "opensora/generate.h"

namespace opensora {

// A row of a prompts file, or what the flags alone say; it makes one video a seed.
struct BatchRow {
  GenerateRequest request;      // its seed and output are settled by the batch
  std::vector<uint64_t> seeds;  // one video each; empty: request.seed, else a random one that the journal keeps
  std::string name;             // {name} of the name template; empty: the prompt's first words
  int64_t line = 0;             // of the prompts file, for messages; 0: there is none
};

struct BatchOptions {
  std::string prompts_file;  // as it was typed, for messages
  int64_t samples = 1;       // videos a row: seed, seed + 1, …; with several seeds 1
  // Where the videos go, and the journal run.jsonl, to which the runs of a folder are added one after the other. Empty:
  // one video, to its request's output, without a journal.
  std::filesystem::path output_dir;
  bool new_output_dir = false;    // where output_dir is there already, the folder is OUTPUT_DIR-2, -3, …
  std::string name_template;      // empty: see batch/output_name.h
  bool resume = false;            // go on with the folder's journal
  bool overwrite = false;         // replace files, and go on behind a run that did not make all its videos
  int64_t shard = 1, shards = 1;  // of all rows, this run makes those of number shard, shard + shards, …

  bool fail_fast = false;     // stop at the first failure
  bool keep_latents = false;  // leave the latents' files beside the videos
  bool keep_models = false;   // release nothing before the end
  bool strict = false;        // a suspicious video is a failure of the run, though its file stays
  // "on": a video is decoded and written while the next is sampled, with both models in memory. "off": a few videos are
  // sampled, the transformer is released, and they are decoded. "auto": on where it pays and both fit.
  std::string overlap = "auto";
  double timeout = 0;  // seconds of a video's own stages; 0: none
  std::string events;  // file, "-" (standard output) or "fd:N" for lines of JSON; empty: none
};

enum class BatchState { kDone, kSkipped, kFailed, kNotRun };

struct BatchVideo {
  BatchState state = BatchState::kNotRun;
  GenerateResult result;           // kSkipped: output and seed only; kFailed: what was known by then
  std::string place;               // "prompts.csv:12"; empty: the command line
  int64_t row = 0;                 // number of the row, from 1
  int64_t sample = 0;              // of the row, from 0
  std::string key;                 // hash of all that determines its content
  std::exception_ptr error;        // kFailed
  std::vector<std::string> flags;  // where memory ran out: as MemoryVerdict::flags; empty: none is known
};

struct BatchResult {
  std::vector<BatchVideo> videos;    // of this shard, in order
  std::filesystem::path output_dir;  // where they are; empty: each where its request says
  double seconds = 0;

  int64_t count(BatchState state) const;
  // 0; 3 if any failed or was not run; 8 if none did but one is suspicious and BatchOptions::strict.
  int exit_code(bool strict) const;
};

// The result of a run of one video. Throws its error if it failed, SuspiciousError if it is suspicious and `strict`.
GenerateResult single_result(const BatchResult& result, bool strict);

struct BatchCallbacks {
  ProgressCallback progress;                      // may throw to stop the run
  std::function<void(const BatchVideo&)> on_end;  // a video is done, skipped or has failed
};

// Checks all rows before any weight is loaded, and throws one UsageError with a line for each that is wrong.
// The texts are encoded first, each once; every model is loaded once for all videos. What a video shows depends on its
// own row and seed alone. Errors of single videos are in the result; throws what concerns the whole run: as generate(),
// and OutputError for the journal. The last event is run_finished, whatever ends the run, with the exit code that the
// program then has.
BatchResult run_batch(const std::vector<BatchRow>& rows, const BatchOptions& options,
                      const BatchCallbacks& callbacks = {});

}  // namespace opensora
