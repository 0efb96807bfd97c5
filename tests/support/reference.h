// Reading the reference data and comparing with it.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "core/weights.h"
#include "io/checkpoint.h"
#include "io/safetensors.h"

namespace opensora::test {

inline std::filesystem::path reference_dir() { return std::filesystem::path(OPENSORA_TEST_DATA) / "reference"; }
inline std::filesystem::path checkpoint_dir() { return reference_dir() / "ckpts"; }

inline nlohmann::json read_json(const std::filesystem::path& path) {
  std::ifstream stream(path);
  return nlohmann::json::parse(stream);
}

// A case of the official code: tensors and its description.
class Case {
 public:
  explicit Case(const std::string& name) : file_(reference_dir() / "cases" / (name + ".safetensors")) {}
  at::Tensor operator[](const std::string& key) const { return file_.tensor(key).to(at::kFloat); }
  at::Tensor raw(const std::string& key) const { return file_.tensor(key); }
  nlohmann::json description() const { return nlohmann::json::parse(file_.metadata().at("case")); }

 private:
  io::SafetensorsFile file_;
};

inline Weights reference_weights(const std::string& file, at::ScalarType dtype = at::kFloat) {
  return {io::Checkpoint::open(checkpoint_dir() / file), at::kCPU, dtype};
}

// The latent that a run has saved with its tensors, in float32.
inline at::Tensor saved_latent(const std::filesystem::path& tensors) {
  return io::SafetensorsFile(tensors).tensor("latent").to(at::kFloat).clone();
}

inline ::testing::AssertionResult close(const at::Tensor& actual, const at::Tensor& expected, double atol = 1e-4,
                                        double rtol = 1e-4) {
  if (actual.sizes() != expected.sizes()) {
    return ::testing::AssertionFailure() << "shape " << shape_string(actual.sizes()) << ", expected "
                                         << shape_string(expected.sizes());
  }
  const at::Tensor difference = (actual.to(at::kFloat) - expected).abs();
  const at::Tensor excess = difference - (atol + rtol * expected.abs());
  if (excess.max().item<float>() <= 0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "largest difference " << difference.max().item<float>()
                                       << " (expected values up to " << expected.abs().max().item<float>() << ")";
}

inline double relative_error(const at::Tensor& actual, const at::Tensor& expected) {
  return ((actual.to(at::kFloat) - expected).norm() / expected.norm()).item<double>();
}

}  // namespace opensora::test
