#include "diffusion/workspace.h"

namespace opensora::diffusion {

QKV QKV::tokens(int64_t first, int64_t length) const {
  return {fused.defined() ? fused.narrow(1, first, length) : at::Tensor(), q.narrow(1, first, length),
          k.narrow(1, first, length), v.narrow(1, first, length)};
}

Workspace::Workspace(const MMDiTConfig& config, int64_t batch, int64_t tokens, const at::TensorOptions& options)
    : x(at::empty({batch, tokens, config.hidden_size}, options)),
      normed(at::empty_like(x)),
      qkv(at::empty({3 * x.numel()}, options)),
      hidden(at::empty({batch * std::min(tokens, kMlpTokens) * (config.hidden_size + config.mlp_hidden())}, options)) {}

QKV Workspace::split_qkv(int64_t num_heads, bool fused) const {
  const int64_t batch = x.size(0), tokens = x.size(1), width = x.size(2);
  const std::vector<int64_t> shape = {batch, tokens, num_heads, width / num_heads};
  if (!fused) {
    const std::vector<at::Tensor> parts = qkv.chunk(3);
    return {{}, parts[0].view(shape), parts[1].view(shape), parts[2].view(shape)};
  }
  const at::Tensor all = qkv.view({batch, tokens, 3 * width});
  const std::vector<at::Tensor> parts = all.unflatten(-1, {3, num_heads, -1}).unbind(2);
  return {all, parts[0], parts[1], parts[2]};
}

at::Tensor Workspace::hidden_as(int64_t tokens, int64_t width) const {
  const int64_t batch = x.size(0);
  return hidden.narrow(0, 0, batch * tokens * width).view({batch, tokens, width});
}

}  // namespace opensora::diffusion
