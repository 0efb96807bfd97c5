// Prompts files: one row per video, whose columns are the flags of `opensora generate` that apply to a single video.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "batch/row_errors.h"

namespace opensora::batch {

enum class PromptsFormat { kText, kCsv, kTsv, kJson, kJsonLines };

struct PromptsFileOptions {
  std::optional<PromptsFormat> format;  // nullopt: by the file's name; stdin: text
  // Flags that are not parameters. Like the parameters that are set once for a run, they are refused as columns, with a
  // message that says so. Columns are the parameters of a video's content, `name` (of the output), `ref`, and `text`
  // and `neg` for `prompt` and `negative-prompt`.
  std::vector<std::string> other_flags;
};

struct Row {
  int64_t line = 0;  // on which it starts, from 1
  // Flag without dashes -> text, in the file's order; several values of a list follow each other under the same name.
  // A switch is "true" or "false". `ref` has become `image` or `video`. `name` is the output's.
  std::vector<std::pair<std::string, std::string>> values;
  bool lacks_columns = false;  // it has cells of an unknown column, where a value that it lacks may stand
};

// "txt", "csv", "tsv", "json", "jsonl". Throws UsageError that lists them.
PromptsFormat parse_prompts_format(const std::string& name);

// Reads all rows of `file` ("-": standard input):
//   .txt          a prompt per line, without white space around it; blank lines and lines starting with # are left out
//   .csv, .tsv    RFC 4180 with headings; other separators are detected (csv_rows())
//   .json         a list of objects, or of prompts
//   .jsonl        an object or a prompt per line; also .ndjson
// All are UTF-8, with or without a byte order mark, with any kind of line end. Headings may be in upper case and have _
// for -. Rows without any value (empty or blank cells, {}) are left out. Mistakes in the content are added to `errors`,
// and rows with mistakes are not returned; a file of another kind than its name says is a mistake, too. Throws
// UsageError if the file cannot be read or its format is not known.
std::vector<Row> read_prompts_file(const std::filesystem::path& file, const PromptsFileOptions& options,
                                   RowErrors& errors);

// The same for text in memory. Relative paths start from `folder`.
std::vector<Row> parse_prompts(std::string_view text, PromptsFormat format, const std::filesystem::path& folder,
                               const PromptsFileOptions& options, RowErrors& errors);

}  // namespace opensora::batch
