#include <algorithm>
#include <set>

#include "io/checkpoint.h"
#include "io/checkpoint_kind.h"
#include "io/safetensors.h"
#include "opensora/checkpoint.h"
#include "opensora/error.h"

// Implementation of include/opensora/checkpoint.h: inspect() and find_checkpoints(). verify() needs the models and is
// in pipeline/.
namespace opensora {
namespace {

namespace fs = std::filesystem;

// safetensors' names, also for files of other formats.
std::string dtype_text(at::ScalarType dtype) {
  const std::optional<std::string_view> name = io::dtype_to_safetensors(dtype);
  return name ? std::string(*name) : c10::toString(dtype);
}

bool is_index(const fs::path& file) { return file.filename().string().ends_with(".index.json"); }

bool is_checkpoint(const fs::path& file) {
  return file.extension() == ".safetensors" || is_index(file) || io::has_pytorch_name(file);
}

// The files that an index names, by path; none if the index cannot be read, which inspect() will say.
std::set<fs::path> shards_of(const fs::path& index) {
  try {
    const auto checkpoint = io::Checkpoint::open(index);
    return {checkpoint->files().begin() + 1, checkpoint->files().end()};
  } catch (const CheckpointError&) {
    return {};
  }
}

}  // namespace

CheckpointInfo inspect(const fs::path& path) {
  const auto checkpoint = io::Checkpoint::open(path);
  io::CheckpointKind kind = io::recognise(*checkpoint);
  CheckpointInfo info{.path = path,
                      .files = checkpoint->files(),
                      .kind = std::move(kind.name),
                      .variant = std::move(kind.variant),
                      .dtypes = {},
                      .tensors = {},
                      .metadata = checkpoint->metadata()};
  if (!checkpoint->stripped_prefix().empty()) info.variant.emplace_back("prefix", checkpoint->stripped_prefix());
  for (const std::string& name : checkpoint->all_names()) {
    const io::TensorInfo& tensor = checkpoint->info(name);
    const std::string dtype = dtype_text(tensor.dtype);
    ++info.dtypes[dtype];
    info.parameters += c10::multiply_integers(tensor.shape);
    info.bytes += static_cast<int64_t>(tensor.bytes());
    info.tensors.push_back(
        {name, dtype, tensor.shape, static_cast<int64_t>(tensor.bytes()), checkpoint->file_of(name)});
  }
  return info;
}

std::vector<fs::path> find_checkpoints(const fs::path& folder) {
  std::vector<fs::path> found;
  std::set<fs::path> shards;
  std::error_code error;
  const auto options = fs::directory_options::skip_permission_denied;
  for (fs::recursive_directory_iterator entry(folder, options, error), end; entry != end && !error;
       entry.increment(error)) {
    std::error_code unreadable;
    if (!entry->is_regular_file(unreadable) || !is_checkpoint(entry->path())) continue;
    found.push_back(entry->path());
    if (is_index(entry->path())) shards.merge(shards_of(entry->path()));
  }
  if (error) throw CheckpointError("folder " + folder.string() + ": cannot be read: " + error.message());
  std::erase_if(found, [&](const fs::path& file) { return shards.contains(file); });
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace opensora
