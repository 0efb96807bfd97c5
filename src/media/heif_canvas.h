// The tiles of a HEIF picture, put together.
#pragma once

#include "media/ffmpeg.h"
#include "media/heif.h"

namespace opensora::media {

class HeifCanvas {
 public:
  explicit HeifCanvas(const HeifPicture& picture) : picture_(picture) {}  // which must outlive it

  // The next tile, row by row from the top left. False if there are too many, or if it is of another size or pixel
  // format than the first one, or the tiles do not cover the picture.
  bool add(const AVFrame& tile);

  // The picture, once all tiles are there: of its size, with its colours where the boxes tell them.
  void take(AVFrame& frame);

 private:
  bool begin(const AVFrame& tile);

  const HeifPicture& picture_;
  FramePtr canvas_;
  int width_ = 0, height_ = 0;  // of a tile
  int tiles_ = 0;
};

}  // namespace opensora::media
