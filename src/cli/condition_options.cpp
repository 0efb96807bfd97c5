#include "cli/condition_options.h"

#include "cli/number_options.h"
#include "cli/validators.h"
#include "core/local_file.h"
#include "opensora/error.h"

namespace opensora::cli {
namespace {

// What the references alone mean: one image starts the video, two are its start and end, an end image alone its end.
std::string implied_type(const ConditionOptions& options) {
  const size_t images = options.images.size() + (options.end_image.empty() ? 0 : 1);
  if (!options.video.empty()) return "v2v_head";
  if (images == 2) return "i2v_loop";
  if (images == 1) return options.images.empty() ? "i2v_tail" : "i2v_head";
  return "t2v";
}

void check_references(const ConditionOptions& options) {
  const size_t images = options.images.size() + (options.end_image.empty() ? 0 : 1);
  if (images > 2) throw UsageError("--image: expected at most two images, first and last frame");
  if (images > 0 && !options.video.empty()) throw UsageError("--video and --image exclude each other");
}

// A type that the references given can serve; an image given with --image may also be the last frame.
bool fits(const std::string& type, const ConditionOptions& options) {
  const std::string implied = implied_type(options);
  if (type.starts_with("v2v")) return implied.starts_with("v2v");
  return type == implied || (type == "i2v_tail" && implied == "i2v_head");
}

std::string needed_by(const std::string& type) {
  if (type.starts_with("v2v")) return "--video";
  if (type == "i2v_loop") return "two images: --image twice, or --image and --end-image";
  if (type == "i2v_tail") return "--end-image";
  return type == "t2v" ? "no reference" : "one --image";
}

std::string effective_type(const ConditionOptions& options, const std::string& configured) {
  if (!options.cond_type.empty()) {
    if (fits(options.cond_type, options)) return options.cond_type;
    throw UsageError("--cond-type " + options.cond_type + " takes " + needed_by(options.cond_type));
  }
  const std::string implied = implied_type(options);
  if (implied == "t2v" && configured != "t2v") {
    throw UsageError("the configuration's cond_type " + configured + " takes " + needed_by(configured));
  }
  return fits(configured, options) ? configured : implied;
}

}  // namespace

void ConditionOptions::add_to(CLI::App& command, GenerateRequest& request) {
  const char* group = "Reference";
  command.add_option("-i,--image", images, "Image for the first frame; given twice: first and last frame")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->allow_extra_args(false)
      ->type_name("FILE")
      ->group(group);
  command.add_option("--end-image", end_image, "Image for the last frame")->type_name("FILE")->group(group);
  command
      .add_option("--video", video,
                  "Video whose first 33 frames (v2v_..._easy: 65) the new one goes on from, or whose last it leads to")
      ->type_name("FILE")
      ->group(group);
  command.add_option("--cond-type", cond_type, "Default: from what is given, and v2v_head for a video")
      ->check(
          one_of({"t2v", "i2v_head", "i2v_tail", "i2v_loop", "v2v_head", "v2v_tail", "v2v_head_easy", "v2v_tail_easy"}))
      ->group(group);
  command
      .add_flag("--sample-posterior", request.sample_posterior, "Encode references with noise, as the official code")
      ->group(group);
  command
      .add_flag_function(
          "--t2i2v,!--no-t2i2v", [this](int64_t count) { t2i2v = count > 0; }, "Let FLUX make the first frame, or not")
      ->group(group);
  command.add_flag("--image-only", request.image_only, "Stop after FLUX's picture")->group(group);
  command.add_option("--image-resolution", image_resolution, "Resolution of FLUX's picture (default: configuration)")
      ->group(group);
  add_size(command, "--image-size", image_size, "Size of FLUX's picture instead")->group(group);
}

void ConditionOptions::apply(GenerateRequest& request) const {
  check_references(*this);
  Config& config = request.config;
  config.cond_type = effective_type(*this, config.cond_type);
  request.references.clear();
  for (const std::string& image : images) request.references.push_back(local_file(image));
  if (!end_image.empty()) request.references.push_back(local_file(end_image));
  if (!video.empty()) request.references.push_back(local_file(video));

  if (t2i2v) config.use_t2i2v = *t2i2v;
  if (!request.references.empty()) {
    if (t2i2v.value_or(false))
      throw UsageError("--t2i2v makes the first frame itself: it excludes --image and --video");
    config.use_t2i2v = false;
  }
  if (config.use_t2i2v && !config.text_to_image) {
    throw UsageError("--t2i2v: " + config.name + " has no img_flux; try --config t2i2v_256px");
  }
  if (request.image_only && !config.use_t2i2v) throw UsageError("--image-only: this run makes no picture; see --t2i2v");
  if (!image_resolution.empty() && config.text_to_image) config.text_to_image->resolution = image_resolution;
  if (image_size) request.image_size = image_size;
}

void add_text_encoder_files(CLI::App& command, ModelFiles& files) {
  const char* group = "Model";
  command.add_option("--t5xxl", files.t5xxl, "T5's weights: a file or folder")->type_name("PATH")->group(group);
  command.add_option("--clip-l", files.clip_l, "CLIP's weights: a file or folder")->type_name("PATH")->group(group);
}

void add_model_files(CLI::App& command, ModelFiles& files) {
  const char* group = "Model";
  command.add_option("--diffusion-model", files.diffusion_model, "The video transformer's weights")
      ->type_name("PATH")
      ->group(group);
  command.add_option("--vae", files.vae, "The autoencoder's weights")->type_name("PATH")->group(group);
  add_text_encoder_files(command, files);
  command.add_option("--flux", files.flux, "FLUX's weights")->type_name("PATH")->group(group);
  command.add_option("--flux-ae", files.flux_ae, "FLUX's autoencoder's weights")->type_name("PATH")->group(group);
}

}  // namespace opensora::cli
