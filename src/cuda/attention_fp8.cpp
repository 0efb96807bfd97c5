// Attention of e4m3 numbers by cuDNN, whose frontend describes it as a graph and finds a plan for it. The plan of each
// shape is kept for the rest of the process.
#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <ATen/cudnn/Handle.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <cudnn_frontend.h>

#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "cuda/kernels.h"

namespace opensora::cuda {
namespace {

namespace fe = cudnn_frontend;
using Call = CudaPlugin::Fp8Attention;
using TensorPtr = std::shared_ptr<fe::graph::Tensor_attributes>;

constexpr size_t kBf16SinceCudnn = 91300;  // as an output

// Of the current device.
int property(cudaDeviceAttr name) {
  int value = 0;
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&value, name, c10::cuda::current_device()));
  return value;
}
int major_capability() { return property(cudaDevAttrComputeCapabilityMajor); }

void check(fe::error_t status) { TORCH_CHECK(status.is_good(), "cuDNN's attention in FP8: ", status.get_message()); }

// A graph with its plan, and its tensors, which are known by their uid.
class Plan {
 public:
  Plan(const Call& call, cudnnHandle_t handle) {
    graph_.set_io_data_type(fe::DataType_t::FP8_E4M3)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT)
        .set_sm_version(10 * major_capability() + property(cudaDevAttrComputeCapabilityMinor));
    const TensorPtr q = tokens("q", kQ, call, call.queries), k = tokens("k", kK, call, call.keys),
                    v = tokens("v", kV, call, call.keys);
    const auto options = fe::graph::SDPA_fp8_attributes()
                             .set_name("attention")
                             .set_generate_stats(false)
                             .set_attn_scale(static_cast<float>(call.scale));
    const auto [out, stats, top_weight, top_out] =
        graph_.sdpa_fp8(q, k, v, number("q_unit", kQUnit), number("k_unit", kKUnit), number("v_unit", kVUnit),
                        number("weight_unit", kWeightUnit), number("weight_scale", kWeightScale),
                        number("out_scale", kOutScale), options);
    out->set_output(true).set_uid(kOut).set_dim(shape(call, call.queries)).set_stride(strides(call, call.queries));
    out->set_data_type(call.has_wide_output ? fe::DataType_t::BFLOAT16 : fe::DataType_t::FP8_E4M3);
    top_weight->set_output(true).set_uid(kTopWeight).set_dim({1, 1, 1, 1}).set_stride({1, 1, 1, 1});
    top_weight->set_data_type(fe::DataType_t::FLOAT);
    top_out->set_output(true).set_uid(kTopOut).set_dim({1, 1, 1, 1}).set_stride({1, 1, 1, 1});
    top_out->set_data_type(fe::DataType_t::FLOAT);
    check(graph_.build(handle, {fe::HeurMode_t::A, fe::HeurMode_t::FALLBACK}));
  }

  void run(const Call& call, cudnnHandle_t handle) const {
    int64_t bytes = 0;
    check(graph_.get_workspace_size(bytes));
    // The largest weight and result, which nobody reads, lie in front of the workspace.
    constexpr int64_t kTops = 256;
    const c10::DataPtr memory = c10::cuda::CUDACachingAllocator::get()->allocate(static_cast<size_t>(bytes + kTops));
    auto* const tops = static_cast<float*>(memory.get());
    std::unordered_map<int64_t, void*> pack = {{kQ, const_cast<void*>(call.q)},
                                               {kK, const_cast<void*>(call.k)},
                                               {kV, const_cast<void*>(call.v)},
                                               {kOut, call.out},
                                               {kQUnit, const_cast<float*>(call.q_unit)},
                                               {kKUnit, const_cast<float*>(call.k_unit)},
                                               {kVUnit, const_cast<float*>(call.one)},
                                               {kOutScale, const_cast<float*>(call.one)},
                                               {kWeightUnit, const_cast<float*>(call.weight_unit)},
                                               {kWeightScale, const_cast<float*>(call.weight_scale)},
                                               {kTopWeight, tops},
                                               {kTopOut, tops + 1}};
    check(graph_.execute(handle, pack, static_cast<char*>(memory.get()) + kTops));
  }

 private:
  enum Uid : int64_t {
    kQ = 1,
    kK,
    kV,
    kOut,
    kQUnit,
    kKUnit,
    kVUnit,
    kOutScale,
    kWeightUnit,
    kWeightScale,
    kTopWeight,
    kTopOut
  };

  static std::vector<int64_t> shape(const Call& call, int64_t length) {
    return {call.batch, call.heads, length, call.width};
  }
  static std::vector<int64_t> strides(const Call& call, int64_t length) {  // of [batch, length, heads, width]
    return {length * call.heads * call.width, call.width, call.heads * call.width, 1};
  }
  TensorPtr tokens(const char* name, Uid uid, const Call& call, int64_t length) {
    return graph_.tensor(fe::graph::Tensor_attributes()
                             .set_name(name)
                             .set_uid(uid)
                             .set_dim(shape(call, length))
                             .set_stride(strides(call, length)));
  }
  TensorPtr number(const char* name, Uid uid) {
    return graph_.tensor(fe::graph::Tensor_attributes()
                             .set_name(name)
                             .set_uid(uid)
                             .set_dim({1, 1, 1, 1})
                             .set_stride({1, 1, 1, 1})
                             .set_data_type(fe::DataType_t::FLOAT));
  }

  mutable fe::graph::Graph graph_;
};

// The one for a call on the current device. A failed build is not kept.
const Plan& plan_for(const Call& call, cudnnHandle_t handle) {
  using Key = std::tuple<int, int64_t, int64_t, int64_t, int64_t, int64_t, double, bool>;
  static std::mutex mutex;
  static auto& plans = *new std::map<Key, std::unique_ptr<Plan>>;  // lives on: cuDNN may end before us
  const Key key{c10::cuda::current_device(), call.batch, call.heads, call.queries, call.keys, call.width, call.scale,
                call.has_wide_output};
  const std::lock_guard lock(mutex);
  const auto found = plans.find(key);
  if (found != plans.end()) return *found->second;
  return *plans.emplace(key, std::make_unique<Plan>(call, handle)).first->second;
}

}  // namespace

void fp8_attention(const Call& call) {
  cudnnHandle_t handle = at::native::getCudnnHandle();  // of the current stream
  plan_for(call, handle).run(call, handle);
}

CudaPlugin::Fp8Support fp8_support() {
  using Support = CudaPlugin::Fp8Support;
  switch (major_capability()) {
    case 9:
      return Support::kNarrowOutput;
    case 10:
      return cudnnGetVersion() >= kBf16SinceCudnn ? Support::kWideOutput : Support::kNarrowOutput;
    default:
      return Support::kNone;
  }
}

}  // namespace opensora::cuda
