#include "run/text_embeddings.h"

#include <cctype>
#include <system_error>

#include "core/device.h"
#include "core/text.h"
#include "core/weights.h"
#include "io/safetensors.h"
#include "media/sha256.h"
#include "opensora/error.h"
#include "opensora/process.h"

namespace opensora::run {
namespace {

namespace fs = std::filesystem;

constexpr const char* kEmbeddingSchema = "1";

// `problem`: what is wrong with the file, and what to do.
[[noreturn]] void fail(const fs::path& file, const std::string& problem) {
  throw CheckpointError(file.string() + ": " + problem);
}

const std::string* find_entry(const io::SafetensorsFile& file, const std::string& key) {
  const auto found = file.metadata().find(key);
  return found == file.metadata().end() ? nullptr : &found->second;
}

const std::string& entry(const io::SafetensorsFile& file, const std::string& key) {
  if (const std::string* value = find_entry(file, key)) return *value;
  fail(file.path(), "has no \"" + key + "\" in its metadata; it was not written by opensora encode-text");
}

const std::string& checked_text(const io::SafetensorsFile& file) {
  const std::string& version = entry(file, "schema_version");
  if (version != kEmbeddingSchema) {
    fail(file.path(), "embeddings of schema version " + version + ", expected " + kEmbeddingSchema +
                          "; write them anew with opensora encode-text");
  }
  return entry(file, "text");
}

void check_shape(const io::SafetensorsFile& file, const std::string& name, const std::vector<int64_t>& expected) {
  const auto found = file.tensors().find(name);
  if (found == file.tensors().end()) fail(file.path(), "holds no tensor \"" + name + "\"");
  if (found->second.shape == expected) return;
  fail(file.path(),
       "tensor \"" + name + "\": expected " + shape_string(expected) + ", found " + shape_string(found->second.shape));
}

void check_identity(const io::SafetensorsFile& file, Component component, const ExpectedEmbedding& expected) {
  const std::string& identity = entry(file, std::string(models::component_name(component)) + "_identity");
  if (expected.identity.empty() || identity == expected.identity) return;
  fail(file.path(), std::string("was made by another ") + models::encoder_name(component) + " than " +
                        expected.identity_file.string() + ": expected the identity " + expected.identity + ", found " +
                        identity);
}

void check_length(const io::SafetensorsFile& file, Component component, const ExpectedEmbedding& expected) {
  const std::string& length = entry(file, std::string(models::component_name(component)) + "_max_length");
  if (length == std::to_string(expected.max_length)) return;
  fail(file.path(), std::string("was made with a max_length of ") + length + " tokens for " +
                        models::encoder_name(component) + ", the configuration's is " +
                        std::to_string(expected.max_length));
}

std::vector<int64_t> expected_shape(Component component, const ExpectedEmbedding& expected) {
  if (component == Component::kT5) return {1, expected.max_length, expected.width};
  return {1, expected.width};
}

void check_part(const io::SafetensorsFile& file, Component component, const ExpectedEmbedding& expected) {
  const std::string key = models::component_name(component);
  check_identity(file, component, expected);
  check_length(file, component, expected);
  check_shape(file, key + "_ids", {1, expected.max_length});
  check_shape(file, key, expected_shape(component, expected));
  if (!at::isFloatingType(file.tensors().at(key).dtype)) {
    fail(file.path(), "tensor \"" + key + "\": expected floating-point numbers, found " +
                          std::string(*io::dtype_to_safetensors(file.tensors().at(key).dtype)));
  }
}

// The files of a source that may hold the text.
std::vector<fs::path> candidates(const fs::path& source, const std::string& text, Component component) {
  std::error_code unreadable;
  if (!fs::exists(source, unreadable)) {
    throw CheckpointError(source.string() + ": no such file or folder of text embeddings");
  }
  if (!fs::is_directory(source, unreadable)) return {source};
  std::vector<fs::path> files;
  for (const auto& encoders : {std::vector{Component::kClip, Component::kT5}, std::vector{component}}) {
    const fs::path file = source / embedding_file_name(text, encoders);
    if (fs::exists(file, unreadable)) files.push_back(file);
  }
  return files;
}

}  // namespace

std::string embedding_file_name(const std::string& text, const std::vector<Component>& encoders) {
  constexpr size_t kDigits = 16;
  const std::string infix = encoders.size() == 1 ? std::string(".") + models::component_name(encoders.front()) : "";
  const std::string words = slug(text, 40, 40);
  return (words.empty() ? "text" : words) + "-" + media::sha256_of_text(text).substr(0, kDigits) + infix +
         ".safetensors";
}

void save_embedding(const fs::path& file, const std::string& text, const EncodedParts& parts,
                    const EncoderIdentities& identities, bool overwrite) {
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  std::map<std::string, std::string> metadata = {
      {"schema_version", kEmbeddingSchema}, {"program_version", version()}, {"text", text}};
  for (const auto& [component, encoded] : parts) {
    const std::string key = models::component_name(component);
    tensors.emplace_back(key, encoded.states);
    tensors.emplace_back(key + "_ids", encoded.ids);
    metadata[key + "_identity"] = identities.at(component);
    metadata[key + "_max_length"] = std::to_string(encoded.ids.size(1));
    metadata[key + "_dtype"] = dtype_name(encoded.states.scalar_type());
  }
  io::save_safetensors(file, tensors, metadata, overwrite);
}

std::string embedded_text(const fs::path& file) { return checked_text(io::SafetensorsFile(file)); }

std::optional<models::EncodedText> read_embedding(const fs::path& file, const std::string& text, Component component,
                                                  ExpectedEmbedding& expected) {
  const io::SafetensorsFile opened(file);
  const std::string key = models::component_name(component);
  if (checked_text(opened) != text || find_entry(opened, key + "_identity") == nullptr) return std::nullopt;
  check_part(opened, component, expected);
  if (expected.identity.empty()) {  // no encoder to compare with: the first file speaks for all
    expected.identity = entry(opened, key + "_identity");
    expected.identity_file = file;
  }
  // Copies: a batch has more texts than a process may have files mapped.
  return models::EncodedText{opened.tensor(key + "_ids").clone(), opened.tensor(key).clone()};
}

std::optional<models::EncodedText> find_embedding(const std::vector<fs::path>& sources, const std::string& text,
                                                  Component component, ExpectedEmbedding& expected) {
  for (const fs::path& source : sources) {
    for (const fs::path& file : candidates(source, text, component)) {
      if (auto stored = read_embedding(file, text, component, expected)) return stored;
    }
  }
  return std::nullopt;
}

}  // namespace opensora::run
