#include "media/to_rgb.h"

#include <spdlog/spdlog.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "media/ffmpeg_functions.h"
#include "opensora/error.h"

namespace opensora::media {
namespace {

constexpr int kRgbBytes = 3;
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

const int* color_matrix(const AVFrame& frame) {
  constexpr int kHdRows = 720;
  if (frame.colorspace == AVCOL_SPC_UNSPECIFIED) {
    return sws_getCoefficients(frame.height >= kHdRows ? SWS_CS_ITU709 : SWS_CS_ITU601);
  }
  return sws_getCoefficients(frame.colorspace);
}

// Whether subsampled chroma lies level with the left of two pixels, as videos mostly have it, or between them (JPEG).
bool is_chroma_left(const AVFrame& frame) {
  if (frame.chroma_location == AVCHROMA_LOC_UNSPECIFIED) return !is_full_range(frame);
  return frame.chroma_location == AVCHROMA_LOC_LEFT || frame.chroma_location == AVCHROMA_LOC_TOPLEFT;
}

ScalerPtr make_converter(const AVFrame& frame, AVPixelFormat output, const std::filesystem::path& path) {
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
  if (description(frame).log2_chroma_w == 1 && is_chroma_left(frame)) set("src_h_chr_pos", 0);
  check_input(sws_init_context(scaler.get(), nullptr, nullptr), path, "set up the conversion to RGB");
  const bool is_rgb = (description(frame).flags & (AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL)) != 0;
  if (!is_rgb) {
    const int* matrix = color_matrix(frame);
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

// The values 1 to 8 of EXIF's Orientation.
Orientation exif_orientation(int value) {
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

Orientation matrix_orientation(const int32_t* matrix) {
  // 16.16 fixed point. Scaling is not ours to apply: only the signs count.
  const auto sign = [](int32_t value) { return (value > (1 << 14)) - (value < -(1 << 14)); };
  const Orientation found{sign(matrix[0]), sign(matrix[1]), sign(matrix[3]), sign(matrix[4])};
  const bool upright = found.a != 0 && found.d != 0 && found.b == 0 && found.c == 0;
  const bool sideways = found.a == 0 && found.d == 0 && found.b != 0 && found.c != 0;
  return upright || sideways ? found : Orientation{};
}

}  // namespace

Orientation orientation(const AVFrame& frame, const AVStream& stream) {
  if (const AVDictionaryEntry* entry = av_dict_get(frame.metadata, "Orientation", nullptr, 0); entry != nullptr) {
    return exif_orientation(std::atoi(entry->value));
  }
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
  const uint8_t* source = picture.rgb.data();
  for (int y = 0; y < picture.height; ++y) {
    for (int x = 0; x < picture.width; ++x, source += kRgbBytes) {
      std::memcpy(&turned.rgb[(origin + x * step_x + y * step_y) * kRgbBytes], source, kRgbBytes);
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
  warn_of_hdr(frame);
  const bool has_alpha = (description(frame).flags & AV_PIX_FMT_FLAG_ALPHA) != 0;
  const AVPixelFormat output = has_alpha ? AV_PIX_FMT_RGBA : AV_PIX_FMT_RGB24;
  const ScalerPtr converter = make_converter(frame, output, path_);
  const FramePtr rgb = make_rgb_frame(frame, output, path_);
  check_input(sws_scale(converter.get(), frame.data, frame.linesize, 0, frame.height, rgb->data, rgb->linesize), path_,
              "convert a frame to RGB");
  return has_alpha ? pack_over_black(*rgb) : pack(*rgb);
}

void RgbConverter::warn_of_hdr(const AVFrame& frame) {
  if (warned_ || (frame.color_trc != AVCOL_TRC_SMPTE2084 && frame.color_trc != AVCOL_TRC_ARIB_STD_B67)) return;
  warned_ = true;
  spdlog::warn("{}: is HDR ({}) and is read without tone mapping: its colours will look flat; convert it to SDR first",
               path_.string(), av_color_transfer_name(frame.color_trc));
}

}  // namespace opensora::media
