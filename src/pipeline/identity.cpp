#include "pipeline/identity.h"

#include <algorithm>
#include <fstream>
#include <vector>

#include "media/sha256.h"
#include "opensora/error.h"

namespace opensora::pipeline {
namespace {

void add_file(media::Sha256& hash, const std::filesystem::path& path) {
  constexpr uint64_t kBlocks = 64, kBlockBytes = 4096;
  std::ifstream stream(path, std::ios::binary | std::ios::ate);
  const auto size = static_cast<uint64_t>(std::max<std::streamoff>(stream.tellg(), 0));
  hash.update(&size, sizeof(size));
  std::vector<char> block(kBlockBytes);
  for (uint64_t i = 0; i < kBlocks; ++i) {
    const uint64_t offset = size > kBlockBytes ? (size - kBlockBytes) / (kBlocks - 1) * i : 0;
    const uint64_t bytes = std::min(kBlockBytes, size);
    stream.seekg(static_cast<std::streamoff>(offset));
    stream.read(block.data(), static_cast<std::streamsize>(bytes));
    if (!stream) throw CheckpointError(path.string() + ": cannot be read");
    hash.update(block.data(), bytes);
  }
}

}  // namespace

std::string checkpoint_identity(const io::Checkpoint& checkpoint) {
  media::Sha256 hash;
  for (const std::filesystem::path& file : checkpoint.files()) add_file(hash, file);
  return hash.hex();
}

}  // namespace opensora::pipeline
