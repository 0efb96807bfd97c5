// ISO/IEC 23008-12. The structure: meta { pitm: which item is the picture; iinf: the items' types; iloc: where their
// bytes are; iref: which items a grid is made of; iprp { ipco: properties; ipma: which belong to which item } }.
#include "media/heif.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "media/to_rgb.h"

namespace opensora::media {
namespace {

using namespace std::string_view_literals;

constexpr size_t kLargestMeta = size_t{16} << 20;
constexpr uint64_t kLargestStream = uint64_t{1} << 28;

// Reads numbers one after the other; beyond the end they are 0 and is_whole() is false.
class Cursor {
 public:
  explicit Cursor(std::string_view bytes) : bytes_(bytes) {}

  uint64_t number(size_t size) {
    const uint64_t value = big_endian(bytes_.substr(std::min(at_, bytes_.size())), size);
    skip(size);
    return value;
  }
  std::string_view text(size_t size) {
    const std::string_view part = bytes_.substr(std::min(at_, bytes_.size()), size);
    skip(size);
    return part;
  }
  void skip(size_t size) { at_ = size > SIZE_MAX - at_ ? SIZE_MAX : at_ + size; }
  std::string_view rest() { return bytes_.substr(std::min(at_, bytes_.size())); }
  bool is_whole() const { return at_ <= bytes_.size(); }

 private:
  std::string_view bytes_;
  size_t at_ = 0;
};

struct ItemBox {
  std::string_view type, data;
};

std::vector<ItemBox> boxes_in(std::string_view bytes) {
  std::vector<ItemBox> boxes;
  while (bytes.size() >= 8) {
    const uint64_t size = big_endian(bytes, 4);
    if (size < 8 || size > bytes.size()) break;
    boxes.push_back({bytes.substr(4, 4), bytes.substr(8, size - 8)});
    bytes.remove_prefix(size);
  }
  return boxes;
}

std::string_view find(const std::vector<ItemBox>& boxes, std::string_view type) {
  const auto found = std::find_if(boxes.begin(), boxes.end(), [&](const ItemBox& box) { return box.type == type; });
  return found == boxes.end() ? std::string_view() : found->data;
}

struct Extent {
  bool is_in_meta = false;  // in idat, not in the file
  uint64_t offset = 0, length = 0;
};

struct Item {
  std::string_view type;
  std::vector<Extent> extents;
  std::vector<size_t> properties;  // from 1, in the order in which they apply
  std::vector<uint64_t> parts;     // of a grid
};

struct Meta {
  uint64_t primary = 0;
  std::map<uint64_t, Item> items;
  std::vector<ItemBox> properties;
  std::string_view data;  // idat
};

void parse_types(std::string_view bytes, Meta& meta) {
  Cursor in(bytes);
  const uint64_t version = in.number(1);
  in.skip(3 + (version == 0 ? 2 : 4));
  for (const ItemBox& box : boxes_in(in.rest())) {
    Cursor entry(box.data);
    const uint64_t entry_version = entry.number(1);
    entry.skip(3);
    if (box.type != "infe" || entry_version < 2) continue;
    const uint64_t id = entry.number(entry_version == 2 ? 2 : 4);
    entry.skip(2);
    meta.items[id].type = entry.text(4);
  }
}

void parse_locations(std::string_view bytes, Meta& meta) {
  Cursor in(bytes);
  const uint64_t version = in.number(1);
  in.skip(3);
  const uint64_t sizes = in.number(2);
  const size_t offset_size = sizes >> 12, length_size = sizes >> 8 & 15, base_size = sizes >> 4 & 15;
  const size_t index_size = version > 0 ? sizes & 15 : 0;
  const uint64_t count = in.number(version < 2 ? 2 : 4);
  for (uint64_t i = 0; i < count && in.is_whole(); ++i) {
    Item& item = meta.items[in.number(version < 2 ? 2 : 4)];
    const uint64_t construction = version > 0 ? in.number(2) & 15 : 0;
    in.skip(2);  // the file it is in: this one
    const uint64_t base = in.number(base_size), extents = in.number(2);
    for (uint64_t k = 0; k < extents && in.is_whole(); ++k) {
      in.skip(index_size);
      const uint64_t offset = in.number(offset_size), length = in.number(length_size);
      if (construction <= 1) item.extents.push_back({construction == 1, base + offset, length});
    }
  }
}

void parse_references(std::string_view bytes, Meta& meta) {
  Cursor in(bytes);
  const size_t id_size = in.number(1) == 0 ? 2 : 4;
  in.skip(3);
  for (const ItemBox& box : boxes_in(in.rest())) {
    if (box.type != "dimg") continue;
    Cursor entry(box.data);
    Item& item = meta.items[entry.number(id_size)];
    const uint64_t count = entry.number(2);
    for (uint64_t i = 0; i < count && entry.is_whole(); ++i) item.parts.push_back(entry.number(id_size));
  }
}

void parse_properties(std::string_view bytes, Meta& meta) {
  const std::vector<ItemBox> boxes = boxes_in(bytes);
  meta.properties = boxes_in(find(boxes, "ipco"));
  for (const ItemBox& box : boxes) {
    if (box.type != "ipma") continue;
    Cursor in(box.data);
    const uint64_t version = in.number(1), flags = in.number(3), count = in.number(4);
    for (uint64_t i = 0; i < count && in.is_whole(); ++i) {
      Item& item = meta.items[in.number(version < 1 ? 2 : 4)];
      const uint64_t associations = in.number(1);
      for (uint64_t k = 0; k < associations; ++k) {
        item.properties.push_back((flags & 1) != 0 ? in.number(2) & 0x7fff : in.number(1) & 0x7f);
      }
    }
  }
}

Meta parse_meta(std::string_view bytes) {
  const std::vector<ItemBox> boxes = boxes_in(bytes.substr(std::min<size_t>(bytes.size(), 4)));
  Meta meta;
  Cursor primary(find(boxes, "pitm"));
  const uint64_t version = primary.number(1);
  primary.skip(3);
  meta.primary = primary.number(version == 0 ? 2 : 4);
  parse_types(find(boxes, "iinf"), meta);
  parse_locations(find(boxes, "iloc"), meta);
  parse_references(find(boxes, "iref"), meta);
  parse_properties(find(boxes, "iprp"), meta);
  meta.data = find(boxes, "idat");
  return meta;
}

// The properties of an item of one type, in their order.
std::vector<ItemBox> properties_of(const Meta& meta, const Item& item) {
  std::vector<ItemBox> boxes;
  for (const size_t index : item.properties) {
    if (index >= 1 && index <= meta.properties.size()) boxes.push_back(meta.properties[index - 1]);
  }
  return boxes;
}

// The bytes of an item; empty if any of them are missing.
std::string data_of(const Meta& meta, const Item& item, const ReadBytes& read) {
  std::string bytes;
  for (const Extent& extent : item.extents) {
    if (extent.length > kLargestStream) return {};
    const std::string part = extent.is_in_meta ? bytes_of_text(std::string(meta.data))(extent.offset, extent.length)
                                               : read(extent.offset, extent.length);
    if (part.empty() || part.size() != extent.length) return {};
    bytes += part;
  }
  return bytes;
}

constexpr auto kStartCode = "\0\0\0\1"sv;

// A frame of HEVC as Annex B has it: parameter sets of "hvcC", then the item's units, each behind a start code.
std::string hevc_frame(std::string_view configuration, std::string_view data) {
  Cursor in(configuration);
  in.skip(21);
  const size_t length_size = (in.number(1) & 3) + 1;
  std::string frame;
  const uint64_t arrays = in.number(1);
  for (uint64_t i = 0; i < arrays && in.is_whole(); ++i) {
    in.skip(1);
    const uint64_t count = in.number(2);
    for (uint64_t k = 0; k < count && in.is_whole(); ++k) {
      frame += kStartCode;
      frame += in.text(in.number(2));
    }
  }
  Cursor units(data);
  while (in.is_whole() && !units.rest().empty()) {
    const uint64_t length = units.number(length_size);
    if (length == 0 || length > units.rest().size()) return {};
    frame += kStartCode;
    frame += units.text(length);
  }
  return in.is_whole() ? frame : std::string();
}

// AV1 as a stream: a delimiter, the configuration's units, the item's.
std::string av1_frame(std::string_view configuration, std::string_view data) {
  constexpr auto kTemporalDelimiter = "\x12\0"sv;
  std::string frame(kTemporalDelimiter);
  frame += configuration.substr(std::min<size_t>(configuration.size(), 4));
  return frame += data;
}

// Adds the item's frame to the stream. Returns false if the item is no frame, or not of the stream's codec.
bool add_frame(const Meta& meta, uint64_t id, const ReadBytes& read, HeifPicture& picture) {
  const auto found = meta.items.find(id);
  if (found == meta.items.end()) return false;
  const Item& item = found->second;
  const bool is_hevc = item.type == "hvc1", is_av1 = item.type == "av01";
  const std::string format = is_hevc ? "hevc" : "obu";
  if ((!is_hevc && !is_av1) || (!picture.format.empty() && picture.format != format)) return false;
  picture.format = format;
  const std::string data = data_of(meta, item, read);
  const std::string_view configuration = find(properties_of(meta, item), is_hevc ? "hvcC" : "av1C");
  if (data.empty() || configuration.empty()) return false;
  const std::string frame = is_hevc ? hevc_frame(configuration, data) : av1_frame(configuration, data);
  picture.stream += frame;
  return !frame.empty() && picture.stream.size() <= kLargestStream;
}

bool add_grid(const Meta& meta, const Item& grid, const ReadBytes& read, HeifPicture& picture) {
  const std::string description = data_of(meta, grid, read);
  Cursor in(description);
  in.skip(1);
  const size_t size = (in.number(1) & 1) != 0 ? 4 : 2;
  picture.rows = static_cast<int>(in.number(1)) + 1;
  picture.columns = static_cast<int>(in.number(1)) + 1;
  picture.size.width = static_cast<int>(in.number(size));
  picture.size.height = static_cast<int>(in.number(size));
  if (!in.is_whole() || grid.parts.size() != static_cast<size_t>(picture.rows) * picture.columns) return false;
  return std::all_of(grid.parts.begin(), grid.parts.end(),
                     [&](uint64_t id) { return add_frame(meta, id, read, picture); });
}

Orientation then(const Orientation& first, const Orientation& second) {
  const auto [a, b, c, d] = first;
  const auto [e, f, g, h] = second;
  return {e * a + g * b, f * a + h * b, e * c + g * d, f * c + h * d};
}

// Turns and mirrors one after the other are one of the eight.
int exif_value(const Orientation& orientation) {
  int value = 1;
  while (value < 8 && exif_orientation_of(value) != orientation) ++value;
  return value;
}

// Takes over size, turns and colours. Returns false if there is a property that is not followed here.
bool apply_properties(const std::vector<ItemBox>& properties, HeifPicture& picture) {
  constexpr Orientation kLeft = {0, -1, 1, 0}, kTopDown = {1, 0, 0, -1}, kSideways = {-1, 0, 0, 1};
  Orientation turn;
  for (const auto& [type, data] : properties) {
    Cursor in(data);
    if (type == "irot") {
      for (uint64_t quarter = in.number(1) & 3; quarter > 0; --quarter) turn = then(turn, kLeft);
    } else if (type == "imir") {
      turn = then(turn, (in.number(1) & 1) == 0 ? kTopDown : kSideways);
    } else if (type == "ispe" && picture.size == Size{}) {
      in.skip(4);
      picture.size.width = static_cast<int>(in.number(4));
      picture.size.height = static_cast<int>(in.number(4));
    } else if (type == "colr") {
      const std::string_view kind = in.text(4);
      if (kind == "prof" || kind == "rICC") picture.icc = in.rest();
      if (kind != "nclx") continue;
      HeifColours& colours = picture.colours.emplace();
      colours.primaries = static_cast<int>(in.number(2));
      colours.transfer = static_cast<int>(in.number(2));
      colours.matrix = static_cast<int>(in.number(2));
      colours.is_full_range = (in.number(1) & 0x80) != 0;
    } else if (type == "clap") {
      return false;
    }
  }
  picture.orientation = exif_value(turn);
  return picture.size.width > 0 && picture.size.height > 0;
}

// The box "meta" of the file itself; empty if there is none, or if the file is a sequence.
std::string find_meta(const ReadBytes& read) {
  constexpr int kMostBoxes = 100;
  std::string meta;
  uint64_t at = 0;
  for (int i = 0; i < kMostBoxes; ++i) {
    const std::string head = read(at, 16);
    if (head.size() < 8) break;
    const std::string_view type = std::string_view(head).substr(4, 4);
    const uint64_t short_size = big_endian(head, 4);
    const bool is_long = short_size == 1;
    const uint64_t size = is_long ? big_endian(std::string_view(head).substr(8), 8) : short_size;
    if (at == 0 && (type != "ftyp" || read(at + 8, 4) == "avis" || read(at + 8, 4) == "hevc")) return {};
    if (type == "meta" && size <= kLargestMeta && size >= 8) meta = read(at + 8, size - 8);
    if (size < 8 || size > UINT64_MAX - at) break;
    at += size;
  }
  return meta;
}

}  // namespace

std::optional<HeifPicture> read_heif(const ReadBytes& read) {
  const std::string bytes = find_meta(read);
  if (bytes.empty()) return std::nullopt;
  const Meta meta = parse_meta(bytes);
  const auto primary = meta.items.find(meta.primary);
  if (primary == meta.items.end()) return std::nullopt;
  const Item& item = primary->second;
  HeifPicture picture;
  const bool is_there =
      item.type == "grid" ? add_grid(meta, item, read, picture) : add_frame(meta, meta.primary, read, picture);
  if (!is_there || !apply_properties(properties_of(meta, item), picture)) return std::nullopt;
  return picture;
}

}  // namespace opensora::media
