// Lines of a journal: those that runs write, and every way in which one can be wrong.
#include "batch/journal_line.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/json_text.h"
#include "support/contains.h"

namespace opensora::batch {
namespace {

using nlohmann::json;
using test::contains;

const std::string kHash(64, 'a');

json video(const char* event) {
  return {{"schema_version", 1}, {"event", event}, {"time", "2026-11-26T14:40:06.339Z"}, {"row", 1},
          {"sample", 0},         {"key", kHash},   {"seed", 18446744073709551615U},      {"output", "videos/a.mp4"}};
}

json planned() {
  json line = video("video_planned");
  line["prompt"] = "";
  line["row_key"] = kHash;
  return line;
}

json done() {
  json line = video("video_done");
  line.update({{"bytes", 3873}, {"sha256", kHash}, {"width", 32}, {"height", 32}, {"frames", 5}, {"prompt", "a"}});
  line.update({{"seconds", {{"text", 0}, {"total", 0.5}}}, {"peak_memory_bytes", 1}, {"peak_device_memory_bytes", 0}});
  return line;
}

json finished() {
  return {{"schema_version", 1},
          {"event", "run_finished"},
          {"time", "2026-11-26T14:40:06.339Z"},
          {"videos", 3},
          {"done", 2},
          {"skipped", 1},
          {"failed", 0},
          {"not_run", 0},
          {"seconds", 1.5},
          {"exit_code", 0}};
}

// Why a line is none; empty: it is one.
std::string problem(const std::string& text) {
  try {
    parse_journal_line(text);
    return "";
  } catch (const JsonError& error) {
    return error.what();
  }
}

std::string problem_with(json line, const char* field, const json& value) {
  line[field] = value;
  return problem(line.dump());
}

TEST(JournalLine, WhatALaterRunReads) {
  const JournalLine plan = parse_journal_line(planned().dump());
  EXPECT_EQ(plan.event, "video_planned");
  EXPECT_EQ(plan.seed, 18446744073709551615U);
  EXPECT_EQ(plan.output, "videos/a.mp4");
  EXPECT_EQ(plan.row_key, kHash);
  const JournalLine video = parse_journal_line(done().dump());
  EXPECT_EQ(video.file, "videos/a.mp4");
  EXPECT_EQ(video.bytes, 3873U);
  EXPECT_EQ(video.sha256, kHash);
  const JournalLine end = parse_journal_line(finished().dump());
  EXPECT_EQ(end.done + end.skipped, end.videos);
  EXPECT_FALSE(end.has_error);
  EXPECT_EQ(problem(R"({"schema_version":1,"event":"fault","file":"model.safetensors"})"), "");
}

TEST(JournalLine, FieldsOfALaterVersionAreLetPass) {
  EXPECT_EQ(problem_with(done(), "colour", {{"a", {1, -2, "x"}}}), "");
  EXPECT_EQ(problem_with(video("video_started"), "bytes", "many"), "");
}

TEST(JournalLine, NoObject) {
  for (const char* text :
       {"", " ", "7", "null", "\"x\"", "[]", "nonsense", "{", "{\"event\"", "{}{}", "{\"event\":1e999}"}) {
    EXPECT_NE(problem(text), "") << text;
  }
  EXPECT_TRUE(contains(problem("{\"event\":\"a\",\"event\":\"a\"}"), "duplicate"));
  const std::string line = done().dump();
  EXPECT_NE(problem(line.substr(0, line.size() / 2)), "");
  EXPECT_NE(problem(line + std::string(1, '\0')), "");
  std::string bad = line;
  bad.replace(bad.find("a.mp4"), 2, "\xC3\"");  // a character that is cut off
  EXPECT_NE(problem(bad), "");
  EXPECT_NE(problem("{\"a\":" + std::string(100'000, '[')), "");
  const std::string nested = std::string(100'000, '[') + std::string(100'000, ']');
  EXPECT_TRUE(contains(problem(line.substr(0, line.size() - 1) + ",\"a\":" + nested + "}"), "levels deep"));
}

TEST(JournalLine, SchemaAndEvent) {
  for (const json& version : {json(0), json(2), json(1.0), json("1"), json(true), json(), json(-1), json::array({1})}) {
    EXPECT_TRUE(contains(problem_with(done(), "schema_version", version), "schema_version")) << version;
  }
  for (const json& event : {json(1), json(), json("step"), json("video_don"), json(""), json::object()}) {
    EXPECT_TRUE(contains(problem_with(done(), "event", event), "\"event\"")) << event;
  }
}

TEST(JournalLine, EachFieldIsNeeded) {
  for (const json& line : {done(), planned(), finished(), video("video_started")}) {
    for (const auto& [name, value] : line.items()) {
      json without = line;
      without.erase(name);
      if (name == "row_key") {
        EXPECT_EQ(problem(without.dump()), "");
      } else {
        EXPECT_TRUE(contains(problem(without.dump()), "\"" + name + "\" is missing")) << line["event"];
      }
      EXPECT_NE(problem_with(line, name.c_str(), nullptr), "") << name;
      EXPECT_NE(problem_with(line, name.c_str(), json::array({value})), "") << name;
    }
  }
}

TEST(JournalLine, TypesAndRanges) {
  const json nested = {{"a", {{"b", 1}}}};
  for (const char* count : {"row", "sample", "seed", "bytes", "width", "frames", "peak_memory_bytes"}) {
    for (const json& value : {json(-1), json(1.5), json("1"), json(1e30), json(true), nested}) {
      EXPECT_TRUE(contains(problem_with(done(), count, value), "\"" + std::string(count) + "\" cannot be")) << value;
    }
  }
  EXPECT_EQ(problem_with(done(), "seed", 18446744073709551615U), "");
  EXPECT_NE(problem_with(done(), "bytes", 18446744073709551615U), "");
  EXPECT_NE(problem_with(done(), "row", 0), "");
  for (const char* hash : {"key", "sha256"}) {
    for (const json& value : {json(""), json("x"), json(std::string(64, 'A')), json(std::string(65, 'a')), json(7)}) {
      EXPECT_NE(problem_with(done(), hash, value), "") << hash << value;
    }
  }
  for (const json& value : {json(""), json(std::string("a\0b", 3)), json(1), nested}) {
    EXPECT_NE(problem_with(done(), "output", value), "") << value;
  }
  for (const json& value : {json("yesterday"), json(0), json("2026-11-26T14:40:06Z")}) {
    EXPECT_NE(problem_with(done(), "time", value), "") << value;
  }
  for (const json& value : {json(1), json({{"total", -1}}), json({{"total", "1"}}), json::array()}) {
    EXPECT_NE(problem_with(done(), "seconds", value), "") << value;
  }
  for (const json& value : {json(256), json(-1), json("0"), json(0.5)}) {
    EXPECT_NE(problem_with(finished(), "exit_code", value), "") << value;
  }
  EXPECT_NE(problem_with(planned(), "row_key", "short"), "");
}

}  // namespace
}  // namespace opensora::batch
