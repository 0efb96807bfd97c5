#include "media/to_rgb.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "media/ffmpeg_functions.h"

namespace opensora::media {
namespace {

constexpr int kFractionBits = 16;

// Fixed point. red = luma * (y - black) + red_cr * cr and so on, with cb and cr around zero.
struct Matrix {
  int black, middle, luma, red_cr, green_cb, green_cr, blue_cb;
};

// The shares of red and blue in luma.
std::pair<double, double> red_and_blue(AVColorSpace space) {
  switch (space) {
    case AVCOL_SPC_BT709:
      return {0.2126, 0.0722};
    case AVCOL_SPC_BT2020_NCL:
    case AVCOL_SPC_BT2020_CL:
      return {0.2627, 0.0593};
    case AVCOL_SPC_SMPTE240M:
      return {0.212, 0.087};
    case AVCOL_SPC_FCC:
      return {0.30, 0.11};
    default:
      return {0.299, 0.114};  // BT.601
  }
}

// From samples of `depth` bits to values of 8 bits.
Matrix make_matrix(AVColorSpace space, bool is_full_range, int depth) {
  const auto [red, blue] = red_and_blue(space);
  const double green = 1 - red - blue;
  const double largest = (1 << depth) - 1, unit = 1 << (depth - 8);
  const double luma_range = is_full_range ? largest : 219 * unit, chroma_range = is_full_range ? largest : 224 * unit;
  const auto fixed = [](double value) { return static_cast<int>(std::lround(value * (1 << kFractionBits))); };
  const double luma = 255 / luma_range, chroma = 255 / chroma_range;
  return {.black = is_full_range ? 0 : 16 << (depth - 8),
          .middle = 1 << (depth - 1),
          .luma = fixed(luma),
          .red_cr = fixed(chroma * 2 * (1 - red)),
          .green_cb = fixed(-chroma * 2 * (1 - blue) * blue / green),
          .green_cr = fixed(-chroma * 2 * (1 - red) * red / green),
          .blue_cb = fixed(chroma * 2 * (1 - blue))};
}

uint8_t to_byte(int value) {
  return static_cast<uint8_t>(std::clamp((value + (1 << (kFractionBits - 1))) >> kFractionBits, 0, 255));
}

template <typename Sample>
void convert_row(const Sample* luma, const uint16_t* cb, const uint16_t* cr, int width, const Matrix& matrix,
                 uint8_t* rgb) {
  for (int x = 0; x < width; ++x, rgb += kRgbBytes) {
    const int y = (luma[x] - matrix.black) * matrix.luma, b = cb[x] - matrix.middle, r = cr[x] - matrix.middle;
    rgb[0] = to_byte(y + r * matrix.red_cr);
    rgb[1] = to_byte(y + b * matrix.green_cb + r * matrix.green_cr);
    rgb[2] = to_byte(y + b * matrix.blue_cb);
  }
}

template <typename Sample>
void put_over_black(const Sample* alpha, int width, int depth, uint8_t* rgb) {
  const int largest = (1 << depth) - 1;
  for (int x = 0; x < width; ++x) {
    for (int channel = 0; channel < kRgbBytes; ++channel, ++rgb) {
      *rgb = static_cast<uint8_t>((*rgb * alpha[x] + largest / 2) / largest);
    }
  }
}

// Brings rows of a chroma plane to the picture's size.
template <typename Sample>
class ChromaRows {
 public:
  ChromaRows(const AVFrame& frame, int plane, const AVPixFmtDescriptor& format)
      : data_(frame.data[plane]),
        stride_(frame.linesize[plane]),
        log2_width_(format.log2_chroma_w),
        log2_height_(format.log2_chroma_h),
        columns_(-(-frame.width >> log2_width_)),
        rows_(-(-frame.height >> log2_height_)),
        sums_(columns_),
        row_(static_cast<size_t>(columns_) << log2_width_) {}

  // Of row `y` of the picture; valid until the next call.
  const uint16_t* at(int y) {
    const Sample* near = plane_row(y >> log2_height_);
    if (log2_height_ == 0) {
      std::copy_n(near, columns_, sums_.begin());
      widen(/*scale=*/1, /*bias=*/{1, 2}, /*shift=*/2);
      return row_.data();
    }
    const bool is_upper = y % 2 == 0;
    const Sample* far = plane_row((y >> 1) + (is_upper ? -1 : 1));
    for (int x = 0; x < columns_; ++x) sums_[x] = static_cast<uint16_t>(3 * near[x] + far[x]);
    if (log2_width_ > 0) {
      widen(/*scale=*/4, /*bias=*/{8, 7}, /*shift=*/4);
    } else {
      const int bias = is_upper ? 1 : 2;
      for (int x = 0; x < columns_; ++x) row_[x] = static_cast<uint16_t>((sums_[x] + bias) >> 2);
    }
    return row_.data();
  }

 private:
  const Sample* plane_row(int y) const {
    return reinterpret_cast<const Sample*>(data_ + static_cast<ptrdiff_t>(std::clamp(y, 0, rows_ - 1)) * stride_);
  }

  // sums_ (`scale` times what the plane has) -> row_. Roundings alternate, as libjpeg's do, so that none prevails.
  void widen(int scale, std::pair<int, int> bias, int shift) {
    if (log2_width_ == 0) {
      std::copy_n(sums_.begin(), columns_, row_.begin());
    } else if (log2_width_ == 1 && columns_ > 2) {
      const auto weigh = [&](int near, int far, int rounding) {
        return static_cast<uint16_t>((3 * near + far + rounding) >> shift);
      };
      const int last = columns_ - 1;
      for (int x = 0; x < last; ++x) {
        row_[2 * x + 1] = weigh(sums_[x], sums_[x + 1], bias.second);
        row_[2 * x + 2] = weigh(sums_[x + 1], sums_[x], bias.first);
      }
      row_[0] = weigh(sums_[0], sums_[0], bias.first);
      row_[2 * last + 1] = weigh(sums_[last], sums_[last], bias.second);
    } else {
      for (size_t x = 0; x < row_.size(); ++x) {
        row_[x] = static_cast<uint16_t>((sums_[x >> log2_width_] + scale / 2) / scale);
      }
    }
  }

  const uint8_t* data_;
  ptrdiff_t stride_;
  int log2_width_, log2_height_, columns_, rows_;
  std::vector<uint16_t> sums_, row_;
};

template <typename Sample>
Picture convert(const AVFrame& frame, const AVPixFmtDescriptor& format, bool is_full_range) {
  const int depth = format.comp[0].depth;
  const Matrix matrix = make_matrix(frame.colorspace, is_full_range, depth);
  Picture picture{frame.width, frame.height, {}};
  const size_t row = static_cast<size_t>(frame.width) * kRgbBytes;
  picture.rgb.resize(row * frame.height);
  ChromaRows<Sample> cb(frame, 1, format), cr(frame, 2, format);
  const auto plane_row = [&](int plane, int y) {
    return reinterpret_cast<const Sample*>(frame.data[plane] + static_cast<ptrdiff_t>(y) * frame.linesize[plane]);
  };
  for (int y = 0; y < frame.height; ++y) {
    uint8_t* rgb = &picture.rgb[y * row];
    convert_row(plane_row(0, y), cb.at(y), cr.at(y), frame.width, matrix, rgb);
    if (format.nb_components == 4) put_over_black(plane_row(3, y), frame.width, depth, rgb);
  }
  return picture;
}

bool is_planar_yuv(const AVPixFmtDescriptor& format) {
  constexpr uint64_t kOther = AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL | AV_PIX_FMT_FLAG_BE | AV_PIX_FMT_FLAG_HWACCEL |
                              AV_PIX_FMT_FLAG_BITSTREAM | AV_PIX_FMT_FLAG_FLOAT;
  const int depth = format.comp[0].depth;
  bool is_plain = (format.flags & AV_PIX_FMT_FLAG_PLANAR) != 0 && (format.flags & kOther) == 0 &&
                  format.nb_components >= 3 && depth >= 8 && depth <= 12;
  for (int i = 0; i < format.nb_components; ++i) {
    const AVComponentDescriptor& component = format.comp[i];
    is_plain = is_plain && component.plane == i && component.depth == depth && component.shift == 0 &&
               component.step == (depth > 8 ? 2 : 1);
  }
  return is_plain && format.log2_chroma_w <= 2 && format.log2_chroma_h <= 1;
}

}  // namespace

std::optional<Picture> still_to_rgb(const AVFrame& frame, bool is_full_range) {
  const AVPixFmtDescriptor& format = *not_null(av_pix_fmt_desc_get(static_cast<AVPixelFormat>(frame.format)));
  const bool has_other_matrix = frame.colorspace == AVCOL_SPC_RGB || frame.colorspace == AVCOL_SPC_YCGCO;
  if (!is_planar_yuv(format) || has_other_matrix || frame.width < 1 || frame.height < 1) return std::nullopt;
  return format.comp[0].depth == 8 ? convert<uint8_t>(frame, format, is_full_range)
                                   : convert<uint16_t>(frame, format, is_full_range);
}

}  // namespace opensora::media
