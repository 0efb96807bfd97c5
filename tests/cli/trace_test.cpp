// --trace: a file in Chrome's format, whose spans nest.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "core/trace.h"
#include "opensora/error.h"
#include "opensora/process.h"
#include "support/contains.h"
#include "support/program.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

using nlohmann::json;

json read_events(const std::filesystem::path& file) {
  std::ifstream stream(file);
  return json::parse(stream)["traceEvents"];
}

double begin_of(const json& event) { return event["ts"]; }
double end_of(const json& event) { return event["ts"].get<double>() + event["dur"].get<double>(); }

// Two spans of a thread lie in each other, or apart.
void expect_nested(const json& events) {
  std::map<int64_t, std::vector<json>> threads;
  for (const json& event : events) {
    EXPECT_EQ(event["ph"], "X");
    threads[event["tid"]].push_back(event);
  }
  constexpr double kRounding = 0.002;  // microseconds
  for (auto& [thread, spans] : threads) {
    std::sort(spans.begin(), spans.end(), [](const json& a, const json& b) {
      return begin_of(a) != begin_of(b) ? begin_of(a) < begin_of(b) : end_of(a) > end_of(b);
    });
    std::vector<json> open;
    for (const json& span : spans) {
      while (!open.empty() && end_of(open.back()) <= begin_of(span) + kRounding) open.pop_back();
      if (!open.empty()) EXPECT_LE(end_of(span), end_of(open.back()) + kRounding) << span << " in " << open.back();
      open.push_back(span);
    }
  }
}

int64_t count_of(const json& events, const std::string& name) {
  return std::count_if(events.begin(), events.end(), [&](const json& event) { return event["name"] == name; });
}

TEST(Trace, HasStagesStepsAndLayersOfARun) {
  const test::TemporaryFolder folder;
  const std::filesystem::path trace = folder.path() / "trace.json";
  const test::ProgramResult result =
      test::run_program({"generate", "--model-dir", std::string(OPENSORA_CONFIGS) + "/demo", "-p", "a red circle",
                         "--steps", "2", "--num-frames", "5", "--threads", "1", "--device", "cpu", "-q", "-o",
                         folder.path() / "out.mp4", "--trace", trace});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json events = read_events(trace);
  expect_nested(events);
  for (const char* name : {"text", "denoise", "decode", "write", "step 1", "step 2"}) {
    EXPECT_EQ(count_of(events, name), 1) << name;
  }
  EXPECT_GT(count_of(events, "aten::linear"), 0);
}

TEST(Trace, RecordsOnlyWhileItIsThere) {
  const test::TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "trace.json";
  { const TraceSpan before("before"); }
  {
    Trace trace(file);
    {
      const TraceSpan outer("outer");
      const TraceSpan inner("inner", 7);
    }
    trace.finish();
    const TraceSpan late("late");
  }
  const json events = read_events(file);
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[0]["name"], "inner 7");
  EXPECT_EQ(events[1]["name"], "outer");
  EXPECT_EQ(events[1]["cat"], "span");
  expect_nested(events);
}

TEST(Trace, LeavesNoFileWithoutFinish) {
  const test::TemporaryFolder folder;
  { const Trace trace(folder.path() / "trace.json"); }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Trace, RefusesAPlaceThatCannotBeWritten) {
  const test::ProgramResult result =
      test::run_program({"generate", "-p", "sea", "--trace", "/no/such/folder/trace.json", "-q"});
  EXPECT_EQ(result.exit_code, 7);
  EXPECT_TRUE(test::contains(result.err, "/no/such/folder")) << result.err;
}

TEST(Trace, ReplacesATraceAndNothingElse) {
  const test::TemporaryFolder folder;
  const std::filesystem::path file = folder.write("notes.txt", "precious"), trace = folder.path() / "trace.json";
  EXPECT_TRUE(test::contains(test::message_of<OutputError>([&] { Trace refused(file); }), "is not a trace"));
  EXPECT_EQ(test::read_file(file), "precious");
  for (int i = 0; i < 2; ++i) {
    Trace again(trace);
    again.finish();
  }
  Trace late(folder.path() / "late.json");
  folder.write("late.json", "what the run has written");
  test::message_of<OutputError>([&] { late.finish(); });
  EXPECT_EQ(test::read_file(folder.path() / "late.json"), "what the run has written");
}

}  // namespace
}  // namespace opensora
