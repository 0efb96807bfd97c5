// Files of pictures with what their formats can carry, put together byte by byte.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace opensora::test {

// One of the pictures of tests/data that other programs have written.
inline std::filesystem::path case_file(const std::string& name) {
  return std::filesystem::path(OPENSORA_TEST_DATA) / "cases" / "pictures" / name;
}

enum class ByteOrder { kLittle, kBig };

// A number of so many bytes.
std::string number(uint64_t value, size_t bytes, ByteOrder order = ByteOrder::kBig);

// The TIFF structure of EXIF that holds Orientation and nothing else.
std::string exif_block(int orientation, ByteOrder order = ByteOrder::kBig);

// The PNG with a chunk more, right before the first chunk of type `before`: "IDAT", "IEND".
std::string with_png_chunk(const std::string& png, const std::string& type, const std::string& data,
                           const std::string& before = "IDAT");

// The JPEG with an APPn segment more, after SOI.
std::string with_jpeg_segment(const std::string& jpeg, int n, const std::string& data);

// The WebP with a chunk more, at its end.
std::string with_webp_chunk(const std::string& webp, const std::string& type, const std::string& data);

// The TIFF (little-endian, as FFmpeg writes it) with a SHORT of that value under `tag`: its own entry, or else in place
// of ResolutionUnit, which no reader needs.
std::string with_tiff_tag(const std::string& tiff, uint16_t tag, uint16_t value);

// A minimal ICC profile of RGB. `xyz`: the colorants of red, green and blue; `gamma`: the exponent, 0 for sRGB's curve.
std::string icc_profile(const std::string& name, const std::vector<double>& xyz, double gamma = 0);
std::vector<double> srgb_colorants();
std::vector<double> display_p3_colorants();

}  // namespace opensora::test
