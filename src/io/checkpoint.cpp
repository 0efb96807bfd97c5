#include "io/checkpoint.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <set>

#include "io/json_text.h"
#include "io/mapping_registry.h"
#include "opensora/error.h"

namespace opensora::io {
namespace {

namespace fs = std::filesystem;

constexpr std::array kFolderFiles = {
    "model.safetensors",
    "model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
};

// What training frameworks and other programs put in front of a model's names, and a name of each model's own that
// tells that there is such a prefix.
constexpr std::array kPrefixes = {"model.diffusion_model.", "module.", "model."};
constexpr std::array kAnchors = {
    "img_in.weight",                                   // the transformers
    "decoder.conv_in.conv.weight",                     // HunyuanVAE
    "decoder.project_in.conv.weight",                  // DC-AE
    "decoder.conv_in.weight",                          // FLUX's autoencoder
    "encoder.block.0.layer.0.SelfAttention.q.weight",  // T5
    "text_model.embeddings.token_embedding.weight",    // CLIP
};

[[noreturn]] void fail_missing(const fs::path& path) {
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  std::error_code unreadable;
  const bool folder_exists = fs::is_directory(folder, unreadable);
  throw CheckpointError("no checkpoint \"" + path.filename().string() + "\" in folder " + folder.string() +
                        (folder_exists ? "" : " (there is no such folder)") +
                        "; give the folder of the models with --model-dir");
}

[[noreturn]] void fail_empty_folder(const fs::path& folder) {
  std::string names;
  for (const char* name : kFolderFiles) names += (names.empty() ? "" : ", ") + std::string(name);
  throw CheckpointError("no weights in folder " + folder.string() + " (looked for " + names +
                        "); give the folder of the models with --model-dir");
}

// Tensor name -> the name of its shard's file.
std::map<std::string, std::string> read_weight_map(const fs::path& index_file) {
  std::ifstream stream(index_file, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  if (!stream.is_open() || stream.bad()) throw CheckpointError(index_file.string() + ": cannot be read");
  try {
    const nlohmann::json index = parse_json(text);
    return index.at("weight_map").get<std::map<std::string, std::string>>();
  } catch (const JsonError& error) {
    throw CheckpointError(index_file.string() + ": is not valid JSON: " + error.what());
  } catch (const nlohmann::json::exception&) {
    throw CheckpointError(index_file.string() + ": has no \"weight_map\" from tensor names to file names");
  }
}

}  // namespace

std::optional<fs::path> weights_in(const fs::path& folder) {
  std::error_code unreadable;
  for (const char* name : kFolderFiles) {
    if (fs::exists(folder / name, unreadable)) return folder / name;
  }
  return std::nullopt;
}

std::shared_ptr<const Checkpoint> Checkpoint::open(const fs::path& path) {
  const std::shared_ptr<Checkpoint> checkpoint(new Checkpoint);
  checkpoint->path_ = path;
  std::error_code unreadable;
  if (!fs::exists(path, unreadable)) fail_missing(path);
  fs::path file = path;
  if (fs::is_directory(path)) {
    const std::optional<fs::path> weights = weights_in(path);
    if (!weights) fail_empty_folder(path);
    file = *weights;
  }
  if (file.filename().string().ends_with(".index.json")) {
    checkpoint->add_shards(file);
  } else {
    checkpoint->add_file(file);
  }
  checkpoint->strip_prefix();
  checkpoint->check_not_scaled();
  return checkpoint;
}

std::shared_ptr<const TensorFile> Checkpoint::open_file(const fs::path& file) {
  std::shared_ptr<const TensorFile> opened = open_tensor_file(file);
  files_.push_back(file);
  metadata_.insert(opened->metadata().begin(), opened->metadata().end());
  return opened;
}

void Checkpoint::add_file(const fs::path& file) {
  const auto opened = open_file(file);
  for (const auto& [name, info] : opened->tensors()) holders_.emplace(name, Holder{opened, name});
}

void Checkpoint::add_shards(const fs::path& index_file) {
  const std::map<std::string, std::string> weight_map = read_weight_map(index_file);
  files_.push_back(index_file);
  std::map<std::string, std::shared_ptr<const TensorFile>> shards;
  std::set<std::string> problems;  // a set, as each tensor of a missing shard would name it again
  for (const auto& [name, shard_name] : weight_map) {
    const fs::path shard_file = index_file.parent_path() / shard_name;
    std::error_code unreadable;
    if (!fs::exists(shard_file, unreadable)) {
      problems.insert(shard_name + ": missing");
      continue;
    }
    std::shared_ptr<const TensorFile>& shard = shards[shard_name];
    if (!shard) shard = open_file(shard_file);
    if (!shard->tensors().contains(name)) problems.insert(shard_name + ": holds no tensor " + json_excerpt(name));
    holders_.emplace(name, Holder{shard, name});
  }
  if (problems.empty()) return;
  std::string message = index_file.string() + ": " + std::to_string(problems.size()) + " shard(s) or tensor(s) missing";
  for (const std::string& problem : problems) message += "\n  " + problem;
  throw CheckpointError(message);
}

void Checkpoint::strip_prefix() {
  for (const std::string prefix : kPrefixes) {
    const auto is_wrapped = [&](const char* anchor) { return contains(prefix + anchor) && !contains(anchor); };
    if (std::none_of(kAnchors.begin(), kAnchors.end(), is_wrapped)) continue;
    stripped_prefix_ = prefix;
    std::map<std::string, Holder> stripped;
    for (const auto& [name, holder] : holders_) {
      stripped.emplace(name.starts_with(prefix) ? name.substr(prefix.size()) : name, holder);
    }
    holders_ = std::move(stripped);
    return;
  }
}

// Files quantised with a scale a matrix would load, and make noise.
void Checkpoint::check_not_scaled() const {
  for (const auto& [name, holder] : holders_) {
    if (name != "scaled_fp8" && !name.ends_with(".scale_weight") && !name.ends_with(".weight_scale")) continue;
    throw CheckpointError(path_.string() + ": holds scaled 8-bit weights (tensor " + json_excerpt(name) +
                          "), which cannot be used; take the plain fp8, fp16 or bf16 file");
  }
}

std::optional<at::Tensor> Checkpoint::find(const std::string& name, at::IntArrayRef) const {
  const auto found = holders_.find(name);
  if (found == holders_.end()) return std::nullopt;
  return found->second.file->tensor(found->second.stored_name);
}

void Checkpoint::advise(const at::Tensor& tensor, PageAdvice advice) const {
  advise_mapped(tensor.const_data_ptr(), tensor.nbytes(),
                advice == PageAdvice::kRead ? MappedAdvice::kRead : MappedAdvice::kLetGo);
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> names;
  for (const auto& [name, holder] : holders_) names.push_back(name);
  return names;
}

const TensorInfo& Checkpoint::info(const std::string& name) const {
  const Holder& holder = holders_.at(name);
  return holder.file->tensors().at(holder.stored_name);
}

const fs::path& Checkpoint::file_of(const std::string& name) const { return holders_.at(name).file->path(); }

int64_t Checkpoint::elements() const {
  int64_t total = 0;
  for (const auto& [name, holder] : holders_) total += c10::multiply_integers(info(name).shape);
  return total;
}

int64_t Checkpoint::bytes() const {
  uint64_t total = 0;
  for (const auto& [name, holder] : holders_) total += info(name).bytes();
  return static_cast<int64_t>(total);
}

}  // namespace opensora::io
