// opensora inspect: what a checkpoint or a video is.
#include <fmt/format.h>

#include <algorithm>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <system_error>

#include "cli/commands.h"
#include "cli/inspect_video.h"
#include "cli/logging.h"
#include "cli/result_json.h"
#include "core/byte_size.h"
#include "core/local_file.h"
#include "opensora/checkpoint.h"
#include "opensora/error.h"

namespace opensora::cli {
namespace {

struct InspectOptions {
  std::filesystem::path path;
  bool tensors = false;
  bool json = false;
  LogOptions log;
};

// What one file came to: what it is, or why it cannot be read.
struct Inspected {
  std::filesystem::path path;
  CheckpointInfo info;
  std::string error;
};

std::string join_shape(const std::vector<int64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

nlohmann::ordered_json to_json(const CheckpointTensor& tensor) {
  return {{"name", tensor.name},
          {"dtype", tensor.dtype},
          {"shape", tensor.shape},
          {"bytes", tensor.bytes},
          {"file", tensor.file.string()}};
}

nlohmann::ordered_json to_json(const Inspected& inspected, bool with_tensors) {
  if (!inspected.error.empty()) return {{"path", inspected.path.string()}, {"error", inspected.error}};
  const CheckpointInfo& info = inspected.info;
  nlohmann::ordered_json variant = nlohmann::ordered_json::object();
  for (const auto& [key, value] : info.variant) variant[key] = value;
  nlohmann::ordered_json object = {{"path", info.path.string()}, {"files", nlohmann::ordered_json::array()},
                                   {"kind", info.kind},          {"variant", variant},
                                   {"dtypes", info.dtypes},      {"parameters", info.parameters},
                                   {"bytes", info.bytes},        {"tensor_count", info.tensors.size()},
                                   {"metadata", info.metadata}};
  for (const std::filesystem::path& file : info.files) object["files"].push_back(file.string());
  if (!with_tensors) return object;
  for (const CheckpointTensor& tensor : info.tensors) object["tensors"].push_back(to_json(tensor));
  return object;
}

void print(const Inspected& inspected, bool with_tensors) {
  if (!inspected.error.empty()) {
    std::cout << inspected.error << '\n';
    return;
  }
  const CheckpointInfo& info = inspected.info;
  std::cout << info.path.string() << ": " << info.kind << '\n';
  for (const auto& [key, value] : info.variant) std::cout << fmt::format("  {:<20} {}\n", key, value);
  for (const auto& [dtype, count] : info.dtypes) std::cout << fmt::format("  {:<20} {} tensors\n", dtype, count);
  std::cout << fmt::format("  {:<20} {}\n", "parameters", info.parameters);
  std::cout << fmt::format("  {:<20} {} bytes ({})\n", "size", info.bytes, format_bytes(info.bytes));
  if (info.files.size() > 1) std::cout << fmt::format("  {:<20} {}\n", "files", info.files.size());
  for (const auto& [key, value] : info.metadata) std::cout << fmt::format("  metadata {:<11} {}\n", key, value);
  if (!with_tensors) return;
  for (const CheckpointTensor& tensor : info.tensors) {
    std::cout << fmt::format("  {}  {} {}\n", tensor.name, tensor.dtype, join_shape(tensor.shape));
  }
}

// A damaged file among others must not hide them.
std::vector<Inspected> inspect_folder(const std::filesystem::path& folder) {
  std::vector<Inspected> all;
  for (const std::filesystem::path& file : find_checkpoints(folder)) {
    Inspected& inspected = all.emplace_back(Inspected{file, {}, {}});
    try {
      inspected.info = inspect(file);
    } catch (const CheckpointError& error) {
      inspected.error = error.what();
    }
  }
  if (all.empty()) throw CheckpointError("folder " + folder.string() + ": holds no checkpoint");
  return all;
}

void run(const InspectOptions& options) {
  options.log.apply();
  const std::filesystem::path path = local_file(options.path.string());
  std::error_code unreadable;
  const bool is_folder = std::filesystem::is_directory(path, unreadable);
  if (!is_folder && !std::filesystem::exists(path, unreadable)) {
    const std::string name = path.string();
    throw CheckpointError(is_remote_url(name) ? fmt::format("{}: {}", shorten_url(name), remote_url_advice(name))
                                              : name + ": no such file or folder");
  }
  if (!is_folder && is_video_or_picture(path)) return inspect_video(path, options.json);
  const std::vector<Inspected> all =
      is_folder ? inspect_folder(path) : std::vector<Inspected>{{path, inspect(path), {}}};
  if (options.json) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const Inspected& one : all) list.push_back(to_json(one, options.tensors));
    const nlohmann::ordered_json& root = is_folder ? list : list.front();
    print_json(root);
  } else {
    for (const Inspected& one : all) print(one, options.tensors);
  }
  const auto broken = std::count_if(all.begin(), all.end(), [](const Inspected& one) { return !one.error.empty(); });
  if (broken == 0) return;
  const std::string failure =
      fmt::format("folder {}: {} of {} checkpoints cannot be read", path.string(), broken, all.size());
  if (options.json) throw ToldError(ExitCode::kCheckpoint, failure);  // each says its own in the list
  throw CheckpointError(failure);
}

}  // namespace

void add_inspect(CLI::App& app) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App* command =
      app.add_subcommand("inspect", "Say what a checkpoint is (kind, sizes, dtype, tensors), or how a video was made");
  command
      ->add_option("PATH", options->path,
                   "A checkpoint, an index of shards, a folder (every checkpoint in it), or a video or picture")
      ->required()
      ->type_name("PATH");
  command->add_flag("--tensors", options->tensors, "List every tensor");
  command->add_flag("--json", options->json, "Print JSON: an object for a file, a list for a folder");
  options->log.add_to(*command);
  command->footer(
      "Examples:\n"
      "  opensora inspect ckpts/Open_Sora_v2.safetensors\n"
      "  opensora inspect ckpts --json\n"
      "  opensora inspect t5xxl_fp16.safetensors --tensors\n"
      "  opensora inspect sea.mp4");
  command->callback([options] { run(*options); });
}

}  // namespace opensora::cli
