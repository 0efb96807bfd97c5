#include "io/foreign_file.h"

#include <gtest/gtest.h>

#include "io/checkpoint.h"
#include "io/safetensors.h"
#include "opensora/error.h"
#include "support/contains.h"
#include "support/file_error.h"
#include "support/pytorch_writer.h"
#include "support/temporary_folder.h"

namespace opensora::io {
namespace {

namespace fs = std::filesystem;
using test::contains;
using namespace std::string_literals;

class ForeignFiles : public testing::Test {
 protected:
  // What opening a file of that name and content says, which names the file and is one line.
  std::string error_of(const std::string& name, const std::string& content) const {
    return error_of(folder_.write(name, content));
  }
  static std::string error_of(const fs::path& file) {
    return test::checkpoint_error(file, [&] { Checkpoint::open(file); });
  }
  std::string error_of_tensor(const std::string& name) const {
    const fs::path file = folder_.path() / "tensors.safetensors";
    save_safetensors(file, {{name, at::zeros({1})}, {"other.weight", at::zeros({1})}}, {}, true);
    return error_of(file);
  }
  test::TemporaryFolder folder_;
};

TEST_F(ForeignFiles, AreNamedWhateverTheyAreCalled) {
  const std::string rest(600, '\1');
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"\x08\x07\x12\x07pytorch"s + rest, "is an ONNX file"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "is a Git LFS pointer: the file itself"},
      {"<!DOCTYPE html>\n<html><body>Log in</body></html>", "is a web page (HTML)"},
      {"\n  <HTML lang=\"en\"><head>", "is a web page (HTML)"},
      {"<?xml version=\"1.0\"?><Error>AccessDenied</Error>", "is an XML or HTML text"},
      {R"({"error":"Invalid username or password."})", "is a JSON text"},
      {"Invalid username or password.", "is a text (\"Invalid username or password.\")"},
      {"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20"s + rest, "is in the format of PyTorch before 1.6"},
      {"\x80\x04\x95\x10"s + rest, "is a Python pickle"},
      {"\x1f\x8b\x08\x00"s + rest, "is a gzip archive; unpack it"},
      {"7z\xbc\xaf\x27\x1c"s + rest, "is a 7z archive"},
      {"model.safetensors"s + std::string(240, '\0') + "ustar" + rest, "is a tar archive"},
      {"\x89HDF\r\n\x1a\n"s + rest, "is an HDF5 file"},
      {"\x93NUMPY\1\0"s + rest, "is a NumPy array"},
      {"\x89PNG\r\n\x1a\n"s + rest, "is a PNG picture"},
      {"\0\0\0\x20"s + "ftypisom" + rest, "is a video (MP4)"},
      {std::string(4096, '\0'), "starts with zeros only: the download is not complete"},
  };
  for (const auto& [content, expected] : cases) {
    for (const char* name : {"Open_Sora_v2.safetensors", "pytorch_model.bin", "model.ckpt"}) {
      EXPECT_TRUE(contains(error_of(name, content), expected)) << name;
    }
  }
  EXPECT_TRUE(contains(error_of("model.onnx", "\x0a\x0b\0\0"s + rest), "is an ONNX file"));
  EXPECT_TRUE(contains(error_of("model.safetensors.incomplete", rest), "is an unfinished download (.incomplete)"));
  EXPECT_TRUE(contains(error_of("model.safetensors", ""), "is empty"));
}

TEST_F(ForeignFiles, OurOwnAreNotTakenForOthers) {
  // The length of a header may begin with any mark: 640 is 80 02, 35615 is 1f 8b.
  for (const size_t length : {640U, 896U, 1152U, 35615U}) {
    std::string header = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
    header.resize(length, ' ');
    const uint64_t number = length;
    const std::string content = std::string(reinterpret_cast<const char*>(&number), 8) + header + "a";
    EXPECT_EQ(error_of("a.safetensors", content), "no error") << length;
  }
  const fs::path bin = folder_.path() / "a.bin";
  test::save_pytorch(bin, {{"a", at::zeros({3})}});
  EXPECT_EQ(error_of(bin), "no error");
}

TEST_F(ForeignFiles, ZipArchivesOfOthers) {
  const fs::path file = folder_.path() / "a.bin";
  const auto write = [&](std::initializer_list<const char*> records) {
    caffe2::serialize::PyTorchStreamWriter writer(file.string());
    for (const char* record : records) writer.writeRecord(record, "x", 1);
    writer.writeEndOfFile();
  };
  write({"weights.txt"});
  EXPECT_TRUE(contains(error_of(file), "is a zip archive, but not one that torch.save writes"));
  write({"a.npy", "b.npy"});
  EXPECT_TRUE(contains(error_of(file), "is an archive of NumPy arrays"));
  write({"data.pkl", "constants.pkl"});
  EXPECT_TRUE(contains(error_of(file), "is a TorchScript program"));
}

TEST_F(ForeignFiles, AdaptersAndQuantisedWeights) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {"base_model.model.double_blocks.0.img_attn.proj.lora_A.weight", "is a LoRA adapter, which is not supported yet"},
      {"lora_unet_double_blocks_0_img_attn_proj.lora_down.weight", "is a LoRA adapter"},
      {"transformer.single_blocks.0.lora_B.default.weight", "is a LoRA adapter"},
      {"double_blocks.0.hada_w1_a", "is a LoRA adapter"},
      {"double_blocks.0.img_attn.proj.weight.quant_state.bitsandbytes__nf4", "bitsandbytes quantised"},
      {"encoder.block.0.layer.0.SelfAttention.q.weight.absmax", "bitsandbytes quantised"},
      {"encoder.block.0.layer.0.SelfAttention.q.SCB", "bitsandbytes quantised"},
      {"encoder.block.0.layer.0.SelfAttention.q.qweight", "GPTQ or AWQ quantised"},
      {"transformer_blocks.0.attn.to_q.weight", "under the names of diffusers"},
      {"emb_params", "is a textual inversion"},
  };
  for (const auto& [name, expected] : cases) EXPECT_TRUE(contains(error_of_tensor(name), expected)) << name;
  EXPECT_EQ(error_of_tensor("double_blocks.0.img_attn.proj.weight"), "no error");
}

TEST_F(ForeignFiles, UnknownDtypes) {
  const std::string header = R"({"a":{"dtype":"F8_E8M0","shape":[1],"data_offsets":[0,1]}})";
  const uint64_t number = header.size();
  const std::string content = std::string(reinterpret_cast<const char*>(&number), 8) + header + "a";
  EXPECT_TRUE(contains(error_of("a.safetensors", content), "dtype \"F8_E8M0\" is not supported; take the file with"));
}

}  // namespace
}  // namespace opensora::io
