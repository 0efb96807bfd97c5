#include "io/pytorch_file.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "core/json_text.h"
#include "core/weights.h"
#include "io/foreign_file.h"
#include "io/mapped_file.h"
#include "opensora/error.h"

namespace opensora::io {
namespace {

// The table of a zip archive, as far as PyTorch's files need it: where each stored record lies. The layout is that of
// PKWARE's APPNOTE.TXT, sections 4.3.7 (local header), 4.3.12 (table), 4.3.14 to 4.3.16 (its end) and 4.5.3 (sizes of
// 64 bits).
//
// We have our own because LibTorch's reader trusts the sizes of records and unpacks these into memory: a file of a few
// hundred bytes could ask for terabytes. This one allocates memory for names alone and hands out parts of the file.
class ZipArchive {
 public:
  // Reads the table at the end of `file`, which is the whole file and must outlive this. Throws FormatError if there is
  // no such table (the file is cut short), or if it does not fit the file.
  explicit ZipArchive(std::string_view file);

  bool contains(const std::string& name) const { return entries_.contains(name); }
  // The names of all records.
  std::vector<std::string> names() const;
  // The bytes of a record, of equal names the first. Throws FormatError if there is none, or if it is compressed,
  // encrypted or beyond the file's end.
  std::string_view record(const std::string& name) const;

 private:
  struct Entry {
    uint64_t header = 0, size = 0, packed_size = 0;  // `header` is where the local header begins
    uint16_t flags = 0, method = 0;
  };

  void read_entries(std::string_view table);
  Entry read_entry(uint64_t at, std::string_view extra) const;

  std::string_view file_;
  std::map<std::string, Entry> entries_;
};

constexpr uint64_t kEndSize = 22, kLocatorSize = 20, kEnd64Size = 56, kEntrySize = 46, kHeaderSize = 30;
constexpr uint64_t kLongestComment = 65535;
constexpr uint32_t kIn64Bits = 0xFFFFFFFF;  // stands for a size or place that is given elsewhere
constexpr uint16_t kExtra64 = 1;

constexpr std::string_view kEnd("PK\x05\x06"), kEnd64("PK\x06\x06"), kLocator("PK\x06\x07"), kEntry("PK\x01\x02"),
    kHeader("PK\x03\x04");

[[noreturn]] void fail_zip(const std::string& problem) {
  throw FormatError("cannot be read as a PyTorch file: " + problem);
}
[[noreturn]] void fail_cut() { fail_zip("its end is missing or damaged; is the download complete?"); }

// Numbers are little-endian, as on this machine.
template <typename T>
T read(std::string_view text, uint64_t at) {
  if (at > text.size() || sizeof(T) > text.size() - at) fail_cut();
  T value;
  std::memcpy(&value, text.data() + at, sizeof(T));
  return value;
}

std::string_view part(std::string_view text, uint64_t at, uint64_t size) {
  if (at > text.size() || size > text.size() - at) fail_cut();
  return text.substr(at, size);
}

// The end of the table is at the end of the file, before a comment if there is one.
uint64_t find_end(std::string_view file) {
  if (file.size() < kEndSize) fail_cut();
  const uint64_t last = file.size() - kEndSize;
  const uint64_t first = last - std::min(last, kLongestComment);
  for (uint64_t at = last + 1; at-- > first;) {
    if (file.substr(at, kEnd.size()) == kEnd && at + kEndSize + read<uint16_t>(file, at + 20) <= file.size()) return at;
  }
  fail_cut();
}

std::string_view find_table(std::string_view file) {
  const uint64_t end = find_end(file);
  uint64_t size = read<uint32_t>(file, end + 12), begin = read<uint32_t>(file, end + 16);
  if (end >= kLocatorSize && file.substr(end - kLocatorSize, kLocator.size()) == kLocator) {
    const uint64_t end64 = read<uint64_t>(file, end - kLocatorSize + 8);
    const std::string_view record = part(file, end64, kEnd64Size);
    if (!record.starts_with(kEnd64)) fail_cut();
    size = read<uint64_t>(record, 40);
    begin = read<uint64_t>(record, 48);
  }
  return part(file, begin, size);
}

ZipArchive::ZipArchive(std::string_view file) : file_(file) { read_entries(find_table(file)); }

void ZipArchive::read_entries(std::string_view table) {
  const auto begin = static_cast<uint64_t>(table.data() - file_.data()), end = begin + table.size();
  for (uint64_t at = begin; at < end;) {
    const std::string_view fixed = part(file_, at, kEntrySize);
    if (!fixed.starts_with(kEntry)) fail_cut();
    const uint64_t name_size = read<uint16_t>(fixed, 28), extra_size = read<uint16_t>(fixed, 30);
    const std::string_view name = part(file_, at + kEntrySize, name_size);
    const Entry entry = read_entry(at, part(file_, at + kEntrySize + name_size, extra_size));
    entries_.emplace(name, entry);
    at += kEntrySize + name_size + extra_size + read<uint16_t>(fixed, 32);
  }
}

// Numbers that need 64 bits, and only these, are in a field of `extra`, in the order of the loop below.
ZipArchive::Entry ZipArchive::read_entry(uint64_t at, std::string_view extra) const {
  Entry entry{.header = read<uint32_t>(file_, at + 42),
              .size = read<uint32_t>(file_, at + 24),
              .packed_size = read<uint32_t>(file_, at + 20),
              .flags = read<uint16_t>(file_, at + 8),
              .method = read<uint16_t>(file_, at + 10)};
  for (uint64_t field = 0; field + 4 <= extra.size();) {
    const std::string_view data = part(extra, field + 4, read<uint16_t>(extra, field + 2));
    if (read<uint16_t>(extra, field) == kExtra64) {
      uint64_t next = 0;
      for (uint64_t* value : {&entry.size, &entry.packed_size, &entry.header}) {
        if (*value != kIn64Bits) continue;
        *value = read<uint64_t>(data, next);
        next += sizeof(uint64_t);
      }
    }
    field += 4 + data.size();
  }
  return entry;
}

std::vector<std::string> ZipArchive::names() const {
  std::vector<std::string> names;
  names.reserve(entries_.size());
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

std::string_view ZipArchive::record(const std::string& name) const {
  const auto found = entries_.find(name);
  const std::string record = "record " + json_excerpt(name);
  if (found == entries_.end()) fail_zip("has no " + record);
  const Entry& entry = found->second;
  if ((entry.flags & 1) != 0) fail_zip(record + " is encrypted");
  if (entry.method != 0 || entry.packed_size != entry.size) {
    fail_zip(record + " is compressed, which torch.save never does");
  }
  const std::string_view header = part(file_, entry.header, kHeaderSize);
  if (!header.starts_with(kHeader)) fail_cut();
  const uint64_t begin = entry.header + kHeaderSize + read<uint16_t>(header, 26) + read<uint16_t>(header, 28);
  if (begin > file_.size() || entry.size > file_.size() - begin) {
    fail_zip(record + " goes beyond the end of the file; is the download complete?");
  }
  return file_.substr(begin, entry.size);
}

void check_is_zip(const MappedFile& file, const std::filesystem::path& path) {
  const std::string_view start = file.text(0, std::min<uint64_t>(file.size(), kForeignBytes));
  if (start.starts_with("PK")) return;
  if (const auto foreign = foreign_file(path, start)) throw FormatError(*foreign);
  throw FormatError("is not a file that torch.save writes (it does not start as a zip archive)");
}

// torch.save puts all records into a folder that is called as the file was at the time.
std::string find_folder(const ZipArchive& archive) {
  constexpr std::string_view kPickle = "data.pkl", kCode = "/constants.pkl";
  bool is_program = false, is_numpy = false;
  std::optional<std::string> folder;
  for (const std::string& name : archive.names()) {
    is_program = is_program || name.ends_with(kCode);
    is_numpy = is_numpy || name.ends_with(".npy");
    if (name.ends_with(kPickle) && (name.size() == kPickle.size() || name.ends_with("/data.pkl"))) {
      folder = name.substr(0, name.size() - kPickle.size());
    }
  }
  if (is_program) {
    throw FormatError("is a TorchScript program, which is not supported; take the model's safetensors file");
  }
  if (folder) return *folder;
  if (is_numpy) throw FormatError("is an archive of NumPy arrays, which is not supported; take the safetensors file");
  throw FormatError("is a zip archive, but not one that torch.save writes; unpack it first");
}

// How many elements lie from the tensor's first to its last; nullopt if the number overflows or something is negative.
std::optional<int64_t> extent(const PickledTensor& tensor) {
  if (tensor.shape.size() != tensor.strides.size() || tensor.offset < 0 || tensor.storage_numel < 0) return {};
  bool is_empty = false;
  int64_t last = 0, numel = 1;  // numel: as if a size of 0 were 1, since LibTorch's own products must not overflow
  for (size_t i = 0; i < tensor.shape.size(); ++i) {
    int64_t step = 0;
    if (tensor.shape[i] < 0 || tensor.strides[i] < 0) return {};
    if (__builtin_mul_overflow(std::max<int64_t>(tensor.shape[i] - 1, 0), tensor.strides[i], &step)) return {};
    if (__builtin_add_overflow(last, step, &last) ||
        __builtin_mul_overflow(numel, std::max<int64_t>(tensor.shape[i], 1), &numel))
      return {};
    is_empty = is_empty || tensor.shape[i] == 0;
  }
  if (is_empty) return numel > INT64_MAX / 16 ? std::nullopt : std::optional<int64_t>(0);
  return last == INT64_MAX ? std::nullopt : std::optional(last + 1);
}

// Where the tensor lies in the file, of which `record` is a part.
TensorInfo place(const PickledTensor& tensor, std::string_view record, std::string_view file) {
  const auto element = static_cast<int64_t>(c10::elementSize(tensor.dtype));
  const std::optional<int64_t> elements = extent(tensor);
  const int64_t held = static_cast<int64_t>(record.size()) / element;
  if (!elements || tensor.storage_numel > held || tensor.offset > tensor.storage_numel ||
      *elements > tensor.storage_numel - tensor.offset) {
    throw FormatError("shape " + shape_string(tensor.shape) + ", strides " + shape_string(tensor.strides) +
                      " and offset " + std::to_string(tensor.offset) + " do not fit its storage of " +
                      std::to_string(held) + " elements");
  }
  // Strides of 0 repeat what the storage holds, but no real file repeats more than its own size.
  int64_t bytes = element;
  for (const int64_t size : tensor.shape) {
    if (!__builtin_mul_overflow(bytes, size, &bytes) && static_cast<uint64_t>(bytes) <= file.size()) continue;
    throw FormatError("shape " + shape_string(tensor.shape) + " of " + std::string(c10::toString(tensor.dtype)) +
                      " takes more bytes than the whole file has (" + std::to_string(file.size()) + ")");
  }
  const auto begin = static_cast<uint64_t>(record.data() - file.data() + tensor.offset * element);
  return {tensor.dtype, tensor.shape, begin, begin + static_cast<uint64_t>(bytes)};
}

}  // namespace

PyTorchFile::PyTorchFile(std::filesystem::path path) : TensorFile(std::move(path)) {
  std::string where = path_.string() + ": ";
  try {
    check_is_zip(*mapping_, path_);
    const std::string_view file = mapping_->text(0, mapping_->size());
    const ZipArchive archive(file);
    const std::string folder = find_folder(archive);
    if (archive.contains(folder + "byteorder") && archive.record(folder + "byteorder") != "little") {
      throw FormatError("was saved on a big-endian machine, which is not supported");
    }
    std::map<std::string, std::string_view> records;
    for (const auto& [name, tensor] : read_state_dict(archive.record(folder + "data.pkl"))) {
      where = path_.string() + ": tensor " + json_excerpt(name) + ": ";
      const std::string record = folder + "data/" + tensor->storage;
      if (!records.contains(record)) {
        records[record] = tensor->storage_numel > 0 ? archive.record(record) : file.substr(0, 0);
      }
      tensors_.emplace(name, place(*tensor, records[record], file));
      strides_.emplace(name, tensor->strides);
    }
  } catch (const FormatError& error) {
    throw CheckpointError(where + error.what());
  }
}

at::Tensor PyTorchFile::tensor(const std::string& name) const {
  const TensorInfo& found = info(name);
  return mapped_tensor(found.begin, found.shape, found.dtype, strides_.at(name));
}

}  // namespace opensora::io
