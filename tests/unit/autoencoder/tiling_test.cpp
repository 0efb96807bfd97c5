// Tiling with stand-ins for models whose tiles must fit together without a seam.
#include "autoencoder/tiling.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "nn/conv.h"
#include "support/reference.h"

namespace opensora {
namespace {

using autoencoder::apply_tiled;
using autoencoder::TileGeometry;
using autoencoder::Tiling;
using autoencoder::TimeGeometry;
using test::close;

at::Tensor enlarge(const at::Tensor& x) { return nn::upsample_nearest(x, {4, 8, 8}); }
at::Tensor reduce(const at::Tensor& x) { return at::avg_pool3d(x, {4, 8, 8}); }
// The first frame stays single in time.
at::Tensor enlarge_causal(const at::Tensor& x) {
  return at::cat({nn::upsample_nearest(x.slice(2, 0, 1), {1, 8, 8}), enlarge(x.slice(2, 1))}, 2);
}

struct Sizes {
  int64_t tile;
  double overlap;
  int64_t frames, height, width;  // of the latent
};

class TilingSizes : public ::testing::TestWithParam<Sizes> {};

TEST_P(TilingSizes, TilesFitTogether) {
  const auto [tile, overlap, frames, height, width] = GetParam();
  const at::Tensor latent = at::rand({1, 2, frames, height, width});
  const at::Tensor video = enlarge(latent);
  const Tiling decoding{TileGeometry::decoding(tile, 8, overlap),
                        TimeGeometry{TileGeometry::decoding(tile, 4, overlap)}};
  const Tiling encoding{TileGeometry::encoding(tile, 8, overlap),
                        TimeGeometry{TileGeometry::encoding(tile, 4, overlap)}};
  EXPECT_TRUE(close(apply_tiled(latent, decoding, enlarge), video));
  EXPECT_TRUE(close(apply_tiled(video, encoding, reduce), latent));

  Tiling causal = decoding, joined = decoding;
  causal.time->lead = 1;
  EXPECT_TRUE(close(apply_tiled(latent, causal, enlarge_causal), enlarge_causal(latent)));
  joined.time->min_tail = 2;
  EXPECT_TRUE(close(apply_tiled(latent, joined, enlarge), video));
}

INSTANTIATE_TEST_SUITE_P(Sizes, TilingSizes,
                         ::testing::Values(Sizes{4, 0.25, 3, 4, 4}, Sizes{4, 0.25, 9, 6, 5}, Sizes{4, 0.25, 10, 7, 13},
                                           Sizes{4, 0.5, 7, 5, 9}, Sizes{4, 0, 9, 8, 9}, Sizes{5, 0.25, 11, 6, 13},
                                           Sizes{4, 0.9, 6, 5, 5}, Sizes{1, 0.25, 4, 2, 3}));

TEST(Tiling, ProgressCountsEveryTile) {
  const Tiling tiling{TileGeometry::decoding(4, 8, 0.25), TimeGeometry{TileGeometry::decoding(4, 4, 0.25)}};
  std::vector<std::pair<int64_t, int64_t>> calls;
  apply_tiled(at::zeros({1, 1, 9, 6, 5}), tiling, enlarge, [&](int64_t d, int64_t t) { calls.emplace_back(d, t); });
  ASSERT_EQ(calls.size(), 12);  // every 3 units: 3 tiles in time, 2 and 2 in space
  EXPECT_EQ(calls.front(), std::make_pair(int64_t{1}, int64_t{12}));
  EXPECT_EQ(calls.back(), std::make_pair(int64_t{12}, int64_t{12}));
}

// What peak memory rests on.
TEST(Tiling, ATileIsFreedBeforeTheNextIsMade) {
  const Tiling tiling{TileGeometry::decoding(4, 8, 0.25), TimeGeometry{TileGeometry::decoding(4, 4, 0.25)}};
  std::vector<c10::weak_intrusive_ptr<c10::StorageImpl>> tiles;
  apply_tiled(at::rand({1, 1, 9, 12, 12}), tiling, [&](const at::Tensor& part) {
    for (const auto& tile : tiles) EXPECT_TRUE(tile.expired());
    at::Tensor tile = enlarge(part);
    tiles.push_back(tile.storage().getWeakStorageImpl());
    return tile;
  });
  EXPECT_EQ(tiles.size(), 48);
}

TEST(Tiling, AShortTailJoinsTheTileBeforeIt) {
  TimeGeometry geometry{TileGeometry::decoding(8, 4, 0.25)};  // every 6
  EXPECT_EQ(geometry.count(31), 6);
  geometry.min_tail = 1;
  EXPECT_EQ(geometry.count(31), 5);
  EXPECT_EQ(geometry.count(32), 6);
  EXPECT_EQ(geometry.count(1), 1);
}

}  // namespace
}  // namespace opensora
