// Pieces of a decoded video on their way to 8 bits and to the file.
#include "run/frames.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <limits>

#include "autoencoder/tiling.h"
#include "nn/conv.h"
#include "opensora/error.h"
#include "run/output_writer.h"
#include "support/read_video.h"
#include "support/temporary_folder.h"

namespace opensora::run {
namespace {

using autoencoder::apply_tiled;
using autoencoder::Piece;
using autoencoder::PieceSink;
using autoencoder::TileGeometry;
using autoencoder::Tiling;
using autoencoder::TimeGeometry;

at::Tensor enlarge(const at::Tensor& x) { return nn::upsample_nearest(x, {4, 8, 8}); }

// [1, 3, 36, 48, 40]: 3 tiles in time, 2 by 2 in space.
const Tiling kTiling{TileGeometry::decoding(4, 8, 0.25), TimeGeometry{TileGeometry::decoding(4, 4, 0.25)}};
at::Tensor latent() { return at::rand({1, 3, 9, 6, 5}) * 3 - 1.5; }

TEST(RgbFramesTest, AreThoseOfTheWholeVideo) {
  for (const bool in_time : {false, true}) {
    Tiling tiling = kTiling;
    if (!in_time) tiling.time.reset();
    const at::Tensor z = latent(), video = apply_tiled(z, tiling, enlarge);
    std::vector<at::Tensor> parts;
    RgbFrames rgb(33, {37, 45}, "the video", [&](const at::Tensor& frames) { parts.push_back(frames); });
    apply_tiled(z, tiling, enlarge, PieceSink([&](const Piece& piece) { rgb.add(piece); }));
    EXPECT_EQ(parts.size(), in_time ? 3 : 1);
    const at::Tensor frames = at::cat(parts);
    ASSERT_EQ(frames.sizes(), (std::vector<int64_t>{33, 45, 37, 3}));
    for (int64_t t = 0; t < 33; ++t) {
      EXPECT_TRUE(at::equal(frames[t], to_rgb24(video, t).slice(0, 0, 45).slice(1, 0, 37))) << t;
    }
  }
}

TEST(RgbFramesTest, RefuseWhatIsNotFinite) {
  RgbFrames rgb(1, {4, 4}, "the video", [](const at::Tensor&) { FAIL() << "a frame was handed on"; });
  at::Tensor values = at::zeros({1, 3, 4, 8, 8});
  values[0][0][3][7][7] = std::numeric_limits<float>::infinity();  // cut off, but a sign all the same
  EXPECT_THROW(rgb.add({values, 0, 0, 0, {4, 8, 8}}), NumericError);
}

// What peak memory rests on: neither float tiles nor finished frames pile up.
TEST(RgbFramesTest, NothingOfAnEarlierPartIsKept) {
  std::vector<c10::weak_intrusive_ptr<c10::StorageImpl>> tiles, frames;
  const auto all_gone = [](const auto& list) {
    return std::all_of(list.begin(), list.end(), [](const auto& storage) { return storage.expired(); });
  };
  RgbFrames rgb(36, {40, 48}, "the video", [&](const at::Tensor& next) {
    EXPECT_TRUE(all_gone(frames));
    frames.push_back(next.storage().getWeakStorageImpl());
  });
  const auto tile_of = [&](const at::Tensor& part) {
    EXPECT_TRUE(all_gone(tiles));
    at::Tensor tile = enlarge(part);
    tiles.push_back(tile.storage().getWeakStorageImpl());
    return tile;
  };
  apply_tiled(latent(), kTiling, tile_of, PieceSink([&](const Piece& piece) { rgb.add(piece); }));
  EXPECT_EQ(tiles.size(), 12);
  EXPECT_EQ(frames.size(), 3);
}

struct Output {
  test::TemporaryFolder folder;
  Job job;

  explicit Output(const std::string& name) {
    job.output = folder.path() / name;
    job.request.crf = 0;
  }
};

const StageClock idle(at::kCPU, {});

at::Tensor frame_of(int value) { return at::full({1, 32, 32, 3}, value, at::kByte); }

TEST(OutputWriterTest, WritesTheFramesInOrderAndReportsThemAll) {
  Output output("out.mp4");
  std::vector<std::pair<int64_t, int64_t>> reports;
  const StageClock clock(at::kCPU, [&](const Progress& p) { reports.emplace_back(p.done, p.total); });
  OutputWriter writer(output.job, 6);
  writer.push(at::cat({frame_of(10), frame_of(60)}), idle);
  writer.push(frame_of(110), idle);
  writer.push(at::cat({frame_of(160), frame_of(210), frame_of(250)}), idle);
  EXPECT_EQ(writer.finish(clock), "all of one colour");
  const test::DecodedVideo video = test::read_video(output.job.output);
  ASSERT_EQ(video.frames.size(), 6);
  for (size_t t = 0; t < 6; ++t) EXPECT_NEAR(video.frames[t].at(5, 5, 0, video.width), t == 5 ? 250 : 10 + 50 * t, 2);
  ASSERT_FALSE(reports.empty());
  EXPECT_EQ(reports.back(), std::make_pair(int64_t{6}, int64_t{6}));
}

TEST(OutputWriterTest, LeavesNothingWithoutItsEnd) {
  const Output output("out.mp4");
  {
    OutputWriter writer(output.job, 3);
    writer.push(frame_of(10), idle);
  }
  EXPECT_TRUE(std::filesystem::is_empty(output.folder.path()));
}

TEST(OutputWriterTest, TellsWhatWentWrong) {
  Output output("no/such/folder/out.mp4");
  OutputWriter writer(output.job, 100);
  const auto push_all = [&] {
    for (int i = 0; i < 100; ++i) writer.push(frame_of(i), idle);
  };
  EXPECT_THROW(push_all(), OutputError);
  EXPECT_THROW(writer.finish(StageClock(at::kCPU, {})), OutputError);
}

}  // namespace
}  // namespace opensora::run
