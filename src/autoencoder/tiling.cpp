#include "autoencoder/tiling.h"

#include <vector>

namespace opensora::autoencoder {
namespace {

// Mixes the end of `before` into the start of `tile` along `dim`, in place: weight 0 to 1 over the shared part.
void blend(const at::Tensor& before, const at::Tensor& tile, int64_t dim, int64_t extent) {
  extent = std::min({extent, before.size(dim), tile.size(dim)});
  if (extent == 0) return;
  std::vector<int64_t> shape(tile.dim(), 1);
  shape[dim] = extent;
  const auto options = at::TensorOptions().dtype(at::kFloat).device(tile.device());
  const at::Tensor weight = (at::arange(extent, options) / static_cast<double>(extent)).reshape(shape);
  const at::Tensor start = tile.narrow(dim, 0, extent);
  const at::Tensor end = before.narrow(dim, before.size(dim) - extent, extent);
  start.copy_(end * (1 - weight) + start * weight);
}

at::Tensor head(const at::Tensor& x, int64_t dim, int64_t length) {
  return x.narrow(dim, 0, std::min(length, x.size(dim)));
}

// A copy of the last `length` units: what the next tile blends with. The tile itself can then be freed.
at::Tensor tail(const at::Tensor& x, int64_t dim, int64_t length) {
  length = std::min(length, x.size(dim));
  return x.narrow(dim, x.size(dim) - length, length).clone();
}

}  // namespace

TileGeometry TileGeometry::make(int64_t in_tile, int64_t out_tile, double overlap) {
  const auto fraction = [](int64_t length, double part) {
    return static_cast<int64_t>(static_cast<double>(length) * part);
  };
  const int64_t blend = fraction(out_tile, overlap);
  return {in_tile, fraction(in_tile, 1 - overlap), blend, out_tile - blend};
}

int64_t tile_count(int64_t length, int64_t stride) { return (length + stride - 1) / stride; }

int64_t causal_tile_count(int64_t frames, int64_t stride) {
  return std::max<int64_t>(1, tile_count(frames - 1, stride));
}

at::Tensor tile_space(const at::Tensor& x, const TileGeometry& g, const TileFunction& fn) {
  std::vector<at::Tensor> rows;
  std::vector<at::Tensor> above;  // the ends of the row before, a tile each
  for (int64_t i = 0; i < x.size(3); i += g.stride) {
    std::vector<at::Tensor> row, ends;
    at::Tensor left;
    for (int64_t j = 0; j < x.size(4); j += g.stride) {
      const at::Tensor tile = fn(x.slice(3, i, i + g.tile).slice(4, j, j + g.tile));
      if (i > 0) blend(above[row.size()], tile, 3, g.blend);
      if (j > 0) blend(left, tile, 4, g.blend);
      ends.push_back(tail(tile, 3, g.blend));
      left = tail(tile, 4, g.blend);
      row.push_back(head(head(tile, 3, g.limit), 4, g.limit).contiguous());
    }
    above = std::move(ends);
    rows.push_back(at::cat(row, 4));
  }
  return at::cat(rows, 3);
}

at::Tensor tile_time_causal(const at::Tensor& x, const TileGeometry& g, const TileFunction& fn) {
  std::vector<at::Tensor> parts;
  at::Tensor before;
  const int64_t count = causal_tile_count(x.size(2), g.stride);
  for (int64_t i = 0; i < count * g.stride; i += g.stride) {
    at::Tensor tile = fn(x.slice(2, i, i + g.tile + 1));
    if (i > 0) {
      tile = tile.slice(2, 1);
      blend(before, tile, 2, g.blend);
    }
    before = tail(tile, 2, g.blend);
    parts.push_back(head(tile, 2, i == 0 ? g.limit + 1 : g.limit).contiguous());
  }
  return at::cat(parts, 2);
}

}  // namespace opensora::autoencoder
