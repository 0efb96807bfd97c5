#include "io/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>
#include <tuple>

#include "core/json_text.h"
#include "core/text.h"
#include "io/foreign_file.h"
#include "io/mapped_file.h"
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

// Names that only one model has. If a file has such a name with something in front ("module.",
// "model.diffusion_model.", whatever a training framework or another program puts there), that is the prefix of all the
// model's names.
using Anchors = std::vector<std::string>;
const std::vector<Anchors>& anchors() {
  static const std::vector<Anchors> all = {
      // the transformers
      {"img_in.weight", "txt_in.weight", "double_blocks.0.img_attn.proj.weight", "final_layer.linear.weight"},
      // HunyuanVAE
      {"decoder.conv_in.conv.weight", "encoder.conv_in.conv.weight", "decoder.conv_out.conv.weight"},
      // DC-AE
      {"decoder.project_in.main.conv.weight", "decoder.project_in.conv.weight", "encoder.project_in.conv.weight"},
      // FLUX's autoencoder
      {"decoder.conv_in.weight", "encoder.conv_in.weight", "decoder.mid.attn_1.q.weight"},
      // T5
      {"encoder.block.0.layer.0.SelfAttention.q.weight", "encoder.final_layer_norm.weight", "shared.weight"},
      // CLIP
      {"text_model.embeddings.token_embedding.weight", "text_model.final_layer_norm.weight"},
  };
  return all;
}

[[noreturn]] void fail_missing(const fs::path& path) {
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  std::error_code unreadable;
  const bool folder_exists = fs::is_directory(folder, unreadable);
  throw CheckpointError("no checkpoint \"" + path.filename().string() + "\" in folder " + folder.string() +
                        (folder_exists ? "" : " (there is no such folder)"));
}

[[noreturn]] void fail_empty_folder(const fs::path& folder) {
  std::string names;
  for (const char* name : kFolderFiles) names += (names.empty() ? "" : ", ") + std::string(name);
  throw CheckpointError("no weights in folder " + folder.string() + " (looked for " + names + ")");
}

// Tensor name -> the name of its shard's file.
std::map<std::string, std::string> read_weight_map(const fs::path& index_file) {
  try {
    const nlohmann::json index = read_json_file(index_file);
    return index.at("weight_map").get<std::map<std::string, std::string>>();
  } catch (const JsonError& error) {
    throw CheckpointError(index_file.string() + ": " + error.what());
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
  checkpoint->strip_prefixes();
  checkpoint->check_not_foreign();
  checkpoint->read_layout();
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
  std::set<std::string> problems;  // a set, since each tensor of a missing shard would name it again
  for (const auto& [name, shard_name] : weight_map) {
    const fs::path shard_file = index_file.parent_path() / shard_name;
    std::error_code unreadable;
    if (!fs::exists(shard_file, unreadable)) {
      problems.insert(on_one_line(shard_name) + ": missing");
      continue;
    }
    std::shared_ptr<const TensorFile>& shard = shards[shard_name];
    if (!shard) shard = open_file(shard_file);
    if (!shard->tensors().contains(name))
      problems.insert(on_one_line(shard_name) + ": holds no tensor " + json_excerpt(name));
    holders_.emplace(name, Holder{shard, name});
  }
  if (problems.empty()) return;
  std::string message = index_file.string() + ": " + std::to_string(problems.size()) + " shard(s) or tensor(s) missing";
  for (const std::string& problem : problems) message += "\n  " + problem;
  throw CheckpointError(message);
}

// The prefixes in front of one model's anchors, with the number of names behind each; "" if the names have no prefix.
std::map<std::string, size_t> Checkpoint::prefixes_of(const std::vector<std::string>& anchors) const {
  std::map<std::string, size_t> prefixes;
  for (const auto& [name, holder] : holders_) {
    for (const std::string& anchor : anchors) {
      if (!name.ends_with(anchor)) continue;
      const std::string prefix = name.substr(0, name.size() - anchor.size());
      if (prefix.empty() || prefix.ends_with('.')) prefixes.emplace(prefix, 0);
    }
  }
  if (prefixes.size() < 2) return prefixes;
  for (const auto& [name, holder] : holders_) {  // each name counts for the longest of its prefixes
    for (size_t dot = name.rfind('.'); dot != std::string::npos && dot > 0; dot = name.rfind('.', dot - 1)) {
      const auto prefix = prefixes.find(name.substr(0, dot + 1));
      if (prefix == prefixes.end()) continue;
      ++prefix->second;
      break;
    }
  }
  return prefixes;
}

// Of several copies of a model (its weights and their moving average) the most complete one is taken. Of equal ones it
// is the average, which training frameworks mean to be used.
const std::string& Checkpoint::choose_prefix(const std::map<std::string, size_t>& prefixes) {
  const auto rank = [](const auto& entry) {
    return std::tuple(entry.second, entry.first.find("ema") != std::string::npos);
  };
  const auto best = std::max_element(prefixes.begin(), prefixes.end(),
                                     [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  for (const auto& [prefix, count] : prefixes) {
    if (prefix != best->first) other_prefixes_.push_back(prefix);
  }
  return best->first;
}

// A file may hold several models, each behind a prefix of its own. A tensor behind none of them keeps its name and
// belongs to no model.
void Checkpoint::strip_prefixes() {
  std::set<std::string> chosen;
  for (const std::vector<std::string>& model : anchors()) {
    const std::map<std::string, size_t> prefixes = prefixes_of(model);
    if (prefixes.empty() || prefixes.contains("")) continue;
    chosen.insert(choose_prefix(prefixes));
  }
  if (chosen.empty()) return;
  std::map<std::string, Holder> stripped;
  prefixes_.assign(chosen.begin(), chosen.end());
  for (const std::string& prefix : chosen) {
    for (auto at = holders_.lower_bound(prefix); at != holders_.end() && at->first.starts_with(prefix); ++at) {
      stripped.emplace(at->first.substr(prefix.size()), at->second);
    }
  }
  const auto is_stripped = [&](const std::string& name) {
    return std::any_of(chosen.begin(), chosen.end(),
                       [&](const std::string& prefix) { return name.starts_with(prefix); });
  };
  for (const auto& [name, holder] : holders_) {
    if (!is_stripped(name) && stripped.emplace(name, holder).second) foreign_.insert(name);
  }
  holders_ = std::move(stripped);
  holds_several_ = chosen.size() > 1;
}

// Otherwise adapters and quantised weights would give one long list of missing tensors, or load and produce noise.
void Checkpoint::check_not_foreign() const {
  if (const auto foreign = foreign_tensors(all_names())) throw CheckpointError(path_.string() + ": " + *foreign);
}

void Checkpoint::read_layout() {
  try {
    layout_ = quantized_layout(*this);
  } catch (const FormatError& error) {
    throw CheckpointError(path_.string() + ": " + error.what());
  }
}

at::Tensor Checkpoint::stored(const std::string& name) const {
  const Holder& holder = holders_.at(name);
  return holder.file->tensor(holder.stored_name);
}

std::optional<QuantizedTensor> Checkpoint::quantized(const std::string& name, at::IntArrayRef) const {
  if (!contains(name)) return std::nullopt;
  if (const TensorInfo& tensor = info(name); tensor.blocks) {
    const bool is_matrix = tensor.shape.size() == 2 && tensor.shape[1] % block_size(*tensor.blocks).elements == 0;
    if (!is_matrix) return std::nullopt;
    return QuantizedTensor{.format = *tensor.blocks, .data = stored(name), .scale = {}};
  }
  const auto found = layout_.matrices.find(name);
  if (found == layout_.matrices.end()) return std::nullopt;
  const StoredMatrix& matrix = found->second;
  QuantizedTensor quantized{.format = matrix.format,
                            .data = stored(name).view(stored_dtype(matrix.format)),  // older files hold fp8 as bytes
                            .scale = {},
                            .rotation = matrix.rotation,
                            .exact_products = matrix.exact_products};
  if (matrix.scale.empty()) return quantized;
  quantized.scale = stored(matrix.scale).to(at::kFloat).reshape(matrix.scale_shape);
  const int64_t all = quantized.scale.numel(), finite = at::isfinite(quantized.scale).sum().item<int64_t>();
  if (finite == all) return quantized;
  throw CheckpointError(fmt::format("{}: tensor {}: {} of {} scales are NaN or infinite", path_.string(),
                                    json_excerpt(matrix.scale), all - finite, all));
}

std::optional<at::Tensor> Checkpoint::find(const std::string& name, at::IntArrayRef expected_shape) const {
  if (!contains(name)) return std::nullopt;
  if (const auto matrix = quantized(name, expected_shape)) return dequantized(*matrix, at::kFloat);
  const TensorInfo& tensor = info(name);
  if (!tensor.blocks) return stored(name);
  return dequantized({.format = *tensor.blocks, .data = stored(name), .scale = {}}, at::kFloat).view(tensor.shape);
}

void Checkpoint::advise(const at::Tensor& tensor, PageAdvice advice) const {
  advise_mapped(tensor.const_data_ptr(), tensor.nbytes(), advice);
}

std::string Checkpoint::stripped_prefix() const { return join_names(prefixes_); }

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> names;
  if (holds_several_) return names;  // what one model does not use may be another's
  for (const auto& [name, holder] : holders_) {
    if (!foreign_.contains(name) && !layout_.parts.contains(name)) names.push_back(name);
  }
  return names;
}

std::vector<std::string> Checkpoint::all_names() const {
  std::vector<std::string> names;
  names.reserve(holders_.size());
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
  for (const auto& [name, holder] : holders_) {
    if (!layout_.parts.contains(name)) total += c10::multiply_integers(info(name).shape);
  }
  return total;
}

int64_t Checkpoint::bytes() const {
  uint64_t total = 0;
  for (const auto& [name, holder] : holders_) total += info(name).bytes();
  return static_cast<int64_t>(total);
}

}  // namespace opensora::io
