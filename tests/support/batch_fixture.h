// Batches through the program, in a folder of their own.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/program.h"
#include "support/temporary_folder.h"

namespace opensora::test {

class BatchFixture : public ::testing::Test {
 protected:
  // The demo model on one thread, without enlarging its frames, into the folder `output`.
  ProgramResult run(const std::filesystem::path& prompts, const std::string& output,
                    const std::vector<std::string>& more = {}, ProgramOptions options = {}) const;

  // Name -> bytes of all but the journals.
  std::map<std::string, std::string> files(const std::string& output) const;

  // The whole lines of a journal; none if there is no such file.
  std::vector<nlohmann::json> journal(const std::string& output, const std::string& name = "run.jsonl") const;

  // How many lines of the journal have that event; of each video: how_often(...)[key].
  std::map<std::string, int> how_often(const std::string& output, const std::string& event) const;

  TemporaryFolder folder_;
};

}  // namespace opensora::test
