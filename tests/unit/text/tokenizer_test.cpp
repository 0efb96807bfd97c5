// The tokenizers of CLIP and T5 against the ids that the official Python gives, and against bad files.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "opensora/error.h"
#include "support/contains.h"
#include "support/growth.h"
#include "support/temporary_folder.h"
#include "text/tokenizers.h"

namespace opensora::text {
namespace {

namespace fs = std::filesystem;
using test::contains;
using test::message_of;
using Ids = std::vector<int64_t>;
using Pieces = std::vector<std::string>;

const fs::path kReference = fs::path(OPENSORA_TEST_DATA) / "reference";
const fs::path kClipFolder = kReference / "ckpts/openai/clip-vit-large-patch14";
const fs::path kT5Folder = kReference / "ckpts/google/t5-v1_1-xxl";
const fs::path kDemo = fs::path(OPENSORA_CONFIGS) / "demo";

const ClipTokenizer& clip() {
  static const ClipTokenizer tokenizer(kClipFolder);
  return tokenizer;
}

const T5Tokenizer& t5() {
  static const T5Tokenizer tokenizer(kT5Folder);
  return tokenizer;
}

const nlohmann::json& reference_texts() {
  static const nlohmann::json texts = nlohmann::json::parse(std::ifstream(kReference / "cases/tokens.json"));
  return texts;
}

// A folder with the tokenizer files of the demo model, for a test to break.
class TokenizerFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    restore("openai/clip-vit-large-patch14/vocab.json");
    restore("openai/clip-vit-large-patch14/merges.txt");
    restore("google/t5-v1_1-xxl/spiece.model");
  }

  void restore(const fs::path& name) const {
    fs::copy_file(kDemo / name, folder_ / name.filename(), fs::copy_options::overwrite_existing);
  }
  void write(const std::string& name, const std::string& content) const { temporary_.write(name, content); }
  nlohmann::json vocab() const { return nlohmann::json::parse(std::ifstream(folder_ / "vocab.json")); }
  std::string clip_error() const {
    return message_of<CheckpointError>([&] { ClipTokenizer tokenizer(folder_); });
  }
  std::string t5_error() const {
    return message_of<CheckpointError>([&] { T5Tokenizer tokenizer(folder_); });
  }

  test::TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path();
};

// --- CLIP -----------------------------------------------------------------------------------------

TEST(ClipTokenizerTest, MatchesTheReferenceIds) {
  for (const auto& text : reference_texts()) {
    if (text["mojibake"].get<bool>()) continue;
    const Tokens tokens = clip().encode(text["text"].get<std::string>());
    EXPECT_EQ(clip().pad(tokens), text["clip"].get<std::vector<int64_t>>()) << text["text"];
    EXPECT_EQ(tokens.pieces.size(), tokens.ids.size());
    EXPECT_EQ(tokens.cut_before.has_value(), tokens.total > tokens.ids.size()) << text["text"];
  }
}

TEST(ClipTokenizerTest, TellsPieces) {
  const Tokens tokens = clip().encode("Raining,  SEA");
  EXPECT_EQ(tokens.pieces, (Pieces{"<|startoftext|>", "raining</w>", ",</w>", "sea</w>", "<|endoftext|>"}));
  EXPECT_EQ(tokens.total, 5U);
  EXPECT_EQ(tokens.cut_before, std::nullopt);
  EXPECT_EQ(clip().vocab_size(), 49408);
}

TEST(ClipTokenizerTest, EmptyTextIsTheTwoSpecialTokens) {
  for (const char* text : {"", " \n\t", "\u3000", "\x1b[0m"}) {
    EXPECT_EQ(clip().encode(text).ids, (Ids{49406, 49407})) << text;
  }
}

TEST(ClipTokenizerTest, TruncatesAndTellsWhatWasCut) {
  const std::string text = "one two three four five six seven eight nine ten";
  const Tokens whole = clip().encode(text, 12);
  EXPECT_EQ(whole.ids.size(), 12U);
  EXPECT_EQ(whole.cut_before, std::nullopt);

  const Tokens cut = clip().encode(text, 5);
  EXPECT_EQ(cut.pieces, (Pieces{"<|startoftext|>", "one</w>", "two</w>", "three</w>", "<|endoftext|>"}));
  EXPECT_EQ(cut.total, 12U);
  EXPECT_EQ(cut.cut_before, "four five six seven eight nine");
  EXPECT_EQ(clip().encode(text, 2).cut_before, "one two three four five six");
}

TEST(ClipTokenizerTest, TellsACutWithinAWord) {
  EXPECT_EQ(clip().encode(std::string(300, 'x'), 74).cut_before, std::string(300 - 72 * 4, 'x'));
  EXPECT_EQ(clip().encode("abc \u65E5\u672C", 3).cut_before, "\u65E5\u672C");
  EXPECT_EQ(clip().encode("a <|endoftext|> b", 3).cut_before, "<|endoftext|> b");
}

TEST(ClipTokenizerTest, ReadsSpecialTokensInTheText) {
  EXPECT_EQ(clip().encode("a<|endoftext|>b").ids, clip().encode("A &lt;|EndOfText|&gt; B").ids);
  EXPECT_EQ(clip().encode("a<|endoftext|>b").ids[2], 49407);
  EXPECT_EQ(clip().encode("<|startoftext|>").ids, (Ids{49406, 49406, 49407}));
  // Taken out first, so that their '<' does not count as a tag.
  EXPECT_EQ(clip().encode("<|endoftext|>&eacute;").ids, clip().encode("<|endoftext|>\u00E9").ids);
  EXPECT_EQ(clip().encode("<|endoftext").pieces,
            (Pieces{"<|startoftext|>", "<", "|</w>", "endof", "text</w>", "<|endoftext|>"}));
}

TEST(ClipTokenizerTest, LowerCasesWholeUnicode) {
  EXPECT_EQ(clip().encode("\u0130STANBUL \u039F\u0394\u039F\u03A3").ids,
            clip().encode("i\u0307stanbul \u03BF\u03B4\u03BF\u03C2").ids);
}

TEST(ClipTokenizerTest, RejectsBadCalls) {
  EXPECT_TRUE(contains(message_of<UsageError>([] { clip().encode("bad \xFF"); }), "byte 0xFF at offset 4"));
  EXPECT_TRUE(contains(message_of<UsageError>([] { clip().encode("a", 1); }), "at least 2, found 1"));
  EXPECT_THROW(clip().pad(clip().encode("a b c"), 4), std::length_error);
}

TEST(ClipTokenizerTest, IsFastOnLongTexts) {
  constexpr size_t kLength = 256'000;
  std::string letters, special;
  for (uint32_t i = 0, state = 1; i < kLength; ++i) {
    state = state * 1664525 + 1013904223;
    letters += static_cast<char>('a' + (state >> 24) % 26);
  }
  while (special.size() < kLength) special += "<|endoftext|> a";
  std::string escaped = "&";
  while (escaped.size() < kLength) escaped += "amp;";

  for (const std::string& text : {letters, std::string(kLength, 'x'), special, escaped}) {
    const double growth =
        test::growth(kLength / 16, [&](size_t n) { clip().encode(std::string_view(text).substr(0, n)); });
    EXPECT_LT(growth, test::kLinear) << text.substr(0, 20);
  }
  EXPECT_EQ(clip().encode(std::string(1'000'000, 'x')).total, 250'002U);
}

TEST(ClipTokenizerTest, ReadsTheDemoModel) {
  const ClipTokenizer demo(kDemo / "openai/clip-vit-large-patch14");
  EXPECT_EQ(demo.vocab_size(), 1024);
  const Tokens tokens = demo.encode("the moon \u6771");
  EXPECT_EQ(tokens.ids.front(), 1022);
  EXPECT_EQ(tokens.ids.back(), 1023);
  EXPECT_EQ(demo.pad(tokens, 32).size(), 32U);
  EXPECT_EQ(demo.pad(tokens, 32).back(), 1023);
}

TEST_F(TokenizerFiles, ClipFilesMustBeThere) {
  fs::remove(folder_ / "merges.txt");
  EXPECT_TRUE(contains(clip_error(), "merges.txt: no such file"));
  fs::remove(folder_ / "vocab.json");
  EXPECT_TRUE(contains(clip_error(), "vocab.json: no such file"));
  fs::create_directory(folder_ / "vocab.json");
  EXPECT_TRUE(contains(clip_error(), "vocab.json: cannot be read"));
}

TEST_F(TokenizerFiles, ClipVocabularyMustBePiecesAndIds) {
  write("vocab.json", "{\"a\": 1,");
  EXPECT_TRUE(contains(clip_error(), "vocab.json: not valid JSON: parse error at line 1, column 9"));
  write("vocab.json", "");
  EXPECT_TRUE(contains(clip_error(), "vocab.json: not valid JSON"));
  write("vocab.json", "[1, 2]");
  EXPECT_TRUE(contains(clip_error(), "expected a JSON object of pieces and their ids, found array"));
  write("vocab.json", R"({"a": "1"})");
  EXPECT_TRUE(contains(clip_error(), R"(expected an id for "a", found "1")"));
  write("vocab.json", R"({"a": -1})");
  EXPECT_TRUE(contains(clip_error(), R"(expected an id for "a", found -1)"));
  write("vocab.json", R"({"a": 99999999999})");
  EXPECT_TRUE(contains(clip_error(), R"(expected an id for "a", found 99999999999)"));
  write("vocab.json", R"({"a\nb": []})");
  EXPECT_TRUE(contains(clip_error(), R"(expected an id for "a\nb", found array)"));
  write("vocab.json", R"({"a": 1, "b": 1})");
  EXPECT_TRUE(contains(clip_error(), R"("a" and "b" have the same id 1)"));
}

TEST_F(TokenizerFiles, ClipVocabularyMustHaveBytesAndSpecialTokens) {
  for (const char* piece : {"!", "~</w>", "<|startoftext|>", "<|endoftext|>"}) {
    nlohmann::json without = vocab();
    without.erase(piece);
    write("vocab.json", without.dump());
    EXPECT_TRUE(contains(clip_error(), "vocab.json: no entry \"" + std::string(piece) + "\""));
    restore("openai/clip-vit-large-patch14/vocab.json");
  }
}

TEST_F(TokenizerFiles, ClipMergesMustFitTheVocabulary) {
  fs::copy_file(kClipFolder / "merges.txt", folder_ / "merges.txt", fs::copy_options::overwrite_existing);
  EXPECT_TRUE(contains(clip_error(), R"(merges.txt:13: merge "o r": vocab.json has no "or")"));
  write("merges.txt", "#version: 0.2\nm o\nq z\n");
  EXPECT_TRUE(contains(clip_error(), R"(merges.txt:3: merge "q z": vocab.json has no "qz")"));
  for (const char* line : {"one", "a b c", "", " ", "\xFF\x01"}) {
    write("merges.txt", "#version: 0.2\nm o\n" + std::string(line) + "\nm o\n");
    EXPECT_TRUE(contains(clip_error(), "merges.txt:3: expected two pieces"));
  }
  for (const char* empty : {"", "#version: 0.2", "#version: 0.2\n"}) {
    write("merges.txt", empty);
    EXPECT_TRUE(contains(clip_error(), "merges.txt: no merges"));
  }
}

TEST_F(TokenizerFiles, ClipMergesMayEndLinesLikeWindows) {
  write("merges.txt", "#version: 0.2\r\nm o\r\n\r\n\n");
  EXPECT_EQ(ClipTokenizer(folder_).encode("mom").pieces, (Pieces{"<|startoftext|>", "mo", "m</w>", "<|endoftext|>"}));
}

// --- Special tokens -------------------------------------------------------------------------------
//
// cases/special_tokens.json: ids by T5Tokenizer (legacy) and CLIPTokenizer (with ftfy) of transformers 4.57.6,
// truncated to `max_length`, for texts that are put together at random from special tokens and words. Each variant is
// the reference vocabulary with other files beside it ("files"; null: the reference's own).

const nlohmann::json& special_token_cases() {
  static const nlohmann::json cases =
      nlohmann::json::parse(std::ifstream(fs::path(OPENSORA_TEST_DATA) / "cases/special_tokens.json"));
  return cases;
}

// The vocabulary's files with those of a variant beside them.
fs::path folder_of(const test::TemporaryFolder& temporary, const nlohmann::json& variant, const fs::path& reference,
                   std::initializer_list<const char*> vocabulary) {
  if (variant["files"].is_null()) return reference;
  const std::string name = variant["variant"];
  for (const auto& [file, content] : variant["files"].items()) temporary.write(name + "/" + file, content.dump());
  fs::create_directories(temporary.path() / name);
  for (const char* file : vocabulary) fs::copy_file(reference / file, temporary.path() / name / file);
  return temporary.path() / name;
}

template <typename Tokenizer>
void expect_official_ids(const Tokenizer& tokenizer, const nlohmann::json& variant) {
  for (const auto& one : variant["cases"]) {
    const Tokens tokens = tokenizer.encode(one["text"].get<std::string>(), one["max_length"]);
    EXPECT_EQ(tokens.ids, one["ids"].get<Ids>()) << variant["variant"] << " " << one["text"];
    EXPECT_EQ(tokens.pieces.size(), tokens.ids.size());
    EXPECT_EQ(tokens.cut_before.has_value(), tokens.total > tokens.ids.size()) << one["text"];
  }
}

TEST(SpecialTokens, T5AsTheOfficialTokenizer) {
  const test::TemporaryFolder temporary;
  for (const auto& variant : special_token_cases()["t5"]) {
    expect_official_ids(T5Tokenizer(folder_of(temporary, variant, kT5Folder, {"spiece.model"})), variant);
  }
}

TEST(SpecialTokens, ClipAsTheOfficialTokenizer) {
  const test::TemporaryFolder temporary;
  for (const auto& variant : special_token_cases()["clip"]) {
    expect_official_ids(ClipTokenizer(folder_of(temporary, variant, kClipFolder, {"vocab.json", "merges.txt"})),
                        variant);
  }
}

TEST(SpecialTokens, AllOfT5s) {
  for (int i = 0; i < 100; ++i) {
    const std::string name = "<extra_id_" + std::to_string(i) + ">";
    EXPECT_EQ(t5().encode("a" + name + "a", 512).ids, (Ids{3, 9, 32099 - i, 3, 9, 1})) << name;
  }
  EXPECT_EQ(t5().encode("a </s> b", 512).pieces, (Pieces{"▁", "a", "</s>", "▁", "b", "</s>"}));
  EXPECT_EQ(t5().encode("</s>", 512).ids, (Ids{1}));
}

TEST_F(TokenizerFiles, FilesOfSpecialTokensMustBeWhole) {
  const std::string deep = std::string(60000, '[') + std::string(60000, ']');
  for (const char* file : {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json"}) {
    for (const std::string& content :
         {std::string("{"), std::string(), std::string("[1]"), "{\"a\":" + deep + "}", std::string("{\"a\":1e999}"),
          std::string("{\"eos_token\":{},\"a\":-1,\"added_tokens\":1}")}) {
      write(file, content);
      EXPECT_TRUE(contains(t5_error(), std::string(file) + ": ")) << content.substr(0, 50);
      EXPECT_TRUE(contains(clip_error(), std::string(file) + ": ")) << content.substr(0, 50);
    }
    fs::remove(folder_ / file);
  }
  for (const char* decoder : {R"({"x": {"content": "a"}})", R"({"-1": {"content": "a"}})", R"({"1": 3})", "[]",
                              R"({"99999999999": {"content": "a"}})", R"({"1": {"content": "a", "lstrip": 1}})"}) {
    write("tokenizer_config.json", std::string("{\"added_tokens_decoder\": ") + decoder + "}");
    EXPECT_TRUE(contains(t5_error(), "tokenizer_config.json: \"")) << decoder;
  }
  write("tokenizer_config.json", R"({"extra_ids": 7, "additional_special_tokens": ["<extra_id_0>"]})");
  EXPECT_TRUE(contains(t5_error(), "\"extra_ids\" is 7"));
}

TEST_F(TokenizerFiles, NumbersThatOverflowAreNamedWithTheirFile) {
  for (const char* content : {"{\"zz\":1e999}", "{\"zz\":-1e999}", "{\"zz\":1e400, \"a\": 1}"}) {
    write("vocab.json", content);
    EXPECT_TRUE(contains(clip_error(), "vocab.json: not valid JSON: number overflow"));
  }
}

// --- T5 -------------------------------------------------------------------------------------------

TEST(T5TokenizerTest, MatchesTheReferenceIds) {
  for (const auto& text : reference_texts()) {
    // One text of the reference was encoded with split_special_tokens, which takes their names for plain text; without,
    // as the official pipeline calls its tokenizer, they are those tokens.
    if (text["text"].get_ref<const std::string&>().find("</s>") != std::string::npos) {
      EXPECT_EQ(t5().encode(text["text"].get<std::string>(), 512).ids,
                (Ids{3,   2,   9175, 10208, 858,  6327,  9175, 3155, 534, 3,     2, 9175,
                     989, 858, 6327, 9175,  3155, 14145, 7,    1,    0,   32099, 1}));
      continue;
    }
    const Tokens tokens = t5().encode(text["text"].get<std::string>(), 512);
    EXPECT_EQ(tokens.ids, text["t5"].get<std::vector<int64_t>>()) << text["text"];
    EXPECT_EQ(tokens.pieces.size(), tokens.ids.size());
    EXPECT_EQ(tokens.total, tokens.ids.size());
  }
}

TEST(T5TokenizerTest, TellsPiecesAndPads) {
  const Tokens tokens = t5().encode("raining, sea", 512);
  EXPECT_EQ(tokens.pieces, (Pieces{"▁rain", "ing", ",", "▁sea", "</s>"}));
  EXPECT_EQ(t5().pad(tokens, 7), (Ids{3412, 53, 6, 2805, 1, 0, 0}));
  EXPECT_THROW(t5().pad(tokens, 4), std::length_error);
  EXPECT_EQ(t5().vocab_size(), 32000);
  EXPECT_EQ(t5().encode("", 512).ids, (Ids{1}));
}

TEST(T5TokenizerTest, TruncatesAndTellsWhatWasCut) {
  const std::string text = "One two three four five six seven eight nine ten";
  EXPECT_EQ(t5().encode(text, 12).cut_before, std::nullopt);
  const Tokens cut = t5().encode(text, 4);
  EXPECT_EQ(cut.pieces, (Pieces{"▁One", "▁two", "▁three", "</s>"}));
  EXPECT_EQ(cut.total, 12U);  // "eight" is two
  EXPECT_EQ(cut.cut_before, "four five six seven eight nine");
  EXPECT_EQ(t5().encode(text, 1).cut_before, "One two three four five six");
}

TEST(T5TokenizerTest, RejectsBadCalls) {
  EXPECT_TRUE(contains(message_of<UsageError>([] { t5().encode("bad \xFF", 512); }), "byte 0xFF at offset 4"));
  EXPECT_TRUE(contains(message_of<UsageError>([] { t5().encode("a", 0); }), "at least 1, found 0"));
}

TEST(T5TokenizerTest, IsFastOnLongTexts) {
  std::string text;
  while (text.size() < 256'000) text += "The pandas' paws move swiftly, ";
  for (const std::string& long_text : {text, std::string(256'000, 'x')}) {
    const double growth =
        test::growth(16'000, [&](size_t n) { t5().encode(std::string_view(long_text).substr(0, n), 512); });
    EXPECT_LT(growth, test::kLinear) << long_text.substr(0, 20);
  }
}

TEST(T5TokenizerTest, ReadsTheDemoModel) {
  const T5Tokenizer demo(kDemo / "google/t5-v1_1-xxl");
  EXPECT_EQ(demo.vocab_size(), 768);
  const Tokens tokens = demo.encode("\u6771", 32);  // not in the vocabulary: bytes
  EXPECT_EQ(tokens.pieces, (Pieces{"▁", "<0xE6>", "<0x9D>", "<0xB1>", "</s>"}));
  EXPECT_EQ(tokens.ids.back(), 1);
  EXPECT_EQ(demo.pad(tokens, 32).back(), 0);
}

TEST_F(TokenizerFiles, T5ModelMustBeASentencePieceModel) {
  fs::remove(folder_ / "spiece.model");
  EXPECT_TRUE(contains(t5_error(), "spiece.model: no such file"));
  write("spiece.model", "version https://git-lfs.github.com/spec/v1\n");
  EXPECT_TRUE(contains(t5_error(), "spiece.model: is a Git LFS pointer"));
  write("spiece.model", "<!DOCTYPE html><html><body>Log in</body></html>");
  EXPECT_TRUE(contains(t5_error(), "spiece.model: is a web page (HTML)"));
  write("spiece.model", "something else");
  EXPECT_TRUE(contains(t5_error(), "spiece.model: not a SentencePiece model (14 bytes)"));
  write("spiece.model", "");
  EXPECT_TRUE(contains(t5_error(), "spiece.model: not a SentencePiece model (0 bytes)"));
  std::string truncated = test::read_file(kT5Folder / "spiece.model");
  truncated.resize(truncated.size() / 2);
  write("spiece.model", truncated);
  EXPECT_TRUE(contains(t5_error(), "spiece.model: not a SentencePiece model"));
}

// A serialized ModelProto with the given pieces and types: 1 normal, 2 unknown, 3 control.
std::string tiny_model(const std::vector<std::pair<std::string, char>>& pieces) {
  std::string model;
  for (const auto& [piece, type] : pieces) {
    const std::string entry = "\x0A" + std::string(1, static_cast<char>(piece.size())) + piece + "\x18" + type;
    model += "\x0A" + std::string(1, static_cast<char>(entry.size())) + entry;
  }
  return model;
}

TEST_F(TokenizerFiles, T5ModelMustHaveItsSpecialPieces) {
  write("spiece.model", tiny_model({{"<pad>", 3}, {"<unk>", 2}, {"a", 1}}));
  EXPECT_TRUE(contains(t5_error(), "without the piece </s>"));
  write("spiece.model", tiny_model({{"</s>", 3}, {"<unk>", 2}, {"a", 1}}));
  EXPECT_TRUE(contains(t5_error(), "without the piece <pad>"));
  write("spiece.model", tiny_model({{"<pad>", 3}, {"</s>", 3}, {"<unk>", 2}, {"a", 1}}));
  EXPECT_EQ(T5Tokenizer(folder_).vocab_size(), 4);
}

}  // namespace
}  // namespace opensora::text
