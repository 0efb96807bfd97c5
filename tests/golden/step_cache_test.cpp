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
  Sampled sample(GenerateRequest request, const at::Tensor& picture = {}) {
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

  static double error(const Sampled& sampled, const Sampled& exact) {
    return ((sampled.latent - exact.latent).norm() / exact.latent.norm()).item<double>();
  }

  // The errors of the cached runs, and those of runs of fewer steps that have as many forwards or more.
  struct Errors {
    std::vector<double> cached, fewer;
  };

  static void expect_a_third(Errors errors, double median, double worst) {
    std::sort(errors.cached.begin(), errors.cached.end());
    std::sort(errors.fewer.begin(), errors.fewer.end());
    EXPECT_LE(errors.cached[1], median);
    EXPECT_LE(errors.cached[2], worst);
    EXPECT_LE(errors.cached[1], errors.fewer[1] / 3);
    EXPECT_LE(errors.cached[2], errors.fewer[2] / 3);
    for (size_t i = 0; i < errors.cached.size(); ++i) {
      std::printf("error %.4f, of fewer steps %.4f\n", errors.cached[i], errors.fewer[i]);
    }
  }

 private:
  std::optional<models::ModelSet> models_;
};

TEST_F(DemoCache, HalvesTheForwardsOfTextToVideo) {
  Errors errors;
  for (const char* prompt : kPrompts) {
    GenerateRequest exact = request(prompt), cached = exact, fewer = exact;
    cached.cache = "pairs";
    fewer.config.sampling.num_steps = 20;
    const Sampled whole = sample(exact), some = sample(cached), few = sample(fewer);
    EXPECT_EQ(whole.forwards, 80);
    EXPECT_LE(some.forwards, few.forwards);
    EXPECT_EQ(few.forwards, 35);
    errors.cached.push_back(error(some, whole));
    errors.fewer.push_back(error(few, whole));
  }
  expect_a_third(errors, 0.02, 0.03);
}

TEST_F(DemoCache, HalvesTheForwardsOfImageToVideo) {
  Errors errors;
  for (const char* prompt : kPrompts) {
    GenerateRequest exact = request(prompt), cached = exact, fewer = exact;
    const at::Tensor picture = sample(fewer).latent.narrow(2, 0, 1).clone();
    cached.cache = "pairs";
    fewer.config.sampling.num_steps = 20;
    const Sampled whole = sample(exact, picture), some = sample(cached, picture), few = sample(fewer, picture);
    EXPECT_EQ(whole.forwards, 110);
    EXPECT_LE(some.forwards, few.forwards);
    EXPECT_EQ(few.forwards, 50);
    errors.cached.push_back(error(some, whole));
    errors.fewer.push_back(error(few, whole));
  }
  expect_a_third(errors, 0.02, 0.03);
}

}  // namespace
}  // namespace opensora
