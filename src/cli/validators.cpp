#include "cli/validators.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/nearest.h"

namespace opensora::cli {
namespace {

// "fp32, bf16 or fp16"
std::string alternatives(const std::vector<std::string>& words) {
  const auto last = words.end() - 1;
  return words.size() == 1 ? words.front() : fmt::format("{} or {}", fmt::join(words.begin(), last, ", "), *last);
}

bool is_blank(const std::string& text) { return text.find_first_not_of(" \t\r\n\v\f") == std::string::npos; }

}  // namespace

CLI::Validator one_of(const std::vector<std::string>& words) {
  const auto check = [words](const std::string& text) -> std::string {
    if (std::find(words.begin(), words.end(), text) != words.end()) return {};
    return fmt::format("expected {}, found \"{}\"{}", alternatives(words), text, did_you_mean(text, words));
  };
  return {[check](std::string& text) { return check(text); }, fmt::format("{{{}}}", fmt::join(words, ","))};
}

bool may_be_empty(const CLI::Option& option) {
  const std::string name = option.get_name();
  return name == "--prompt" || name == "--negative-prompt" || name == "TEXT";
}

void refuse_empty_values(CLI::App& command) {
  for (CLI::Option* option : command.get_options()) {
    if (option->get_items_expected_max() == 0 || may_be_empty(*option)) continue;
    const auto check = [](std::string& text) -> std::string {
      return is_blank(text) ? fmt::format("expected a value, found \"{}\"; leave the flag out if there is none", text)
                            : "";
    };
    option->check(CLI::Validator(check, ""));
  }
  for (CLI::App* sub : command.get_subcommands(nullptr)) refuse_empty_values(*sub);
}

}  // namespace opensora::cli
