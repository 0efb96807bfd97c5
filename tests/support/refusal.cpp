#include "support/refusal.h"

#include <algorithm>

#include "cli/app.h"
#include "cli/arguments.h"
#include "opensora/error.h"
#include "request/parameter.h"

namespace opensora::test {
namespace {

struct Understood {};

class ParsedOnly : public CLI::App {
  void pre_callback() override { throw Understood{}; }  // all is parsed and checked; the command would run now
};

}  // namespace

std::string refusal_of(const std::vector<std::string>& arguments) {
  ParsedOnly app;
  cli::set_up(app);
  try {
    std::vector<std::string> prepared = cli::prepare_arguments(app, arguments);
    std::reverse(prepared.begin(), prepared.end());
    app.parse(std::move(prepared));
  } catch (const Understood&) {
    return "";
  } catch (const CLI::Success&) {
    return "";
  } catch (const CLI::ParseError& error) {
    return cli::usage_message(app, error);
  } catch (const UsageError& error) {
    return request::with_flags(error.what());
  }
  return "";
}

}  // namespace opensora::test
