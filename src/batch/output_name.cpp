#include "batch/output_name.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "core/text.h"
#include "opensora/error.h"
#include "opensora/generate.h"

namespace opensora::batch {
namespace {

// Bytes: a file's name has at most 255, of which four are the extension's.
constexpr size_t kLongestName = 251;
constexpr size_t kLongestPrompt = 200;  // leaves room for -{seed}
const std::vector<std::string> kFields = {"index", "name", "seed", "sample", "slug", "prompt"};

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }

// Why it cannot be the name of a file in the output folder; empty: it can.
std::string problem_of(const std::string& name, size_t longest) {
  if (name.find('/') != std::string::npos) return "a name is no path; `output_dir` says where videos go";
  if (name == "." || name == "..") return "is no file's name";
  if (std::any_of(name.begin(), name.end(), is_control)) return "holds a control character";
  if (name.size() > longest) {
    return fmt::format("has {} bytes, expected at most {}", name.size(), longest);
  }
  return "";
}

std::string shown(const std::string& name) {
  constexpr size_t kLongestShown = 100;
  const std::string_view start = cut_utf8(name, kLongestShown);
  return fmt::format("\"{}{}\"", start, start.size() < name.size() ? "…" : "");
}

}  // namespace

std::string safe_file_name(std::string_view prompt) {
  std::string name(cut_utf8(prompt, kLongestPrompt));
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c == '/' || is_control(c); }, '_');
  return name.empty() ? "video" : name;
}

NameTemplate::NameTemplate(const std::string& text) : text_(text) {
  const auto fail = [&](const std::string& problem) {
    throw UsageError(
        fmt::format("`name_template` \"{}\": {} (fields: {{{}}})", text, problem, fmt::join(kFields, "}, {")));
  };
  if (text.empty()) fail("is empty");
  if (const std::string problem = problem_of(text, 1000); !problem.empty()) fail(problem);
  if (find_invalid_utf8(text)) fail("is not valid UTF-8");
  for (size_t at = 0; at < text.size();) {
    const size_t brace = std::min(text.find_first_of("{}", at), text.size());
    if (brace > at) parts_.push_back({text.substr(at, brace - at), ""});
    if (brace == text.size()) break;
    if (brace + 1 < text.size() && text[brace + 1] == text[brace]) {
      parts_.push_back({std::string(1, text[brace]), ""});
      at = brace + 2;
      continue;
    }
    const size_t end = text.find('}', brace);
    if (text[brace] == '}' || end == std::string::npos) fail("a brace without its partner");
    const std::string field = text.substr(brace + 1, end - brace - 1);
    if (std::find(kFields.begin(), kFields.end(), field) == kFields.end()) {
      fail(fmt::format("unknown field {{{}}}{}", field, did_you_mean(field, kFields)));
    }
    parts_.push_back({"", field});
    at = end + 1;
  }
}

NameTemplate NameTemplate::by_default(bool all_rows_have_names, bool several_samples) {
  const std::string text = all_rows_have_names ? "{name}" : "{index}-{name}";
  return NameTemplate(several_samples ? text + "-{sample}" : text);
}

std::string NameTemplate::render(const NameFields& fields) const {
  std::string name;
  for (const Part& part : parts_) {
    if (part.field.empty()) name += part.literal;
    if (part.field == "index") name += fmt::format("{:05}", fields.index);
    if (part.field == "name") name += fields.name.empty() ? prompt_slug(fields.prompt) : fields.name;
    if (part.field == "seed") name += std::to_string(fields.seed);
    if (part.field == "sample") name += std::to_string(fields.sample);
    if (part.field == "slug") name += prompt_slug(fields.prompt);
    if (part.field == "prompt") name += safe_file_name(fields.prompt);
  }
  return name;
}

bool NameTemplate::uses(std::string_view field) const {
  return std::any_of(parts_.begin(), parts_.end(), [&](const Part& part) { return part.field == field; });
}

void check_row_name(int64_t line, const std::string& name, RowErrors& errors) {
  const std::string problem = problem_of(name, kLongestName);
  if (!problem.empty()) errors.add(line, fmt::format("name {}: {}", shown(name), problem));
}

void check_names(const std::vector<NamedVideo>& videos, RowErrors& errors) {
  std::unordered_map<std::string, const NamedVideo*> first_of;
  for (const NamedVideo& video : videos) {
    if (const std::string problem = problem_of(video.name, kLongestName); !problem.empty()) {
      errors.add(video.line, fmt::format("name {}: {}", shown(video.name), problem));
    }
    const auto [entry, is_new] = first_of.emplace(video.name, &video);
    if (is_new) continue;
    const NamedVideo& first = *entry->second;
    errors.add(video.line,
               first.line == video.line
                   ? fmt::format("samples {} and {} would both be called {}; put {{sample}} or {{seed}} into "
                                 "`name_template`",
                                 first.sample, video.sample, shown(video.name))
                   : fmt::format("would be called {}, as that of line {}; give another name, or put {{index}} into "
                                 "`name_template`",
                                 shown(video.name), first.line));
  }
}

}  // namespace opensora::batch
