// opensora selftest: what it checks, prints and exits with.
#include "opensora/machine.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "support/contains.h"
#include "support/program.h"
#include "tools/selftest_check.h"

namespace opensora {
namespace {

using test::contains;
using test::run_program;

TEST(Selftest, PassesOnTheCpu) {
  const test::ProgramResult result = run_program({"selftest", "--device", "cpu", "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const nlohmann::json report = nlohmann::json::parse(result.out);
  EXPECT_EQ(report["ok"], true);
  EXPECT_EQ(report["device"], "cpu");
  EXPECT_EQ(report["failed"], 0);
  std::set<std::string> topics;
  for (const nlohmann::json& check : report["checks"]) {
    topics.insert(check["topic"].get<std::string>());
    EXPECT_NE(check["verdict"], "FAILED") << check;
    EXPECT_NE(check["text"], "") << check;
    if (check["topic"] == "golden" || check["topic"] == "size" || check["topic"] == "speed") {
      EXPECT_EQ(check["verdict"], "ok") << check;
    }
    if (check["topic"] == "size") EXPECT_TRUE(contains(check["text"].get<std::string>(), " predicted)")) << check;
  }
  EXPECT_EQ(topics, (std::set<std::string>{"golden", "attention", "fused", "8-bit", "frames", "graphs", "noise", "size",
                                           "speed"}));
}

TEST(Selftest, SaysWhatItSkips) {
  std::vector<SelftestResult> seen;
  const SelftestReport report =
      selftest({.device = "cpu", .dtypes = {"fp16"}, .on_result = [&](const SelftestResult& result) {
                  seen.push_back(result);
                }});
  EXPECT_EQ(seen.size(), report.results.size());
  EXPECT_EQ(report.count(Verdict::kFailed), 0);
  EXPECT_GT(report.count(Verdict::kSkipped), 0);
  for (const SelftestResult& result : report.results) {
    if (result.topic == "graphs") EXPECT_EQ(result.verdict, Verdict::kSkipped) << result.text;
    if (result.topic == "golden") EXPECT_EQ(result.verdict, Verdict::kOk) << result.text;
  }
}

TEST(Selftest, TellsAWrongResult) {
  const at::Tensor x = at::ones({4});
  EXPECT_EQ(tools::compare(x, x, 0).verdict, Verdict::kOk);
  EXPECT_EQ(tools::compare(x * 1.01, x, 1e-3).verdict, Verdict::kFailed);
  EXPECT_EQ(tools::compare(x / 0 * 0, x, 1e9).verdict, Verdict::kFailed) << "NaN";
  EXPECT_EQ(tools::compare(at::ones({5}), x, 1e9).verdict, Verdict::kFailed) << "another shape";
}

TEST(Selftest, AbsentDevicesAndUnknownDtypesAreErrors) {
  const test::ProgramResult device = run_program({"selftest", "--device", "cuda:99"});
  EXPECT_EQ(device.exit_code, 5);
  EXPECT_TRUE(contains(device.err, "--device cuda:99")) << device.err;
  EXPECT_EQ(run_program({"selftest", "--dtype", "fp8"}).exit_code, 2);
}

}  // namespace
}  // namespace opensora
