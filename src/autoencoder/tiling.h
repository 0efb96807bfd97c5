// Encoding and decoding in overlapping tiles whose overlaps are blended linearly: one implementation for every
// autoencoder, direction and axis.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <optional>

namespace opensora::autoencoder {

// Tiles along one axis, or along both spatial axes. A tile reads `tile` units of input every `stride` units; of its
// output, `limit` units are kept and the first `blend` of them are mixed with the end of the tile before.
struct TileGeometry {
  int64_t tile;    // input units
  int64_t stride;  // input units
  int64_t blend;   // output units
  int64_t limit;   // output units: what `stride` input units make

  // A tile of `tile` latent units, each of which stands for `ratio` pixels or frames; neighbours share the fraction
  // `overlap` (0 to below 1) of a tile, rounded up to whole latent units.
  static TileGeometry decoding(int64_t tile, int64_t ratio, double overlap);
  static TileGeometry encoding(int64_t tile, int64_t ratio, double overlap);

  // What `length` input units make.
  int64_t output_length(int64_t length) const { return (length * limit + stride - 1) / stride; }
};

// Tiles along time.
struct TimeGeometry : TileGeometry {
  // 1 for a causal model, whose first frame stands alone: every tile but the first reads one unit more and drops the
  // first unit of its output. 0 otherwise.
  int64_t lead = 0;
  // A last tile of no more input units than this is joined to the one before it.
  int64_t min_tail = 0;

  int64_t count(int64_t length) const;  // how many tiles cover `length` input units
};

// How a model is tiled; nullopt: not at all along these axes.
struct Tiling {
  std::optional<TileGeometry> space;
  std::optional<TimeGeometry> time;
};

using TileFunction = std::function<at::Tensor(const at::Tensor&)>;  // [B, C, t, h, w] -> [B, C', t', h', w']
// Called after each tile: tiles done and in all.
using TileProgress = std::function<void(int64_t done, int64_t total)>;

// Applies `fn` to x in tiles along the axes on which x is larger than one, and to x as it is where there are none.
// `fn` must return a tensor of its own, which is written to. Beside the output there is never more than one tile with
// the strips that its neighbours blend with; with tiles in time, one of those over the whole frame.
at::Tensor apply_tiled(const at::Tensor& x, const Tiling& tiling, const TileFunction& fn,
                       const TileProgress& progress = {});

}  // namespace opensora::autoencoder
