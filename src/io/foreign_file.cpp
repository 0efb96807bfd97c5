#include "io/foreign_file.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "core/json_text.h"
#include "core/text.h"

namespace opensora::io {
namespace {

constexpr const char* kTakeOriginal = "; take the model's safetensors file";
constexpr const char* kUnpack = "; unpack it first";
constexpr const char* kNoCheckpoint = "; a checkpoint is a safetensors or a PyTorch file";
constexpr const char* kDownloadAgain = "; download it again";

struct Signature {
  size_t offset;
  std::string_view bytes;
  const char* what;
  const char* advice;
};

using namespace std::string_view_literals;

constexpr Signature kSignatures[] = {
    {0, "ggml"sv, "a GGML file (quantised, for llama.cpp), which is not supported", kTakeOriginal},
    {0, "tjgg"sv, "a GGML file (quantised, for llama.cpp), which is not supported", kTakeOriginal},
    {0, "version https://git-lfs"sv, "a Git LFS pointer: the file itself was not downloaded",
     "; fetch it with \"git lfs pull\""},
    {0, "\x80\x02"sv, "in the format of PyTorch before 1.6, which cannot be read",
     "; load it and save it again with a newer PyTorch, or take the safetensors file"},
    {0, "\x80\x03"sv, "a Python pickle, which cannot be read", kTakeOriginal},
    {0, "\x80\x04"sv, "a Python pickle, which cannot be read", kTakeOriginal},
    {0, "\x80\x05"sv, "a Python pickle, which cannot be read", kTakeOriginal},
    {0, "\x89HDF\r\n"sv, "an HDF5 file (of Keras or TensorFlow), which is not supported", kTakeOriginal},
    {0, "\x93NUMPY"sv, "a NumPy array, which is not supported", kTakeOriginal},
    {4, "TFL3"sv, "a TensorFlow Lite file, which is not supported", kTakeOriginal},
    {0, "\x1f\x8b"sv, "a gzip archive", kUnpack},
    {0, "BZh"sv, "a bzip2 archive", kUnpack},
    {0,
     "\xfd"
     "7zXZ"sv,
     "an xz archive", kUnpack},
    {0, "\x28\xb5\x2f\xfd"sv, "a zstd archive", kUnpack},
    {0, "7z\xbc\xaf\x27\x1c"sv, "a 7z archive", kUnpack},
    {0, "Rar!"sv, "a RAR archive", kUnpack},
    {257, "ustar"sv, "a tar archive", kUnpack},
    {0, "%PDF"sv, "a PDF document", kNoCheckpoint},
    {0, "\x89PNG"sv, "a PNG picture", kNoCheckpoint},
    {0, "\xff\xd8\xff"sv, "a JPEG picture", kNoCheckpoint},
    {4, "ftyp"sv, "a video (MP4)", kNoCheckpoint},
    {0, "\x1a\x45\xdf\xa3"sv, "a video (Matroska)", kNoCheckpoint},
    {0, "RIFF"sv, "a picture, video or sound (RIFF)", kNoCheckpoint},
    {0,
     "\x7f"
     "ELF"sv,
     "a program or library", kNoCheckpoint},
    {0, "SQLite format"sv, "a database", kNoCheckpoint},
};

// How the names of downloads end until these are complete.
constexpr std::string_view kUnfinished[] = {".incomplete", ".part",  ".partial", ".crdownload",
                                            ".download",   ".aria2", ".tmp",     ".!qB"};

// What a file is, by its extension.
constexpr std::pair<std::string_view, const char*> kForeignNames[] = {
    {".onnx", "an ONNX file"},       {".h5", "a file of Keras"},
    {".msgpack", "a file of Flax"},  {".tflite", "a TensorFlow Lite file"},
    {".pb", "a file of TensorFlow"}, {".engine", "a TensorRT engine"},
    {".mlmodel", "a Core ML file"},
};

std::string lower(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  return lower;
}

// The file begins with the header's length in 64 bits, whose first bytes may look like a signature, and the header. No
// header has 4 GiB.
bool starts_as_safetensors(std::string_view start) {
  return start.size() > 8 && start.substr(4, 4) == "\0\0\0\0"sv && start[8] == '{';
}

// The text without a byte order mark and white space at its start.
std::string_view first_word(std::string_view start) {
  if (start.starts_with("\xEF\xBB\xBF")) start.remove_prefix(3);
  start.remove_prefix(std::min(start.find_first_not_of(" \t\r\n"), start.size()));
  return start;
}

// False for a safetensors file: the number of 64 bits at its start has zeros among its bytes.
bool is_text(std::string_view start) {
  constexpr size_t kFewest = 8;
  const std::string_view whole = start.substr(0, start.size() >= kForeignBytes ? kForeignBytes - 4 : start.size());
  const auto is_control = [](unsigned char c) { return c < ' ' && c != '\t' && c != '\r' && c != '\n'; };
  if (whole.size() < kFewest || std::any_of(whole.begin(), whole.end(), is_control)) return false;
  const auto invalid = find_invalid_utf8(start);
  return !invalid || *invalid >= whole.size();
}

std::optional<std::string> foreign_text(std::string_view start) {
  const std::string_view text = first_word(start);
  const std::string tag = lower(text.substr(0, 14));
  for (const char* html : {"<!doctype html", "<html", "<head", "<body"}) {
    if (!tag.starts_with(html)) continue;
    return "is a web page (HTML), perhaps one that asks to log in or says that there is no such file: the file itself "
           "was "
           "not downloaded";
  }
  if (!is_text(start)) return std::nullopt;
  if (tag.starts_with("<")) return "is an XML or HTML text: the file itself was not downloaded";
  const std::string beginning = json_excerpt(std::string(text.substr(0, std::min<size_t>(text.find('\n'), 60))));
  if (tag.starts_with("{") || tag.starts_with("[")) return "is a JSON text (" + beginning + "), not the weights";
  return "is a text (" + beginning + "), not the weights" + kDownloadAgain;
}

// ONNX is Protobuf: field 1 is the format's version, and field 2 the name of the program that wrote the file.
bool is_onnx(std::string_view start) {
  return start.size() > 4 && start[0] == '\x08' && start[1] > 0 && start[1] < 32 && start[2] == '\x12' &&
         std::isalpha(static_cast<unsigned char>(start[4])) != 0;
}

bool ends_with_any(const std::string& name, std::initializer_list<std::string_view> endings) {
  return std::any_of(endings.begin(), endings.end(), [&](std::string_view end) { return name.ends_with(end); });
}

bool contains_any(const std::string& name, std::initializer_list<std::string_view> parts) {
  return std::any_of(parts.begin(), parts.end(),
                     [&](std::string_view part) { return name.find(part) != std::string::npos; });
}

// What a file is or holds, by the name of one of its tensors.
constexpr std::pair<bool (*)(const std::string& name), const char*> kTensorMarks[] = {
    {[](const std::string& name) {
       return contains_any(name, {".lora_A.", ".lora_B.", "lora_up.", "lora_down.", ".lora.up.", ".lora.down.",
                                  ".lora_a.", ".lora_b.", "hada_w1_", "hada_w2_", "lokr_w1", "lokr_w2"}) ||
              name.starts_with("lora_");
     },
     "is a LoRA adapter, which is not supported yet; opensora takes whole models"},
    {[](const std::string& name) {
       return contains_any(name, {".quant_state.bitsandbytes", ".quant_map", ".nested_absmax"}) ||
              ends_with_any(name, {".absmax", ".weight_format", ".SCB"});
     },
     "holds weights that bitsandbytes quantised (nf4, fp4 or int8), which cannot be used; take an int8, fp8, fp16 or "
     "bf16 file"},
    {[](const std::string& name) {
       return ends_with_any(name, {".qweight", ".qzeros", ".g_idx"});
     },
     "holds weights that GPTQ or AWQ quantised, which cannot be used; take an int8, fp8, fp16 or bf16 file"},
    {[](const std::string& name) {
       return ends_with_any(name, {".weight._data", ".weight._scale", ".weight.qdata"});
     },
     "holds weights that quanto or torchao quantised, which cannot be used; take an int8, fp8, fp16 or bf16 file"},
    {[](const std::string& name) {
       return ends_with_any(name, {"transformer_blocks.0.attn.to_q.weight", "transformer_blocks.0.attn.to_qkv.weight"});
     },
     "holds a transformer under the names of diffusers, which are not supported; take the original single file"},
    {[](const std::string& name) { return name == "emb_params" || name == "string_to_param.*"; },
     "is a textual inversion, which is not supported; opensora takes whole models"},
};

}  // namespace

std::optional<std::string> foreign_file(const std::filesystem::path& path, std::string_view start) {
  if (starts_as_safetensors(start)) return std::nullopt;
  const std::string name = path.filename().string(), extension = lower(path.extension().string());
  for (const Signature& mark : kSignatures) {
    if (start.size() >= mark.offset && start.substr(mark.offset).starts_with(mark.bytes)) {
      return std::string("is ") + mark.what + mark.advice;
    }
  }
  if (is_onnx(start)) return std::string("is an ONNX file, which is not supported") + kTakeOriginal;
  if (auto text = foreign_text(start)) return text;
  for (const std::string_view unfinished : kUnfinished) {
    if (name.ends_with(unfinished)) return "is an unfinished download (" + std::string(unfinished) + "); complete it";
  }
  for (const auto& [known, what] : kForeignNames) {
    if (extension == known) return std::string("is ") + what + ", which is not supported" + kTakeOriginal;
  }
  const size_t zeros = std::min(start.find_first_not_of('\0'), start.size());
  if (zeros >= 64) return "starts with zeros only: the download is not complete";
  return std::nullopt;
}

std::optional<std::string> foreign_tensors(const std::vector<std::string>& names) {
  for (const auto& [matches, what] : kTensorMarks) {
    const auto found = std::find_if(names.begin(), names.end(), matches);
    if (found != names.end()) return std::string(what) + " (tensor " + json_excerpt(*found) + ")";
  }
  return std::nullopt;
}

}  // namespace opensora::io
