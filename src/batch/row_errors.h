// Collects all errors of a prompts file, each with its line.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace opensora::batch {

class RowErrors {
 public:
  // `file` is put in front of line numbers: the path as it was typed, or "stdin".
  explicit RowErrors(std::string file) : file_(std::move(file)) {}

  // `line` is where the row starts, counted from 1; 0 stands for the whole file.
  void add(int64_t line, const std::string& message) {
    errors_.emplace_back(line, message);
    lines_.insert(line);
  }

  // Whether there is an error of one of these lines.
  bool has(int64_t first_line, int64_t last_line) const {
    const auto found = lines_.lower_bound(first_line);
    return found != lines_.end() && *found <= last_line;
  }
  bool empty() const { return errors_.empty(); }
  size_t size() const { return errors_.size(); }
  const std::string& file() const { return file_; }

  // The errors in the order of the file: "prompts.csv:7: unknown column …".
  std::vector<std::string> lines() const;
  // Throws UsageError if there are any: a line with their number, followed by the first hundred of lines().
  void throw_if_any() const;

 private:
  std::string file_;
  std::vector<std::pair<int64_t, std::string>> errors_;
  std::set<int64_t> lines_;
};

}  // namespace opensora::batch
