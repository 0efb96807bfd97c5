// Prompts files in each format, and every kind of mistake in them: all at once, each with its line.
#include "batch/prompts_file.h"

#include <gtest/gtest.h>

#include "opensora/error.h"
#include "request/parameter.h"
#include "support/contains.h"
#include "support/growth.h"
#include "support/temporary_folder.h"

namespace opensora::batch {
namespace {

using test::contains;
using Values = std::vector<std::pair<std::string, std::string>>;

PromptsFileOptions options() { return {.format = {}, .other_flags = {"json"}}; }

std::vector<Row> good(std::string_view text, PromptsFormat format, const std::filesystem::path& folder = {}) {
  RowErrors errors("f");
  std::vector<Row> rows = parse_prompts(text, format, folder, options(), errors);
  EXPECT_EQ(errors.lines(), std::vector<std::string>{}) << text.substr(0, 200);
  return rows;
}

std::vector<std::string> bad(std::string_view text, PromptsFormat format) {
  RowErrors errors("f");
  parse_prompts(text, format, {}, options(), errors);
  return errors.lines();
}

TEST(PromptsFile, ColumnsAreTheParametersOfAVideo) {
  for (const request::Parameter& parameter : request::parameters()) {
    const std::string text = "name," + parameter.name() + "\nn,\n";
    if (parameter.is_column()) {
      EXPECT_EQ(good(text, PromptsFormat::kCsv).size(), 1U) << parameter.name();
      continue;
    }
    const auto errors = bad(text, PromptsFormat::kCsv);
    ASSERT_EQ(errors.size(), 1U) << parameter.name();
    EXPECT_TRUE(contains(errors[0], "f:1: column \"" + parameter.name() + "\": "));
  }
  EXPECT_EQ(
      bad("name,json\nn,\n", PromptsFormat::kCsv),
      std::vector<std::string>{"f:1: column \"json\": is set once for a whole run; give --json on the command line"});
}

TEST(PromptsFile, Text) {
  const auto rows =
      good("\xEF\xBB\xBF# comment\r\n  a cat \r\n\r\n\t# another\n#\nein Hund, \"groß\" 🐕; #1\n", PromptsFormat::kText);
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].line, 2);
  EXPECT_EQ(rows[0].values, (Values{{"prompt", "a cat"}}));
  EXPECT_EQ(rows[1].line, 6);
  EXPECT_EQ(rows[1].values, (Values{{"prompt", "ein Hund, \"groß\" 🐕; #1"}}));
}

TEST(PromptsFile, CsvAsTheOfficialCodeHasIt) {
  const auto rows = good(
      "\xEF\xBB\xBFtext,ref,neg,name\r\n"
      "\"raining, \"\"sea\"\"\r\nand wind\",a.png,,first\r\n"
      "\r\n"
      "🚢 sails,\"a.png; sub/b.JPG\",storm,second\r\n"
      "on it goes,clip.MP4,,third",
      PromptsFormat::kCsv, "/data");
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(rows[0].line, 2);
  EXPECT_EQ(rows[0].values,
            (Values{{"prompt", "raining, \"sea\"\r\nand wind"}, {"image", "/data/a.png"}, {"name", "first"}}));
  EXPECT_EQ(rows[1].line, 5);
  EXPECT_EQ(rows[1].values, (Values{{"prompt", "🚢 sails"},
                                    {"image", "/data/a.png"},
                                    {"image", "/data/sub/b.JPG"},
                                    {"negative-prompt", "storm"},
                                    {"name", "second"}}));
  EXPECT_EQ(rows[2].line, 6);
  EXPECT_EQ(rows[2].values, (Values{{"prompt", "on it goes"}, {"video", "/data/clip.MP4"}, {"name", "third"}}));
}

TEST(PromptsFile, AnyFlagIsAColumn) {
  const auto rows = good(
      "Prompt, num_frames ,GUIDANCE,t2i2v,seed,video\n"
      "a,17,7.50,yes,1;2 ;18446744073709551615,/abs/v.mp4\n"
      ",,,0,,\n"
      "\"\",1e3,,FALSE,,\n",
      PromptsFormat::kCsv, "data");
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(rows[0].values, (Values{{"prompt", "a"},
                                    {"num-frames", "17"},
                                    {"guidance", "7.50"},
                                    {"t2i2v", "true"},
                                    {"seed", "1"},
                                    {"seed", "2"},
                                    {"seed", "18446744073709551615"},
                                    {"video", "/abs/v.mp4"}}));
  EXPECT_EQ(rows[1].values, (Values{{"prompt", ""}, {"t2i2v", "false"}}));
  EXPECT_EQ(rows[2].values, (Values{{"prompt", ""}, {"num-frames", "1e3"}, {"t2i2v", "false"}}));
}

TEST(PromptsFile, AQuoteWithinAPlainCellStandsForItself) {
  const auto rows = good("text\nhe says \"hi\"\nx\"\ra \"b\" \n", PromptsFormat::kCsv);
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(rows[0].values.front().second, "he says \"hi\"");
  EXPECT_EQ(rows[1].values.front().second, "x\"");
  EXPECT_EQ(rows[2].line, 4) << "a lone carriage return ends a line too";
}

TEST(PromptsFile, Json) {
  const auto rows = good(
      "[\n \"a cat\",\n {\"text\": \"caf\\u00e9\", \"ref\": [\"a;b.png\", \"c.png\"],\n  \"seed\": [1, "
      "18446744073709551615],\n  \"guidance\": 7.000000001, \"steps\": 1e3, \"num_frames\": null, \"t2i2v\": false,\n"
      "  \"neg\": \"\", \"width\": \"\"}, {}]",
      PromptsFormat::kJson, "d");
  ASSERT_EQ(rows.size(), 2U) << "a row that says nothing is left out";
  EXPECT_EQ(rows[0].line, 2);
  EXPECT_EQ(rows[0].values, (Values{{"prompt", "a cat"}}));
  EXPECT_EQ(rows[1].line, 3);
  EXPECT_EQ(rows[1].values, (Values{{"prompt", "café"},
                                    {"image", "d/a;b.png"},
                                    {"image", "d/c.png"},
                                    {"seed", "1"},
                                    {"seed", "18446744073709551615"},
                                    {"guidance", "7.000000001"},
                                    {"steps", "1e3"},
                                    {"t2i2v", "false"},
                                    {"negative-prompt", ""}}));
}

TEST(PromptsFile, NumbersKeepTheirSpelling) {
  const auto rows = good(
      "{\"prompt\": \"x\", \"guidance\": 0.10000000000000000000000001, \"steps\": "
      "99999999999999999999999, \"seed\": 9007199254740993}",
      PromptsFormat::kJsonLines);
  EXPECT_EQ(rows.at(0).values, (Values{{"prompt", "x"},
                                       {"guidance", "0.10000000000000000000000001"},
                                       {"steps", "99999999999999999999999"},
                                       {"seed", "9007199254740993"}}));
}

TEST(PromptsFile, JsonLines) {
  const auto rows = good("\xEF\xBB\xBF\"one\"\r\n\n{\"prompt\": \"two\", \"name\": 2}\n", PromptsFormat::kJsonLines);
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].line, 1);
  EXPECT_EQ(rows[1].line, 3);
  EXPECT_EQ(rows[1].values, (Values{{"prompt", "two"}, {"name", "2"}}));
}

TEST(PromptsFile, AllErrorsOfACsvAtOnce) {
  const auto errors =
      bad("text,stpes,model_dir,prompt,,t2i2v\n"
          "a,b\n"
          "a,1,,,,maybe\n"
          "\"a\"b,1,,,,\n"
          "a,1,,,,,,\n"
          "caf\xC3,1,,,,\n"
          "a,\"open,\nand on",
          PromptsFormat::kCsv);
  ASSERT_EQ(errors.size(), 10U) << testing::PrintToString(errors);
  EXPECT_EQ(errors[0], "f:1: unknown column \"stpes\"; did you mean \"steps\"?");
  EXPECT_EQ(errors[1], "f:1: column \"model_dir\": is set once for a whole run; give `model_dir` on the command line");
  EXPECT_EQ(errors[2], "f:1: column \"prompt\": there is another of the same meaning");
  EXPECT_EQ(errors[3], "f:1: a column without a heading");
  EXPECT_TRUE(contains(errors[4], "f:2: expected 6 cells as in the headings, found 2"));
  EXPECT_EQ(errors[5], "f:3: column \"t2i2v\": expected true or false, found \"maybe\"");
  EXPECT_TRUE(contains(errors[6], "f:4: text behind a closing quote"));
  EXPECT_TRUE(contains(errors[7], "f:5: expected 6 cells as in the headings, found 8"));
  EXPECT_EQ(errors[8], "f:6: is not valid UTF-8: byte 0xC3 at position 4; save the file as UTF-8");
  EXPECT_EQ(errors[9], "f:7: a quote is opened and never closed");
}

TEST(PromptsFile, AllErrorsOfJsonLinesAtOnce) {
  const auto errors =
      bad("{\"prompt\": \"a\", \"prompt\": \"b\"}\n"
          "{\"prompt\": {\"x\": [1, {}]}, \"steps\": [1], \"t2i2v\": []}\n"
          "{\"prompt\": \"a\", \"image\": [1, [2], {\"a\": 1}, \"\"], \"seed\": true, \"guidance\": true}\n"
          "7\n"
          "[\"a\"]\n"
          "{\"prompt\": \"a\"\n"
          "{\"prompt\": \"caf\xC3\"}\n"
          "{\"prompt\": \"a\\u0000b\", \"devise\": 1}\n"
          "null\n"
          "{} {}\n",
          PromptsFormat::kJsonLines);
  const std::vector<std::string> expected = {
      "f:1: column \"prompt\": there is another",
      "f:2: column \"prompt\": expected a text or a number, found an object",
      "f:2: column \"steps\": expected a text or a number, found a list",
      "f:2: column \"t2i2v\": expected true or false, found a list",
      "f:3: column \"image\": expected texts or numbers in the list, found a list",
      "f:3: column \"image\": expected texts or numbers in the list, found an ob",
      "f:3: column \"image\": expected texts or numbers in the list, found \"\"",
      "f:3: column \"seed\": expected a text or a list, found true",
      "f:3: column \"guidance\": expected a text or a number, found true",
      "f:4: expected an object or a prompt in quotes, found 7",
      "f:5: expected an object or a prompt in quotes, found a list",
      "f:6: not valid JSON",
      "f:7: is not valid UTF-8: byte 0xC3 at position 16",
      "f:8: column \"prompt\": holds a NUL",
      "f:8: unknown column \"devise\"",
      "f:9: expected an object or a prompt in quotes, found null",
      "f:10: not valid JSON"};
  ASSERT_EQ(errors.size(), expected.size()) << testing::PrintToString(errors);
  for (size_t i = 0; i < errors.size(); ++i) EXPECT_TRUE(contains(errors[i], expected[i]));
}

TEST(PromptsFile, JsonOfAnotherShape) {
  for (const char* text : {"{\"prompt\": \"x\"}", "\"x\"", "7", "null", "true"}) {
    const auto errors = bad(text, PromptsFormat::kJson);
    ASSERT_EQ(errors.size(), 1U) << text;
    EXPECT_TRUE(contains(errors[0], "f:1: expected a list"));
  }
  const auto errors = bad("[\n{\"prompt\": \"x\"},\n{\"prompt\": oops}]", PromptsFormat::kJson);
  ASSERT_EQ(errors.size(), 1U);
  EXPECT_TRUE(contains(errors[0], "f:3: not valid JSON"));
  const auto rows_of_another_kind = bad("[\n1,\n2\n,\n[[3]]]", PromptsFormat::kJson);
  ASSERT_EQ(rows_of_another_kind.size(), 3U);
  EXPECT_TRUE(contains(rows_of_another_kind[1], "f:3: expected an object"));
  EXPECT_TRUE(contains(rows_of_another_kind[2], "f:5: expected an object"));
  EXPECT_EQ(bad(std::string(100'000, '['), PromptsFormat::kJson).size(), 1U) << "no stack is deep enough to recurse";
}

TEST(PromptsFile, NothingInIt) {
  for (const auto format :
       {PromptsFormat::kText, PromptsFormat::kCsv, PromptsFormat::kJsonLines, PromptsFormat::kText}) {
    EXPECT_EQ(bad("\xEF\xBB\xBF\n\n", format), std::vector<std::string>{"f: holds no prompts"});
  }
  EXPECT_EQ(bad("[]", PromptsFormat::kJson), std::vector<std::string>{"f: holds no prompts"});
  EXPECT_EQ(bad("text,name\n", PromptsFormat::kCsv), std::vector<std::string>{"f: holds no prompts"});
  EXPECT_EQ(bad("\xFF\xFE"
                "a",
                PromptsFormat::kText),
            std::vector<std::string>{"f: is UTF-16, expected UTF-8: save it as UTF-8"});
}

TEST(PromptsFile, ALineOfAMegabyteTakesNoTime) {
  const auto read_lines_of = [](size_t length) {
    const std::string longest(length, 'x');
    EXPECT_EQ(good(longest, PromptsFormat::kText).at(0).values.front().second, longest);
    EXPECT_EQ(good("text\n\"" + longest + "\"", PromptsFormat::kCsv).at(0).values.front().second, longest);
    EXPECT_EQ(good("{\"text\":\"" + longest + "\"}", PromptsFormat::kJsonLines).at(0).values.front().second, longest);
    EXPECT_EQ(good("[{\"text\":\"" + longest + "\"}]", PromptsFormat::kJson).at(0).values.front().second, longest);
    EXPECT_EQ(bad(longest + "\nx\n", PromptsFormat::kCsv).size(), 1U);
    std::string quotes = "text\n\"";
    for (size_t i = 0; i < length / 2; ++i) quotes += "\"\"";
    EXPECT_EQ(good(quotes + "\"", PromptsFormat::kCsv).at(0).values.front().second.size(), length / 2);
  };
  EXPECT_LT(test::growth(1 << 16, read_lines_of), test::kLinear);
}

TEST(PromptsFile, ReferencesMayBeFileUrls) {
  const test::TemporaryFolder folder;
  folder.write("sub/http:x.png", "");
  folder.write("sub/clip",
               "RIFF\x10\x01\x01\x01"
               "AVI LIST");
  RowErrors errors("x");
  const auto rows = read_prompts_file(folder.write("sub/p.csv",
                                                   "text,ref\n"
                                                   "a,file:///x/a%20b.png\n"
                                                   "b,file:b.png\n"
                                                   "c,https://example.org/c.mp4\n"
                                                   "d,http:x.png\n"
                                                   "e,clip\n"),
                                      options(), errors);
  const auto reference = [&](size_t i) { return rows.at(i).values.at(1); };
  using Value = std::pair<std::string, std::string>;
  EXPECT_EQ(reference(0), (Value{"image", "/x/a b.png"}));
  EXPECT_EQ(reference(1), (Value{"image", folder.path() / "sub/b.png"}));
  EXPECT_EQ(reference(2), (Value{"video", "https://example.org/c.mp4"}));
  EXPECT_EQ(reference(3), (Value{"image", folder.path() / "sub/http:x.png"}));
  EXPECT_EQ(reference(4), (Value{"video", folder.path() / "sub/clip"})) << "told by what it holds";
}

TEST(PromptsFile, TheNameTellsTheFormat) {
  const test::TemporaryFolder folder;
  RowErrors errors("x");
  const auto rows = read_prompts_file(folder.write("sub/p.CSV", "text,ref\nx,a.png\n"), options(), errors);
  EXPECT_EQ(rows.at(0).values, (Values{{"prompt", "x"}, {"image", folder.path() / "sub/a.png"}}));
  PromptsFileOptions as_text = options();
  as_text.format = parse_prompts_format("txt");
  EXPECT_EQ(read_prompts_file(folder.path() / "sub/p.CSV", as_text, errors).size(), 2U);
  const auto tabs = read_prompts_file(folder.write("p.tsv", "text\na, b; c\n"), options(), errors);
  EXPECT_EQ(tabs.at(0).values, (Values{{"prompt", "a, b; c"}}));
  EXPECT_EQ(read_prompts_file(folder.write("p.ndjson", "\"x\"\n"), options(), errors).size(), 1U);
  EXPECT_TRUE(errors.empty());

  const auto expect_error = [&](const std::filesystem::path& file, const std::string& part) {
    try {
      read_prompts_file(file, options(), errors);
      FAIL() << file;
    } catch (const UsageError& error) {
      EXPECT_TRUE(contains(error.what(), part));
      EXPECT_TRUE(contains(error.what(), file.string()));
    }
  };
  expect_error(folder.write("p.md", "x"), "`prompts_format`");
  for (const char* name : {"p.xlsx", "p.XLS", "p.ods", "p.numbers"}) {
    expect_error(folder.write(name, "x"), "is a spreadsheet: save it as CSV");
  }
  expect_error(folder.path() / "none.csv", "No such file");
  std::filesystem::create_directory(folder.path() / "f.csv");
  expect_error(folder.path() / "f.csv", "is a folder");
  EXPECT_THROW(parse_prompts_format("xml"), UsageError);
}

TEST(PromptsFile, ErrorsAreThrownTogether) {
  RowErrors errors("p.csv");
  EXPECT_NO_THROW(errors.throw_if_any());
  errors.add(9, "second");
  errors.add(2, "first");
  errors.add(0, "whole");
  try {
    errors.throw_if_any();
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(), "p.csv: 3 errors, nothing was made:\np.csv: whole\np.csv:2: first\np.csv:9: second");
  }
  for (int i = 0; i < 1000; ++i) errors.add(10 + i, "again");
  try {
    errors.throw_if_any();
    FAIL();
  } catch (const UsageError& error) {
    const std::string text = error.what();
    EXPECT_TRUE(contains(text, "p.csv: 1003 errors"));
    EXPECT_TRUE(text.ends_with("p.csv:106: again\np.csv: and 903 more"));
  }
}

}  // namespace
}  // namespace opensora::batch
