#include "cli/validators.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "request/parameter.h"

namespace opensora::cli {
CLI::Validator one_of(const std::vector<std::string>& words) {
  return {[words](std::string& text) { return request::choice_error(text, words); },
          fmt::format("{{{}}}", fmt::join(words, ","))};
}

bool may_be_empty(const CLI::Option& option) {
  if (!option.nonpositional()) return option.get_name() == "TEXT";
  const request::Parameter* parameter =
      option.get_lnames().empty() ? nullptr : request::find_parameter(option.get_lnames().front());
  return parameter != nullptr && parameter->kind == request::Kind::kPrompt;
}

void refuse_empty_values(CLI::App& command) {
  for (CLI::Option* option : command.get_options()) {
    if (option->get_items_expected_max() == 0 || may_be_empty(*option)) continue;
    option->check(CLI::Validator([](std::string& text) { return request::blank_error(text); }, ""));
  }
  for (CLI::App* sub : command.get_subcommands(nullptr)) refuse_empty_values(*sub);
}

}  // namespace opensora::cli
