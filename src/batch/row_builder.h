// Makes rows of the cells of a prompts file: knows which column a heading means, and what a cell may hold.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "batch/prompts_file.h"
#include "batch/prompts_json.h"
#include "request/parameter.h"

namespace opensora::batch {

struct Column {
  std::string name;  // the long flag without its dashes: "num-frames"
  request::Kind kind = request::Kind::kText;

  bool is_list() const { return kind == request::Kind::kSeeds || kind == request::Kind::kPaths; }
  bool is_path() const { return kind == request::Kind::kPath || kind == request::Kind::kPaths; }
};

class RowBuilder {
 public:
  // `errors` and `options` must outlive this object.
  RowBuilder(std::filesystem::path folder, const PromptsFileOptions& options, RowErrors& errors);

  // Whether a heading means a column or a flag of the whole run.
  bool knows(const std::string& heading) const;
  // Whether it means the prompt.
  bool is_prompt(const std::string& heading) const;

  // The column that a heading means; nullptr, and an error, if there is none.
  const Column* find_column(const std::string& heading, int64_t line);

  // Adds a cell's values to the row, or an error.
  void add(Row& row, const Column& column, const JsonValue& cell, bool is_json);

 private:
  std::string hint(const std::string& name) const;
  void add_list(Row& row, const Column& column, const JsonValue& cell);
  void add_text(Row& row, const Column& column, const std::string& text);
  void add_switch(Row& row, const Column& column, const std::string& text);
  void refuse(const Row& row, const Column& column, const std::string& expected, const JsonValue& found);

  std::filesystem::path folder_;
  std::map<std::string, Column> columns_;  // by every name that a heading may have
  std::set<std::string> run_flags_;        // those that are set once for a run
  std::vector<std::string> names_;         // for suggestions
  RowErrors& errors_;
};

}  // namespace opensora::batch
