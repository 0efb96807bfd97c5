// Decoding in overlapping tiles whose overlaps are blended linearly: one implementation for every axis.
#pragma once

#include <ATen/ATen.h>

#include <functional>

namespace opensora::autoencoder {

// Tiles along one axis, or along both spatial axes. A tile reads `tile` units of input every `stride` units; of its
// output, `limit` units are kept and the first `blend` of them are mixed with the end of the tile before.
struct TileGeometry {
  int64_t tile;    // input units
  int64_t stride;  // input units
  int64_t blend;   // output units
  int64_t limit;   // output units

  // `in_tile` input units make `out_tile` output units; neighbours share the fraction `overlap` of a tile.
  static TileGeometry make(int64_t in_tile, int64_t out_tile, double overlap);
};

using TileFunction = std::function<at::Tensor(const at::Tensor&)>;  // [B, C, t, h, w] -> [B, C', t', h', w']

// Applies `fn` to tiles of x's last two dimensions.
at::Tensor tile_space(const at::Tensor& x, const TileGeometry& geometry, const TileFunction& fn);

// Applies `fn` to tiles of x's frames for a causal model whose first frame stands alone: every tile but the first
// reads one frame more and drops the first frame of its output.
at::Tensor tile_time_causal(const at::Tensor& x, const TileGeometry& geometry, const TileFunction& fn);

// How many tiles cover `length`; and in causal time, where a tile of one frame alone would add nothing.
int64_t tile_count(int64_t length, int64_t stride);
int64_t causal_tile_count(int64_t frames, int64_t stride);

}  // namespace opensora::autoencoder
