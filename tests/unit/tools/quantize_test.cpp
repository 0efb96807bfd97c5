// Files in 8 bits: what is in them, what of a model is in 8 bits, and that models run from them.
#include "opensora/quantize.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <limits>
#include <map>
#include <string>

#include "diffusion/mmdit.h"
#include "io/checkpoint.h"
#include "io/safetensors.h"
#include "models/model_set.h"
#include "opensora/error.h"
#include "opensora/plan.h"
#include "support/contains.h"
#include "support/reference.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using test::contains;

class QuantizeTest : public testing::Test {
 protected:
  QuantizeRequest request(const char* to = "int8") const {
    return {.input = test::checkpoint_dir() / "Open_Sora_v2.safetensors",
            .output = folder_.path() / (std::string(to) + ".safetensors"),
            .to = to};
  }
  static std::string error_of(const QuantizeRequest& request) {
    return test::message_of<Error>([&] { quantize(request); });
  }
  test::TemporaryFolder folder_;
};

TEST_F(QuantizeTest, QuantizesTheBlocksAndKeepsTheRest) {
  for (const char* to : {"int8", "fp8"}) {
    const QuantizeReport report = quantize(request(to));
    EXPECT_EQ(report.kind, "Open-Sora transformer");
    const auto original = io::Checkpoint::open(request().input), written = io::Checkpoint::open(request(to).output);
    EXPECT_EQ(written->names(), original->names());
    EXPECT_EQ(written->elements(), original->elements());
    int64_t kept = 0;
    for (const std::string& name : original->names()) {
      const bool is_matrix = original->info(name).shape.size() == 2;
      const auto quantized = written->quantized(name, {});
      ASSERT_EQ(quantized.has_value(), is_matrix && name.find("_blocks.") != std::string::npos) << name;
      if (!quantized) {
        ++kept;
        EXPECT_TRUE(at::equal(*written->find(name, {}), *original->find(name, {}))) << name;
        continue;
      }
      const bool is_modulation = name.find("mod") != std::string::npos;
      EXPECT_STREQ(format_name(quantized->format), to == std::string("fp8") && !is_modulation ? "fp8 (e4m3)" : "int8");
    }
    EXPECT_EQ(report.kept, kept);
    EXPECT_TRUE(contains(written->metadata().at("quantized"), std::string("--to ") + to));
  }
}

// The table of T5's embeddings, where a file has it twice, and the two are equal.
TEST_F(QuantizeTest, WritesATableOnce) {
  const std::string copy = "encoder.embed_tokens.weight";
  QuantizeRequest wanted = request();
  wanted.input = folder_.path() / "t5.safetensors";
  wanted.overwrite = true;
  std::map<std::string, at::Tensor> tensors;
  const auto t5 = io::Checkpoint::open(test::checkpoint_dir() / "google/t5-v1_1-xxl");
  for (const std::string& name : t5->names()) tensors[name] = t5->find(name, {})->clone();
  const auto has_copy = [&](const at::Tensor& second) {
    tensors[copy] = second;
    io::save_safetensors(wanted.input, {tensors.begin(), tensors.end()}, {}, /*overwrite=*/true);
    quantize(wanted);
    const auto written = io::Checkpoint::open(wanted.output);
    EXPECT_TRUE(at::equal(*written->find("shared.weight", {}), tensors["shared.weight"]));
    return written->contains(copy);
  };
  EXPECT_FALSE(has_copy(tensors["shared.weight"].clone()));
  EXPECT_TRUE(has_copy(tensors["shared.weight"] + 1));
}

TEST_F(QuantizeTest, TellsTheErrorOfEachLayer) {
  const QuantizeReport report = quantize(request());
  const auto original = io::Checkpoint::open(request().input), written = io::Checkpoint::open(request().output);
  for (const QuantizedLayer& layer : report.layers) {
    const at::Tensor exact = original->find(layer.name, {})->to(at::kFloat);
    EXPECT_NEAR(layer.error, test::relative_error(*written->find(layer.name, {}), exact), 1e-6) << layer.name;
    EXPECT_GT(layer.error, 0);
    EXPECT_LT(layer.error, 0.01);
  }
}

TEST_F(QuantizeTest, KeepsModulationsWhereItIsTold) {
  QuantizeRequest keeping = request();
  keeping.keep_modulations = true;
  for (const QuantizedLayer& layer : quantize(keeping).layers) EXPECT_FALSE(contains(layer.name, "mod"));
}

TEST_F(QuantizeTest, TheSameWeightsAsFilesOfAnyKindOfResidence) {
  quantize(request());
  const test::Case reference("mmdit");
  const MMDiTConfig config = load_config(test::checkpoint_dir() / "tiny.json").model;
  const at::Tensor ids = at::cat({reference["in.txt_ids"][0], reference["in.img_ids"][0]});
  const diffusion::MMDiTInput input{.img = reference["in.img"],
                                    .txt = reference["in.txt"],
                                    .y_vec = reference["in.y_vec"],
                                    .timesteps = reference["in.timesteps"],
                                    .cond = reference["in.cond"],
                                    .guidance = {}};
  at::Tensor mapped;
  for (const Residence residence : {Residence::kMapped, Residence::kDevice, Residence::kStreamed}) {
    const Weights weights(io::Checkpoint::open(request().output), at::kCPU, at::kFloat, {.residence = residence});
    const diffusion::MMDiT model(weights, config);
    const at::Tensor out = model.forward(input, diffusion::rotary_embedding(ids, config));
    EXPECT_LT(test::relative_error(out, reference["out"]), 0.02);
    if (mapped.defined()) EXPECT_TRUE(out.equal(mapped));
    mapped = out;
  }
}

// What a plan counts is what the file holds.
TEST_F(QuantizeTest, IsCountedAsItIsStored) {
  quantize(request());
  models::ModelChoice choice{test::checkpoint_dir(), load_config(test::checkpoint_dir() / "tiny.json")};
  choice.files.diffusion_model = request().output;
  const auto checkpoint = io::Checkpoint::open(request().output);
  int64_t notes = 0;
  for (const std::string& name : checkpoint->all_names()) {
    if (name.ends_with(".comfy_quant")) notes += static_cast<int64_t>(checkpoint->info(name).bytes());
  }
  for (const at::Device device : {at::Device(at::kCPU), at::Device(at::kCUDA)}) {
    models::ModelSet headers(choice, {.source = models::Source::kHeaders, .device = device, .dtype = at::kBFloat16});
    headers.bind(Component::kModel);
    const models::ModelBytes bytes = headers.bytes(Component::kModel);
    EXPECT_EQ(bytes.stored, checkpoint->bytes() - notes);
    if (device.is_cpu()) EXPECT_EQ(bytes.mapped, bytes.stored);
    EXPECT_LT(bytes.held, bytes.stored + 1);
  }
}

// On the meta device with a GPU's operators: those of the rotation are products, which are counted.
TEST_F(QuantizeTest, IsPlannedForAGpu) {
  GenerateRequest run;
  run.model_dir = test::checkpoint_dir();
  run.config = load_config(test::checkpoint_dir() / "tiny.json");
  run.prompt = "x";
  run.device = "cuda";
  run.output = folder_.path() / "none.mp4";
  const auto flops = [&](bool rotate) {
    QuantizeRequest wanted = request();
    wanted.rotate = rotate;
    wanted.overwrite = true;
    quantize(wanted);
    run.files.diffusion_model = wanted.output;
    const RunPlan plan = plan_run(run, {.device_memory = int64_t{8} << 30, .base = BaseMemory{}});
    return plan.flops;
  };
  const double plain = flops(false);
  EXPECT_GT(plain, 0);
  EXPECT_GT(flops(true), plain);
}

TEST_F(QuantizeTest, RefusesWhatItCannotDo) {
  QuantizeRequest wrong = request("int4");
  EXPECT_TRUE(contains(error_of(wrong), "`to`: expected int8 or fp8, found \"int4\""));
  wrong = request("fp8");
  wrong.rotate = true;
  EXPECT_TRUE(contains(error_of(wrong), "`rotate`: for `to` int8 only"));
  wrong = request();
  wrong.input = test::checkpoint_dir() / "hunyuan_vae.safetensors";
  EXPECT_TRUE(contains(error_of(wrong), "holds no matrices of a transformer or of T5, but of: HunyuanVAE"));
  quantize(request());
  EXPECT_TRUE(contains(error_of(request()), "int8.safetensors"));  // is there
  wrong = request();
  wrong.input = request().output;
  wrong.output = folder_.path() / "again.safetensors";
  EXPECT_TRUE(contains(error_of(wrong), "is quantised already"));
  EXPECT_FALSE(fs::exists(wrong.output));

  const fs::path broken = folder_.path() / "broken.safetensors";
  const at::Tensor weight = at::ones({4, 4});
  weight[1][2] = std::numeric_limits<float>::quiet_NaN();
  io::save_safetensors(broken, {{"double_blocks.0.img_attn.proj.weight", weight}});
  wrong.input = broken;
  EXPECT_TRUE(contains(error_of(wrong),
                       "broken.safetensors: tensor double_blocks.0.img_attn.proj.weight holds numbers that are NaN"));
  EXPECT_FALSE(fs::exists(wrong.output)) << "complete or not at all";
}

}  // namespace
}  // namespace opensora
