// Where the videos of a run go: to -o, or into a folder.
#pragma once

#include <cstdint>
#include <vector>

#include "cli/generate_options.h"
#include "cli/row_request.h"

namespace opensora::cli {

// How many videos the rows make, all shards together.
int64_t count_videos(const RowRequest& row, const request::Settings& settings);
int64_t count_videos(const std::vector<RowRequest>& rows, const request::Settings& settings);

// One video that goes where -o or its name says, without a folder and a journal: what flags ask for that name neither
// several videos nor a folder, and a prompts file of one video with -o.
bool makes_single_video(const std::vector<RowRequest>& rows, const GenerateOptions& options);

// Throws UsageError where flags name the one file (-o, --save-tensors, --contact-sheet) or folder (--save-frames) of
// one video and several are to be made, and for -o beside --output-dir or --name-template.
void check_outputs(const std::vector<RowRequest>& rows, const GenerateOptions& options);

// Settles `batch.output_dir` of a run that has a folder. Without --output-dir: a new one, "prompts" for prompts.csv,
// the prompt's first words where there is no prompts file, or with --resume the last of these. Throws UsageError where
// there is none to go on with.
void settle_folder(const std::vector<RowRequest>& rows, BatchOptions& batch);

}  // namespace opensora::cli
