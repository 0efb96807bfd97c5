// The models of a run: which file, bound to which device and dtype, and how long they stay.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "autoencoder/autoencoder.h"
#include "diffusion/mmdit.h"
#include "io/checkpoint.h"
#include "opensora/generate.h"

namespace opensora::pipeline {

// Where the models of a run come from. All videos of a run share it.
struct ModelSource {
  GenerateRequest request;  // its folder, files and configuration of models; the rest plays no part
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  int64_t tokens = 0;  // of the largest video with its text: with it --offload auto reckons
};

// Each model is loaded when it is asked for, and stays until it is released here and by whoever asked.
// All throw CheckpointError: no file, damaged, of another kind, or tensors missing or mis-shaped.
// Two threads may use it, as long as they ask for different models.
class Models {
 public:
  // Told of each loading: "transformer", "autoencoder", "flux", "flux_autoencoder", and how long it took.
  using LoadCallback = std::function<void(std::string_view model, double seconds)>;

  explicit Models(ModelSource source, LoadCallback on_load = {});

  std::shared_ptr<const diffusion::MMDiT> video_transformer();
  std::shared_ptr<const diffusion::MMDiT> image_transformer();
  std::shared_ptr<const autoencoder::Autoencoder> image_autoencoder();
  // `config` may differ from the source's in its tiling. The halves are models of their own.
  std::shared_ptr<const autoencoder::Autoencoder> video_encoder(const VideoAutoencoderConfig& config);
  std::shared_ptr<const autoencoder::Autoencoder> video_decoder(const VideoAutoencoderConfig& config);

  void release_video_transformer() { video_transformer_.reset(); }
  void release_image_models();
  void release_video_encoder() { video_encoder_ = {}; }
  void release_video_decoder() { video_decoder_ = {}; }

  const ModelSource& source() const { return source_; }

 private:
  struct HalfAutoencoder {
    std::shared_ptr<const autoencoder::Autoencoder> model;
    VideoAutoencoderConfig config;
  };
  const HalfAutoencoder& video_autoencoder(HalfAutoencoder& half, autoencoder::Half which,
                                           const VideoAutoencoderConfig& config);
  std::shared_ptr<const diffusion::MMDiT> open_transformer(const std::filesystem::path& file,
                                                           const MMDiTConfig& config) const;
  Weights open_weights(std::shared_ptr<const io::Checkpoint> checkpoint) const;

  ModelSource source_;
  LoadCallback on_load_;
  std::shared_ptr<const diffusion::MMDiT> video_transformer_, image_transformer_;
  std::shared_ptr<const autoencoder::Autoencoder> image_autoencoder_;
  HalfAutoencoder video_encoder_, video_decoder_;
};

// Finds and opens every file that the request will load and compares all names and shapes with the models': see
// check_models(). `encodes_pictures`: the video autoencoder's encoder is needed, too. Where embeddings are given the
// text encoders are check_texts()' business. Throws CheckpointError.
void check_model_files(const GenerateRequest& request, bool encodes_pictures);

}  // namespace opensora::pipeline
