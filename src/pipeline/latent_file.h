// Latents on disk: what is left to do is decoding.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <map>
#include <string>

#include "core/file_lock.h"

namespace opensora::pipeline {

// "sea.mp4" -> "sea.latent.safetensors", in the same folder.
std::filesystem::path latent_file(const std::filesystem::path& output);

struct LatentFile {
  at::Tensor latent;  // [1, C, T, h, w], float32, a view of the file
  std::map<std::string, std::string> metadata;
};

// Any safetensors file with a tensor "latent", so also what --save-tensors writes. Throws CheckpointError: no file,
// damaged, no such tensor, or one of another form.
LatentFile read_latent(const std::filesystem::path& path);

// Replaces an older file. Throws OutputError. Returns the file's lock: while it lives, no other run takes the latent
// for one that nobody needs.
FileLock write_latent(const std::filesystem::path& path, const LatentFile& file);

}  // namespace opensora::pipeline
