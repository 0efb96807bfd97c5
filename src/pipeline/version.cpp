#include "opensora/version.h"

#include <torch/headeronly/version.h>
#include <unicode/uversion.h>

#include "core/device.h"
#include "media/ffmpeg.h"

namespace opensora {

std::string version() { return OPENSORA_VERSION; }

std::vector<std::pair<std::string, std::string>> library_versions() {
  return {{"LibTorch", TORCH_VERSION},
          {"FFmpeg", media::ffmpeg_version()},
          {"SentencePiece", OPENSORA_SENTENCEPIECE_VERSION},
          {"ICU", U_ICU_VERSION},
          {"CUDA", cuda_state()}};
}

}  // namespace opensora
