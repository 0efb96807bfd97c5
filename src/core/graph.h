// Work of static shapes that is recorded once and replayed: a GPU then needs no host to launch its kernels.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace opensora {

// Replays what was recorded, on the current stream. It reads and writes the tensors it was recorded with, so those must
// live as long.
using Graph = std::function<void()>;

class GraphRecorder {
 public:
  virtual ~GraphRecorder() = default;
  // Calls `work` once and keeps what it launches; whether that is also run then is left open. Tensors that it allocates
  // stay valid in replays; those of two graphs of one recorder may share memory, so that a result is to be used before
  // another graph is replayed. Throws c10::Error for work that cannot be recorded.
  virtual Graph record(const std::function<void()>& work) = 0;
};

// Null where there are no graphs: why_no_graphs() says why ("cpu", "no CUDA plug-in"), and is empty otherwise.
std::unique_ptr<GraphRecorder> make_graph_recorder(at::Device device);
std::string why_no_graphs(at::Device device);

// Runs `work` once, and says whether a graph of it would be of use.
using GraphTrial = std::function<bool(const std::string& name, const std::function<void()>& work)>;

// Whether launching the work holds `device` up (core/launch_timing.h).
GraphTrial trial_of_launching(at::Device device);

// A function of tensors that is replayed where that is right. The first call runs it as it is, as libraries choose
// kernels and allocate then. The second one records it, if the trial is for it: the graph is kept only if its first
// replay equals, bit for bit, what the function returns; otherwise a warning says so and the function is called from
// then on, as it is for inputs of other shapes.
class Replayed {
 public:
  using Function = std::function<at::Tensor(const std::vector<at::Tensor>& inputs)>;

  // `recorder` may be null: the function is called, always. `name` is for messages. Inputs may be undefined, but always
  // the same ones. Without a trial, a graph is always of use.
  Replayed(GraphRecorder* recorder, std::string name, Function function, GraphTrial trial = {});

  // The result is valid until the next call of this or of another Replayed of the recorder.
  at::Tensor operator()(const std::vector<at::Tensor>& inputs);

  bool is_replayed() const { return graph_ != nullptr; }
  bool was_dropped() const { return dropped_; }
  bool is_needless() const { return needless_; }  // the trial was against it

 private:
  at::Tensor try_and_record(const std::vector<at::Tensor>& inputs);
  // `expected`: what the function returns, and this too.
  at::Tensor record(const std::vector<at::Tensor>& inputs, at::Tensor expected);
  bool fits(const std::vector<at::Tensor>& inputs) const;
  void drop(const std::string& why);

  GraphRecorder* recorder_;
  std::string name_;
  Function function_;
  GraphTrial trial_;
  bool is_warm_ = false, dropped_ = false, needless_ = false;
  std::vector<at::Tensor> inputs_;  // the graph's own
  at::Tensor output_;
  Graph graph_;  // empty: none
};

}  // namespace opensora
