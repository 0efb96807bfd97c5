// The table's rows of what a video shows.
#include "core/local_file.h"
#include "opensora/video.h"
#include "request/rows.h"

namespace opensora::request {
namespace {

using nlohmann::ordered_json;

bool is_video_condition(const Config& config) { return config.cond_type.starts_with("v2v"); }

ordered_json references(const Settings& settings) {
  ordered_json list = ordered_json::array();
  for (const std::filesystem::path& file : settings.request.references) list.push_back(file.string());
  return list;
}

// Null where space and time differ, which a configuration can say and no flag.
ordered_json tiling(const Settings& settings) {
  return std::visit(
      [](const auto& ae) {
        return ae.use_spatial_tiling == ae.use_temporal_tiling ? ordered_json(ae.use_spatial_tiling) : ordered_json();
      },
      settings.request.config.ae);
}

void set_tiling(Settings& settings, const Given& given) {
  const bool on = switch_state(given);
  std::visit([&](auto& ae) { ae.use_spatial_tiling = ae.use_temporal_tiling = on; }, settings.request.config.ae);
}

// A side in pixels takes the place of a named size.
void set_side(Settings& settings, std::optional<int64_t> SamplingConfig::*side, const Given& given) {
  SamplingConfig& s = settings.request.config.sampling;
  s.*side = whole_number(given, {1, kMaxEdge});
  s.resolution = s.aspect_ratio = std::nullopt;
}

Parameter side(const char* names, const char* help, std::optional<int64_t> SamplingConfig::*member) {
  Parameter parameter = whole(names, help, {1, kMaxEdge}, member);
  parameter.set = [member](Settings& settings, const Given& given) { set_side(settings, member, given); };
  return parameter;
}

// Adds a reference, whose role follows from which flags were given.
Parameter reference(const char* names, const char* help) {
  return {.names = names,
          .help = help,
          .kind = Kind::kPath,
          .type = "FILE",
          .set = [](Settings& settings, const Given& given) {
            settings.request.references.push_back(local_file(given.text));
          }};
}

void append_prompts(Rows& table) {
  append(table, "", Scope::kContent,
         {prompt("-p,--prompt", "What to show (required; may be empty)", &GenerateRequest::prompt),
          prompt("-n,--negative-prompt", "What to avoid (default: empty)", &GenerateRequest::negative_prompt)
              .also_by({"neg-text-embedding"})});
  append(table, "", Scope::kModels,
         {path("--text-embeddings", "PATH",
               "Folder or file of encode-text: the texts in it are not encoded, the encoders may be absent",
               &GenerateRequest::text_embeddings),
          path("--neg-text-embedding", "FILE", "File of encode-text; its text is the negative prompt",
               &GenerateRequest::negative_text_embedding)});
}

void append_models(Rows& table) {
  append(
      table, "Model", Scope::kModels,
      {path("--model-dir", "DIR",
            "Folder with the weights (default: $OPENSORA_MODEL_DIR, else ./ckpts if it is there, else the demo model)",
            &GenerateRequest::model_dir),
       path("--config", "NAME|FILE",
            "Configuration: a file, or a name (256px, 768px, 720p, t2i2v_256px, t2i2v_768px, high_compression; "
            "default: the model folder's config.json, else 256px)",
            &Settings::config)
           .reported_as([](const Settings& s) { return ordered_json(s.request.config.name); }),
       path("--diffusion-model", "PATH", "The video transformer's weights", &ModelFiles::diffusion_model),
       path("--vae", "PATH", "The autoencoder's weights; or the tiny TAEHV's in place of HunyuanVAE's, for drafts",
            &ModelFiles::vae),
       path("--t5xxl", "PATH", "T5's weights: a file or folder", &ModelFiles::t5xxl),
       path("--clip-l", "PATH", "CLIP's weights: a file or folder", &ModelFiles::clip_l),
       path("--flux", "PATH", "FLUX's weights", &ModelFiles::flux),
       path("--flux-ae", "PATH", "FLUX's autoencoder's weights", &ModelFiles::flux_ae)});
}

void append_references(Rows& table) {
  const std::vector<std::string> files = {"image", "end-image", "video"};
  const std::vector<std::string> replaced = {"image",      "end-image",  "video",           "t2i2v",
                                             "image-only", "image-size", "image-resolution"};
  Parameter image = reference("-i,--image", "Image for the first frame; given twice: first and last frame");
  image.kind = Kind::kPaths;
  image.get = [](const Settings& s) {
    return is_video_condition(s.request.config) ? ordered_json::array() : references(s);
  };
  Parameter video = reference(
      "--video", "Video whose first 33 frames (v2v_..._easy: 65) the new one goes on from, or whose last it leads to");
  video.get = [](const Settings& s) {
    return is_video_condition(s.request.config) ? references(s).at(0) : ordered_json();
  };
  append(table, "Reference", Scope::kContent,
         {choice("--cond-type", "Default: from what is given, and v2v_head for a video", condition_types(),
                 &Config::cond_type)
              .from_config({"cond_type"})
              .also_by(files)
              .replacing(files, {}, "t2v"),
          std::move(image).also_by({"end-image"}).replacing(replaced, {"cond-type"}),
          reference("--end-image", "Image for the last frame").replacing(replaced, {"cond-type"}),
          std::move(video).replacing(replaced, {"cond-type"}),
          on_off("--sample-posterior", "Encode references with noise, as the official code",
                 &GenerateRequest::sample_posterior),
          on_off("--t2i2v,!--no-t2i2v", "Let FLUX make the first frame, or not", &Config::use_t2i2v)
              .from_config({"use_t2i2v"})
              .also_by(files)
              .replacing(files, {"cond-type"}, "true"),
          on_off("--image-only", "Stop after FLUX's picture", &GenerateRequest::image_only)});
}

void append_picture(Rows& table) {
  Parameter size = {.names = "--image-size",
                    .help = "Size of FLUX's picture instead",
                    .kind = Kind::kSize,
                    .type = "WxH",
                    .set = [](Settings& s, const Given& given) { s.request.image_size = pixel_size(given); },
                    .get = [](const Settings& s) { return to_json(s.request.image_size); }};
  Parameter resolution = {.names = "--image-resolution",
                          .help = "Resolution of FLUX's picture (default: configuration)",
                          .set = [](Settings& s, const Given& given) {
                            auto& picture = s.request.config.text_to_image;
                            if (picture) picture->resolution = given.text;
                          }};
  append(table, "Reference", Scope::kContent,
         {std::move(resolution).replacing({"image-size"}, {}), std::move(size)
                                                                   .from_config({"img_resolution"})
                                                                   .also_by({"image-resolution"})
                                                                   .replacing({"image-resolution"}, {})});
}

void append_size(Rows& table) {
  const std::string option = "sampling_option.";
  const std::vector<std::string> named = {"resolution", "aspect-ratio"}, pixels = {"width", "height"};
  Parameter resolution = text("--resolution", "256px, 768px, 720p, …", &SamplingConfig::resolution);
  Parameter ratio = text("--aspect-ratio", "16:9, 9:16, 1:1, …; list: print all sizes", &SamplingConfig::aspect_ratio);
  resolution.get = ratio.get = nullptr;
  append(table, "Video", Scope::kContent,
         {std::move(resolution).excluding(pixels).replacing(pixels, {"image-size"}),
          std::move(ratio).excluding(pixels).replacing(pixels, {"image-size"}),
          side("-W,--width", "Pixels; with --height", &SamplingConfig::width)
              .from_config({option + "width", option + "resolution", option + "aspect_ratio"})
              .also_by(named)
              .needing("height")
              .excluding(named)
              .replacing(named, {"image-size"}),
          side("-H,--height", "Pixels; with --width", &SamplingConfig::height)
              .from_config({option + "height", option + "resolution", option + "aspect_ratio"})
              .also_by(named)
              .needing("width")
              .excluding(named)
              .replacing(named, {"image-size"})});
}

void append_length(Rows& table) {
  Parameter fps = {.names = "--fps",
                   .help = "Frames a second, such as 24, 23.976 or 30000/1001",
                   .kind = Kind::kNumber,
                   .type = "RATE",
                   .set = [](Settings& s, const Given& given) { s.request.config.fps_save = frame_rate(given); },
                   .get = [](const Settings& s) {  // a whole rate is a number, as it has always been
                     const FrameRate& rate = s.request.config.fps_save;
                     return rate.is_whole() ? ordered_json(rate.numerator) : ordered_json(to_string(rate));
                   }};
  Parameter motion = {.names = "--motion-score",
                      .help = "How much moves, a number, or none",
                      .set =
                          [](Settings& s, const Given& given) {
                            s.request.config.motion_score = motion_score(given);
                            if (given.text == "none") s.request.config.motion_score = std::nullopt;
                          },
                      .get = [](const Settings& s) { return s.request.config.motion_score.value_or("none"); }};
  append(table, "Video", Scope::kContent,
         {whole("--num-frames", "Frames of the whole video, 4k+1; 1 makes a picture", {1, kMaxFrames},
                &SamplingConfig::num_frames)
              .from_config({"sampling_option.num_frames"})
              .decoding(),
          std::move(fps).from_config({"fps_save"}).decoding(), std::move(motion).from_config({"motion_score"})});
}

void append_sampling(Rows& table) {
  constexpr RealRange kGuidance = {-kMaxGuidance, kMaxGuidance};
  const std::string option = "sampling_option.";
  Parameter tiles = {.names = "--vae-tiling,!--no-vae-tiling",
                     .help = "Decode in tiles of space and time",
                     .kind = Kind::kSwitch,
                     .set = set_tiling,
                     .get = tiling};
  append(
      table, "Sampling", Scope::kContent,
      {whole("--steps", "Denoising steps", {1, kMaxSteps}, &SamplingConfig::num_steps)
           .from_config({option + "num_steps"}),
       choice("--sampler",
              "Solver: euler, of order 1, as the official code; dpm++2m (order 2) or unipc (3), by what earlier steps "
              "predicted, with as many forwards; heun (2), with twice as many. Each makes another video of a seed",
              {"euler", "heun", "dpm++2m", "unipc"}, &GenerateRequest::sampler)
           .replacing({"cache", "speed"}, {}, "heun")  // of a preset or an earlier video
           .showing_default()
           .unless_default(),
       real("--guidance", "Guidance on the text; 1 switches it off", kGuidance, &SamplingConfig::guidance)
           .from_config({option + "guidance"}),
       real("--guidance-img", "Guidance on a reference image (no effect without one)", kGuidance,
            &SamplingConfig::guidance_img)
           .from_config({option + "guidance_img"})
           .reported_as(
               [](const Settings& s) { return ordered_json(s.request.config.sampling.guidance_img.value_or(1)); }),
       real("--flow-shift", "Shift of the schedule (default: from the video's size)", {kMinFlowShift, kMaxFlowShift},
            &SamplingConfig::flow_shift)
           .from_config({option + "flow_shift"}),
       on_off("--text-osci,!--no-text-osci", "Oscillate the text guidance from step 10 on", &SamplingConfig::text_osci)
           .from_config({option + "text_osci"}),
       on_off("--image-osci,!--no-image-osci", "Oscillate the image guidance likewise", &SamplingConfig::image_osci)
           .from_config({option + "image_osci"}),
       on_off("--temporal-osci,!--no-temporal-osci", "Let the image guidance grow over the frames",
              &SamplingConfig::scale_temporal_osci)
           .from_config({option + "scale_temporal_osci"}),
       std::move(tiles).from_config({"ae.use_spatial_tiling", "ae.use_temporal_tiling"}).decoding()});
}

void append_attention(Rows& table) {
  append(
      table, "Sampling", Scope::kContent,
      {choice("--attention",
              "exact; fp8: 8-bit products in the transformer's attention, 1.5 times as fast on an H100, H200 or B200; "
              "elsewhere a warning, and exact; auto: fp8 on these, else exact. Up to 5 % off in each layer; layers "
              "that would be further off, the first tenth of the steps and the last stay exact",
              {"exact", "fp8", "auto"}, &GenerateRequest::attention)
           .showing_default()
           .unless_default()});
}

// What the official code computes in on a GPU. The rows of the parameters that it sets come after it: what is given for
// them wins.
Parameter match_official() {
  return {.names = "--match",
          .help = "official: --rng cuda, --timestep-rounding official and --dtype bf16, where these are not given",
          .kind = Kind::kChoice,
          .set =
              [](Settings& s, const Given& /*official*/) {
                s.request.rng = "cuda";
                s.request.timestep_rounding = "official";
                s.request.dtype = "bf16";
              },
          .choices = {"official"}};
}

void append_official(Rows& table) {
  const std::vector<std::string> set = {"rng", "timestep-rounding", "dtype"};
  append(table, "Sampling", Scope::kRunContent, {match_official().replacing(set, {})});
  Parameter rng = text("--rng",
                       "Whose noise: cpu, or cuda: what an H100's generator fills, on any device; cuda:BLOCKS: another "
                       "GPU's (selftest says its number)",
                       &GenerateRequest::rng);
  rng.set = [](Settings& s, const Given& given) { s.request.rng = rng_name(given); };
  append(table, "Sampling", Scope::kContent,
         {std::move(rng).also_by({"match"}).showing_default().unless_default(),
          choice("--timestep-rounding",
                 "Round times before they are embedded: none; official, to the dtype, as the official code on a GPU; "
                 "eager, twice, as it does uncompiled",
                 {"none", "official", "eager"}, &GenerateRequest::timestep_rounding)
              .also_by({"match"})
              .showing_default()
              .unless_default()});
}

void append_seed(Rows& table) {
  Parameter seed = {.names = "-s,--seed",
                    .help = "Seed of the noise; several, with commas: a video each (default: random, and logged)",
                    .kind = Kind::kSeeds,
                    .set = [](Settings& s, const Given& given) { s.seeds = seeds(given); },
                    .get = [](const Settings& s) { return to_json(s.request.seed); }};
  append(table, "", Scope::kContent, {std::move(seed).from_config({"sampling_option.seed"})});
}

}  // namespace

void append_content(Rows& table) {
  append_prompts(table);
  append_preset(table);
  append_models(table);
  append_references(table);
  append_picture(table);
  append_size(table);
  append_length(table);
  append_sampling(table);
  append_attention(table);
  append_official(table);
  append_cache(table);
  append_seed(table);
}

}  // namespace opensora::request
