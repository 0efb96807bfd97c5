#include "media/to_rgb.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "media/ffmpeg_functions.h"
#include "media/image_tags.h"
#include "opensora/error.h"

namespace opensora::media {
namespace {

constexpr int kRgbaBytes = 4;

const AVPixFmtDescriptor& description(const AVFrame& frame) {
  return *not_null(av_pix_fmt_desc_get(static_cast<AVPixelFormat>(frame.format)));
}

bool is_grey(const AVPixFmtDescriptor& format) {
  return format.nb_components <= 2 && (format.flags & (AV_PIX_FMT_FLAG_PAL | AV_PIX_FMT_FLAG_RGB)) == 0;
}

bool is_full_range(const AVFrame& frame) {
  if (frame.color_range != AVCOL_RANGE_UNSPECIFIED) return frame.color_range == AVCOL_RANGE_JPEG;
  const AVPixFmtDescriptor& format = description(frame);
  return is_grey(format) || std::string_view(format.name).starts_with("yuvj");
}

const int* color_matrix(const AVFrame& frame, bool is_still) {
  constexpr int kHdRows = 720;
  if (frame.colorspace == AVCOL_SPC_UNSPECIFIED) {
    return sws_getCoefficients(frame.height >= kHdRows && !is_still ? SWS_CS_ITU709 : SWS_CS_ITU601);
  }
  return sws_getCoefficients(frame.colorspace);
}

// Whether subsampled chroma lies level with the left of two pixels, as videos mostly have it, or between them (JPEG).
bool is_chroma_left(const AVFrame& frame) {
  if (frame.chroma_location == AVCHROMA_LOC_UNSPECIFIED) return !is_full_range(frame);
  return frame.chroma_location == AVCHROMA_LOC_LEFT || frame.chroma_location == AVCHROMA_LOC_TOPLEFT;
}

ScalerPtr make_converter(const AVFrame& frame, AVPixelFormat output, bool is_still, const std::filesystem::path& path) {
  ScalerPtr scaler(not_null(sws_alloc_context()));
  const auto set = [&](const char* name, int64_t value) {
    check_input(av_opt_set_int(scaler.get(), name, value, 0), path, "set up the conversion to RGB");
  };
  set("srcw", frame.width);
  set("srch", frame.height);
  set("src_format", frame.format);
  set("dstw", frame.width);
  set("dsth", frame.height);
  set("dst_format", output);
  set("sws_flags", SWS_BILINEAR | SWS_ACCURATE_RND | SWS_BITEXACT | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP);
  if (description(frame).log2_chroma_w == 1 && !is_still && is_chroma_left(frame)) set("src_h_chr_pos", 0);
  check_input(sws_init_context(scaler.get(), nullptr, nullptr), path, "set up the conversion to RGB");
  const bool is_rgb = (description(frame).flags & (AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL)) != 0;
  if (!is_rgb) {
    const int* matrix = color_matrix(frame, is_still);
    constexpr int kOne = 1 << 16;  // neutral contrast and saturation, 16.16 fixed point
    // Fails for formats to which it does not apply; then the defaults are right.
    sws_setColorspaceDetails(scaler.get(), matrix, is_full_range(frame), matrix, /*dstRange=*/1, 0, kOne, kOne);
  }
  return scaler;
}

FramePtr make_rgb_frame(const AVFrame& source, AVPixelFormat format, const std::filesystem::path& path) {
  FramePtr frame(not_null(av_frame_alloc()));
  frame->format = format;
  frame->width = source.width;
  frame->height = source.height;
  check_input(av_frame_get_buffer(frame.get(), 0), path, "allocate a frame");
  return frame;
}

Picture pack(const AVFrame& rgb24) {
  Picture picture{rgb24.width, rgb24.height, {}};
  const size_t row = static_cast<size_t>(rgb24.width) * kRgbBytes;
  picture.rgb.resize(row * rgb24.height);
  for (int y = 0; y < rgb24.height; ++y) {
    std::memcpy(&picture.rgb[y * row], rgb24.data[0] + static_cast<ptrdiff_t>(y) * rgb24.linesize[0], row);
  }
  return picture;
}

Picture pack_over_black(const AVFrame& rgba) {
  Picture picture{rgba.width, rgba.height, {}};
  picture.rgb.resize(static_cast<size_t>(rgba.width) * rgba.height * kRgbBytes);
  uint8_t* output = picture.rgb.data();
  for (int y = 0; y < rgba.height; ++y) {
    const uint8_t* pixel = rgba.data[0] + static_cast<ptrdiff_t>(y) * rgba.linesize[0];
    for (int x = 0; x < rgba.width; ++x, pixel += kRgbaBytes) {
      const int alpha = pixel[3];
      for (int channel = 0; channel < kRgbBytes; ++channel) {
        *output++ = static_cast<uint8_t>((pixel[channel] * alpha + 127) / 255);
      }
    }
  }
  return picture;
}

Orientation matrix_orientation(const int32_t* matrix) {
  // 16.16 fixed point. Scaling is not ours to apply: only the signs count.
  const auto sign = [](int32_t value) { return (value > (1 << 14)) - (value < -(1 << 14)); };
  const Orientation found{sign(matrix[0]), sign(matrix[1]), sign(matrix[3]), sign(matrix[4])};
  const bool upright = found.a != 0 && found.d != 0 && found.b == 0 && found.c == 0;
  const bool sideways = found.a == 0 && found.d == 0 && found.b != 0 && found.c != 0;
  return upright || sideways ? found : Orientation{};
}

// `step`: bytes from one pixel's alpha to the next.
bool has_transparency(const AVFrame& frame, const uint8_t* alpha, int linesize, int step) {
  for (int y = 0; y < frame.height; ++y, alpha += linesize) {
    for (int x = 0; x < frame.width; ++x) {
      if (alpha[ptrdiff_t{x} * step] != 255) return true;
    }
  }
  return false;
}

// FFmpeg turns CMYK into RGB by c * k * 257 >> 16, in which white is 254.
uint8_t undo_rounding_down(uint8_t value) { return static_cast<uint8_t>(value + (value > 0 && value < 255 ? 1 : 0)); }

// The same in YUV: there it multiplies the distance of chroma from its middle, which rounds the upper half down.
FramePtr undo_rounding_down(const AVFrame& yuva) {
  FramePtr frame(not_null(av_frame_clone(&yuva)));
  if (av_frame_make_writable(frame.get()) < 0) throw std::bad_alloc();
  for (int plane = 0; plane < 3; ++plane) {
    const int least = plane == 0 ? 0 : 128;
    for (int y = 0; y < frame->height; ++y) {
      uint8_t* row = frame->data[plane] + static_cast<ptrdiff_t>(y) * frame->linesize[plane];
      std::transform(row, row + frame->width, row,
                     [&](uint8_t value) { return value > least ? undo_rounding_down(value) : value; });
    }
  }
  return frame;
}

}  // namespace

Orientation exif_orientation_of(int value) {
  static constexpr std::array<Orientation, 8> kOrientations = {{{1, 0, 0, 1},
                                                                {-1, 0, 0, 1},
                                                                {-1, 0, 0, -1},
                                                                {1, 0, 0, -1},
                                                                {0, 1, 1, 0},
                                                                {0, 1, -1, 0},
                                                                {0, -1, -1, 0},
                                                                {0, -1, 1, 0}}};
  return value >= 1 && value <= 8 ? kOrientations[value - 1] : Orientation{};
}

Orientation orientation(const AVFrame& frame, const AVStream& stream) {
  if (const AVFrameSideData* data = av_frame_get_side_data(&frame, AV_FRAME_DATA_DISPLAYMATRIX); data != nullptr) {
    return matrix_orientation(reinterpret_cast<const int32_t*>(data->data));
  }
  const uint8_t* data = av_stream_get_side_data(&stream, AV_PKT_DATA_DISPLAYMATRIX, nullptr);
  return data == nullptr ? Orientation{} : matrix_orientation(reinterpret_cast<const int32_t*>(data));
}

Picture turn(Picture picture, Orientation orientation) {
  if (orientation == Orientation{}) return picture;
  const auto [a, b, c, d] = orientation;
  const int width = a != 0 ? picture.width : picture.height;
  const int height = a != 0 ? picture.height : picture.width;
  Picture turned{width, height, std::vector<uint8_t>(picture.rgb.size())};
  const ptrdiff_t step_x =
      a + ptrdiff_t{b} * width;  // in the turned picture, for a step to the right in the stored one
  const ptrdiff_t step_y = c + ptrdiff_t{d} * width;
  const ptrdiff_t origin = (a + c < 0 ? width - 1 : 0) + (b + d < 0 ? ptrdiff_t{height - 1} * width : 0);
  constexpr int kBand = 32;  // rows at a time: what is written for one column of them is in the cache for the next
  for (int top = 0; top < picture.height; top += kBand) {
    const int bottom = std::min(top + kBand, picture.height);
    for (int x = 0; x < picture.width; ++x) {
      const uint8_t* source = &picture.rgb[(static_cast<size_t>(top) * picture.width + x) * kRgbBytes];
      uint8_t* target = turned.rgb.data() + (origin + x * step_x + top * step_y) * kRgbBytes;
      for (int y = top; y < bottom; ++y, source += ptrdiff_t{picture.width} * kRgbBytes) {
        std::copy_n(source, kRgbBytes, target + (y - top) * step_y * kRgbBytes);
      }
    }
  }
  return turned;
}

Picture RgbConverter::convert(const AVFrame& frame) {
  const auto format = static_cast<AVPixelFormat>(frame.format);
  if (sws_isSupportedInput(format) == 0) {
    throw InputMediaError(fmt::format("{}: the pixel format {} cannot be converted to RGB; convert the file to 8 bits",
                                      path_.string(), description(frame).name));
  }
  warn_of_colours(frame);
  if (still_ != nullptr) {
    const bool is_ycck = still_->is_inked && format == AV_PIX_FMT_YUVA444P;
    const FramePtr inked = is_ycck ? undo_rounding_down(frame) : nullptr;
    const AVFrame& yuv = is_ycck ? *inked : frame;
    const bool is_yuva = format == AV_PIX_FMT_YUVA420P || format == AV_PIX_FMT_YUVA444P;
    if (is_yuva && has_transparency(frame, frame.data[3], frame.linesize[3], 1)) tell_of_transparency();
    if (std::optional<Picture> picture = still_to_rgb(yuv, is_full_range(frame) || still_->is_full_range)) {
      return *std::move(picture);
    }
  }
  if (format == AV_PIX_FMT_RGB24) return pack(frame);
  const bool has_alpha = (description(frame).flags & AV_PIX_FMT_FLAG_ALPHA) != 0;
  const bool is_opaque = !has_alpha || (still_ != nullptr && still_->is_opaque);
  const AVPixelFormat output = is_opaque ? AV_PIX_FMT_RGB24 : AV_PIX_FMT_RGBA;
  const ScalerPtr converter = make_converter(frame, output, still_ != nullptr, path_);
  const FramePtr rgb = make_rgb_frame(frame, output, path_);
  check_input(sws_scale(converter.get(), frame.data, frame.linesize, 0, frame.height, rgb->data, rgb->linesize), path_,
              "convert a frame to RGB");
  Picture picture = is_opaque ? pack(*rgb) : pack_over_black(*rgb);
  if (!is_opaque && still_ != nullptr && has_transparency(*rgb, rgb->data[0] + 3, rgb->linesize[0], kRgbaBytes)) {
    tell_of_transparency();
  }
  if (still_ != nullptr && still_->is_inked) {
    std::transform(picture.rgb.begin(), picture.rgb.end(), picture.rgb.begin(),
                   [](uint8_t value) { return undo_rounding_down(value); });
  }
  return picture;
}

void RgbConverter::tell_of_transparency() {
  if (!std::exchange(told_of_transparency_, true)) {
    spdlog::info("{}: is transparent in places and is put over black", path_.string());
  }
}

void RgbConverter::warn_of_colours(const AVFrame& frame) {
  if (std::exchange(warned_, true)) return;
  const std::string name = path_.string();
  if (frame.color_trc == AVCOL_TRC_SMPTE2084 || frame.color_trc == AVCOL_TRC_ARIB_STD_B67) {
    spdlog::warn(
        "{}: is HDR ({}) and is read without tone mapping: its colours will look flat; convert it to SDR first", name,
        av_color_transfer_name(frame.color_trc));
    return;
  }
  if (still_ == nullptr) return;
  if ((description(frame).flags & AV_PIX_FMT_FLAG_FLOAT) != 0) {
    spdlog::warn(
        "{}: holds light in floating point, which is read as it is and will look dark; convert it to PNG first", name);
  }
  const std::string colours = still_->icc.empty() ? still_->colours : other_than_srgb(still_->icc);
  if (colours.empty()) return;
  spdlog::warn(
      "{}: its colours are {}, not sRGB, and are read as stored, as Pillow does: they may look a little off; "
      "convert it to sRGB first",
      name, colours);
}

}  // namespace opensora::media
