// Spans of a run, for a trace. They are LibTorch's record functions: while nobody records, a span costs a few
// nanoseconds, and while somebody does, LibTorch's operators are told as well.
#pragma once

#include <ATen/record_function.h>

#include <cstdint>
#include <optional>
#include <string>

namespace opensora {

// From its making to its end, on this thread: a stage, a step, a layer. On a GPU that is what the host does: most
// layers end when their kernels are launched; stages and steps wait for their results.
class TraceSpan {
 public:
  // `index`, if not negative, goes behind the name: "double_blocks 3". The name is copied.
  explicit TraceSpan(const char* name, int64_t index = -1);
  explicit TraceSpan(const std::string& name) : TraceSpan(name.c_str()) {}

 private:
  std::string name_;  // what guard_ refers to
  std::optional<at::RecordFunction> guard_;
};

}  // namespace opensora
