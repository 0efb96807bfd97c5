#include "io/inspect.h"

#include <algorithm>
#include <set>

#include "io/safetensors.h"
#include "opensora/checkpoint.h"
#include "opensora/error.h"

namespace opensora::io {
namespace {

using Variant = std::vector<std::pair<std::string, std::string>>;

// The size of a tensor in one dimension, or "?" if there is no such tensor or dimension.
std::string size_of(const Checkpoint& checkpoint, const std::string& name, size_t dimension) {
  if (!checkpoint.contains(name)) return "?";
  const std::vector<int64_t>& shape = checkpoint.info(name).shape;
  return dimension < shape.size() ? std::to_string(shape[dimension]) : "?";
}

bool has_dimensions(const Checkpoint& checkpoint, const std::string& name, size_t count) {
  return checkpoint.contains(name) && checkpoint.info(name).shape.size() == count;
}

std::string count_of(const Checkpoint& checkpoint, const std::string& prefix, const std::string& suffix) {
  return std::to_string(count_numbered(checkpoint, prefix, suffix));
}

std::string yes_no(bool value) { return value ? "yes" : "no"; }

CheckpointKind transformer(const Checkpoint& checkpoint) {
  const bool fused = checkpoint.contains("double_blocks.0.img_attn.qkv.weight");
  const bool cond_embed = checkpoint.contains("cond_in.weight");
  const Variant variant = {
      {"qkv", fused ? "fused" : "separate"},
      {"cond_embed", yes_no(cond_embed)},
      {"guidance_embed", yes_no(checkpoint.contains("guidance_in.in_layer.weight"))},
      {"in_channels", size_of(checkpoint, "img_in.weight", 1)},
      {"hidden_size", size_of(checkpoint, "img_in.weight", 0)},
      {"context_in_dim", size_of(checkpoint, "txt_in.weight", 1)},
      {"vec_in_dim", size_of(checkpoint, "vector_in.in_layer.weight", 1)},
      {"depth", count_of(checkpoint, "double_blocks.", ".img_attn.proj.weight")},
      {"depth_single_blocks", count_of(checkpoint, "single_blocks.", ".linear2.weight")},
  };
  return {cond_embed || !fused ? "Open-Sora transformer" : "FLUX transformer", variant};
}

// Whether each half is there, since a run may need both.
Variant halves(const Checkpoint& checkpoint, const std::string& encoder, const std::string& decoder) {
  return {{"encoder", yes_no(checkpoint.contains("encoder." + encoder))},
          {"decoder", yes_no(checkpoint.contains("decoder." + decoder))}};
}

Variant operator+(Variant a, const Variant& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

CheckpointKind hunyuan_vae(const Checkpoint& checkpoint) {
  return {"HunyuanVAE", halves(checkpoint, "conv_in.conv.weight", "conv_in.conv.weight") +
                            Variant{{"latent_channels", size_of(checkpoint, "decoder.conv_in.conv.weight", 1)},
                                    {"levels", count_of(checkpoint, "decoder.up_blocks.", ".resnets.0.norm1.weight")},
                                    {"deepest_width", size_of(checkpoint, "decoder.conv_in.conv.weight", 0)}}};
}

// The published decoder's first convolution has a shortcut beside it and is called "main".
std::string dc_ae_decoder(const Checkpoint& checkpoint) {
  const bool is_main = checkpoint.contains("decoder.project_in.main.conv.weight");
  return is_main ? "project_in.main.conv.weight" : "project_in.conv.weight";
}

CheckpointKind dc_ae(const Checkpoint& checkpoint) {
  const std::string decoder = dc_ae_decoder(checkpoint);
  return {"DC-AE", halves(checkpoint, "project_in.conv.weight", decoder) +
                       Variant{{"latent_channels", size_of(checkpoint, "decoder." + decoder, 1)},
                               {"deepest_width", size_of(checkpoint, "decoder." + decoder, 0)}}};
}

CheckpointKind flux_autoencoder(const Checkpoint& checkpoint) {
  return {"FLUX autoencoder", halves(checkpoint, "conv_in.weight", "conv_in.weight") +
                                  Variant{{"z_channels", size_of(checkpoint, "decoder.conv_in.weight", 1)},
                                          {"levels", count_of(checkpoint, "decoder.up.", ".block.0.norm1.weight")},
                                          {"ch", size_of(checkpoint, "decoder.norm_out.weight", 0)}}};
}

CheckpointKind taehv(const Checkpoint& checkpoint) {
  return {"TAEHV", halves(checkpoint, "0.weight", "1.weight") +
                       Variant{{"latent_channels", size_of(checkpoint, "decoder.1.weight", 1)},
                               {"deepest_width", size_of(checkpoint, "decoder.1.weight", 0)}}};
}

CheckpointKind clip(const Checkpoint& checkpoint) {
  return {"CLIP text encoder",
          {{"hidden_size", size_of(checkpoint, "text_model.embeddings.token_embedding.weight", 1)},
           {"vocab_size", size_of(checkpoint, "text_model.embeddings.token_embedding.weight", 0)},
           {"layers", count_of(checkpoint, "text_model.encoder.layers.", ".mlp.fc1.weight")},
           {"vision_tower", yes_no(checkpoint.contains("vision_model.embeddings.patch_embedding.weight"))}}};
}

CheckpointKind t5(const Checkpoint& checkpoint) {
  const std::string table = checkpoint.contains("shared.weight") ? "shared.weight" : "encoder.embed_tokens.weight";
  return {"T5 encoder",
          {{"d_model", size_of(checkpoint, table, 1)},
           {"vocab_size", size_of(checkpoint, table, 0)},
           {"layers", count_of(checkpoint, "encoder.block.", ".layer.0.SelfAttention.q.weight")},
           {"decoder", yes_no(checkpoint.contains("decoder.block.0.layer.0.SelfAttention.q.weight"))}}};
}

CheckpointKind saved_tensors(const Checkpoint& checkpoint) {
  Variant variant;
  for (const std::string& name : checkpoint.all_names()) {
    variant.emplace_back(name, shape_string(checkpoint.info(name).shape));
  }
  return {"Open-Sora tensors", variant};
}

}  // namespace

CheckpointKind recognise(const Checkpoint& checkpoint) {
  if (checkpoint.contains("img_in.weight") && checkpoint.contains("double_blocks.0.img_attn.proj.weight")) {
    return transformer(checkpoint);
  }
  // Either half of an autoencoder is enough to recognise it.
  const auto has_half = [&](const std::string& encoder, const std::string& decoder, size_t dimensions) {
    return has_dimensions(checkpoint, "encoder." + encoder, dimensions) ||
           has_dimensions(checkpoint, "decoder." + decoder, dimensions);
  };
  if (has_half("conv_in.conv.weight", "conv_in.conv.weight", 5)) return hunyuan_vae(checkpoint);
  if (has_half("project_in.conv.weight", dc_ae_decoder(checkpoint), 5)) return dc_ae(checkpoint);
  if (has_half("conv_in.weight", "conv_in.weight", 4)) return flux_autoencoder(checkpoint);
  if (has_half("4.conv.0.weight", "3.conv.0.weight", 4)) return taehv(checkpoint);
  if (checkpoint.contains("text_model.embeddings.token_embedding.weight")) return clip(checkpoint);
  if (checkpoint.contains("encoder.block.0.layer.0.SelfAttention.q.weight")) return t5(checkpoint);
  if (checkpoint.contains("latent") && checkpoint.contains("noise")) return saved_tensors(checkpoint);
  return {"unknown", {}};
}

}  // namespace opensora::io

// The implementation of include/opensora/checkpoint.h: inspect() and find_checkpoints(). verify() needs the models and
// is in tools/.
namespace opensora {
namespace {

namespace fs = std::filesystem;

bool is_index(const fs::path& file) { return file.filename().string().ends_with(".index.json"); }

bool is_checkpoint(const fs::path& file) {
  const fs::path extension = file.extension();
  return extension == ".safetensors" || extension == ".gguf" || is_index(file) || io::has_pytorch_name(file);
}

// "int8 by row", or of matrices that are quantised in several ways each, the most frequent first; empty: none is.
std::string quantization_of(const io::Checkpoint& checkpoint) {
  std::map<std::string, int64_t> counts;
  for (const std::string& name : checkpoint.all_names()) {
    const io::TensorInfo& tensor = checkpoint.info(name);
    if (tensor.blocks) ++counts[format_name(*tensor.blocks)];
    const auto matrix = checkpoint.layout().matrices.find(name);
    if (matrix != checkpoint.layout().matrices.end()) ++counts[io::describe(matrix->second, tensor.shape)];
  }
  std::vector<std::pair<int64_t, std::string>> ordered;
  ordered.reserve(counts.size());
  for (const auto& [description, count] : counts) ordered.emplace_back(-count, description);
  std::sort(ordered.begin(), ordered.end());
  std::string text;
  for (const auto& [count, description] : ordered) text += (text.empty() ? "" : "; ") + description;
  return text;
}

// The paths of the files that an index names; none if the index cannot be read, which inspect() will report.
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
                      .parameters = checkpoint->elements(),
                      .bytes = checkpoint->bytes(),
                      .tensors = {},
                      .metadata = checkpoint->metadata()};
  if (const std::string weights = quantization_of(*checkpoint); !weights.empty()) {
    info.variant.emplace_back("weights", weights);
  }
  if (!checkpoint->stripped_prefix().empty()) info.variant.emplace_back("prefix", checkpoint->stripped_prefix());
  for (const std::string& name : checkpoint->all_names()) {
    const io::TensorInfo& tensor = checkpoint->info(name);
    const std::string dtype = tensor.blocks ? format_name(*tensor.blocks) : io::dtype_text(tensor.dtype);
    ++info.dtypes[dtype];
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
