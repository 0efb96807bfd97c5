#include "support/picture_files.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>

namespace opensora::test {
namespace {

using namespace std::string_literals;

uint32_t crc32(const std::string& bytes) {
  uint32_t crc = 0xffffffff;
  for (const char byte : bytes) {
    crc ^= static_cast<uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xedb88320u : 0);
  }
  return ~crc;
}

std::string fixed(double value) {
  return number(static_cast<uint32_t>(static_cast<int32_t>(std::lround(value * 65536))), 4);
}

}  // namespace

std::string number(uint64_t value, size_t bytes, ByteOrder order) {
  std::string text;
  for (size_t i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
  if (order == ByteOrder::kBig) std::reverse(text.begin(), text.end());
  return text;
}

std::string exif_block(int orientation, ByteOrder order) {
  const auto n = [&](uint64_t value, size_t bytes) { return number(value, bytes, order); };
  return (order == ByteOrder::kBig ? "MM"s : "II"s) + n(42, 2) + n(8, 4) +        // the directory is at 8
         n(1, 2) + n(274, 2) + n(3, 2) + n(1, 4) + n(orientation, 2) + n(0, 2) +  // of one entry, a SHORT
         n(0, 4);
}

std::string with_png_chunk(const std::string& png, const std::string& type, const std::string& data,
                           const std::string& before) {
  const size_t at = png.find(before) - 4;
  return png.substr(0, at) + number(data.size(), 4) + type + data + number(crc32(type + data), 4) + png.substr(at);
}

std::string with_jpeg_segment(const std::string& jpeg, int n, const std::string& data) {
  return jpeg.substr(0, 2) + "\xff" + static_cast<char>(0xe0 + n) + number(data.size() + 2, 2) + data + jpeg.substr(2);
}

std::string with_webp_chunk(const std::string& webp, const std::string& type, const std::string& data) {
  std::string result = webp + type + number(data.size(), 4, ByteOrder::kLittle) + data;
  if (data.size() % 2 == 1) result += '\0';
  return result.replace(4, 4, number(result.size() - 8, 4, ByteOrder::kLittle));
}

std::string with_tiff_tag(const std::string& tiff, uint16_t tag, uint16_t value) {
  constexpr uint16_t kResolutionUnit = 296;
  constexpr size_t kEntry = 12;
  const auto read = [&](size_t at, size_t bytes) {
    uint64_t number = 0;
    for (size_t i = bytes; i-- > 0;) number = number << 8 | static_cast<uint8_t>(tiff.at(at + i));
    return number;
  };
  const size_t directory = read(4, 4) + 2, count = read(directory - 2, 2);
  std::map<uint16_t, std::string> entries;  // readers want them in order
  for (size_t i = 0; i < count; ++i) {
    entries[static_cast<uint16_t>(read(directory + kEntry * i, 2))] = tiff.substr(directory + kEntry * i, kEntry);
  }
  const auto n = [](uint64_t number, size_t bytes) { return test::number(number, bytes, ByteOrder::kLittle); };
  if (!entries.contains(tag)) entries.erase(kResolutionUnit);
  entries[tag] = n(tag, 2) + n(3, 2) + n(1, 4) + n(value, 2) + n(0, 2);
  if (entries.size() != count) throw std::runtime_error("no entry to change");
  std::string table;
  for (const auto& [key, entry] : entries) table += entry;
  return std::string(tiff).replace(directory, table.size(), table);
}

std::vector<double> srgb_colorants() {
  return {0.43607, 0.22249, 0.01392, 0.38515, 0.71687, 0.09708, 0.14307, 0.06061, 0.71410};
}

std::vector<double> display_p3_colorants() {
  return {0.51512, 0.24120, -0.00105, 0.29198, 0.69225, 0.04189, 0.15710, 0.06657, 0.78407};
}

std::string icc_profile(const std::string& name, const std::vector<double>& xyz, double gamma) {
  const std::string curve = gamma > 0 ? "curv\0\0\0\0"s + number(1, 4) + number(std::lround(gamma * 256), 2) + "\0\0"s
                                      : "para\0\0\0\0\0\3\0\0"s + fixed(2.4) + fixed(1 / 1.055) + fixed(0.055 / 1.055) +
                                            fixed(1 / 12.92) + fixed(0.04045);
  std::vector<std::pair<std::string, std::string>> tags = {
      {"desc", "desc\0\0\0\0"s + number(name.size() + 1, 4) + name + "\0"s}};
  for (size_t i = 0; i < 3; ++i) {
    const std::string channel = {"rgb"[i]};
    tags.emplace_back(channel + "XYZ",
                      "XYZ \0\0\0\0"s + fixed(xyz[3 * i]) + fixed(xyz[3 * i + 1]) + fixed(xyz[3 * i + 2]));
    tags.emplace_back(channel + "TRC", curve);
  }
  std::string profile = std::string(12, '\0') + "mntrRGB XYZ " + std::string(104, '\0') + number(tags.size(), 4), data;
  const size_t start = 132 + 12 * tags.size();
  for (const auto& [signature, content] : tags) {
    profile += signature + number(start + data.size(), 4) + number(content.size(), 4);
    data += content;
  }
  return profile + data;
}

}  // namespace opensora::test
