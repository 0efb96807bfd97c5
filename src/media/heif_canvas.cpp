#include <cstdint>
#include <cstring>

#include "media/ffmpeg_functions.h"
#include "media/heif.h"

namespace opensora::media {
namespace {

// Copies one plane of a tile to where the pixel (x, y) of the canvas is.
void copy_plane(const AVFrame& tile, const AVPixFmtDescriptor& format, int plane, const AVFrame& canvas, int x, int y) {
  const bool is_chroma = (plane == 1 || plane == 2) && (format.flags & AV_PIX_FMT_FLAG_RGB) == 0;
  const int shift_x = is_chroma ? format.log2_chroma_w : 0, shift_y = is_chroma ? format.log2_chroma_h : 0;
  const int step = format.comp[0].depth > 8 ? 2 : 1;  // bytes
  const int bytes = -(-tile.width >> shift_x) * step, rows = -(-tile.height >> shift_y);
  const ptrdiff_t from_stride = tile.linesize[plane], to_stride = canvas.linesize[plane];
  const uint8_t* from = tile.data[plane];
  uint8_t* to = canvas.data[plane] + (y >> shift_y) * to_stride + (x >> shift_x) * step;
  for (int row = 0; row < rows; ++row) std::memcpy(to + row * to_stride, from + row * from_stride, bytes);
}

bool is_planar(const AVPixFmtDescriptor& format) {
  return format.nb_components == 1 || (format.flags & AV_PIX_FMT_FLAG_PLANAR) != 0;
}

}  // namespace

bool HeifCanvas::begin(const AVFrame& tile) {
  const auto [columns, rows] = Size{picture_.columns, picture_.rows};
  width_ = tile.width;
  height_ = tile.height;
  // A single frame of another size than the boxes say counts as it is.
  if (int64_t{width_} * columns < picture_.size.width || int64_t{height_} * rows < picture_.size.height) return false;
  if (rows * columns == 1) {
    canvas_.reset(not_null(av_frame_clone(&tile)));
    return true;
  }
  const AVPixFmtDescriptor& format = *not_null(av_pix_fmt_desc_get(static_cast<AVPixelFormat>(tile.format)));
  const int mask_x = (1 << format.log2_chroma_w) - 1, mask_y = (1 << format.log2_chroma_h) - 1;
  if (!is_planar(format) || (width_ & mask_x) != 0 || (height_ & mask_y) != 0) return false;
  canvas_.reset(not_null(av_frame_alloc()));
  canvas_->format = tile.format;
  canvas_->width = width_ * columns;
  canvas_->height = height_ * rows;
  if (av_frame_get_buffer(canvas_.get(), 0) < 0) throw std::bad_alloc();
  return av_frame_copy_props(canvas_.get(), &tile) >= 0;
}

bool HeifCanvas::add(const AVFrame& tile) {
  if (tiles_ == 0 && !begin(tile)) return false;
  const int index = tiles_++;
  if (index >= picture_.rows * picture_.columns || tile.width != width_ || tile.height != height_ ||
      tile.format != canvas_->format) {
    return false;
  }
  if (picture_.rows * picture_.columns == 1) return true;
  const AVPixFmtDescriptor& format = *not_null(av_pix_fmt_desc_get(static_cast<AVPixelFormat>(tile.format)));
  const int x = index % picture_.columns * width_, y = index / picture_.columns * height_;
  for (int plane = 0; plane < 4 && tile.data[plane] != nullptr; ++plane) {
    copy_plane(tile, format, plane, *canvas_, x, y);
  }
  return true;
}

void HeifCanvas::take(AVFrame& frame) {
  canvas_->width = picture_.size.width;
  canvas_->height = picture_.size.height;
  if (picture_.colours) {
    canvas_->color_primaries = static_cast<AVColorPrimaries>(picture_.colours->primaries);
    canvas_->color_trc = static_cast<AVColorTransferCharacteristic>(picture_.colours->transfer);
    canvas_->colorspace = static_cast<AVColorSpace>(picture_.colours->matrix);
    canvas_->color_range = picture_.colours->is_full_range ? AVCOL_RANGE_JPEG : AVCOL_RANGE_MPEG;
  }
  av_frame_move_ref(&frame, canvas_.get());
}

}  // namespace opensora::media
