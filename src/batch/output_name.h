// The names of a batch's videos.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "batch/row_errors.h"

namespace opensora::batch {

// What a name can be made of.
struct NameFields {
  int64_t index = 1;   // {index}: the row's number in its file, from 1, with at least five digits: 00001
  std::string name;    // {name}: the row's own; empty: the slug
  std::string prompt;  // {prompt}, and {slug}
  uint64_t seed = 0;   // {seed}
  int64_t sample = 0;  // {sample}: of the row's videos, from 0 as VBench counts them
};

// The prompt as a file name: "/" and control characters become "_"; no more than 200 bytes, cut between two characters;
// "video" where nothing is left. `prompt` is valid UTF-8.
std::string safe_file_name(std::string_view prompt);

// "{name}" where every row has a name, else "{index}-{name}"; with "-{sample}" where a row has several videos.
std::string default_name_template(bool all_rows_have_names, bool several_samples);

// The name of a video's file, without its extension, by a --name-template: text with fields in braces, in which "{{"
// and "}}" stand for single braces. Throws UsageError: an unknown field (the known ones are listed), a brace without
// its partner, a "/" (--output-dir is the place for folders), nothing at all.
std::string video_name(const std::string& name_template, const NameFields& fields);

// Checks a row's own name before anything is derived from it. Adds an error if it is not a plain file name: "." or
// "..", or with a "/", control characters or more than 251 bytes.
void check_row_name(int64_t line, const std::string& name, RowErrors& errors);

struct NamedVideo {
  int64_t line = 0;    // of its row
  int64_t sample = 0;  // among the row's videos
  std::string name;    // without extension: pictures and sidecars share it
};

// Adds an error for each video whose name is taken by an earlier one, too long, or not a plain file name.
void check_names(const std::vector<NamedVideo>& videos, RowErrors& errors);

}  // namespace opensora::batch
