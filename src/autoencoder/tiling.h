// Encoding and decoding in overlapping tiles whose overlaps are blended linearly: one implementation for every
// autoencoder, direction and axis.
#pragma once

#include <ATen/ATen.h>

#include <array>
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

// A part of the output that is finished: blended with all its neighbours.
struct Piece {
  at::Tensor values;            // [B, C', t', h', w']; valid during the call
  int64_t t, y, x;              // where it begins in the output
  std::array<int64_t, 3> size;  // of the whole output: frames, height, width

  // Whether it is the last one of its frames.
  bool ends_frames() const { return y + values.size(3) == size[1] && x + values.size(4) == size[2]; }
};
using PieceSink = std::function<void(const Piece&)>;

// Applies `fn` to x in tiles along the axes on which x is larger than one, and to x as it is where there are none.
// `fn` must return a tensor of its own, which is written to. Pieces come in the order of time, rows, columns; those of
// some frames are complete before the next frames'. There is never more than one tile with the strips that its
// neighbours blend with; with tiles in time, one of those over the whole frame.
void apply_tiled(const at::Tensor& x, const Tiling& tiling, const TileFunction& fn, const PieceSink& sink,
                 const TileProgress& progress = {});

// The output that `produce` hands out in pieces.
at::Tensor join_pieces(const std::function<void(const PieceSink& sink)>& produce);

// The same as a whole.
at::Tensor apply_tiled(const at::Tensor& x, const Tiling& tiling, const TileFunction& fn,
                       const TileProgress& progress = {});

}  // namespace opensora::autoencoder
