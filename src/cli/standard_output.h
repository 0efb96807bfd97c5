// What the program prints: whether it arrived is known at the end, wherever it was printed.
#pragma once

#include <streambuf>
#include <string>

namespace opensora::cli {

// Opens the null device in the place of standard input, output and error that are closed, or the next file that is
// opened would get their number, and what is printed. What is written to such a standard output fails.
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

}  // namespace opensora::cli
