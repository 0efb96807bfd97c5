// Prompts files: a video a row, with any flag of `opensora generate` that means something for one video as a column.
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
  // Columns are the parameters of a video's content, and `name` (of the output), `ref`, and `text` and `neg` for
  // `prompt` and `negative-prompt`. All other parameters are set once for a run, and refused with a line that says so;
  // so are these flags, which are no parameters.
  std::vector<std::string> other_flags;
};

struct Row {
  int64_t line = 0;  // on which it starts, from 1
  // Flag without dashes -> text, in the file's order; several values of a list follow each other under the same name.
  // A switch is "true" or "false". `ref` has become `image` or `video`. `name` is the output's.
  std::vector<std::pair<std::string, std::string>> values;
  bool lacks_columns = false;  // it has cells of a column that is not known: what it does not say may stand there
};

// "txt", "csv", "tsv", "json", "jsonl". Throws UsageError that lists them.
PromptsFormat parse_prompts_format(const std::string& name);

// Reads all rows of `file` ("-": standard input):
//   .txt          a prompt a line; white space around it goes, blank lines and those that start with # are left out
//   .csv, .tsv    RFC 4180 with headings; other separators are found out (csv_rows())
//   .json         a list of objects, or of prompts
//   .jsonl        an object or a prompt a line; also .ndjson
// UTF-8, with or without a byte order mark; line ends of any kind. Headings are accepted in upper case and with _ for
// -. Rows that say nothing (cells that are empty or blank, {}) are left out. What is wrong with the content is added to
// `errors`, one error a slip; rows with one are not returned. A file of another kind than its name says is an error of
// its own. Throws UsageError if the file cannot be read at all or its format is not known.
std::vector<Row> read_prompts_file(const std::filesystem::path& file, const PromptsFileOptions& options,
                                   RowErrors& errors);

// The same for a text that has been read. `folder` is what relative paths start from.
std::vector<Row> parse_prompts(std::string_view text, PromptsFormat format, const std::filesystem::path& folder,
                               const PromptsFileOptions& options, RowErrors& errors);

}  // namespace opensora::batch
