// From the command line, or the rows of a prompts file, to requests.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "batch/prompts_file.h"
#include "cli/generate_options.h"
#include "opensora/batch.h"
#include "opensora/config.h"

namespace opensora::cli {

struct RowRequest {
  int64_t line = 0;   // of the row in its file; 0: there is none, the command line says it all
  std::string place;  // "prompts.csv:12", for messages; empty: the command line
  GenerateRequest
      request;       // its seed is the first of `seeds`, where the row has some; its output is set for a single video
  std::string name;  // of the output; empty: the row has none
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

// Reads the file for `command`, and resolves and checks its rows as resolve_rows() does, and for what the file is used
// for. Throws
// one UsageError with a line for each error, or for a file without rows.
std::vector<RowRequest> read_rows(const PromptsFile& prompts, const CLI::App& command, const FlagValues& flags,
                                  const std::filesystem::path& model_dir, const Config& config);

// One request from flags alone, with the model folder and configuration that they name. Throws UsageError as
// request::resolve() does.
GenerateRequest resolve_flags(const FlagValues& flags);

// The values that --from gives, where it is there: they lie below the flags. Throws as read_request_flags().
FlagValues values_of_from(const GenerateOptions& options);

// What a command's flags ask for: the rows of --prompts-file as read_rows() does, or the one request of the flags
// alone. `from` lies below all. Throws as check_outputs() too.
std::vector<RowRequest> requested_rows(const GenerateOptions& options, const CLI::App& command, const FlagValues& from);

// Somebody else's video says what it was made from, which need not be here. Throws InputMediaError that names the flags
// for it, if --from names a reference that is not there, and the command line none.
void check_references_of_from(const GenerateOptions& options, const GenerateRequest& request);

// As run_batch() takes them; `seeds` are the command line's.
std::vector<BatchRow> batch_rows(const std::vector<RowRequest>& rows, const std::vector<uint64_t>& seeds);

}  // namespace opensora::cli
