#include "media/png.h"

#include <array>
#include <cstdint>
#include <fstream>
#include <iterator>

#include "core/output_file.h"
#include "media/ffmpeg.h"
#include "media/ffmpeg_functions.h"
#include "media/file_bytes.h"
#include "media/picture.h"
#include "opensora/error.h"

namespace opensora::media {
namespace {

PacketPtr encode_frame(const AVFrame& frame, const std::filesystem::path& path) {
  const AVCodec* codec = avcodec_find_encoder(AV_CODEC_ID_PNG);
  if (codec == nullptr) {
    throw OutputError(path.string() + ": this FFmpeg has no PNG encoder; install a libavcodec that is built with zlib");
  }
  CodecContextPtr encoder(not_null(avcodec_alloc_context3(codec)));
  encoder->width = frame.width;
  encoder->height = frame.height;
  encoder->pix_fmt = AV_PIX_FMT_RGB24;
  encoder->time_base = {1, 1};
  encoder->thread_count = 1;
  check(av_opt_set(encoder->priv_data, "pred", "mixed", 0), path, "set up the PNG encoder");  // much smaller files
  check(avcodec_open2(encoder.get(), codec, nullptr), path, "open the PNG encoder");

  PacketPtr packet(not_null(av_packet_alloc()));
  check(avcodec_send_frame(encoder.get(), &frame), path, "encode the picture");
  check(avcodec_send_frame(encoder.get(), nullptr), path, "encode the picture");
  check(avcodec_receive_packet(encoder.get(), packet.get()), path, "encode the picture");
  return packet;
}

using namespace std::string_view_literals;

constexpr std::string_view kSignature = "\x89PNG\r\n\x1A\n"sv;
constexpr std::string_view kKeyword = "opensora unfinished\0"sv;  // of the tEXt chunk
constexpr size_t kEndChunk = 12;                                  // bytes of IEND, always the last

std::string to_big_endian(uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
          static_cast<char>(value)};
}

// The CRC-32 of PNG's specification.
uint32_t crc_of(std::string_view bytes) {
  uint32_t crc = 0xFFFFFFFF;
  for (const char byte : bytes) {
    crc ^= static_cast<uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (0xEDB88320 & (0U - (crc & 1)));
  }
  return ~crc;
}

constexpr size_t kAround = 12;  // bytes of a chunk beside its data: length and type before it, CRC behind it

// Our whole chunk, within a whole PNG file; empty: it has none.
std::string_view find_chunk(std::string_view file) {
  if (!file.starts_with(kSignature)) return {};
  for (size_t at = kSignature.size(); at + kAround <= file.size();) {
    const size_t length = big_endian(file.substr(at), 4);
    if (length > file.size() - at - kAround) return {};
    const std::string_view type = file.substr(at + 4, 4), data = file.substr(at + 8, length);
    if (type == "tEXt" && data.starts_with(kKeyword)) return file.substr(at, kAround + length);
    at += kAround + length;
  }
  return {};
}

}  // namespace

std::string encode_png(const std::filesystem::path& path, const uint8_t* rgb24, int width, int height, int output_width,
                       int output_height) {
  init_logging();
  const Size input{width, height};
  const Size output = output_size(input, {output_width, output_height});
  RgbScaler scaler(input, output, /*canvas=*/output);
  const PacketPtr packet = encode_frame(scaler.scale(rgb24), path);
  return {reinterpret_cast<const char*>(packet->data), static_cast<size_t>(packet->size)};
}

void write_png(const std::filesystem::path& path, const uint8_t* rgb24, int width, int height, bool overwrite,
               int output_width, int output_height) {
  OutputFile file(path, overwrite);
  write_content(file.staged(), encode_png(path, rgb24, width, height, output_width, output_height));
  file.commit();
}

std::string with_note(std::string file, std::string_view note) {
  const std::string chunk = std::string("tEXt").append(kKeyword).append(note);
  const uint32_t length = static_cast<uint32_t>(kKeyword.size() + note.size());
  return file.insert(file.size() - kEndChunk, to_big_endian(length) + chunk + to_big_endian(crc_of(chunk)));
}

std::string without_note(std::string file) {
  const std::string_view chunk = find_chunk(file);
  if (!chunk.empty()) file.erase(static_cast<size_t>(chunk.data() - file.data()), chunk.size());
  return file;
}

std::string read_note(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  std::array<char, kSignature.size()> start{};
  stream.read(start.data(), start.size());
  if (!stream || std::string_view(start.data(), start.size()) != kSignature) return {};
  const std::string file =
      std::string(kSignature) + std::string(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
  const std::string_view chunk = find_chunk(file);
  if (chunk.empty()) return {};
  return std::string(chunk.substr(8 + kKeyword.size(), chunk.size() - kAround - kKeyword.size()));
}

}  // namespace opensora::media
