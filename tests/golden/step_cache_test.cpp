// What step caching costs and saves with the demo model, at the official guidance. The figures are measured ones, with
// some room; scripts and README have those of more prompts and seeds.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "models/model_set.h"
#include "run/checkpoints.h"
#include "run/job.h"
#include "run/video_stages.h"
#include "support/reference.h"

namespace opensora {
namespace {

struct Sampled {
  at::Tensor latent;
  int64_t forwards = 0;
};

class DemoCache : public ::testing::Test {
 protected:
  static constexpr std::array<const char*, 3> kPrompts = {"a green triangle moving left on a white background",
                                                          "a yellow square moving up on a black background",
                                                          "an orange square moving left on a blue background"};

  static GenerateRequest request(const std::string& prompt) {
    GenerateRequest request;
    request.prompt = prompt;
    request.model_dir = std::string(OPENSORA_CONFIGS) + "/demo";
    request.config = load_config(request.model_dir / "config.json");
    request.config.sampling.guidance = 7.5;
    request.config.sampling.guidance_img = 3;
    request.config.sampling.num_steps = 50;
    request.seed = 42;
    request.device = "cpu";
    request.dtype = "fp32";
    return request;
  }

  // Without decoding it. A picture's latent [1, C, 1, h, w] is where the video begins.
  Sampled sample(GenerateRequest request, const at::Tensor& picture) {
    if (picture.defined()) {
      request.config.cond_type = "i2v_head";
      request.references = {"picture.png"};
    }
    run::Job job = run::make_job(request);
    job.clock.emplace(job.device, ProgressCallback());
    if (!models_) models_.emplace(models::choice_of(request), run::set_options(job));
    std::array<run::Job*, 1> jobs = {&job};
    run::encode_video_texts(jobs, *models_);
    if (picture.defined()) job.references = {picture};
    sampling::SamplerState state;
    const at::Tensor latent = run::sample_latent(job, *models_, state);
    return {latent, job.result.forwards};
  }

  // The errors of the cached runs, and those of runs of fewer steps that have as many forwards or more.
  struct Errors {
    std::vector<double> cached, fewer;
  };

  // The exact run of so many forwards; the errors of a cached run and of one of 20 steps are added.
  Sampled compare(const std::string& prompt, const at::Tensor& picture, int64_t forwards, int64_t fewer_forwards,
                  Errors& errors) {
    GenerateRequest exact = request(prompt), cached = exact, fewer = exact;
    cached.cache = "pairs";
    fewer.config.sampling.num_steps = 20;
    const Sampled whole = sample(exact, picture), some = sample(cached, picture), few = sample(fewer, picture);
    EXPECT_EQ(whole.forwards, forwards);
    EXPECT_LE(some.forwards, few.forwards);
    EXPECT_EQ(few.forwards, fewer_forwards);
    errors.cached.push_back(test::relative_error(some.latent, whole.latent));
    errors.fewer.push_back(test::relative_error(few.latent, whole.latent));
    return whole;
  }

  static void expect_a_third(Errors errors) {
    std::sort(errors.cached.begin(), errors.cached.end());
    std::sort(errors.fewer.begin(), errors.fewer.end());
    EXPECT_LE(errors.cached[1], 0.02);
    EXPECT_LE(errors.cached[2], 0.03);
    EXPECT_LE(errors.cached[1], errors.fewer[1] / 3);
    EXPECT_LE(errors.cached[2], errors.fewer[2] / 3);
    for (size_t i = 0; i < errors.cached.size(); ++i) {
      std::printf("error %.4f, of fewer steps %.4f\n", errors.cached[i], errors.fewer[i]);
    }
  }

 private:
  std::optional<models::ModelSet> models_;
};

// The picture of image to video is where the same prompt's text to video begins.
TEST_F(DemoCache, HalvesTheForwardsOfTextAndOfImageToVideo) {
  Errors of_text, of_image;
  for (const char* prompt : kPrompts) {
    const Sampled video = compare(prompt, {}, 80, 35, of_text);
    compare(prompt, video.latent.narrow(2, 0, 1).clone(), 110, 50, of_image);
  }
  expect_a_third(of_text);
  expect_a_third(of_image);
}

}  // namespace
}  // namespace opensora
