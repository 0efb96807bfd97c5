#include "io/safetensors.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "opensora/error.h"
#include "support/contains.h"
#include "support/file_error.h"
#include "support/growth.h"
#include "support/temporary_folder.h"

namespace opensora::io {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::contains;

// Padded, so that the data that follows is aligned.
std::string padded(std::string header) {
  header.resize((header.size() + 7) / 8 * 8, ' ');
  return header;
}

// A file as it lies on the disk: the header's length, the header, the data.
std::string file_of(const std::string& header, const std::string& data = {}) {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + header + data;
}

class SafetensorsTest : public testing::Test {
 protected:
  // What opening a file of that content says, which names the file and is one line.
  std::string content_error(const std::string& content) { return error_of(folder_.write("case.safetensors", content)); }
  static std::string error_of(const fs::path& file) {
    return test::checkpoint_error(file, [&] { const SafetensorsFile opened(file); });
  }
  test::TemporaryFolder folder_;
};

TEST_F(SafetensorsTest, ReadsEveryDtype) {
  const std::vector<std::pair<std::string, at::ScalarType>> dtypes = {
      {"F32", at::kFloat},           {"F16", at::kHalf}, {"BF16", at::kBFloat16}, {"F8_E4M3", at::kFloat8_e4m3fn},
      {"F8_E5M2", at::kFloat8_e5m2}, {"I8", at::kChar},  {"U8", at::kByte},       {"F64", at::kDouble},
      {"I16", at::kShort},           {"I32", at::kInt},  {"I64", at::kLong},      {"BOOL", at::kBool}};
  for (const auto& [name, dtype] : dtypes) {
    const size_t bytes = 3 * c10::elementSize(dtype);
    const json header = {{"x", {{"dtype", name}, {"shape", {3, 1}}, {"data_offsets", {0, bytes}}}}};
    std::string data(bytes, '\0');
    data[bytes - c10::elementSize(dtype)] = 1;
    const SafetensorsFile file(folder_.write(name, file_of(header.dump(), data)));
    ASSERT_EQ(file.tensors().size(), 1U);
    EXPECT_EQ(file.tensors().at("x").dtype, dtype);
    const at::Tensor tensor = file.tensor("x");
    EXPECT_EQ(tensor.scalar_type(), dtype);
    EXPECT_EQ(tensor.sizes(), (at::IntArrayRef{3, 1}));
    EXPECT_EQ(std::memcmp(tensor.const_data_ptr(), data.data(), bytes), 0) << name;
  }
}

TEST_F(SafetensorsTest, ReadsAReferenceFile) {
  const SafetensorsFile file(OPENSORA_TEST_DATA "/reference/cases/clip.safetensors");
  EXPECT_TRUE(json::accept(file.metadata().at("case")));
  for (const auto& [name, info] : file.tensors()) {
    const at::Tensor tensor = file.tensor(name);
    EXPECT_EQ(tensor.sizes(), at::IntArrayRef(info.shape));
    EXPECT_EQ(tensor.nbytes(), info.bytes());
    if (tensor.is_floating_point()) {
      EXPECT_TRUE(at::isfinite(tensor).all().item<bool>()) << name;
    }
  }
}

TEST_F(SafetensorsTest, TensorsOutliveTheFileObjectAndTheFile) {
  const fs::path path = folder_.path() / "x.safetensors";
  const at::Tensor original = at::arange(12, at::kFloat).reshape({3, 4});
  save_safetensors(path, {{"x", original}});
  const at::Tensor view = SafetensorsFile(path).tensor("x");
  fs::remove(path);
  EXPECT_TRUE(at::equal(view, original));
}

TEST_F(SafetensorsTest, CopiesShareOneMapping) {
  const fs::path path = folder_.path() / "x.safetensors";
  save_safetensors(path, {{"x", at::ones({8})}});
  const SafetensorsFile file(path);
  const SafetensorsFile copy = file;
  EXPECT_EQ(file.tensor("x").const_data_ptr(), copy.tensor("x").const_data_ptr());
}

TEST_F(SafetensorsTest, MisalignedTensorsAreCopied) {
  const json header = {{"a", {{"dtype", "U8"}, {"shape", {1}}, {"data_offsets", {0, 1}}}},
                       {"b", {{"dtype", "F32"}, {"shape", {2}}, {"data_offsets", {1, 9}}}}};
  const float values[] = {1.5F, -2.0F};
  std::string data(1, '\7');
  data.append(reinterpret_cast<const char*>(values), sizeof(values));
  const SafetensorsFile file(folder_.write("case.safetensors", file_of(padded(header.dump()), data)));
  const at::Tensor tensor = file.tensor("b");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % sizeof(float), 0U);
  EXPECT_EQ(tensor[0].item<float>(), 1.5F);
  EXPECT_EQ(tensor[1].item<float>(), -2.0F);
  EXPECT_NE(file.tensor("b").const_data_ptr(), tensor.const_data_ptr());
}

TEST_F(SafetensorsTest, ScalarsAndEmptyTensorsAreTensors) {
  const json header = {{"scalar", {{"dtype", "I64"}, {"shape", json::array()}, {"data_offsets", {0, 8}}}},
                       {"empty", {{"dtype", "F32"}, {"shape", {2, 0}}, {"data_offsets", {8, 8}}}}};
  const SafetensorsFile file(folder_.write("case.safetensors", file_of(header.dump(), std::string(8, '\0'))));
  EXPECT_EQ(file.tensor("scalar").dim(), 0);
  EXPECT_EQ(file.tensor("scalar").item<int64_t>(), 0);
  EXPECT_EQ(file.tensor("empty").numel(), 0);
  const SafetensorsFile nothing(folder_.write("nothing.safetensors", file_of("{}")));
  EXPECT_TRUE(nothing.tensors().empty());
}

TEST_F(SafetensorsTest, UnknownTensorIsAnError) {
  const SafetensorsFile file(folder_.write("nothing.safetensors", file_of("{}")));
  EXPECT_THROW(file.tensor("x"), CheckpointError);
}

TEST_F(SafetensorsTest, RefusesWhatIsNoFile) {
  EXPECT_TRUE(contains(error_of(folder_.path() / "absent.safetensors"), "No such file"));
  EXPECT_TRUE(contains(error_of(folder_.path()), "is a folder"));
  EXPECT_TRUE(contains(error_of("/dev/null"), "not a regular file"));
  EXPECT_TRUE(contains(content_error(""), "is empty"));
  EXPECT_TRUE(contains(content_error("1234567"), "7 bytes long, too short"));
  EXPECT_TRUE(contains(content_error("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "Git LFS pointer"));
}

TEST_F(SafetensorsTest, RefusesWrongHeaders) {
  EXPECT_TRUE(contains(content_error("PK\3\4 a PyTorch file, by mistake"), "limit of 100000000"));
  std::string beyond = file_of("{}");
  beyond[0] = 3;
  EXPECT_TRUE(contains(content_error(beyond), "header of 3 bytes goes beyond the end of the file (10 bytes)"));
  EXPECT_TRUE(contains(content_error(file_of("{\"x\": ")), "not valid JSON: parse error at line 1"));
  EXPECT_TRUE(contains(content_error(file_of("")), "not valid JSON"));
  EXPECT_TRUE(contains(content_error(file_of("[1]")), "not a JSON object but array"));
  EXPECT_TRUE(contains(content_error(file_of("{\"\xff\": 1}")), "not valid JSON"));
  EXPECT_TRUE(contains(content_error(file_of(R"({"__metadata__": {"a": 1}})")), "does not map strings to strings"));
  EXPECT_TRUE(contains(content_error(file_of(R"({"__metadata__": "a"})")), "does not map strings to strings"));
  const std::string entry = R"({"dtype": "U8", "shape": [1], "data_offsets": [0, 1]})";
  EXPECT_TRUE(
      contains(content_error(file_of("{\"x\": " + entry + ", \"x\": " + entry + "}", "a")), "duplicate key \"x\""));
}

TEST_F(SafetensorsTest, RefusesWrongEntries) {
  // Each case is one entry "x" in front of 8 bytes of data.
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"(1)", "not a JSON object"},
      {R"({"shape": [8], "data_offsets": [0, 8]})", "\"dtype\" is not a string"},
      {R"({"dtype": "F128", "shape": [8], "data_offsets": [0, 8]})", "dtype \"F128\" is not supported"},
      {R"({"dtype": "U8", "data_offsets": [0, 8]})", "\"shape\" is not a list"},
      {R"({"dtype": "U8", "shape": [-8], "data_offsets": [0, 8]})", "shape [-8] holds what is not a size"},
      {R"({"dtype": "U8", "shape": [8.0], "data_offsets": [0, 8]})", "holds what is not a size"},
      {R"({"dtype": "U8", "shape": [18446744073709551615], "data_offsets": [0, 8]})", "holds what is not a size"},
      {R"({"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 8]})", "is too large"},
      {R"({"dtype": "F32", "shape": [0, 9223372036854775807], "data_offsets": [0, 0]})", "is too large"},
      {R"({"dtype": "F32", "shape": [3], "data_offsets": [0, 8]})", "takes 12 bytes, data_offsets hold 8"},
      {R"({"dtype": "U8", "shape": [8]})", "\"data_offsets\" is not a pair"},
      {R"({"dtype": "U8", "shape": [8], "data_offsets": [0]})", "\"data_offsets\" is not a pair"},
      {R"({"dtype": "U8", "shape": [8], "data_offsets": [-1, 7]})", "\"data_offsets\" is not a pair"},
      {R"({"dtype": "U8", "shape": [8], "data_offsets": [8, 0]})", "end before they begin"},
      {R"({"dtype": "U8", "shape": [1], "data_offsets": [0, 18446744073709551615]})", "go beyond"},
  };
  for (const auto& [entry, expected] : cases) {
    const std::string error = content_error(file_of("{\"x\": " + entry + "}", "12345678"));
    EXPECT_TRUE(contains(error, "tensor \"x\": "));
    EXPECT_TRUE(contains(error, expected));
  }
}

TEST_F(SafetensorsTest, TellsBothSizesOfWhatIsCutShort) {
  const std::string header = R"({"x": {"dtype": "U8", "shape": [9], "data_offsets": [0, 9]}})";
  const size_t bytes = file_of(header).size();
  EXPECT_TRUE(contains(content_error(file_of(header, "12345678")),
                       "is cut short: " + std::to_string(bytes + 8) + " bytes, expected " + std::to_string(bytes + 9)));
}

TEST_F(SafetensorsTest, RefusesDeepAndWideHeaders) {
  const std::string deep = std::string(60000, '[') + std::string(60000, ']');
  EXPECT_TRUE(contains(content_error(file_of(R"({"a": {"dtype": "F32", "shape": )" + deep + "}}")),
                       "header is not valid JSON: lists and objects are nested more than 64 levels deep"));
  std::string ones = "1";
  for (int i = 0; i < 64; ++i) ones += ", 1";
  EXPECT_TRUE(contains(
      content_error(file_of(R"({"a": {"dtype": "U8", "shape": [)" + ones + R"(], "data_offsets": [0, 1]}})", "a")),
      "has 65 dimensions, expected at most 64"));
}

TEST_F(SafetensorsTest, RefusesOverlapsAndGaps) {
  const auto header = [](std::pair<int, int> a, std::pair<int, int> b) {
    const auto entry = [](std::pair<int, int> range) {
      return json{
          {"dtype", "U8"}, {"shape", {range.second - range.first}}, {"data_offsets", {range.first, range.second}}};
    };
    return json{{"a", entry(a)}, {"b", entry(b)}}.dump();
  };
  EXPECT_EQ(content_error(file_of(header({4, 8}, {0, 4}), "12345678")), "no error");
  EXPECT_TRUE(contains(content_error(file_of(header({0, 5}, {4, 8}), "12345678")), "\"b\" begins at byte 4, inside"));
  EXPECT_TRUE(contains(content_error(file_of(header({0, 8}, {0, 8}), "12345678")), "inside the tensor before it (8)"));
  EXPECT_TRUE(
      contains(content_error(file_of(header({0, 3}, {4, 8}), "12345678")), "\"b\" begins at byte 4, not at the end"));
  EXPECT_TRUE(contains(content_error(file_of(header({1, 4}, {4, 8}), "12345678")), "\"a\" begins at byte 1"));
  EXPECT_TRUE(contains(content_error(file_of(header({0, 4}, {4, 7}), "12345678")), "1 bytes after the last tensor"));
  EXPECT_TRUE(contains(content_error(file_of("{}", "12345678")), "8 bytes after the last tensor"));
}

TEST_F(SafetensorsTest, OpeningALargeFileTouchesNoData) {
  constexpr uint64_t kBytes = uint64_t{6} << 30;
  const json header = {{"x", {{"dtype", "BF16"}, {"shape", {kBytes / 2}}, {"data_offsets", {0, kBytes}}}}};
  const std::string content = file_of(padded(header.dump()));
  const fs::path path = folder_.write("large.safetensors", content);
  fs::resize_file(path, content.size() + kBytes);  // sparse: takes no space

  const SafetensorsFile file(path);
  const at::Tensor tensor = file.tensor("x");
  EXPECT_EQ(tensor.numel(), static_cast<int64_t>(kBytes / 2));

  // Pages of the file in memory: those of the header and of the kernel's reading ahead, at most.
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const uintptr_t begin = reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) / page * page;
  std::vector<unsigned char> resident(kBytes / page);
  ASSERT_EQ(::mincore(reinterpret_cast<void*>(begin), kBytes, resident.data()), 0);
  const auto count = std::count_if(resident.begin(), resident.end(), [](unsigned char flags) { return flags & 1; });
  EXPECT_LT(static_cast<uint64_t>(count) * page, uint64_t{64} << 20);
  EXPECT_EQ(tensor[-1].item<float>(), 0.0F);
}

TEST_F(SafetensorsTest, OpensThousandsOfTensorsQuickly) {
  const auto path_of = [&](size_t count) { return folder_.path() / (std::to_string(count) + ".safetensors"); };
  for (const size_t count : {125, 2000}) {
    std::vector<std::pair<std::string, at::Tensor>> tensors;
    for (size_t i = 0; i < count; ++i) {
      tensors.emplace_back("blocks." + std::to_string(i) + ".weight", at::full({4, 4}, static_cast<double>(i)));
    }
    save_safetensors(path_of(count), tensors);
  }
  EXPECT_LT(test::growth(125, [&](size_t count) { SafetensorsFile{path_of(count)}; }), test::kLinear);
  const SafetensorsFile file(path_of(2000));
  EXPECT_EQ(file.tensors().size(), 2000U);
  EXPECT_EQ(file.tensor("blocks.1999.weight")[3][3].item<float>(), 1999.0F);
}

TEST_F(SafetensorsTest, WrittenFilesReadBack) {
  const fs::path path = folder_.path() / "out.safetensors";
  const at::Tensor matrix = at::arange(6, at::kFloat).reshape({2, 3});
  const std::vector<std::pair<std::string, at::Tensor>> tensors = {{"bytes", at::arange(3, at::kByte)},
                                                                   {"transposed", matrix.t()},
                                                                   {"half \"quoted\"", matrix.to(at::kBFloat16)},
                                                                   {"scalar", at::scalar_tensor(7, at::kLong)},
                                                                   {"empty", at::empty({0, 4})},
                                                                   {"flags", matrix > 2}};
  save_safetensors(path, tensors, {{"case", "{\"seed\": 1}"}, {"format", "pt"}});
  const SafetensorsFile file(path);
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"case", "{\"seed\": 1}"}, {"format", "pt"}}));
  ASSERT_EQ(file.tensors().size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    EXPECT_EQ(file.tensor(name).scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(at::equal(file.tensor(name), tensor)) << name;
    // Views, not copies: everything the writer writes is aligned.
    EXPECT_EQ(file.tensor(name).const_data_ptr(), file.tensor(name).const_data_ptr()) << name;
  }
}

TEST_F(SafetensorsTest, WriterKeepsOlderFilesUnlessTold) {
  const fs::path path = folder_.path() / "out.safetensors";
  save_safetensors(path, {{"x", at::zeros({2})}});
  EXPECT_THROW(save_safetensors(path, {{"x", at::ones({2})}}), OutputError);
  EXPECT_EQ(SafetensorsFile(path).tensor("x")[0].item<float>(), 0.0F);
  save_safetensors(path, {{"x", at::ones({2})}}, {}, /*overwrite=*/true);
  EXPECT_EQ(SafetensorsFile(path).tensor("x")[0].item<float>(), 1.0F);
  EXPECT_THROW(save_safetensors(folder_.path(), {{"x", at::ones({2})}}, {}, true), OutputError);
  EXPECT_THROW(save_safetensors(folder_.path() / "absent/x.safetensors", {{"x", at::ones({2})}}), OutputError);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_.path()), {}), 1) << "nothing else stays";
}

TEST_F(SafetensorsTest, WriterRefusesWhatTheFormatCannotHold) {
  const fs::path path = folder_.path() / "out.safetensors";
  const at::Tensor tensor = at::ones({2});
  EXPECT_THROW(save_safetensors(path, {{"x", tensor}, {"x", tensor}}), std::invalid_argument);
  EXPECT_THROW(save_safetensors(path, {{"__metadata__", tensor}}), std::invalid_argument);
  EXPECT_THROW(save_safetensors(path, {{"x", at::Tensor()}}), std::invalid_argument);
  EXPECT_THROW(save_safetensors(path, {{"x", tensor.to(at::kComplexFloat)}}), std::invalid_argument);
  EXPECT_FALSE(fs::exists(path));
}

// A limit on the size of files stands in for a full disk: both make write() fail halfway.
TEST_F(SafetensorsTest, FailedWritesLeaveNothingBehind) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{4096, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  std::string error = "no error";
  const fs::path path = folder_.path() / "out.safetensors";
  try {
    save_safetensors(path, {{"x", at::ones({4096})}});
  } catch (const OutputError& thrown) {
    error = thrown.what();
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_TRUE(contains(error, path.string() + ": "));
  EXPECT_TRUE(contains(error, "File too large"));
  EXPECT_TRUE(fs::is_empty(folder_.path()));
}

}  // namespace
}  // namespace opensora::io
