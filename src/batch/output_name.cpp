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

// What stands in place of `field`, which is one of kFields.
std::string value_of(const std::string& field, const NameFields& fields) {
  if (field == "index") return fmt::format("{:05}", fields.index);
  if (field == "name") return fields.name.empty() ? prompt_slug(fields.prompt) : fields.name;
  if (field == "seed") return std::to_string(fields.seed);
  if (field == "sample") return std::to_string(fields.sample);
  return field == "slug" ? prompt_slug(fields.prompt) : safe_file_name(fields.prompt);
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

std::string default_name_template(bool all_rows_have_names, bool several_samples) {
  const std::string name = all_rows_have_names ? "{name}" : "{index}-{name}";
  return several_samples ? name + "-{sample}" : name;
}

std::string video_name(const std::string& name_template, const NameFields& fields) {
  const auto fail = [&](const std::string& problem) {
    throw UsageError(fmt::format("`name_template` \"{}\": {} (fields: {{{}}})", on_one_line(name_template), problem,
                                 fmt::join(kFields, "}, {")));
  };
  if (name_template.empty()) fail("is empty");
  if (const std::string problem = problem_of(name_template, 1000); !problem.empty()) fail(problem);
  if (find_invalid_utf8(name_template)) fail("is not valid UTF-8");
  std::string name;
  for (std::string_view rest = name_template; !rest.empty();) {
    const size_t brace = std::min(rest.find_first_of("{}"), rest.size());
    name += rest.substr(0, brace);
    rest.remove_prefix(brace);
    if (rest.starts_with("{{") || rest.starts_with("}}")) {
      name += rest.front();
      rest.remove_prefix(2);
    } else if (!rest.empty()) {
      const size_t end = rest.find('}');
      if (rest.front() == '}' || end == std::string_view::npos) fail("a brace without its partner");
      const std::string field(rest.substr(1, end - 1));
      if (std::find(kFields.begin(), kFields.end(), field) == kFields.end()) {
        fail(fmt::format("unknown field {{{}}}{}", field, did_you_mean(field, kFields)));
      }
      name += value_of(field, fields);
      rest.remove_prefix(end + 1);
    }
  }
  return name;
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
