#include "core/graph.h"

#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <spdlog/spdlog.h>

#include <map>
#include <mutex>
#include <utility>

#include "core/cuda_plugin.h"
#include "core/device.h"
#include "core/launch_timing.h"
#include "core/text.h"

namespace opensora {
namespace {

// All recordings share one stream, since LibTorch keeps a workspace for each stream that multiplies matrices. It has
// high priority because nobody else uses such streams: LibTorch hands out the others of a device in turn, so that
// another thread may get the same one.
c10::Stream recording_stream(at::Device device) {
  static std::mutex mutex;
  static std::map<at::DeviceIndex, c10::Stream> streams;
  const std::lock_guard lock(mutex);
  const auto found = streams.find(device.index());
  if (found != streams.end()) return found->second;
  const c10::impl::VirtualGuardImpl devices(device.type());
  return streams.emplace(device.index(), devices.getStreamFromGlobalPool(device, /*isHighPriority=*/true))
      .first->second;
}

std::shared_ptr<void> make_cuda_graph() { return {cuda_plugin()->create_graph(), cuda_plugin()->destroy_graph}; }

class CudaGraphRecorder final : public GraphRecorder {
 public:
  explicit CudaGraphRecorder(at::Device device) : device_(device) {}

  Graph record(const std::function<void()>& work) override {
    // A graph has memory of its own, for which cached memory cannot be used. A recording must not wait for anything.
    synchronize(device_);
    release_cached_memory(device_);
    const c10::StreamGuard guard(recording_stream(device_));
    std::shared_ptr<void> graph = make_cuda_graph();
    cuda_plugin()->begin_graph(graph.get(), first_.get());
    try {
      work();
    } catch (...) {
      end_quietly(graph.get());
      throw;
    }
    cuda_plugin()->end_graph(graph.get());
    if (!first_) first_ = graph;
    return [graph] { cuda_plugin()->replay_graph(graph.get()); };
  }

 private:
  // Ends a recording that has failed: the stream must leave it, but the first error is the one to report.
  static void end_quietly(void* graph) {
    try {
      cuda_plugin()->end_graph(graph);
    } catch (const c10::Error& error) {
      spdlog::debug("ending a failed recording: {}", error.what_without_backtrace());
    }
  }

  at::Device device_;
  std::shared_ptr<void> first_;  // the first graph, whose memory all others share
};

}  // namespace

std::unique_ptr<GraphRecorder> make_graph_recorder(at::Device device) {
  if (!why_no_graphs(device).empty()) return nullptr;
  return std::make_unique<CudaGraphRecorder>(device);
}

std::string why_no_graphs(at::Device device) {
  if (!device.is_cuda()) return device.str();
  return cuda_plugin() == nullptr ? "no CUDA plug-in" : "";
}

GraphTrial trial_of_launching(at::Device device) {
  return [device](const std::string& name, const std::function<void()>& work) {
    const LaunchTiming timing = time_launching(device, work);
    const bool is_bound = is_bound_by_launching(timing);
    spdlog::debug("{}: the device takes {:.1f} ms, the host {:.1f} ms to launch its {} operators: {}", name,
                  1000 * timing.device, 1000 * timing.host, timing.operators,
                  is_bound ? "a graph is recorded" : "no graph is needed");
    return is_bound;
  };
}

Replayed::Replayed(GraphRecorder* recorder, std::string name, Function function, GraphTrial trial)
    : recorder_(recorder), name_(std::move(name)), function_(std::move(function)), trial_(std::move(trial)) {}

at::Tensor Replayed::operator()(const std::vector<at::Tensor>& inputs) {
  const bool can_record = recorder_ != nullptr && !dropped_ && !needless_;
  if (!can_record || !std::exchange(is_warm_, true)) return function_(inputs);
  if (!graph_) return try_and_record(inputs);
  if (!fits(inputs)) return function_(inputs);
  std::vector<at::Tensor> from, to;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].defined()) continue;
    from.push_back(inputs[i]);
    to.push_back(inputs_[i]);
  }
  at::_foreach_copy_(to, from);  // a few launches for many small tensors
  graph_();
  return output_;
}

at::Tensor Replayed::try_and_record(const std::vector<at::Tensor>& inputs) {
  at::Tensor expected;
  const auto work = [&] { expected = function_(inputs); };
  if (trial_) {
    needless_ = !trial_(name_, work);
  } else {
    work();
  }
  return needless_ ? expected : record(inputs, expected);
}

at::Tensor Replayed::record(const std::vector<at::Tensor>& inputs, at::Tensor expected) {
  try {
    inputs_.clear();
    for (const at::Tensor& input : inputs) inputs_.push_back(input.defined() ? input.clone() : input);
    graph_ = recorder_->record([&] { output_ = function_(inputs_); });
    graph_();
    if (at::equal(output_, expected)) {
      spdlog::debug("{}: replayed as a graph from now on", name_);
    } else {
      const double difference = (output_.to(at::kDouble) - expected.to(at::kDouble)).abs().max().item<double>();
      drop(fmt::format("its first replay differs from the step as it is by up to {:.1e}", difference));
    }
  } catch (const c10::Error& error) {
    drop(error.what_without_backtrace());
  }
  return expected;
}

bool Replayed::fits(const std::vector<at::Tensor>& inputs) const {
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].defined() != inputs_[i].defined()) return false;
    if (inputs[i].defined() && inputs[i].sizes() != inputs_[i].sizes()) return false;
  }
  return inputs.size() == inputs_.size();
}

void Replayed::drop(const std::string& why) {
  spdlog::warn("{}: no graph is used: {}", name_, first_line(why));
  dropped_ = true;
  graph_ = nullptr;
  output_ = at::Tensor();
  inputs_.clear();
}

}  // namespace opensora
