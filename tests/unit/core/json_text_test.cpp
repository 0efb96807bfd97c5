#include "core/json_text.h"

#include <gtest/gtest.h>

#include <functional>

#include "support/contains.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

using test::contains;

// What `action` throws, which is one line.
std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const JsonError& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
  return "no error";
}

std::string parse_error(const std::string& text) {
  const std::string error = error_of([&] { parse_json(text); });
  EXPECT_EQ(error, error_of([&] { parse_ordered_json(text); }));
  return error;
}

std::string nested(size_t depth, const std::string& open, const std::string& close) {
  std::string text;
  for (size_t i = 0; i < depth; ++i) text += open;
  text += "1";
  for (size_t i = 0; i < depth; ++i) text += close;
  return text;
}

TEST(ParseJson, HasALimitOfDepth) {
  for (const auto& [open, close] : {std::pair("[", "]"), std::pair("{\"a\":", "}"), std::pair("[{\"a\":", "}]")}) {
    const size_t levels = std::string(open).size() == 1 || open[0] == '{' ? 1 : 2;
    EXPECT_EQ(parse_error(nested(kMaxJsonDepth / levels, open, close)), "no error") << open;
    for (const size_t depth : {kMaxJsonDepth / levels + 1, size_t{60000}}) {
      EXPECT_EQ(parse_error(nested(depth, open, close)), "lists and objects are nested more than 64 levels deep");
    }
    // Cut short: the depth is told, not the end.
    EXPECT_TRUE(contains(parse_error(nested(60000, open, "")), "nested more than 64 levels"));
  }
}

TEST(ParseJson, IsStrict) {
  EXPECT_TRUE(contains(parse_error(R"({"a": 1, "a": 2})"), "duplicate key \"a\""));
  EXPECT_TRUE(contains(parse_error(R"({"x": [{"b": 1}, {"b": 1, "b": 1}]})"), "duplicate key \"b\""));
  EXPECT_EQ(parse_error(R"([{"b": 1}, {"b": 1}])"), "no error");
  for (const char* number : {"NaN", "Infinity", "-Infinity", "1e999", "-1e400", "01", "0x10", "1."}) {
    EXPECT_NE(parse_error(std::string("{\"a\": ") + number + "}"), "no error") << number;
  }
  EXPECT_TRUE(contains(parse_error("{\"a\":1e999}"), "number overflow"));
  EXPECT_TRUE(contains(parse_error("{} {}"), "parse error at line 1, column 4"));
  EXPECT_TRUE(contains(parse_error("{\n\"a\": tru}"), "line 2"));
  EXPECT_NE(parse_error(""), "no error");
  EXPECT_TRUE(contains(parse_error(std::string("\xFF\xFE{\0}\0", 6)), "UTF-16"));
  EXPECT_EQ(parse_error("\xEF\xBB\xBF{}"), "no error") << "a byte order mark";
  EXPECT_NE(parse_error("{\"a\": \"\xC3(\"}"), "no error") << "invalid UTF-8";
  EXPECT_EQ(parse_json("99999999999999999999").is_number_integer(), false) << "beyond 64 bits";
}

TEST(ReadJsonFile, SaysWhatIsWrongWithAFile) {
  const test::TemporaryFolder folder;
  const auto error = [](const std::filesystem::path& file) { return error_of([&] { read_json_file(file); }); };
  EXPECT_EQ(error(folder.write("good.json", "{\"a\": [1]}")), "no error");
  EXPECT_TRUE(contains(error(folder.path() / "none.json"), "cannot be read: No such file"));
  EXPECT_TRUE(contains(error(folder.path()), "is a folder"));
  EXPECT_TRUE(
      contains(error(folder.write("lfs.json", "version https://git-lfs.github.com/spec/v1\n")), "is a Git LFS"));
  EXPECT_TRUE(contains(error(folder.write("page.json", "\n<HTML><head>")), "is a web page (HTML)"));
  EXPECT_TRUE(contains(error(folder.write("bad.json", "{")), "not valid JSON: parse error at line 1"));
  EXPECT_TRUE(contains(error_of([] { read_text_file("/dev/zero", 1000); }), "is larger than"));
}

TEST(JsonErrorText, IsValidUtf8WhateverItQuotes) {
  const std::string error = parse_error("{\"\xFF\xFE\": 1}");
  EXPECT_NO_THROW(nlohmann::json(error).dump()) << error;
}

}  // namespace
}  // namespace opensora
