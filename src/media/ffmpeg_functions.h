// FFmpeg's functions, from libraries that are opened when the first of their functions is called.
//
// FFmpeg brings some 130 libraries; what shows no video (--help, a usage error, a completion) need not load them.
// Within namespace opensora::media the objects below hide FFmpeg's own functions and are called in the same way. One
// that is missing here shows when the program is linked: it is not linked to FFmpeg.
#pragma once

#include <atomic>

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/base64.h>
#include <libavutil/display.h>
#include <libavutil/frame.h>
#include <libavutil/log.h>
#include <libavutil/mem.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <libavutil/sha.h>
#include <libswscale/swscale.h>
}

namespace opensora::media {

// The function of that name in that library ("libavutil.so.57"), which is opened. Throws OutputError where it is
// absent.
void* ffmpeg_function(const char* library, const char* name);

template <typename Function>
class LazyFunction;

template <typename Result, typename... Arguments>
class LazyFunction<Result(Arguments...)> {
 public:
  constexpr LazyFunction(const char* library, const char* name) : library_(library), name_(name) {}

  Result operator()(Arguments... arguments) const {
    Function* function = function_.load(std::memory_order_acquire);
    if (function == nullptr) {
      function = reinterpret_cast<Function*>(ffmpeg_function(library_, name_));
      function_.store(function, std::memory_order_release);
    }
    return function(arguments...);
  }

 private:
  using Function = Result(Arguments...);
  const char *library_, *name_;
  mutable std::atomic<Function*> function_ = nullptr;
};

// Attributes of FFmpeg's declarations, such as warn_unused_result, are no part of their types.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-attributes"

// The release whose headers these are, as Debian and FFmpeg itself name its libraries.
#define OPENSORA_FFMPEG_LIBRARY(name, major) "lib" #name ".so." AV_STRINGIFY(major)
#define OPENSORA_FFMPEG(name, major, function) \
  inline constinit const LazyFunction<decltype(::function)> function(OPENSORA_FFMPEG_LIBRARY(name, major), #function)

#define OPENSORA_AVUTIL(function) OPENSORA_FFMPEG(avutil, LIBAVUTIL_VERSION_MAJOR, function)
OPENSORA_AVUTIL(av_base64_encode);
OPENSORA_AVUTIL(av_color_transfer_name);
OPENSORA_AVUTIL(av_d2q);
OPENSORA_AVUTIL(av_dict_free);
OPENSORA_AVUTIL(av_dict_get);
OPENSORA_AVUTIL(av_dict_set);
OPENSORA_AVUTIL(av_dict_set_int);
OPENSORA_AVUTIL(av_frame_alloc);
OPENSORA_AVUTIL(av_frame_clone);
OPENSORA_AVUTIL(av_frame_copy_props);
OPENSORA_AVUTIL(av_frame_free);
OPENSORA_AVUTIL(av_frame_get_buffer);
OPENSORA_AVUTIL(av_frame_get_side_data);
OPENSORA_AVUTIL(av_frame_make_writable);
OPENSORA_AVUTIL(av_frame_move_ref);
OPENSORA_AVUTIL(av_free);
OPENSORA_AVUTIL(av_get_pix_fmt);
OPENSORA_AVUTIL(av_get_pix_fmt_name);
OPENSORA_AVUTIL(av_log_format_line2);
OPENSORA_AVUTIL(av_log_set_callback);
OPENSORA_AVUTIL(av_malloc);
OPENSORA_AVUTIL(av_opt_set);
OPENSORA_AVUTIL(av_opt_set_double);
OPENSORA_AVUTIL(av_opt_set_int);
OPENSORA_AVUTIL(av_pix_fmt_desc_get);
OPENSORA_AVUTIL(av_rescale_q);
OPENSORA_AVUTIL(av_rescale_q_rnd);
OPENSORA_AVUTIL(av_sha_alloc);
OPENSORA_AVUTIL(av_sha_final);
OPENSORA_AVUTIL(av_sha_init);
OPENSORA_AVUTIL(av_sha_update);
OPENSORA_AVUTIL(av_strerror);
OPENSORA_AVUTIL(av_version_info);
#undef OPENSORA_AVUTIL

#define OPENSORA_AVCODEC(function) OPENSORA_FFMPEG(avcodec, LIBAVCODEC_VERSION_MAJOR, function)
OPENSORA_AVCODEC(av_packet_alloc);
OPENSORA_AVCODEC(av_packet_free);
OPENSORA_AVCODEC(av_packet_get_side_data);
OPENSORA_AVCODEC(av_packet_rescale_ts);
OPENSORA_AVCODEC(av_packet_unref);
OPENSORA_AVCODEC(avcodec_alloc_context3);
OPENSORA_AVCODEC(avcodec_default_get_buffer2);
OPENSORA_AVCODEC(avcodec_find_decoder);
OPENSORA_AVCODEC(avcodec_find_encoder);
OPENSORA_AVCODEC(avcodec_find_encoder_by_name);
OPENSORA_AVCODEC(avcodec_free_context);
OPENSORA_AVCODEC(avcodec_get_name);
OPENSORA_AVCODEC(avcodec_open2);
OPENSORA_AVCODEC(avcodec_parameters_from_context);
OPENSORA_AVCODEC(avcodec_parameters_to_context);
OPENSORA_AVCODEC(avcodec_receive_frame);
OPENSORA_AVCODEC(avcodec_receive_packet);
OPENSORA_AVCODEC(avcodec_send_frame);
OPENSORA_AVCODEC(avcodec_send_packet);
#undef OPENSORA_AVCODEC

#define OPENSORA_AVFORMAT(function) OPENSORA_FFMPEG(avformat, LIBAVFORMAT_VERSION_MAJOR, function)
OPENSORA_AVFORMAT(av_find_best_stream);
OPENSORA_AVFORMAT(av_find_input_format);
OPENSORA_AVFORMAT(av_guess_frame_rate);
OPENSORA_AVFORMAT(av_guess_sample_aspect_ratio);
OPENSORA_AVFORMAT(av_interleaved_write_frame);
OPENSORA_AVFORMAT(av_read_frame);
OPENSORA_AVFORMAT(av_stream_get_side_data);
OPENSORA_AVFORMAT(av_write_trailer);
OPENSORA_AVFORMAT(avformat_alloc_context);
OPENSORA_AVFORMAT(avformat_alloc_output_context2);
OPENSORA_AVFORMAT(avformat_close_input);
OPENSORA_AVFORMAT(avformat_find_stream_info);
OPENSORA_AVFORMAT(avformat_free_context);
OPENSORA_AVFORMAT(avformat_new_stream);
OPENSORA_AVFORMAT(avformat_open_input);
OPENSORA_AVFORMAT(avformat_write_header);
OPENSORA_AVFORMAT(avio_closep);
OPENSORA_AVFORMAT(avio_open);
OPENSORA_AVFORMAT(avio_open2);
OPENSORA_AVFORMAT(avio_write);
#undef OPENSORA_AVFORMAT

#define OPENSORA_SWSCALE(function) OPENSORA_FFMPEG(swscale, LIBSWSCALE_VERSION_MAJOR, function)
OPENSORA_SWSCALE(sws_alloc_context);
OPENSORA_SWSCALE(sws_freeContext);
OPENSORA_SWSCALE(sws_getCoefficients);
OPENSORA_SWSCALE(sws_init_context);
OPENSORA_SWSCALE(sws_isSupportedInput);
OPENSORA_SWSCALE(sws_isSupportedOutput);
OPENSORA_SWSCALE(sws_scale);
OPENSORA_SWSCALE(sws_setColorspaceDetails);
#undef OPENSORA_SWSCALE

#pragma GCC diagnostic pop
#undef OPENSORA_FFMPEG
#undef OPENSORA_FFMPEG_LIBRARY

}  // namespace opensora::media
