// Prompts files as other programs leave them: line ends, separators, blank rows, invisible characters, other formats.
#include <gtest/gtest.h>

#include "batch/prompts_file.h"
#include "support/contains.h"

namespace opensora::batch {
namespace {

using namespace std::string_literals;
using test::contains;
using Values = std::vector<std::pair<std::string, std::string>>;

struct Parsed {
  std::vector<Row> rows;
  std::vector<std::string> errors;
};

Parsed parse(std::string_view text, PromptsFormat format, const PromptsFileOptions& options_ = {}) {
  RowErrors errors("f");
  Parsed parsed{parse_prompts(text, format, {}, options_, errors), {}};
  parsed.errors = errors.lines();
  return parsed;
}

// The prompts of a file without an error.
std::vector<std::string> prompts(std::string_view text, PromptsFormat format) {
  const Parsed parsed = parse(text, format);
  EXPECT_EQ(parsed.errors, std::vector<std::string>{}) << text.substr(0, 100);
  std::vector<std::string> found;
  for (const Row& row : parsed.rows) found.push_back(row.values.front().second);
  return found;
}

// The only error of a file.
std::string error(std::string_view text, PromptsFormat format) {
  const Parsed parsed = parse(text, format);
  EXPECT_EQ(parsed.errors.size(), 1U) << testing::PrintToString(parsed.errors) << text.substr(0, 100);
  return parsed.errors.empty() ? "" : parsed.errors.front();
}

std::vector<int64_t> lines(std::string_view text, PromptsFormat format) {
  std::vector<int64_t> found;
  for (const Row& row : parse(text, format).rows) found.push_back(row.line);
  return found;
}

const std::vector<std::string> kLineEnds = {"\n", "\r\n", "\r", "\xC2\x85", "\xE2\x80\xA8", "\xE2\x80\xA9"};

TEST(PromptsText, LineEndsOfEveryKind) {
  const std::vector<std::string> two = {"a cat", "a dog"};
  for (const std::string& end : kLineEnds) {
    SCOPED_TRACE(testing::PrintToString(end));
    EXPECT_EQ(prompts("a cat" + end + "a dog", PromptsFormat::kText), two);
    EXPECT_EQ(prompts("text" + end + "a cat" + end + "\"a dog\"" + end, PromptsFormat::kCsv), two);
    EXPECT_EQ(prompts("\"a cat\"" + end + end + "{\"text\": \"a dog\"}" + end, PromptsFormat::kJsonLines), two);
    EXPECT_EQ(prompts("[" + end + "\"a cat\"," + end + "\"a dog\"" + end + "]", PromptsFormat::kJson), two);
    EXPECT_EQ(lines("#" + end + end + "a cat" + end + "a dog", PromptsFormat::kText), (std::vector<int64_t>{3, 4}));
    EXPECT_EQ(lines(end + "text" + end + "a cat" + end + "a dog", PromptsFormat::kCsv), (std::vector<int64_t>{3, 4}));
    EXPECT_EQ(lines(end + "\"a cat\"" + end + "\"a dog\"", PromptsFormat::kJsonLines), (std::vector<int64_t>{2, 3}));
    EXPECT_EQ(lines(end + "[" + end + "\"a cat\"," + end + "\"a dog\"]", PromptsFormat::kJson),
              (std::vector<int64_t>{3, 4}));
  }
  EXPECT_EQ(prompts("a\rb\nc\r\nd\n\re\xE2\x80\xA8"s + "f", PromptsFormat::kText),
            (std::vector<std::string>{"a", "b", "c", "d", "e", "f"}));
}

TEST(PromptsText, WhatIsQuotedKeepsItsLineEnds) {
  for (const std::string& end : kLineEnds) {
    SCOPED_TRACE(testing::PrintToString(end));
    const std::string text = "a" + end + "b";
    EXPECT_EQ(prompts("text\n\"" + text + "\"\nc", PromptsFormat::kCsv), (std::vector<std::string>{text, "c"}));
    EXPECT_EQ(lines("text\n\"" + text + "\"\nc", PromptsFormat::kCsv), (std::vector<int64_t>{2, 4}));
  }
  EXPECT_EQ(prompts("[\"a\xE2\x80\xA8"
                    "b\\\"\xC2\x85\"]",
                    PromptsFormat::kJson),
            std::vector<std::string>{"a\xE2\x80\xA8"
                                     "b\"\xC2\x85"});
  EXPECT_TRUE(contains(error("[\"a\",\r\"b\r\"]", PromptsFormat::kJson), "f:2: not valid JSON"));
  EXPECT_TRUE(contains(error("\"a\"\r\"b\\\r\"c\"", PromptsFormat::kJsonLines), "f:2: not valid JSON"));
}

TEST(PromptsText, MarksOfOtherSystems) {
  EXPECT_EQ(prompts("a cat\r\n\x1A", PromptsFormat::kText), std::vector<std::string>{"a cat"});
  EXPECT_EQ(prompts("text\r\na cat\x1A\r\n", PromptsFormat::kCsv), std::vector<std::string>{"a cat"});
  EXPECT_EQ(prompts("\"a cat\"\n\x1A\x1A", PromptsFormat::kJsonLines), std::vector<std::string>{"a cat"});
  EXPECT_EQ(prompts("[\"a cat\"]\x1A", PromptsFormat::kJson), std::vector<std::string>{"a cat"});
  EXPECT_EQ(prompts("\xEF\xBB\xBF"
                    "a\n\xEF\xBB\xBF"
                    "b\n\xC2\xA0\n\xE3\x80\x80"
                    "c \xE2\x80\x8B",
                    PromptsFormat::kText),
            (std::vector<std::string>{"a", "b", "c"}))
      << "byte order marks of files that were joined, no-break and wide spaces";
  for (const auto format :
       {PromptsFormat::kText, PromptsFormat::kCsv, PromptsFormat::kJson, PromptsFormat::kJsonLines}) {
    EXPECT_EQ(error("\xFF\xFEt\0e\0x\0t\0\n\0"s, format), "f: is UTF-16, expected UTF-8: save it as UTF-8");
    EXPECT_EQ(error("\xFE\xFF\0t"s, format), "f: is UTF-16, expected UTF-8: save it as UTF-8");
    EXPECT_TRUE(contains(error("t\0e\0"s, format), "f:1: holds a NUL character at position 2; save"));
  }
}

TEST(PromptsText, ABadByteIsToldOnceWithItsLine) {
  EXPECT_EQ(error("a\rcaf\xE9\rb", PromptsFormat::kText),
            "f:2: is not valid UTF-8: byte 0xE9 at position 4; save the file as UTF-8");
  EXPECT_TRUE(contains(error("text\ra\r\"x\ny caf\xE9\"\r", PromptsFormat::kCsv), "f:4: is not valid UTF-8"));
  EXPECT_TRUE(contains(error("t\xE9xt\na\nb\n", PromptsFormat::kCsv), "f:1: is not valid UTF-8"));
  EXPECT_TRUE(contains(error("[\"a\",\n\"caf\xE9\"]", PromptsFormat::kJson), "f:2: is not valid UTF-8"));
  EXPECT_TRUE(contains(error("\"a\"\n\"caf\xE9\"\n\"b\"", PromptsFormat::kJsonLines), "f:2: is not valid UTF-8"));
  const Parsed parsed = parse("a\ncaf\xE9\nb\0c\nd"s, PromptsFormat::kText);
  EXPECT_EQ(parsed.errors.size(), 2U);
  EXPECT_EQ(parsed.rows.size(), 2U) << "of the lines that are well";
}

TEST(PromptsText, RowsWithoutAnyValueAreLeftOut) {
  const Parsed parsed = parse(
      "\n,,\ntext,steps,seed\n,,\na,1,\n\n ,\t,\xC2\xA0\n\"\",\" \",\n,,,,\n;\n,2,\n,,\n \n,\n\n", PromptsFormat::kCsv);
  ASSERT_EQ(parsed.errors.size(), 1U) << testing::PrintToString(parsed.errors);
  EXPECT_TRUE(contains(parsed.errors[0], "f:10: expected 3 cells as in the headings, found 1"));
  ASSERT_EQ(parsed.rows.size(), 2U);
  EXPECT_EQ(parsed.rows[0].values, (Values{{"prompt", "a"}, {"steps", "1"}}));
  EXPECT_EQ(parsed.rows[1].values, (Values{{"prompt", ""}, {"steps", "2"}})) << "an empty prompt is a prompt";
  EXPECT_EQ(parsed.rows[1].line, 11);
  EXPECT_EQ(prompts("[{}, {\"text\": null}, {\"steps\": \" \"}, \"\", {\"text\": \"\"}]", PromptsFormat::kJson),
            (std::vector<std::string>{"", ""}));
  EXPECT_EQ(error("text,steps\n,\n,\n", PromptsFormat::kCsv), "f: holds no prompts");
  EXPECT_EQ(error("[{}, {\"name\": null}]", PromptsFormat::kJson), "f: holds no prompts");
  EXPECT_EQ(error("{}\n{}\n", PromptsFormat::kJsonLines), "f: holds no prompts");
  EXPECT_EQ(error(" \n\xC2\xA0\n\t\n", PromptsFormat::kText), "f: holds no prompts");
}

TEST(PromptsText, ColumnsAtTheEndWithoutHeadingAndCells) {
  EXPECT_EQ(prompts("text,steps,, \na,1,,\n\"b\",2, ,\n", PromptsFormat::kCsv), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(error("text,steps,\na,1,x\n", PromptsFormat::kCsv), "f:2: a cell in a column without a heading");
  EXPECT_EQ(error("text,,steps\na,,1\n", PromptsFormat::kCsv), "f:1: a column without a heading");
}

TEST(PromptsText, OtherSeparators) {
  for (const char separator : {';', '\t', '|'}) {
    SCOPED_TRACE(separator);
    const std::string s(1, separator);
    const Parsed parsed = parse(
        "Text" + s + "guidance" + s + "seed\na, b" + s + "7,5" + s + "1,2\n\"c" + s + "d\"" + s + "-0,25" + s + "\n",
        PromptsFormat::kCsv);
    ASSERT_EQ(parsed.errors, std::vector<std::string>{});
    ASSERT_EQ(parsed.rows.size(), 2U);
    EXPECT_EQ(parsed.rows[0].values, (Values{{"prompt", "a, b"}, {"guidance", "7.5"}, {"seed", "1,2"}}));
    EXPECT_EQ(parsed.rows[1].values, (Values{{"prompt", "c" + s + "d"}, {"guidance", "-0.25"}}));
    EXPECT_TRUE(contains(error("text" + s + "stpes\na" + s + "1\n", PromptsFormat::kCsv), "\"steps\"?"));
  }
  EXPECT_EQ(parse("text,guidance\na,\"7,5\"\n", PromptsFormat::kCsv).rows.at(0).values.at(1).second, "7,5")
      << "in a file of commas it is no number, and refused as a flag's value is";
  EXPECT_EQ(parse("text;name;guidance\na;1,5;1,5,5\n", PromptsFormat::kCsv).rows.at(0).values,
            (Values{{"prompt", "a"}, {"name", "1,5"}, {"guidance", "1,5,5"}}));
  EXPECT_EQ(prompts("text\tsteps\na, b; c\t1\n", PromptsFormat::kTsv), std::vector<std::string>{"a, b; c"});
  EXPECT_EQ(prompts("text,steps\na,1\n", PromptsFormat::kTsv), std::vector<std::string>{"a"});
  EXPECT_EQ(prompts("text\na; b | c\n", PromptsFormat::kCsv), std::vector<std::string>{"a; b | c"});
  for (const char* heading : {"text:steps", "text steps", "text，steps", "text^steps^seed"}) {
    EXPECT_TRUE(contains(error(heading + "\na\n"s, PromptsFormat::kCsv), "f:1: unknown column"));
  }
  EXPECT_TRUE(contains(error("text:steps:width\na\n", PromptsFormat::kCsv), "commas, semicolons, tabs or |?"));
}

TEST(PromptsText, ExcelsLineOfTheSeparator) {
  for (const char* first : {"sep=;", "SEP=;", "\"sep=;\"", "sep=;;;"}) {
    const Parsed parsed = parse(first + "\r\ntext;steps\r\na, b;1\r\n"s, PromptsFormat::kCsv);
    ASSERT_EQ(parsed.errors, std::vector<std::string>{}) << first;
    ASSERT_EQ(parsed.rows.size(), 1U);
    EXPECT_EQ(parsed.rows[0].values, (Values{{"prompt", "a, b"}, {"steps", "1"}}));
    EXPECT_EQ(parsed.rows[0].line, 3);
  }
  EXPECT_EQ(prompts("sep=\t\ntext\na, b; c\n", PromptsFormat::kCsv), std::vector<std::string>{"a, b; c"});
  EXPECT_TRUE(contains(error("sep=x\ntextxsteps\n", PromptsFormat::kCsv), "f:1: sep=: expected a comma"));
  EXPECT_EQ(error("sep=;", PromptsFormat::kCsv), "f: holds no prompts");
}

TEST(PromptsText, QuotesInTheWrongPlace) {
  const std::string space = ": a space stands in front of an opening quote; a quoted cell starts right behind";
  EXPECT_TRUE(contains(error("prompt,seed\na cat, \"1, 2\"\n", PromptsFormat::kCsv), "f:2" + space));
  EXPECT_TRUE(contains(error("prompt,seed\n\t\"a, b\",1\n", PromptsFormat::kCsv), "f:2" + space));
  EXPECT_TRUE(contains(error("prompt,seed\n\xC2\xA0\"a\",1\n", PromptsFormat::kCsv), "f:2" + space));
  EXPECT_TRUE(contains(error("prompt, \"seed\"\na,1\n", PromptsFormat::kCsv), "f:1" + space));
  EXPECT_EQ(prompts("prompt,seed\n\"a, b\" ,1\n", PromptsFormat::kCsv), std::vector<std::string>{"a, b"});
  const std::string typographic = "a cell is quoted with \", not with typographic quotes";
  EXPECT_TRUE(contains(error("prompt,seed\n“a, b”,1\n", PromptsFormat::kCsv), typographic));
  EXPECT_TRUE(contains(error("prompt,seed\n„a, b“,1\n", PromptsFormat::kCsv), typographic));
  EXPECT_TRUE(contains(error("“prompt”,seed\na,1\n", PromptsFormat::kCsv), typographic));
  EXPECT_EQ(prompts("prompt,seed\n“a” b,1\n", PromptsFormat::kCsv), std::vector<std::string>{"“a” b"});
  EXPECT_TRUE(contains(error("prompt,seed\n\"a \\\"b\\\" c\",1\n", PromptsFormat::kCsv), "is written twice"));
}

TEST(PromptsText, HeadingsWithWhatCannotBeSeen) {
  for (const char* blank :
       {"\xC2\xA0", "\xE2\x80\x8B", "\xEF\xBB\xBF", "\xE2\x80\xAF", "\xE3\x80\x80", " \xE2\x80\x8E"}) {
    EXPECT_EQ(prompts(blank + "text"s + blank + ",steps" + blank + "\na,1\n", PromptsFormat::kCsv),
              std::vector<std::string>{"a"})
        << testing::PrintToString(blank);
    EXPECT_EQ(prompts("{\"text"s + blank + "\": \"a\"}", PromptsFormat::kJsonLines), std::vector<std::string>{"a"});
  }
  EXPECT_EQ(error("te\xE2\x80\x8Bxt,steps\na,1\n", PromptsFormat::kCsv),
            "f:1: unknown column \"te<U+200B>xt\"; did you mean \"text\"?");
  EXPECT_TRUE(contains(error("text,wi\xC2\xA0"
                             "dth\na,1\n",
                             PromptsFormat::kCsv),
                       "\"wi<U+00A0>dth\"; did you mean"));
}

TEST(PromptsText, FilesOfOtherPrograms) {
  const std::vector<std::pair<std::string, std::string>> files = {
      {"PK\x03\x04\x14\0\0\0[Content_Types].xml xl/workbook.xml"s,
       "is an Excel workbook (.xlsx), not text: save it as CSV"},
      {"PK\x03\x04\x14\0\0\0mimetypeapplication/vnd.oasis.opendocument.spreadsheet"s,
       "OpenDocument spreadsheet (.ods)"},
      {"PK\x03\x04\x14\0\0\0Index/Document.iwa"s, "Numbers"},
      {"PK\x03\x04\x14\0\0\0a.txt"s, "ZIP archive"},
      {"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1\0\0"s, "Excel workbook of the old kind (.xls)"},
      {"\x1F\x8B\x08\0"s, "is a gzip archive, expected text: unpack it first"},
      {"%PDF-1.7\n%\xE2\xE3", "is a PDF document, expected text"},
      {"\x89PNG\r\n\x1A\n\0\0\0\r"s, "is a PNG picture, expected text"},
      {"\n<!DOCTYPE html>\n<html>", "is a web page (HTML)"},
      {"\xEF\xBB\xBF<HTML><body>", "is a web page (HTML)"},
      {"<?xml version=\"1.0\"?><Workbook xmlns=\"urn:schemas-microsoft-com:office:spreadsheet\">",
       "spreadsheet in XML"},
      {"{\\rtf1\\ansi", "RTF"},
      {"PAR1\x15\0\x15"s, "Parquet"}};
  for (const auto& [bytes, kind] : files) {
    for (const auto format : {PromptsFormat::kText, PromptsFormat::kCsv, PromptsFormat::kJson}) {
      EXPECT_TRUE(contains(error(bytes, format), kind));
    }
  }
  EXPECT_EQ(prompts("RIFFs of a guitar\nPAR1\nGIF8 BZh", PromptsFormat::kText).size(), 3U) << "a prompt may begin so";
}

TEST(PromptsText, OneFormatUnderTheNameOfAnother) {
  for (const auto format : {PromptsFormat::kCsv, PromptsFormat::kTsv, PromptsFormat::kText}) {
    for (const char* json : {"[\"a\"]", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n", " [\n{\"text\": \"a\"}\n]\n"}) {
      EXPECT_TRUE(contains(error(json, format), "f: is JSON, expected")) << json;
    }
  }
  EXPECT_TRUE(contains(error("[\n\"a\",\n\"b\"\n]\n", PromptsFormat::kJsonLines), "f: is a list of JSON"));
  EXPECT_TRUE(contains(error("{\"text\": \"a\"}\n{\"text\": \"b\"}\n", PromptsFormat::kJson), "JSON Lines, .jsonl"));
  EXPECT_TRUE(contains(error("text,steps\na,1\n", PromptsFormat::kText), "f: starts with the headings of a table"));
  EXPECT_TRUE(contains(error("prompt;seed\na;1\n", PromptsFormat::kText), "call it .csv"));
  PromptsFileOptions as_text;
  as_text.format = PromptsFormat::kText;
  EXPECT_EQ(parse("text,steps\na,1\n", PromptsFormat::kText, as_text).rows.size(), 2U) << "it was said so";
  EXPECT_EQ(prompts("a cat, steps\n[a] {b}\ntext\n", PromptsFormat::kText).size(), 3U);
}

TEST(PromptsText, JsonOfAnyDepth) {
  const std::string brackets(100'000, '[');
  EXPECT_TRUE(contains(error(brackets, PromptsFormat::kJson), "f:1: is nested too deep"));
  EXPECT_TRUE(contains(error("{\"text\": " + brackets, PromptsFormat::kJsonLines), "f:1: is nested too deep"));
  std::string objects;
  for (int i = 0; i < 1000; ++i) objects += "{\"text\":";
  EXPECT_TRUE(contains(error("[" + objects, PromptsFormat::kJson), "f:1: is nested too deep"));
  EXPECT_EQ(error("{\"text\": \"a\", \"steps\": [[[1]]]}", PromptsFormat::kJsonLines),
            "f:1: column \"steps\": expected a text or a number, found a list");
}

}  // namespace
}  // namespace opensora::batch
