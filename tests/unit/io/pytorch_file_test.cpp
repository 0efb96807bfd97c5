#include "io/pytorch_file.h"

#include <gtest/gtest.h>

#include <fstream>

#include "opensora/error.h"
#include "support/contains.h"
#include "support/pytorch_writer.h"
#include "support/temporary_folder.h"

namespace opensora::io {
namespace {

namespace fs = std::filesystem;
using test::contains;
using test::Pickle;

class PyTorchFileTest : public testing::Test {
 protected:
  fs::path file() const { return folder_.path() / "x.bin"; }
  std::string error_of_file() const {
    try {
      const PyTorchFile opened(file());
    } catch (const CheckpointError& error) {
      EXPECT_TRUE(contains(error.what(), "x.bin: "));
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
      return error.what();
    }
    return "no error";
  }
  // The error of an archive with this pickle and one storage of six floats.
  std::string error_of(const Pickle& pickle) const {
    test::write_pytorch_archive(file(), pickle.finish(), {at::arange(6, at::kFloat)});
    return error_of_file();
  }
  test::TemporaryFolder folder_;
};

TEST_F(PyTorchFileTest, ReadsAStateDict) {
  const at::Tensor a = at::arange(6, at::kFloat).view({2, 3}), b = at::randn({3}).to(at::kBFloat16);
  test::save_pytorch(file(), {{"a", a}, {"b", b}, {"ids", at::arange(4)}});
  const PyTorchFile opened(file());
  EXPECT_EQ(opened.tensors().size(), 3U);
  EXPECT_TRUE(at::equal(opened.tensor("a"), a));
  EXPECT_TRUE(at::equal(opened.tensor("b"), b));
  EXPECT_TRUE(at::equal(opened.tensor("ids"), at::arange(4)));
  EXPECT_EQ(opened.tensors().at("b").bytes(), 6U);
  EXPECT_THROW(opened.tensor("c"), CheckpointError);
}

TEST_F(PyTorchFileTest, ReadsPlainDictionariesParametersAndSharedStorages) {
  Pickle pickle;
  pickle.raw("}(").text("rows").tensor("FloatStorage", "0", 6, 2, {2, 2}, {2, 1});
  pickle.text("transposed").tensor("FloatStorage", "0", 6, 0, {3, 2}, {1, 3});
  pickle.text("parameter").global("torch._utils", "_rebuild_parameter").raw("(");
  pickle.tensor("FloatStorage", "0", 6, 0, {6}, {1}).raw("\x88").ordered_dict().raw("tR");
  pickle.text("empty").tensor("FloatStorage", "9", 0, 0, {0}, {1}).raw("u");
  EXPECT_EQ(error_of(pickle), "no error");
  const PyTorchFile opened(file());
  EXPECT_TRUE(at::equal(opened.tensor("rows"), at::arange(2, 6, at::kFloat).view({2, 2})));
  EXPECT_TRUE(at::equal(opened.tensor("transposed"), at::arange(6, at::kFloat).view({2, 3}).t()));
  EXPECT_TRUE(at::equal(opened.tensor("parameter"), at::arange(6, at::kFloat)));
  EXPECT_EQ(opened.tensor("empty").numel(), 0);
}

TEST_F(PyTorchFileTest, RefusesWhatIsNotPlainTensors) {
  EXPECT_TRUE(contains(error_of(Pickle().text("hello")), "holds the string \"hello\", expected a dictionary"));
  EXPECT_TRUE(contains(error_of(Pickle().number(3)), "holds an integer"));
  EXPECT_TRUE(contains(error_of(Pickle().raw("}").text("epoch").number(3).raw("s")),
                       "holds an integer under \"epoch\", expected a tensor"));
  EXPECT_TRUE(contains(error_of(Pickle().raw("}").text("state_dict").raw("}s")),
                       "holds a dictionary under \"state_dict\", expected a tensor"));
  EXPECT_TRUE(contains(error_of(Pickle().raw("}").number(1).number(3).raw("s")), "an integer as a key"));
  EXPECT_TRUE(contains(error_of(Pickle().global("__main__", "Model").raw(")R")), "the object \"__main__.Model\""));
}

TEST_F(PyTorchFileTest, RunsNothing) {
  const fs::path mark = folder_.path() / "ran";
  const std::string error =
      error_of(Pickle().global("posix", "system").raw("(").text("touch " + mark.string()).raw("tR"));
  EXPECT_TRUE(contains(error, "holds the object \"posix.system\", expected plain tensors only"));
  EXPECT_FALSE(fs::exists(mark));
}

TEST_F(PyTorchFileTest, RefusesTensorsOutsideTheirStorage) {
  const auto one = [](int64_t numel, int64_t offset, at::IntArrayRef shape, at::IntArrayRef strides) {
    return Pickle().raw("}").text("a").tensor("FloatStorage", "0", numel, offset, shape, strides).raw("s");
  };
  EXPECT_EQ(error_of(one(6, 0, {2, 3}, {3, 1})), "no error");
  for (const Pickle& pickle : {one(6, 1, {2, 3}, {3, 1}), one(7, 0, {7}, {1}), one(6, 0, {2, 3}, {4, 1}),
                               one(6, -1, {2}, {1}), one(6, 0, {-2}, {1}), one(6, 0, {2}, {-1}), one(6, 0, {2}, {1, 1}),
                               one(6, 0, {1LL << 40, 1LL << 40}, {0, 0}), one(6, 0, {3, 3}, {1LL << 62, 1LL << 62}),
                               one(6, 0, {0, 1LL << 62, 1LL << 62}, {1, 1, 1}), one(-6, 0, {2}, {1})}) {
    EXPECT_TRUE(contains(error_of(pickle), "tensor \"a\": shape"));
  }
  const Pickle absent = Pickle().raw("}").text("a").tensor("FloatStorage", "7", 6, 0, {6}, {1}).raw("s");
  EXPECT_TRUE(contains(error_of(absent), "tensor \"a\": cannot be read as a PyTorch file"));
}

// 60,000 tensors of one tuple of 120,000 sizes would be 100 GB, were values copied.
TEST_F(PyTorchFileTest, RepeatedValuesTakeNoMemory) {
  constexpr int kTimes = 60000;
  std::string sizes = "(", calls;
  for (int i = 0; i < 2 * kTimes; ++i) sizes += "K\x01";
  for (int i = 0; i < kTimes; ++i) calls += "h\x02h\x03R";
  const auto head = [&](const std::string& shape) {
    Pickle pickle;
    pickle.raw("(").text("storage").global("torch", "FloatStorage").text("0").text("cpu").raw("K\x06tQq").raw({'\0'});
    pickle.raw(shape + "tq\x01").global("torch._utils", "_rebuild_tensor_v2").raw("q\x02(h").raw({'\0'});
    return pickle.raw("K").raw({'\0'}).raw("h\x01h\x01tq\x03}q\x04");
  };
  EXPECT_TRUE(
      contains(error_of(head(sizes).raw(calls).raw("h\x04")), "a tensor of 120000 dimensions, expected at most 64"));
  EXPECT_EQ(error_of(head("(K\x01").raw(calls).raw("h\x04")), "no error");
  // One key, and one tensor, for all entries of the dictionary.
  std::string entries;
  for (int i = 0; i < kTimes; ++i) entries += "h\x05h\x06s";
  const Pickle dictionary =
      head("(K\x01").text(std::string(100000, 'k')).raw("q\x05").raw("h\x02h\x03Rq\x06h\x04" + entries);
  EXPECT_EQ(error_of(dictionary), "no error");
  EXPECT_EQ(PyTorchFile(file()).tensors().size(), 1U);
}

TEST_F(PyTorchFileTest, RefusesTensorsLargerThanTheFile) {
  const auto one = [](at::IntArrayRef shape, at::IntArrayRef strides) {
    return Pickle().raw("}").text("a").tensor("FloatStorage", "0", 6, 0, shape, strides).raw("s");
  };
  for (const Pickle& pickle :
       {one({1LL << 31, 1LL << 31}, {0, 0}), one({1LL << 62}, {0}), one({1LL << 60, 2, 2}, {0, 0, 0}),
        one({1000000}, {0}), one({0x7fffffffffffffff}, {0})}) {
    EXPECT_TRUE(contains(error_of(pickle), "tensor \"a\": shape"));
  }
  EXPECT_EQ(error_of(one({3, 2}, {0, 1})), "no error") << "repeated rows of a small storage";
}

// What a zip archive's table says is not believed: neither sizes nor places, and nothing is unpacked.
TEST_F(PyTorchFileTest, RefusesArchivesThatLie) {
  test::save_pytorch(file(), {{"a", at::arange(20, at::kFloat)}});
  const std::string whole = test::read_file(file());
  const size_t entry = whole.find("PK\x01\x02");
  ASSERT_NE(entry, std::string::npos);
  for (const size_t field : {10, 20, 24, 28, 30, 42}) {  // method, sizes, lengths, place of the first record
    for (const char value : {'\x08', '\x7f', '\xff'}) {
      std::string changed = whole;
      changed[entry + field] = changed[entry + field + 1] = value;
      folder_.write("x.bin", changed);
      EXPECT_NE(error_of_file(), "no error") << field << " " << int{value};
    }
  }
}

TEST_F(PyTorchFileTest, RefusesDamagedPickles) {
  for (const char* bytes : {"t", "R", "h\x05", "s", "}s", "(u", "b", "Q", "X\xff\xff\xff\x7f", "cposix", "\x8a\x09",
                            "i", "\x95", "q\x01"}) {
    EXPECT_TRUE(contains(error_of(Pickle().raw(bytes)), "its list of tensors"));
  }
  // A dictionary that holds itself.
  EXPECT_TRUE(contains(error_of(Pickle().raw("}q\x01").text("a").raw("h\x01s")), "a dictionary under \"a\""));
}

TEST_F(PyTorchFileTest, SaysWhatOtherFilesAre) {
  folder_.write("x.bin", std::string("\x80\x02\x8a\x0al\xfc\x9c", 7));
  EXPECT_TRUE(contains(error_of_file(), "the format of PyTorch before 1.6"));
  folder_.write("x.bin", "version https://git-lfs.github.com/spec/v1\n");
  EXPECT_TRUE(contains(error_of_file(), "Git LFS pointer"));
  folder_.write("x.bin", "hello");
  EXPECT_TRUE(contains(error_of_file(), "is not a file that torch.save writes"));
  folder_.write("x.bin", "PK\x03\x04");
  EXPECT_TRUE(contains(error_of_file(), "cannot be read as a PyTorch file"));
  folder_.write("x.bin", "");
  EXPECT_TRUE(contains(error_of_file(), "is empty"));
}

TEST_F(PyTorchFileTest, EveryTruncationIsAnError) {
  test::save_pytorch(file(), {{"a", at::randn({4, 5})}});
  const auto size = fs::file_size(file());
  for (uintmax_t keep = 1; keep < size; keep += 7) {
    test::save_pytorch(file(), {{"a", at::randn({4, 5})}});
    fs::resize_file(file(), keep);
    EXPECT_NE(error_of_file(), "no error") << keep << " of " << size << " bytes";
  }
}

}  // namespace
}  // namespace opensora::io
