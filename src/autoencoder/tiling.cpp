#include "autoencoder/tiling.h"

#include <algorithm>
#include <vector>

#include "core/trace.h"

namespace opensora::autoencoder {
namespace {

int64_t count_tiles(int64_t length, int64_t stride) { return (length + stride - 1) / stride; }

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

// A copy of the last `length` units: what the next tile blends with. The tile itself can then be freed.
at::Tensor tail(const at::Tensor& x, int64_t dim, int64_t length) {
  length = std::min(length, x.size(dim));
  return x.narrow(dim, x.size(dim) - length, length).clone();
}

void tile_space(const at::Tensor& x, const TileGeometry& g, const TileFunction& fn, const PieceSink& sink) {
  const int64_t rows = count_tiles(x.size(3), g.stride), columns = count_tiles(x.size(4), g.stride);
  const int64_t out_height = g.output_length(x.size(3)), out_width = g.output_length(x.size(4));
  std::vector<at::Tensor> above(columns);  // the lower ends of the row before
  for (int64_t i = 0; i < rows; ++i) {
    at::Tensor left;
    for (int64_t j = 0; j < columns; ++j) {
      const int64_t y = i * g.stride, x0 = j * g.stride;
      const at::Tensor tile = fn(x.slice(3, y, y + g.tile).slice(4, x0, x0 + g.tile));
      if (i > 0) blend(above[j], tile, 3, g.blend);
      if (j > 0) blend(left, tile, 4, g.blend);
      above[j] = tail(tile, 3, g.blend);
      left = tail(tile, 4, g.blend);
      const int64_t height = std::min(g.limit, tile.size(3)), width = std::min(g.limit, tile.size(4));
      sink({tile.narrow(3, 0, height).narrow(4, 0, width),
            0,
            i * g.limit,
            j * g.limit,
            {tile.size(2), out_height, out_width}});
    }
  }
}

void tile_time(const at::Tensor& x, const TimeGeometry& g, const TileFunction& fn, const PieceSink& sink) {
  const int64_t count = g.count(x.size(2)), frames = g.lead + g.output_length(x.size(2) - g.lead);
  at::Tensor before;
  int64_t done = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t begin = i * g.stride;
    const bool last = i == count - 1;
    at::Tensor tile = fn(x.slice(2, begin, last ? x.size(2) : begin + g.tile + g.lead));
    if (i > 0) {
      tile = tile.slice(2, g.lead);
      blend(before, tile, 2, g.blend);
    }
    const int64_t kept = last ? tile.size(2) : g.limit + (i == 0 ? g.lead : 0);
    before = last ? at::Tensor() : tail(tile, 2, g.blend);
    sink({tile.narrow(2, 0, kept), done, 0, 0, {frames, tile.size(3), tile.size(4)}});
    done += kept;
  }
}

}  // namespace

TileGeometry TileGeometry::decoding(int64_t tile, int64_t ratio, double overlap) {
  const int64_t stride = std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(tile) * (1 - overlap)));
  return {tile, stride, (tile - stride) * ratio, stride * ratio};
}

TileGeometry TileGeometry::encoding(int64_t tile, int64_t ratio, double overlap) {
  const TileGeometry mirror = decoding(tile, ratio, overlap);
  return {tile * ratio, mirror.limit, tile - mirror.stride, mirror.stride};
}

int64_t TimeGeometry::count(int64_t length) const {
  const int64_t tiled = length - lead, tiles = std::max<int64_t>(1, count_tiles(tiled, stride));
  return tiles > 1 && tiled - (tiles - 1) * stride <= min_tail ? tiles - 1 : tiles;
}

void apply_tiled(const at::Tensor& x, const Tiling& tiling, const TileFunction& fn, const PieceSink& sink,
                 const TileProgress& progress) {
  const bool in_space = tiling.space && std::max(x.size(3), x.size(4)) > tiling.space->tile;
  const bool in_time = tiling.time && x.size(2) > tiling.time->tile;
  int64_t done = 0, total = 1;
  if (in_space) total *= count_tiles(x.size(3), tiling.space->stride) * count_tiles(x.size(4), tiling.space->stride);
  if (in_time) total *= tiling.time->count(x.size(2));

  const TileFunction counted = [&](const at::Tensor& part) {
    const TraceSpan span("tile", done);
    at::Tensor tile = fn(part);
    ++done;
    if (progress) progress(done, total);
    return tile;
  };
  const auto whole_frames = [&](const at::Tensor& part, const PieceSink& to) {
    if (in_space) {
      tile_space(part, *tiling.space, counted, to);
    } else {
      const at::Tensor values = counted(part);
      to({values, 0, 0, 0, {values.size(2), values.size(3), values.size(4)}});
    }
  };
  if (!in_time) return whole_frames(x, sink);
  const TileFunction joined = [&](const at::Tensor& part) {
    return join_pieces([&](const PieceSink& to) { whole_frames(part, to); });
  };
  tile_time(x, *tiling.time, joined, sink);
}

at::Tensor join_pieces(const std::function<void(const PieceSink& sink)>& produce) {
  at::Tensor out;
  produce([&](const Piece& piece) {
    const at::Tensor& values = piece.values;
    const auto [frames, height, width] = piece.size;
    if (values.size(2) == frames && values.size(3) == height && values.size(4) == width) {
      out = values;
      return;
    }
    if (!out.defined()) out = at::empty({values.size(0), values.size(1), frames, height, width}, values.options());
    out.narrow(2, piece.t, values.size(2))
        .narrow(3, piece.y, values.size(3))
        .narrow(4, piece.x, values.size(4))
        .copy_(values);
  });
  return out;
}

at::Tensor apply_tiled(const at::Tensor& x, const Tiling& tiling, const TileFunction& fn,
                       const TileProgress& progress) {
  return join_pieces([&](const PieceSink& sink) { apply_tiled(x, tiling, fn, sink, progress); });
}

}  // namespace opensora::autoencoder
