#include "support/pipeline_case.h"

#include <gtest/gtest.h>

#include "support/reference.h"
#include "support/write_media.h"

namespace opensora::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

bool is_flux_image(const std::string& name) { return name == "pipeline_flux_image"; }

const char* config_file(const std::string& name) {
  if (name.find("dc_ae") != std::string::npos) return "tiny_high_compression.json";
  const bool flux = is_flux_image(name) || name == "pipeline_t2i2v";
  return flux ? "tiny_t2i2v.json" : "tiny.json";
}

// Frames x height x width x RGB, lossless.
fs::path write_video(const at::Tensor& rgb, const fs::path& path) {
  const auto pixels = rgb.accessor<uint8_t, 4>();
  std::vector<media::FramePtr> frames;
  for (int64_t t = 0; t < rgb.size(0); ++t) {
    frames.push_back(
        make_frame("bgr0", static_cast<int>(rgb.size(2)), static_cast<int>(rgb.size(1)),
                   [&](int x, int y, int component) { return component < 3 ? pixels[t][y][x][component] : 255; }));
  }
  MediaSpec spec;
  spec.codec = "ffv1";
  spec.muxer = "matroska";
  write_media(path, spec, frames);
  return path;
}

std::vector<fs::path> references_of(const std::string& name, const json& description, const fs::path& folder) {
  if (name.find("v2v") != std::string::npos) {
    return {write_video(Case(name).raw("in.frames"), folder / "reference.mkv")};
  }
  std::vector<fs::path> references;
  if (!description.contains("refs") || description["refs"].is_null()) return references;
  for (const json& file : description["refs"][0]) {
    references.push_back(reference_dir() / "cases" / file.get<std::string>());
  }
  return references;
}

std::string output_name(const GenerateRequest& request) {
  return request.image_only || request.config.sampling.num_frames == 1 ? "out.png" : "out.mp4";
}

}  // namespace

const std::vector<PipelineCase>& pipeline_cases() {
  // 14 steps: 10 with all branches, then two with one and two with all. 12 steps: 10, one and one. 6 and 4 steps: all.
  static const std::vector<PipelineCase> cases = {{"pipeline_t2v", 26, 0},
                                                  {"pipeline_t2v_negative", 8, 0},
                                                  {"pipeline_t2v_plain_guidance", 8, 0},
                                                  {"pipeline_t2i_frame", 8, 0},
                                                  {"pipeline_i2v_head", 38, 0},
                                                  {"pipeline_i2v_tail", 38, 0},
                                                  {"pipeline_i2v_loop", 38, 0},
                                                  {"pipeline_v2v_head", 34, 0},
                                                  {"pipeline_v2v_tail", 34, 0},
                                                  {"pipeline_v2v_head_easy", 34, 0},
                                                  {"pipeline_v2v_tail_easy", 34, 0},
                                                  {"pipeline_dc_ae_t2v", 23, 0},
                                                  {"pipeline_dc_ae_i2v_head", 34, 0},
                                                  {"pipeline_t2i2v", 18, 6},
                                                  {"pipeline_flux_image", 0, 6}};
  return cases;
}

GenerateRequest pipeline_request(const std::string& name, const fs::path& folder) {
  const json description = Case(name).description();
  const json& options = description["options"];
  GenerateRequest request;
  request.prompt = description.value("user_prompt", description["prompt"].get<std::string>());
  if (description.contains("negative") && description["negative"].is_array()) {
    request.negative_prompt = description["negative"][0];
  }
  request.model_dir = checkpoint_dir();
  request.config = load_config(checkpoint_dir() / config_file(name));
  request.config.cond_type = description.value("cond_type", "t2v");
  SamplingConfig& s = request.config.sampling;
  s.resolution = s.aspect_ratio = std::nullopt;
  s.height = options["height"];
  s.width = options["width"];
  s.num_frames = options["num_frames"];
  s.num_steps = options["num_steps"];
  s.text_osci = options["text_osci"];
  s.image_osci = options["image_osci"];
  s.scale_temporal_osci = options["scale_temporal_osci"];
  request.seed = description["seed"];
  request.device = "cpu";
  request.references = references_of(name, description, folder);
  request.image_only = is_flux_image(name);
  const json picture = request.image_only ? options : description.value("image_options", json());
  if (!picture.is_null()) request.image_size = PixelSize{picture["width"], picture["height"]};
  request.output = folder / output_name(request);
  request.save_tensors = folder / "tensors.safetensors";
  return request;
}

std::vector<std::string> pipeline_arguments(const std::string& name, const fs::path& folder) {
  const GenerateRequest request = pipeline_request(name, folder);
  const SamplingConfig& s = request.config.sampling;
  std::vector<std::string> arguments = {"generate",
                                        "--model-dir",
                                        request.model_dir,
                                        "--config",
                                        checkpoint_dir() / config_file(name),
                                        "-p",
                                        request.prompt,
                                        "-n",
                                        request.negative_prompt,
                                        "-W",
                                        std::to_string(*s.width),
                                        "-H",
                                        std::to_string(*s.height),
                                        "--num-frames",
                                        std::to_string(s.num_frames),
                                        "--steps",
                                        std::to_string(s.num_steps),
                                        "-s",
                                        std::to_string(*request.seed),
                                        "--device",
                                        "cpu",
                                        "--cond-type",
                                        request.config.cond_type,
                                        "-o",
                                        request.output,
                                        "--save-tensors",
                                        request.save_tensors,
                                        "--json"};
  if (!s.text_osci) arguments.insert(arguments.end(), {"--no-text-osci", "--no-image-osci", "--no-temporal-osci"});
  if (request.image_only) arguments.emplace_back("--image-only");
  if (request.image_size) {
    arguments.insert(arguments.end(), {"--image-size", std::to_string(request.image_size->width) + "x" +
                                                           std::to_string(request.image_size->height)});
  }
  for (const fs::path& reference : request.references) {
    const bool tail = request.config.cond_type == "i2v_tail";
    const bool video = request.config.cond_type.starts_with("v2v");
    arguments.insert(arguments.end(), {video ? "--video" : tail ? "--end-image" : "--image", reference});
  }
  return arguments;
}

void expect_official_tensors(const std::string& name, const fs::path& folder) {
  constexpr double kLatentTolerance = 2e-3, kVideoTolerance = 5e-3;
  const Case reference(name);
  const io::SafetensorsFile saved(folder / "tensors.safetensors");
  EXPECT_TRUE(at::equal(saved.tensor("noise"), reference.raw("noise")));
  EXPECT_TRUE(close(saved.tensor("latent"), reference["latent"], kLatentTolerance, 0));
  EXPECT_TRUE(close(saved.tensor("video"), reference["video"], kVideoTolerance, 0));
  if (name != "pipeline_t2i2v") return;
  EXPECT_TRUE(at::equal(saved.tensor("image_noise"), reference.raw("image_noise")));
  EXPECT_TRUE(close(saved.tensor("image_latent"), reference["image_latent"], kLatentTolerance, 0));
  EXPECT_TRUE(close(saved.tensor("image"), reference["image"], 1, 0));  // 8-bit levels
}

}  // namespace opensora::test
