#include "media/sha256.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <vector>

#include "media/ffmpeg.h"
#include "media/ffmpeg_functions.h"
#include "opensora/error.h"

namespace opensora::media {

Sha256::Sha256() : context_(not_null(av_sha_alloc())) { av_sha_init(context_.get(), 256); }

void Sha256::update(std::string_view bytes) {
  av_sha_update(context_.get(), reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

std::string Sha256::finish() {
  std::array<uint8_t, 32> digest{};
  av_sha_final(context_.get(), digest.data());
  std::string text;
  for (const uint8_t byte : digest) text += fmt::format("{:02x}", byte);
  return text;
}

std::string sha256_of_text(std::string_view text) {
  Sha256 hash;
  hash.update(text);
  return hash.finish();
}

std::string sha256_of_file(const std::filesystem::path& path) {
  Sha256 hash;
  std::ifstream stream(path, std::ios::binary);
  std::vector<char> buffer(1 << 20);
  while (stream) {
    stream.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    hash.update({buffer.data(), static_cast<size_t>(stream.gcount())});
  }
  if (!stream.eof()) throw CheckpointError(path.string() + ": cannot be read: " + std::strerror(errno));
  return hash.finish();
}

}  // namespace opensora::media
