#include "media/image_tags.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include "core/text.h"
#include "media/file_bytes.h"

namespace opensora::media {
namespace {

std::string_view part(std::string_view text, size_t offset, size_t count = std::string_view::npos) {
  return text.substr(std::min(offset, text.size()), count);
}

uint64_t number(std::string_view text, size_t offset, size_t bytes) { return big_endian(part(text, offset), bytes); }

double fixed(std::string_view text, size_t offset) {  // s15Fixed16Number
  return static_cast<double>(static_cast<int32_t>(number(text, offset, 4))) / 65536;
}

// The data of a tag; empty if there is none.
std::string_view find_tag(std::string_view icc, std::string_view signature) {
  constexpr size_t kTable = 128;
  const uint64_t count = std::min<uint64_t>(number(icc, kTable, 4), 1000);
  for (uint64_t i = 0; i < count; ++i) {
    const size_t entry = kTable + 4 + i * 12;
    if (part(icc, entry, 4) == signature) return part(icc, number(icc, entry + 4, 4), number(icc, entry + 8, 4));
  }
  return {};
}

std::string printable(std::string_view text) {
  std::string line;
  for (const char c : text) {
    if (c == '\0') break;
    line += std::iscntrl(static_cast<unsigned char>(c)) != 0 ? ' ' : c;
  }
  constexpr size_t kLongest = 80;
  return find_invalid_utf8(line) ? std::string() : std::string(cut_utf8(line, kLongest));
}

// Of a text in UTF-16BE what ASCII can say: names of profiles in English.
std::string ascii_of_utf16(std::string_view text) {
  std::string ascii;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    const uint64_t unit = number(text, i, 2);
    ascii += unit < 128 ? static_cast<char>(unit) : '?';
  }
  return ascii;
}

std::string description(std::string_view icc) {
  const std::string_view tag = find_tag(icc, "desc");
  if (tag.starts_with("desc")) return printable(part(tag, 12, number(tag, 8, 4)));
  // mluc: the number of records, their size; a record: language, country, length, offset.
  if (tag.starts_with("mluc") && number(tag, 8, 4) > 0) {
    return printable(ascii_of_utf16(part(tag, number(tag, 24, 4), number(tag, 20, 4))));
  }
  return {};
}

// What a stored value (0 to 1) means in light, by a "curv" or "para" tag.
std::optional<double> linear(std::string_view curve, double x) {
  if (curve.starts_with("curv")) {
    const uint64_t count = number(curve, 8, 4);
    if (count == 0) return x;
    if (count == 1) return std::pow(x, static_cast<double>(number(curve, 12, 2)) / 256);
    if (curve.size() < 12 + 2 * count) return std::nullopt;
    const double at = x * static_cast<double>(count - 1);
    const auto below = static_cast<uint64_t>(at);
    const uint64_t above = std::min(below + 1, count - 1);
    const auto value = [&](uint64_t i) { return static_cast<double>(number(curve, 12 + 2 * i, 2)) / 65535; };
    return value(below) + (value(above) - value(below)) * (at - static_cast<double>(below));
  }
  if (!curve.starts_with("para")) return std::nullopt;
  const uint64_t kind = number(curve, 8, 2);
  constexpr std::array<size_t, 5> kCounts = {1, 3, 4, 5, 7};
  if (kind >= kCounts.size() || curve.size() < 12 + 4 * kCounts[kind]) return std::nullopt;
  const auto p = [&](size_t i) { return fixed(curve, 12 + 4 * i); };
  const double g = p(0);
  if (kind == 0) return std::pow(x, g);
  const double a = p(1), b = p(2), c = kind >= 2 ? p(3) : 0, d = kind >= 3 ? p(4) : 0;
  const double power = std::pow(std::max(0.0, a * x + b), g);
  if (kind == 1) return a * x + b >= 0 ? power : 0;
  if (kind == 2) return a * x + b >= 0 ? power + c : c;
  const double e = kind == 4 ? p(5) : 0, f = kind == 4 ? p(6) : 0;
  return x >= d ? power + e : c * x + f;
}

double encode_srgb(double light) {
  return light <= 0.0031308 ? 12.92 * light : 1.055 * std::pow(light, 1 / 2.4) - 0.055;
}

bool is_srgb_curve(std::string_view curve) {
  constexpr double kTolerance = 0.02;
  for (const double x : {0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95}) {
    const std::optional<double> light = linear(curve, x);
    if (!light || !(std::abs(encode_srgb(*light) - x) <= kTolerance)) return false;
  }
  return true;
}

bool has_srgb_primaries(std::string_view icc) {
  // A tag and its X, Y and Z, adapted to D50, as profiles have them.
  using Primary = std::pair<std::string_view, std::array<double, 3>>;
  constexpr std::array<Primary, 3> kPrimaries = {
      {{"rXYZ", {0.4361, 0.2225, 0.0139}}, {"gXYZ", {0.3851, 0.7169, 0.0971}}, {"bXYZ", {0.1431, 0.0606, 0.7141}}}};
  constexpr double kTolerance = 0.006;
  return std::all_of(kPrimaries.begin(), kPrimaries.end(), [&](const Primary& primary) {
    const std::string_view tag = find_tag(icc, primary.first);
    if (tag.size() < 20) return false;
    for (size_t i = 0; i < 3; ++i) {
      if (!(std::abs(fixed(tag, 8 + 4 * i) - primary.second[i]) <= kTolerance)) return false;
    }
    return true;
  });
}

bool is_srgb(std::string_view icc, std::string_view name) {
  const std::string_view space = part(icc, 16, 4);
  if (space == "GRAY") return is_srgb_curve(find_tag(icc, "kTRC"));
  if (space != "RGB ") return false;
  // Profiles of tables, such as the ICC's own for sRGB, have no primaries: their name must do.
  if (find_tag(icc, "rXYZ").empty()) return name.find("sRGB") != std::string_view::npos;
  return has_srgb_primaries(icc) && is_srgb_curve(find_tag(icc, "rTRC")) && is_srgb_curve(find_tag(icc, "gTRC")) &&
         is_srgb_curve(find_tag(icc, "bTRC"));
}

}  // namespace

std::string other_than_srgb(const std::string& icc) {
  const std::string name = description(icc);
  if (is_srgb(icc, name)) return {};
  return name.empty() ? "a colour profile without a name" : name;
}

}  // namespace opensora::media
