// What the program prints: results as JSON, and whether all of it arrived, which is known at the end.
#pragma once

#include <nlohmann/json.hpp>
#include <streambuf>
#include <string>
#include <vector>

#include "core/failure.h"
#include "opensora/error.h"
#include "opensora/generate.h"

namespace opensora::cli {

// Opens the null device in place of standard input, output and error where these are closed. Otherwise the next file
// that is opened would get their number, and with it what is printed. Writing to such a standard output fails.
void occupy_closed_descriptors();

// While it lives, std::cout writes to standard output through it, and remembers the first error.
class StandardOutput final : public std::streambuf {
 public:
  StandardOutput();
  ~StandardOutput() override;
  StandardOutput(const StandardOutput&) = delete;
  StandardOutput& operator=(const StandardOutput&) = delete;

  // Writes what is left. Returns the errno of the first write that failed; 0: all that was printed has arrived.
  int finish();

 protected:
  int_type overflow(int_type character) override;
  std::streamsize xsputn(const char* text, std::streamsize count) override;
  int sync() override;

 private:
  std::streambuf* former_;
  std::string waiting_;
  int error_ = 0;
};

// Null for what is not finite, as JSON has no infinity; also in a list.
nlohmann::ordered_json finite_or_null(double value);
nlohmann::ordered_json finite_or_null(const std::vector<double>& values);

nlohmann::ordered_json result_to_json(const GenerateResult& result);

// As the user is told it: with flags in place of the fields that the library names (request::with_flags()). `others`:
// the command's own options.
Failure in_flags(Failure failure, const std::vector<std::string>& others = {});

// {"error": message, "code": exit code, "flags": [those that would fit]}: what a command with --json prints of a
// failure.
nlohmann::ordered_json failure_json(const Failure& failure);

// A failure of which --json has printed everything, so that only its line on stderr is missing.
class ToldError : public Error {
 public:
  using Error::Error;
};

// Prints a report that ends in a failure, with the failure's three fields, and throws ToldError. `message` may name
// fields.
[[noreturn]] void print_failed_report(nlohmann::ordered_json report, ExitCode code, const std::string& message);

// One line on stdout, at once: somebody may be waiting for it.
void print_json(const nlohmann::ordered_json& json);

}  // namespace opensora::cli
