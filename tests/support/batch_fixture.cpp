#include "support/batch_fixture.h"

#include <fstream>

namespace opensora::test {

namespace fs = std::filesystem;

ProgramResult BatchFixture::run(const fs::path& prompts, const std::string& output,
                                const std::vector<std::string>& more, ProgramOptions options) const {
  std::vector<std::string> arguments = {"generate",
                                        "--prompts-file",
                                        prompts,
                                        "--output-dir",
                                        folder_.path() / output,
                                        "--device",
                                        "cpu",
                                        "--output-size",
                                        "none",
                                        "--threads",
                                        "1"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_program(arguments, options);
}

std::map<std::string, std::string> BatchFixture::files(const std::string& output) const {
  std::map<std::string, std::string> found;
  for (const auto& entry : fs::directory_iterator(folder_.path() / output)) {
    if (entry.path().extension() != ".jsonl") found[entry.path().filename()] = read_file(entry.path());
  }
  return found;
}

std::vector<nlohmann::json> BatchFixture::journal(const std::string& output, const std::string& name) const {
  std::ifstream stream(folder_.path() / output / name);
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(stream, line) && !stream.eof();) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

std::map<std::string, int> BatchFixture::how_often(const std::string& output, const std::string& event) const {
  std::map<std::string, int> count;
  for (const nlohmann::json& line : journal(output)) {
    if (line["event"] == event) ++count[line.value("key", "")];
  }
  return count;
}

}  // namespace opensora::test
