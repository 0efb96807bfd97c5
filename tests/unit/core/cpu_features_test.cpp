// Which dtype is computed in on which CPU, whatever CPU the tests run on.
#include "core/cpu_features.h"

#include <gtest/gtest.h>

#include "core/meta_device.h"
#include "core/weights.h"

namespace opensora {
namespace {

using Flags = std::vector<std::string>;

const Flags kAvx2 = {"sse4_2", "avx", "avx2", "fma", "f16c"};

Flags avx512_and(const Flags& more) {
  Flags flags = kAvx2;
  flags.insert(flags.end(), {"avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl"});
  flags.insert(flags.end(), more.begin(), more.end());
  return flags;
}

CpuFeatures features_of(const std::string& model, const Flags& flags, const LibraryLimits& limits = {}) {
  return usable_features({.model = model, .flags = flags, .cores = 2}, limits);
}

// Work that is done in the dtype itself, in the order of enum Work: "cpa", "" for none.
std::string native_work(at::ScalarType dtype, const CpuFeatures& cpu) {
  std::string work;
  if (computing_dtype(dtype, Work::kConvolution, cpu) == dtype) work += 'c';
  if (computing_dtype(dtype, Work::kProduct, cpu) == dtype) work += 'p';
  if (computing_dtype(dtype, Work::kAttention, cpu) == dtype) work += 'a';
  return work;
}

struct Kind {
  const char* model;
  Flags flags;
  const char *bf16, *fp16;  // native_work()
  at::ScalarType by_default = at::kFloat;
};

const Flags kSapphireRapids = avx512_and({"avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8"});

TEST(CpuFeatures, DecideInWhatIsComputed) {
  Flags granite_rapids = kSapphireRapids;
  granite_rapids.emplace_back("amx_fp16");
  Flags converts = kAvx2;
  converts.insert(converts.end(), {"avx_vnni", "avx_ne_convert"});
  const std::vector<Kind> kinds = {
      {"Intel(R) Xeon(R) CPU E5-2680 v2", {"sse4_2", "avx"}, "", ""},
      {"AMD EPYC 7763 64-Core Processor", kAvx2, "", ""},
      {"12th Gen Intel(R) Core(TM) i7-12700", kAvx2, "", ""},
      {"Intel(R) Core(TM) Ultra 7 265K", converts, "", ""},
      {"Intel(R) Xeon Phi(TM) CPU 7250", {"avx2", "avx512f", "avx512cd", "avx512er", "avx512pf"}, "", ""},
      {"Intel(R) Xeon(R) Platinum 8175M CPU", avx512_and({}), "", ""},
      {"Intel(R) Xeon(R) Platinum 8375C CPU", avx512_and({"avx512_vnni", "avx512vbmi"}), "", ""},
      {"Intel(R) Xeon(R) Platinum 8380HL CPU", avx512_and({"avx512_vnni", "avx512_bf16"}), "cp", ""},
      {"AMD EPYC 9654 96-Core Processor", avx512_and({"avx512_bf16"}), "cp", ""},
      {"Intel(R) Xeon(R) Platinum 8488C", kSapphireRapids, "cpa", "p", at::kBFloat16},
      {"Intel(R) Xeon(R) 6975P-C", granite_rapids, "cpa", "cpa", at::kBFloat16},
      {"Neoverse-V2", {"fp", "asimd", "asimdhp", "bf16", "sve"}, "", ""},
      {"", {}, "", ""},
  };
  for (const Kind& kind : kinds) {
    const CpuFeatures cpu = features_of(kind.model, kind.flags);
    EXPECT_EQ(native_work(at::kBFloat16, cpu), kind.bf16) << kind.model;
    EXPECT_EQ(native_work(at::kHalf, cpu), kind.fp16) << kind.model;
    EXPECT_EQ(native_work(at::kFloat, cpu), "cpa") << kind.model;
    EXPECT_EQ(native_work(at::kDouble, cpu), "cpa") << "nothing but the two halves is ever computed in another dtype";
    EXPECT_EQ(default_dtype(cpu), kind.by_default) << kind.model;
  }
}

TEST(CpuFeatures, KnowVectorsOfEightBitProducts) {
  EXPECT_TRUE(features_of("AMD EPYC 9654", avx512_and({"avx512_vnni"})).avx512_vnni);
  EXPECT_FALSE(features_of("Intel(R) Xeon(R) Platinum 8175M CPU", avx512_and({})).avx512_vnni);
  EXPECT_FALSE(features_of("AMD EPYC 9654", avx512_and({"avx512_vnni"}), {.avx512 = false}).avx512_vnni);
}

TEST(CpuFeatures, KeepWithinTheLibrariesLimits) {
  const auto with = [](const LibraryLimits& limits) {
    return features_of("Intel(R) Xeon(R)", kSapphireRapids, limits);
  };
  const CpuFeatures none = with({.avx512 = false, .avx512_fp16 = false, .amx_bf16 = false, .amx_fp16 = false});
  EXPECT_FALSE(none.avx512);
  EXPECT_EQ(native_work(at::kBFloat16, none) + native_work(at::kHalf, none), "");
  EXPECT_EQ(default_dtype(none), at::kFloat);
  const CpuFeatures vectors = with({.amx_bf16 = false, .amx_fp16 = false});
  EXPECT_EQ(native_work(at::kBFloat16, vectors), "cp");
  EXPECT_EQ(native_work(at::kHalf, vectors), "p");
  EXPECT_EQ(default_dtype(vectors), at::kFloat);
  // Limits add nothing to what the CPU has.
  EXPECT_EQ(native_work(at::kBFloat16, features_of("AMD Ryzen 7 5800X", kAvx2, {})), "");
}

TEST(CpuFeatures, KnowAmd) {
  EXPECT_TRUE(features_of("AMD EPYC 9654 96-Core Processor", kAvx2).is_amd);
  EXPECT_FALSE(features_of("Intel(R) Xeon(R) Platinum 8488C", kAvx2).is_amd);
}

TEST(CpuFeatures, AreToldInWords) {
  const auto words = [](at::ScalarType dtype, const Flags& flags) {
    return computing_text(dtype, features_of("", flags));
  };
  EXPECT_EQ(words(at::kFloat, kAvx2), "fp32");
  EXPECT_EQ(words(at::kBFloat16, kAvx2), "bf16 (computed in fp32)");
  EXPECT_EQ(words(at::kHalf, kAvx2), "fp16 (computed in fp32)");
  EXPECT_EQ(words(at::kBFloat16, avx512_and({"avx512_bf16"})), "bf16 (attention in fp32)");
  EXPECT_EQ(words(at::kBFloat16, kSapphireRapids), "bf16");
  EXPECT_EQ(words(at::kHalf, kSapphireRapids), "fp16 (convolutions, attention in fp32)");
  EXPECT_EQ(computing_text(at::kHalf, at::kCUDA), "fp16");
}

// Of other devices nothing is asked; a plan is made as if on the device that it is for.
TEST(CpuFeatures, AreOfTheCpuAlone) {
  for (const Work work : {Work::kConvolution, Work::kProduct, Work::kAttention}) {
    for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
      const at::ScalarType here = computing_dtype(dtype, work, cpu_features());
      EXPECT_EQ(computing_dtype(dtype, work, at::kCPU), here);
      EXPECT_EQ(computing_dtype(dtype, work, at::kCUDA), dtype);
      EXPECT_EQ(computing_dtype(dtype, work, at::kMeta), dtype);
      const auto planned_for = [&](at::Device device) {
        const MetaDevice planned(device);
        const at::Tensor x = at::empty({1}, at::TensorOptions().device(at::kMeta));
        const Weights weights(std::make_shared<MetaSource>(), at::kMeta, dtype, {.stands_for = device});
        EXPECT_EQ(kernel_device(x), device.type());
        EXPECT_EQ(computing_dtype(dtype, work, weights.kernel_device()), computing_dtype(dtype, work, device));
        return computing_dtype(dtype, work, kernel_device(x));
      };
      EXPECT_EQ(planned_for(at::kCPU), here);
      EXPECT_EQ(planned_for(at::kCUDA), dtype);
    }
  }
}

}  // namespace
}  // namespace opensora
