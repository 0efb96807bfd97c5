#include "media/sha256.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <vector>

extern "C" {
#include <libavutil/mem.h>
#include <libavutil/sha.h>
}

#include "media/ffmpeg.h"
#include "opensora/error.h"

namespace opensora::media {
namespace {

struct AvFree {
  void operator()(AVSHA* context) const noexcept { av_free(context); }
};

}  // namespace

std::string sha256_of_file(const std::filesystem::path& path) {
  const std::unique_ptr<AVSHA, AvFree> context(not_null(av_sha_alloc()));
  av_sha_init(context.get(), 256);
  std::ifstream stream(path, std::ios::binary);
  std::vector<char> buffer(1 << 20);
  while (stream) {
    stream.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    av_sha_update(context.get(), reinterpret_cast<const uint8_t*>(buffer.data()), static_cast<size_t>(stream.gcount()));
  }
  if (!stream.eof()) throw CheckpointError(path.string() + ": cannot be read: " + std::strerror(errno));
  std::array<uint8_t, 32> digest{};
  av_sha_final(context.get(), digest.data());
  std::string text;
  for (const uint8_t byte : digest) text += fmt::format("{:02x}", byte);
  return text;
}

}  // namespace opensora::media
