#include "media/picture.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <string>
#include <utility>

#include "media/ffmpeg_functions.h"
#include "opensora/error.h"
#include "opensora/video.h"

namespace opensora::media {
namespace {

int check_sws(int result, const char* action) {
  if (result < 0) throw OutputError(fmt::format("cannot {}: {}", action, error_text(result)));
  return result;
}

FramePtr make_frame(AVPixelFormat format, Size size) {
  FramePtr frame(not_null(av_frame_alloc()));
  frame->format = format;
  frame->width = size.width;
  frame->height = size.height;
  check_sws(av_frame_get_buffer(frame.get(), 0), "allocate a frame");
  return frame;
}

// A swscale context from RGB24. `options` are swscale's own, by name. All roundings are exact, so that a result does
// not depend on which SIMD code the CPU has.
ScalerPtr make_scaler(Size input, Size output, AVPixelFormat format, int flags,
                      std::initializer_list<std::pair<const char*, int>> options = {}) {
  init_logging();
  ScalerPtr scaler(not_null(sws_alloc_context()));
  const auto set = [&](const char* name, int64_t value) {
    check_sws(av_opt_set_int(scaler.get(), name, value, 0), "set up scaling");
  };
  set("srcw", input.width);
  set("srch", input.height);
  set("src_format", AV_PIX_FMT_RGB24);
  set("dstw", output.width);
  set("dsth", output.height);
  set("dst_format", format);
  set("sws_flags", flags | SWS_ACCURATE_RND | SWS_BITEXACT | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP);
  for (const auto& [name, value] : options) set(name, value);
  check_sws(sws_init_context(scaler.get(), nullptr, nullptr), "set up scaling");
  return scaler;
}

const AVPixFmtDescriptor& describe(const std::string& pixel_format) {
  return *not_null(av_pix_fmt_desc_get(av_get_pix_fmt(pixel_format.c_str())));
}

bool is_rgb(const AVPixFmtDescriptor& format) { return (format.flags & AV_PIX_FMT_FLAG_RGB) != 0; }

void tag_colours(const AVPixFmtDescriptor& format, AVFrame& frame) {
  frame.colorspace = is_rgb(format) ? AVCOL_SPC_RGB : AVCOL_SPC_BT709;
  frame.color_primaries = AVCOL_PRI_BT709;
  frame.color_trc = AVCOL_TRC_BT709;
  frame.color_range = is_rgb(format) ? AVCOL_RANGE_JPEG : AVCOL_RANGE_MPEG;
  if (format.log2_chroma_w > 0) frame.chroma_location = AVCHROMA_LOC_LEFT;
}

void copy_packed(const uint8_t* rgb24, Size size, AVFrame& frame) {
  const size_t row = static_cast<size_t>(size.width) * kRgbBytes;
  for (int y = 0; y < size.height; ++y) {
    std::memcpy(frame.data[0] + static_cast<ptrdiff_t>(y) * frame.linesize[0], rgb24 + y * row, row);
  }
}

// Fills what lies right of and below `size` with the last column and the last row.
void replicate_edge(Size size, AVFrame& frame) {
  const ptrdiff_t stride = frame.linesize[0];
  const ptrdiff_t row = ptrdiff_t{frame.width} * kRgbBytes;
  const ptrdiff_t filled = ptrdiff_t{size.width} * kRgbBytes;
  for (int y = 0; y < size.height; ++y) {
    uint8_t* pixels = frame.data[0] + y * stride;
    for (ptrdiff_t at = filled; at < row; ++at) pixels[at] = pixels[at - kRgbBytes];
  }
  const uint8_t* last = frame.data[0] + (size.height - 1) * stride;
  for (int y = size.height; y < frame.height; ++y) std::memcpy(frame.data[0] + y * stride, last, row);
}

constexpr int kMaxShown = 12, kMaxColumns = 4;
constexpr int kMaxWidth = 1600;  // pixels
constexpr int kGap = 4;          // pixels

Size cell_size(Size size, int columns) {
  const int room = (kMaxWidth - (columns - 1) * kGap) / columns;
  if (size.width <= room) return size;
  return {room, std::max(1, static_cast<int>(int64_t{size.height} * room / size.width))};
}

// The frame that cell `i` of `shown` holds.
int64_t frame_of_cell(int i, int shown, int64_t frames) {
  return shown == 1 ? 0 : (i * (frames - 1) + (shown - 1) / 2) / (shown - 1);
}

}  // namespace

Size output_size(Size input, Size output) {
  const Size size{output.width == 0 ? input.width : output.width, output.height == 0 ? input.height : output.height};
  for (const Size& each : {input, size}) {
    if (std::min(each.width, each.height) < 1 || std::max(each.width, each.height) > kMaxEdge) {
      throw UsageError(fmt::format("a picture of {}x{} pixels cannot be written: expected 1 to {} each way", each.width,
                                   each.height, kMaxEdge));
    }
  }
  return size;
}

Size coded_size(Size size, const std::string& pixel_format) {
  const AVPixFmtDescriptor& format = describe(pixel_format);
  const auto round_up = [](int value, int log2) { return (value + (1 << log2) - 1) >> log2 << log2; };
  return {round_up(size.width, format.log2_chroma_w), round_up(size.height, format.log2_chroma_h)};
}

RgbScaler::RgbScaler(Size input, Size output, Size canvas)
    : input_size_(input), output_size_(output), canvas_(make_frame(AV_PIX_FMT_RGB24, canvas)) {
  if (input == output) return;
  input_ = make_frame(AV_PIX_FMT_RGB24, input);
  scaler_ = make_scaler(input, output, AV_PIX_FMT_RGB24, SWS_LANCZOS);
}

const AVFrame& RgbScaler::scale(const uint8_t* rgb24) {
  check_sws(av_frame_make_writable(canvas_.get()), "allocate a frame");  // an encoder may still hold the last one
  if (scaler_) {
    copy_packed(rgb24, input_size_, *input_);
    check_sws(sws_scale(scaler_.get(), input_->data, input_->linesize, 0, input_size_.height, canvas_->data,
                        canvas_->linesize),
              "scale a frame");
  } else {
    copy_packed(rgb24, input_size_, *canvas_);
  }
  replicate_edge(output_size_, *canvas_);
  return *canvas_;
}

FrameConverter::FrameConverter(Size size, const std::string& pixel_format)
    : frame_(make_frame(av_get_pix_fmt(pixel_format.c_str()), size)) {
  const AVPixFmtDescriptor& format = describe(pixel_format);
  // The filter only shrinks the chroma planes: bilinear, as anything sharper rings at coloured edges. Positions are in
  // 1/256 of a luma pixel: level with the left one, between the two rows. -513: swscale's default.
  const int horizontal = format.log2_chroma_w > 0 ? 0 : -513, vertical = format.log2_chroma_h > 0 ? 128 : -513;
  converter_ = make_scaler(size, size, static_cast<AVPixelFormat>(frame_->format), SWS_BILINEAR,
                           {{"dst_h_chr_pos", horizontal}, {"dst_v_chr_pos", vertical}});
  tag_colours(format, *frame_);
  if (is_rgb(format)) return;
  const int* bt709 = sws_getCoefficients(SWS_CS_ITU709);
  constexpr int kFullRange = 1, kLimitedRange = 0;
  constexpr int kOne = 1 << 16;  // neutral contrast and saturation, 16.16 fixed point
  check_sws(
      sws_setColorspaceDetails(converter_.get(), bt709, kFullRange, bt709, kLimitedRange, /*brightness=*/0, kOne, kOne),
      "convert to BT.709");
}

AVFrame& FrameConverter::convert(const AVFrame& rgb) {
  check_sws(av_frame_make_writable(frame_.get()), "allocate a frame");  // the encoder may still hold the last one
  check_sws(sws_scale(converter_.get(), rgb.data, rgb.linesize, 0, rgb.height, frame_->data, frame_->linesize),
            "convert a frame for the encoder");
  return *frame_;
}

AVFrame& FrameConverter::copy_yuv420p(const uint8_t* planes) {
  check_sws(av_frame_make_writable(frame_.get()), "allocate a frame");
  for (int plane = 0; plane < 3; ++plane) {
    const int shift = plane == 0 ? 0 : 1;
    const int width = frame_->width >> shift, height = frame_->height >> shift;
    for (int y = 0; y < height; ++y, planes += width) {
      std::memcpy(frame_->data[plane] + static_cast<ptrdiff_t>(y) * frame_->linesize[plane], planes, width);
    }
  }
  return *frame_;
}

ContactSheet::ContactSheet(int64_t frames, Size size)
    : frames_(frames),
      shown_(static_cast<int>(std::min<int64_t>(frames, kMaxShown))),
      columns_(std::min(shown_, kMaxColumns)),
      cell_(cell_size(size, columns_)),
      scaler_(size, cell_, /*canvas=*/cell_) {
  const int rows = (shown_ + columns_ - 1) / columns_;
  sheet_.width = columns_ * (cell_.width + kGap) - kGap;
  sheet_.height = rows * (cell_.height + kGap) - kGap;
  sheet_.rgb.assign(static_cast<size_t>(sheet_.width) * sheet_.height * kRgbBytes, 0);
}

void ContactSheet::add(int64_t t, const uint8_t* rgb24) {
  for (int i = 0; i < shown_; ++i) {
    if (frame_of_cell(i, shown_, frames_) != t) continue;
    const AVFrame& cell = scaler_.scale(rgb24);
    const int64_t left = int64_t{i % columns_} * (cell_.width + kGap),
                  top = int64_t{i / columns_} * (cell_.height + kGap);
    for (int64_t y = 0; y < cell_.height; ++y) {
      std::memcpy(&sheet_.rgb[((top + y) * sheet_.width + left) * kRgbBytes], cell.data[0] + y * cell.linesize[0],
                  static_cast<size_t>(cell_.width) * kRgbBytes);
    }
    return;
  }
}

}  // namespace opensora::media
