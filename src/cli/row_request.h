// What generate and plan are asked for: from the command line, or the rows of a prompts file, to requests, and to the
// folder or file of their videos.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "batch/prompts_file.h"
#include "cli/options.h"
#include "opensora/batch.h"
#include "opensora/config.h"

namespace opensora::cli {

using request::FlagValues;

// All flags of generate; with options.only_plans those of plan, with options.only_calibrates those of calibrate.
void add_generate_options(CLI::App& command, CommandOptions& options);

struct RowRequest {
  int64_t line = 0;   // of the row in its file; 0: there is none, the command line says it all
  std::string place;  // "prompts.csv:12", for messages; empty: the command line
  // Its seed is the first of `seeds`, where the row has some; its output is set for a single video.
  GenerateRequest request;
  std::string name;             // of the output; empty: the row has none
  std::vector<uint64_t> seeds;  // the row's own; empty: as the command line says
  FlagValues values;            // what the row itself says
};

// Each row's values over `flags` (what was given on the command line, over --from), parsed and checked as flags are.
// `model_dir` and `config` are those of the run, loaded once. References must be files that are there.
// All rows are tried; what is wrong with them is added to `errors`, and such rows are not in the result.
std::vector<RowRequest> resolve_rows(const std::vector<batch::Row>& rows, const FlagValues& flags,
                                     const std::filesystem::path& model_dir, const Config& config,
                                     batch::RowErrors& errors);

// A prompts file, and what its reader wants of it.
struct PromptsFile {
  std::string file;               // "-": standard input
  std::string format;             // empty: by the file's name
  std::set<std::string> ignored;  // columns that are not looked at
  bool makes_videos = true;       // sizes, lengths and conditions matter
  bool names_videos = false;      // by the rows' own names, of which none may come twice
};

// Reads the file for `command`, resolves its rows as resolve_rows() does, and checks them for what the file is used
// for. Throws one UsageError with a line for each error, or for a file without rows.
std::vector<RowRequest> read_rows(const PromptsFile& prompts, const CLI::App& command, const FlagValues& flags,
                                  const std::filesystem::path& model_dir, const Config& config);

// One request from flags alone, with the model folder and configuration that they name. Throws UsageError as
// request::resolve() does.
GenerateRequest resolve_flags(const FlagValues& flags);

// The values that --from gives, or none without it. They lie below the flags. Throws as read_request_flags().
FlagValues values_of_from(const CommandOptions& options);

// What a command's flags ask for: the rows of --prompts-file as read_rows() does, or the one request of the flags
// alone. `from` lies below all. Throws UsageError also where flags name the one output of several videos.
std::vector<RowRequest> requested_rows(const CommandOptions& options, const CLI::App& command, const FlagValues& from);

// The video of --from may name references that were on another machine. Throws InputMediaError that names the flags for
// others, if one of them is not here and the command line gives none.
void check_references_of_from(const CommandOptions& options, const GenerateRequest& request);

// Throws UsageError for --crf with a codec that has no quality to set.
void check_quality(const CLI::App& command, const request::Settings& settings);

// How many videos a row makes, all shards together.
int64_t count_videos(const RowRequest& row, const request::Settings& settings);

// Whether one video is to be made, which goes where -o or its name says, without a folder and a journal. It is what
// flags ask for that name neither several videos nor a folder, and what a prompts file of one video does with -o.
bool makes_single_video(const std::vector<RowRequest>& rows, const CommandOptions& options);

// As run_batch() takes them; `seeds` are the command line's.
std::vector<BatchRow> batch_rows(const std::vector<RowRequest>& rows, const std::vector<uint64_t>& seeds);

// Options of a batch as run_batch() takes them, but for the folder. Throws UsageError for --shard without --output-dir.
BatchOptions batch_options(const request::Settings& settings);

// Settles `batch.output_dir` of a run that has a folder. Without --output-dir: a new one, "prompts" for prompts.csv,
// the prompt's first words where there is no prompts file, or with --resume the last of these. Throws UsageError where
// there is none to go on with.
void settle_folder(const std::vector<RowRequest>& rows, BatchOptions& batch);

}  // namespace opensora::cli
