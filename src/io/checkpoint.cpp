#include "io/checkpoint.h"

#include <fstream>
#include <iterator>
#include <set>
#include <string_view>

#include "io/json_text.h"
#include "opensora/error.h"

namespace opensora::io {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

bool is_pytorch_file(const fs::path& file) {
  static const std::set<std::string> extensions = {".bin", ".pt", ".pth", ".ckpt"};
  return extensions.contains(file.extension().string());
}

[[noreturn]] void fail_pytorch(const fs::path& file) {
  throw CheckpointError(file.string() + ": is in PyTorch's own format, which cannot be read yet; download or convert " +
                        "it to safetensors");
}

[[noreturn]] void fail_missing(const fs::path& path) {
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  std::error_code unreadable;
  const bool folder_exists = fs::is_directory(folder, unreadable);
  throw CheckpointError("no checkpoint \"" + path.filename().string() + "\" in folder " + folder.string() +
                        (folder_exists ? "" : " (there is no such folder)") +
                        "; give the folder of the models with --model-dir");
}

// The weights within a folder in Hugging Face's layout.
fs::path weights_in(const fs::path& folder) {
  for (const char* name : {kSingleFile, kIndexFile}) {
    if (fs::exists(folder / name)) return folder / name;
  }
  std::error_code unreadable;  // then the message below is as good
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, unreadable)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("pytorch_model") && is_pytorch_file(name)) fail_pytorch(entry.path());
  }
  throw CheckpointError("no " + std::string(kSingleFile) + " or " + kIndexFile + " in folder " + folder.string() +
                        "; give the folder of the models with --model-dir");
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

std::shared_ptr<const Checkpoint> Checkpoint::open(const fs::path& path) {
  const std::shared_ptr<Checkpoint> checkpoint(new Checkpoint);
  checkpoint->path_ = path;
  std::error_code unreadable;
  if (!fs::exists(path, unreadable)) fail_missing(path);
  const fs::path file = fs::is_directory(path) ? weights_in(path) : path;
  if (is_pytorch_file(file)) fail_pytorch(file);
  if (file.filename().string().ends_with(".index.json")) {
    checkpoint->add_shards(file);
  } else {
    checkpoint->add_file(file);
  }
  return checkpoint;
}

void Checkpoint::add_file(const fs::path& file) {
  const auto shard = std::make_shared<const SafetensorsFile>(file);
  for (const auto& [name, info] : shard->tensors()) holders_.emplace(name, shard);
}

void Checkpoint::add_shards(const fs::path& index_file) {
  const std::map<std::string, std::string> weight_map = read_weight_map(index_file);
  std::map<std::string, std::shared_ptr<const SafetensorsFile>> shards;
  std::set<std::string> problems;  // a set, as each tensor of a missing shard would name it again
  for (const auto& [name, shard_name] : weight_map) {
    const fs::path shard_file = index_file.parent_path() / shard_name;
    std::error_code unreadable;
    if (!fs::exists(shard_file, unreadable)) {
      problems.insert(shard_name + ": missing");
      continue;
    }
    std::shared_ptr<const SafetensorsFile>& shard = shards[shard_name];
    if (!shard) shard = std::make_shared<const SafetensorsFile>(shard_file);
    if (!shard->tensors().contains(name)) problems.insert(shard_name + ": holds no tensor " + json_excerpt(name));
    holders_.emplace(name, shard);
  }
  if (problems.empty()) return;
  std::string message = index_file.string() + ": " + std::to_string(problems.size()) + " shard(s) or tensor(s) missing";
  for (const std::string& problem : problems) message += "\n  " + problem;
  throw CheckpointError(message);
}

std::optional<at::Tensor> Checkpoint::find(const std::string& name, at::IntArrayRef) const {
  const auto found = holders_.find(name);
  if (found == holders_.end()) return std::nullopt;
  return found->second->tensor(name);
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> names;
  for (const auto& [name, holder] : holders_) names.push_back(name);
  return names;
}

int64_t Checkpoint::bytes() const {
  uint64_t total = 0;
  for (const auto& [name, holder] : holders_) total += holder->tensors().at(name).bytes();
  return static_cast<int64_t>(total);
}

}  // namespace opensora::io
