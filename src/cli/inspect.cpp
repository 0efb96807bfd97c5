// opensora inspect: what a checkpoint is, or how a video was made.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/standard_output.h"
#include "core/file_kind.h"
#include "core/json_text.h"
#include "core/local_file.h"
#include "core/units.h"
#include "opensora/checkpoint.h"
#include "opensora/error.h"
#include "opensora/video.h"
#include "request/parameter.h"

namespace opensora::cli {
namespace {

using nlohmann::ordered_json;

std::string join_shape(const std::vector<int64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

ordered_json to_json(const CheckpointTensor& tensor) {
  return {{"name", tensor.name},
          {"dtype", tensor.dtype},
          {"shape", tensor.shape},
          {"bytes", tensor.bytes},
          {"file", tensor.file.string()}};
}

ordered_json to_json(const CheckpointInfo& info, bool with_tensors) {
  ordered_json variant = ordered_json::object();
  for (const auto& [key, value] : info.variant) variant[key] = value;
  ordered_json object = {{"path", info.path.string()}, {"files", ordered_json::array()},
                         {"kind", info.kind},          {"variant", variant},
                         {"dtypes", info.dtypes},      {"parameters", info.parameters},
                         {"bytes", info.bytes},        {"tensor_count", info.tensors.size()},
                         {"metadata", info.metadata}};
  for (const std::filesystem::path& file : info.files) object["files"].push_back(file.string());
  if (!with_tensors) return object;
  for (const CheckpointTensor& tensor : info.tensors) object["tensors"].push_back(to_json(tensor));
  return object;
}

std::string dump(const ordered_json& value) {
  return value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

// The value on one line. A string stands as it is, unless it holds what would break the line or steer the terminal.
std::string readable(const ordered_json& value) {
  if (!value.is_string()) return dump(value);
  const auto& text = value.get_ref<const std::string&>();
  const bool has_control = std::any_of(text.begin(), text.end(), [](unsigned char c) { return std::iscntrl(c) != 0; });
  return has_control ? dump(value) : text;
}

void print(const CheckpointInfo& info, bool with_tensors) {
  std::cout << info.path.string() << ": " << info.kind << '\n';
  for (const auto& [key, value] : info.variant) std::cout << fmt::format("  {:<20} {}\n", key, value);
  for (const auto& [dtype, count] : info.dtypes) std::cout << fmt::format("  {:<20} {} tensors\n", dtype, count);
  std::cout << fmt::format("  {:<20} {}\n", "parameters", info.parameters);
  std::cout << fmt::format("  {:<20} {} bytes ({})\n", "size", info.bytes, format_bytes(info.bytes));
  if (info.files.size() > 1) std::cout << fmt::format("  {:<20} {}\n", "files", info.files.size());
  for (const auto& [key, value] : info.metadata)
    std::cout << fmt::format("  metadata {:<11} {}\n", readable(key), readable(value));
  if (!with_tensors) return;
  for (const CheckpointTensor& tensor : info.tensors) {
    std::cout << fmt::format("  {}  {} {}\n", readable(tensor.name), tensor.dtype, join_shape(tensor.shape));
  }
}

// The comment as JSON if it is an object, as this program writes it; otherwise null.
ordered_json metadata_of(const VideoInfo& info) {
  try {
    ordered_json parsed = parse_ordered_json(info.comment);
    return parsed.is_object() ? std::move(parsed) : ordered_json();
  } catch (const JsonError&) {  // another program's words
    return {};
  }
}

std::string kind_name(const std::filesystem::path& path) {
  const std::optional<FileKind> kind = file_kind(path);
  return kind && kind->group == FileGroup::kPicture ? "picture" : "video";
}

void print_video_json(const std::filesystem::path& path, const VideoInfo& info, const ordered_json& metadata) {
  const bool is_plain = metadata.is_null() && !info.comment.empty();
  print_json({{"path", path.string()},
              {"kind", kind_name(path)},
              {"width", info.width},
              {"height", info.height},
              {"frames", info.frames},
              {"fps", info.fps},
              {"duration", info.duration},
              {"codec", info.codec},
              {"pixel_format", info.pixel_format},
              {"bytes", std::filesystem::file_size(path)},
              {"metadata", metadata},
              {"comment", is_plain ? ordered_json(info.comment) : ordered_json()}});
}

void print_video(const std::filesystem::path& path, const VideoInfo& info, const ordered_json& metadata) {
  const auto line = [](std::string_view name, const std::string& value) {
    std::cout << fmt::format("  {:<20} {}\n", name, value);
  };
  const auto bytes = static_cast<int64_t>(std::filesystem::file_size(path));
  std::cout << path.string() << ": " << kind_name(path) << '\n';
  line("size", fmt::format("{}x{}", info.width, info.height));
  line("frames", fmt::format("{}", info.frames));
  line("frames a second", fmt::format("{:.6g}", info.fps));
  line("duration", fmt::format("{:.3f} s", info.duration));
  line("codec", info.codec);
  line("pixel format", info.pixel_format);
  line("file", fmt::format("{} bytes ({})", bytes, format_bytes(bytes)));
  if (metadata.is_null() && !info.comment.empty()) line("comment", readable(info.comment));
  for (const auto& [key, value] : metadata.items()) {
    line(fmt::format("metadata {:<11}", readable(ordered_json(key))), readable(value));
  }
}

// Told from what the file holds, whatever it is called, and from its name only where the content tells nothing.
bool is_video_or_picture(const std::filesystem::path& path) {
  if (const std::optional<FileKind> kind = file_kind(path)) {
    if (kind->group == FileGroup::kVideo || kind->group == FileGroup::kPicture) return true;
    if (kind->group == FileGroup::kModel) return false;
  }
  return has_video_name(path);
}

// Prints size and frames, and what the file says about its making. Throws InputMediaError.
void inspect_video(const std::filesystem::path& path, bool json) {
  const VideoInfo info = read_video_info(path);
  const ordered_json metadata = metadata_of(info);
  if (json) {
    print_video_json(path, info, metadata);
  } else {
    print_video(path, info, metadata);
  }
}

void inspect_checkpoint(const std::filesystem::path& file, bool json, bool with_tensors) {
  const CheckpointInfo info = inspect(file);
  if (json) return print_json(to_json(info, with_tensors));
  print(info, with_tensors);
}

// A damaged file among others does not hide them.
void inspect_folder(const std::filesystem::path& folder, bool json, bool with_tensors) {
  const std::vector<std::filesystem::path> files = find_checkpoints(folder);
  if (files.empty()) throw CheckpointError("folder " + folder.string() + ": holds no checkpoint");
  ordered_json list = ordered_json::array();
  int64_t broken = 0;
  for (const std::filesystem::path& file : files) {
    try {
      const CheckpointInfo info = inspect(file);
      if (json) list.push_back(to_json(info, with_tensors));
      if (!json) print(info, with_tensors);
    } catch (const CheckpointError& error) {
      ++broken;
      const std::string problem = request::with_flags(error.what());
      if (json) list.push_back({{"path", file.string()}, {"error", problem}});
      if (!json) std::cout << problem << '\n';
    }
  }
  if (json) print_json(list);
  if (broken == 0) return;
  const std::string failure =
      fmt::format("folder {}: {} of {} checkpoints cannot be read", folder.string(), broken, files.size());
  if (json) throw ToldError(ExitCode::kCheckpoint, failure);  // each says its own in the list
  throw CheckpointError(failure);
}

void run(const CommandOptions& options, const std::string& name, bool with_tensors) {
  options.apply_log();
  const std::filesystem::path path = local_file(name);
  std::error_code unreadable;
  if (std::filesystem::is_directory(path, unreadable)) return inspect_folder(path, options.json, with_tensors);
  if (!std::filesystem::exists(path, unreadable)) {
    const std::string file = path.string();
    throw CheckpointError(is_remote_url(file) ? fmt::format("{}: {}", shorten_url(file), remote_url_advice(file))
                                              : file + ": no such file or folder");
  }
  if (is_video_or_picture(path)) return inspect_video(path, options.json);
  inspect_checkpoint(path, options.json, with_tensors);
}

}  // namespace

void add_inspect(CLI::App& app) {
  auto options = std::make_shared<CommandOptions>();
  auto path = std::make_shared<std::filesystem::path>();
  auto tensors = std::make_shared<bool>(false);
  CLI::App* command =
      app.add_subcommand("inspect", "Say what a checkpoint is (kind, sizes, dtype, tensors), or how a video was made");
  command
      ->add_option("PATH", *path,
                   "A checkpoint, an index of shards, a folder (every checkpoint in it), or a video or picture")
      ->required()
      ->type_name("PATH");
  command->add_flag("--tensors", *tensors, "List every tensor");
  options->add_json_to(*command, "Print JSON: an object for a file, a list for a folder");
  options->add_log_to(*command);
  command->footer(
      "Examples:\n"
      "  opensora inspect ckpts/Open_Sora_v2.safetensors\n"
      "  opensora inspect ckpts --json\n"
      "  opensora inspect t5xxl_fp16.safetensors --tensors\n"
      "  opensora inspect sea.mp4");
  command->callback([options, path, tensors] { run(*options, path->string(), *tensors); });
}

}  // namespace opensora::cli
