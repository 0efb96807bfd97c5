// What becomes of a text before it is cut into tokens: fix_text against the ftfy of the official Python, and UTF-8.
#include "text/fix_text.h"

#include <gtest/gtest.h>

#include "opensora/error.h"
#include "support/contains.h"
#include "support/reference.h"
#include "text/unicode.h"

namespace opensora::text {
namespace {

using test::message_of;

TEST(CheckUtf8, AcceptsTextAndNamesTheFirstBadByte) {
  EXPECT_NO_THROW(check_utf8("", "the prompt"));
  EXPECT_NO_THROW(check_utf8("na\u00EFve \u6771\u4EAC \U0001F3AC", "the prompt"));
  const auto check = [](std::string text) { return message_of<UsageError>([=] { check_utf8(text, "the prompt"); }); };
  EXPECT_EQ(check("twelve bytes\xC3"), "the prompt is not valid UTF-8: byte 0xC3 at offset 12");
  EXPECT_EQ(check("\xC3("), "the prompt is not valid UTF-8: byte 0xC3 at offset 0");
  EXPECT_EQ(check("a\x80"), "the prompt is not valid UTF-8: byte 0x80 at offset 1");
  EXPECT_EQ(check("\u00E9\xED\xA0\x80"), "the prompt is not valid UTF-8: byte 0xED at offset 2");  // a surrogate
  EXPECT_EQ(check("\xC0\xAF"), "the prompt is not valid UTF-8: byte 0xC0 at offset 0");            // overlong
}

TEST(Excerpt, IsAFewWordsOnOneLine) {
  EXPECT_EQ(excerpt(""), "");
  EXPECT_EQ(excerpt(" \n one\ttwo\n"), "one two");
  EXPECT_EQ(excerpt("1 2 3 4 5 6 7 8"), "1 2 3 4 5 6");
  EXPECT_EQ(excerpt(std::string(1000, 'x')), std::string(60, 'x'));
}

TEST(FixText, MatchesFtfy) {
  for (const auto& text : test::read_json(test::reference_dir() / "cases/tokens.json")) {
    if (text["mojibake"].get<bool>()) continue;
    EXPECT_EQ(fix_text(text["text"].get<std::string>()), text["fixed"].get<std::string>());
  }
}

TEST(FixText, DecodesHtmlEntities) {
  EXPECT_EQ(fix_text("&lt;b&gt; caf&eacute; &#233; &#xE9; &frac12; &NotEqualTilde;"), "<b> café é é ½ ≂̸");
  EXPECT_EQ(fix_text("P&EACUTE;REZ BUNDESSTRA&SZLIG;E"), "PÉREZ BUNDESSTRASSE");
  EXPECT_EQ(fix_text("&eacute &nTILDE; &bogus; &; &#; &#x; &#12ab; a&b;c"),
            "&eacute &nTILDE; &bogus; &; &#; &#x; &#12ab; a&b;c");
  EXPECT_EQ(fix_text("&amp;amp;eacute; &#38;lt;"), "é <");
  EXPECT_EQ(fix_text("[&#0;][&#xD800;][&#99999999999;][&#xFFFE;][&#1;]"), "[\uFFFD][\uFFFD][\uFFFD][][]");
  EXPECT_EQ(fix_text("&#x80; &#133;"), "€ …");
}

TEST(FixText, LeavesEntitiesFromTheFirstLineWithATagOn) {
  EXPECT_EQ(fix_text("&amp;\n<html>\n&amp;"), "&\n<html>\n&amp;");
}

TEST(FixText, CleansCharacters) {
  EXPECT_EQ(fix_text("\u201Cit\u2019s\u201D \u02BC"), "\"it's\" '");
  EXPECT_EQ(fix_text("\u0149 \uFB05 \u01C6 \uFB03"), "'n \u017Ft d\u017E ffi");
  EXPECT_EQ(fix_text("\uFF2C\uFF2F\uFF35\uFF24\u3000\uFF76\uFF9E"), "LOUD \u30AC");
  EXPECT_EQ(fix_text("a\r\nb\rc\u2028d\u2029e"), "a\nb\nc\nd\ne");
  EXPECT_EQ(fix_text("\x1b[1;31mred\x1b[0m \uFEFFa\u206Ab\x07\x7F\uFFFC"), "red ab");
  EXPECT_EQ(fix_text("\u0085\u0093x\u0094"), "…\"x\"");
  EXPECT_EQ(fix_text("e\u0301 \u212B"), "é Å");
  EXPECT_EQ(fix_text(std::string("a\0b", 3)), "ab");
}

}  // namespace
}  // namespace opensora::text
