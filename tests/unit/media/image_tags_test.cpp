// What the files of pictures say beside their pixels: orientation, colour profiles, and kinds that FFmpeg reads
// wrongly.
#include "media/image_tags.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "media/file_bytes.h"
#include "media/input.h"
#include "media/media_reader.h"
#include "media/tiff.h"
#include "opensora/error.h"
#include "support/contains.h"
#include "support/log_capture.h"
#include "support/picture_files.h"
#include "support/temporary_folder.h"
#include "support/write_media.h"

extern "C" {
#include <libavformat/avformat.h>
#include <libavutil/frame.h>
}

namespace opensora::media {
namespace {

namespace fs = std::filesystem;
using namespace std::string_literals;
using test::ByteOrder;
using test::case_file;
using test::contains;
using test::exif_block;

class ImageTagsTest : public testing::Test {
 protected:
  // 6x4, every pixel another red and green.
  std::string encode(const std::string& codec, const std::string& format = "rgb24") const {
    const auto fill = [](int x, int y, int c) { return c == 0 ? 40 * x : c == 1 ? 60 * y : c == 3 ? 255 : 0; };
    std::vector<FramePtr> frames;
    frames.push_back(test::make_frame(format, 6, 4, fill));
    test::MediaSpec spec{.codec = codec};
    if (codec == "libwebp") spec.options = {{"lossless", "1"}};
    const fs::path path = folder_.path() / "encoded";
    test::write_media(path, spec, frames);
    return test::read_file(path);
  }

  int orientation_of(const std::string& bytes) const { return read_image_tags(folder_.write("a", bytes)).orientation; }

  // "6x4, top left 0,0" of the picture as it is read.
  std::string read(const std::string& bytes) const {
    const Picture picture = read_picture(folder_.write("a.bin", bytes)).picture;
    return fmt::format("{}x{}, top left {},{}", picture.width, picture.height, picture.rgb[0], picture.rgb[1]);
  }

  std::string error_of(const std::string& bytes) const {
    try {
      read(bytes);
    } catch (const InputMediaError& error) {
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
      return error.what();
    }
    return "no error";
  }

  std::string warning_of(const std::string& bytes) const {
    const test::LogCapture log;
    read(bytes);
    return log.text();
  }

  test::TemporaryFolder folder_;
};

// --- orientation ----------------------------------------------------------------------------------

const std::vector<std::string> kUpright = {"6x4, top left 0,0",     "6x4, top left 200,0", "6x4, top left 200,180",
                                           "6x4, top left 0,180",   "4x6, top left 0,0",   "4x6, top left 0,180",
                                           "4x6, top left 200,180", "4x6, top left 200,0"};

TEST_F(ImageTagsTest, OrientsPngBeforeAndAfterItsPixels) {
  const std::string png = encode("png");
  for (int value = 1; value <= 8; ++value) {
    for (const ByteOrder order : {ByteOrder::kLittle, ByteOrder::kBig}) {
      EXPECT_EQ(read(test::with_png_chunk(png, "eXIf", exif_block(value, order))), kUpright[value - 1]) << value;
    }
    EXPECT_EQ(read(test::with_png_chunk(png, "eXIf", exif_block(value), "IEND")), kUpright[value - 1]) << value;
  }
  EXPECT_EQ(read(test::read_file(case_file("orientation6.png"))).substr(0, 5),
            read(test::read_file(case_file("orientation6.jpg"))).substr(0, 5));
}

TEST_F(ImageTagsTest, OrientsPngByOlderTexts) {
  const std::string png = encode("png"), block = "Exif\0\0"s + exif_block(6);
  std::string hex = "\nexif\n      32\n";
  for (const char byte : block) hex += fmt::format("{:02x}", static_cast<uint8_t>(byte));
  hex.insert(40, "\n");
  EXPECT_EQ(read(test::with_png_chunk(png, "tEXt", "Raw profile type exif\0"s + hex)), kUpright[5]);
  EXPECT_EQ(read(test::with_png_chunk(png, "tEXt", "Raw profile type exif\0no digits"s)), kUpright[0]);
  const std::string xmp = "<rdf:Description tiff:Orientation=\"8\"/>";
  EXPECT_EQ(read(test::with_png_chunk(png, "iTXt", "XML:com.adobe.xmp\0\0\0\0\0"s + xmp)), kUpright[7]);
  // EXIF counts more than XMP.
  const std::string both = test::with_png_chunk(png, "iTXt", "XML:com.adobe.xmp\0\0\0\0\0"s + xmp);
  EXPECT_EQ(read(test::with_png_chunk(both, "eXIf", exif_block(3))), kUpright[2]);
}

TEST_F(ImageTagsTest, OrientsTiffByItsTag) {
  const std::string tiff = encode("tiff");
  for (int value = 1; value <= 8; ++value) {
    EXPECT_EQ(read(test::with_tiff_tag(tiff, 274, static_cast<uint16_t>(value))), kUpright[value - 1]) << value;
  }
  EXPECT_EQ(read(test::with_tiff_tag(tiff, 274, 9)), kUpright[0]);
}

TEST_F(ImageTagsTest, OrientsWebP) {
  if (!test::has_encoder("libwebp")) GTEST_SKIP() << "this FFmpeg cannot write WebP";
  const std::string webp = encode("libwebp", "bgra");
  for (int value = 1; value <= 8; ++value) {
    EXPECT_EQ(read(test::with_webp_chunk(webp, "EXIF", exif_block(value, ByteOrder::kLittle))), kUpright[value - 1]);
  }
  EXPECT_EQ(orientation_of(test::with_webp_chunk(webp, "EXIF", "Exif\0\0"s + exif_block(5))), 5);
  EXPECT_EQ(orientation_of(test::with_webp_chunk(webp, "XMP ", "<tiff:Orientation>7</tiff:Orientation>")), 7);
}

TEST_F(ImageTagsTest, OrientsJpegByExifAndXmp) {
  const std::string jpeg = encode("mjpeg", "yuvj444p");
  const std::string xmp = "http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation=\"4\"/>"s;
  for (int value = 1; value <= 8; ++value) {
    EXPECT_EQ(orientation_of(test::with_jpeg_segment(jpeg, 1, "Exif\0\0"s + exif_block(value, ByteOrder::kLittle))),
              value);
  }
  EXPECT_EQ(orientation_of(test::with_jpeg_segment(jpeg, 1, xmp)), 4);
  const std::string both = test::with_jpeg_segment(jpeg, 1, "Exif\0\0"s + exif_block(1));
  EXPECT_EQ(orientation_of(test::with_jpeg_segment(both, 1, xmp)), 1);
}

TEST_F(ImageTagsTest, DamagedExifFailsNoPicture) {
  const std::string png = encode("png"), jpeg = encode("mjpeg", "yuvj444p");
  const std::string whole = exif_block(6);
  for (size_t length = 0; length < whole.size(); ++length) {
    const int found = orientation_of(test::with_png_chunk(png, "eXIf", whole.substr(0, length)));
    EXPECT_TRUE(found == 1 || found == 6) << length;
  }
  for (const std::string& block : {"MM\0*\xff\xff\xff\xff"s, "II*\0\x08\0\0\0\xff\xff"s, "II*\0\0\0\0\0"s,
                                   exif_block(0), exif_block(9), std::string(60000, '\xff')}) {
    EXPECT_EQ(read(test::with_png_chunk(png, "eXIf", block)), kUpright[0]);
    EXPECT_EQ(orientation_of(test::with_jpeg_segment(jpeg, 1, "Exif\0\0"s + block)), 1);
    EXPECT_EQ(error_of(test::with_jpeg_segment(jpeg, 1, "Exif\0\0"s + block)), "no error");
  }
}

// --- colours --------------------------------------------------------------------------------------

TEST(ColourProfile, KnowsSrgbWhoeverMadeIt) {
  EXPECT_EQ(other_than_srgb(test::icc_profile("sRGB IEC61966-2.1", test::srgb_colorants())), "");
  EXPECT_EQ(other_than_srgb(test::icc_profile("c2", test::srgb_colorants())), "");
  std::vector<double> rounded = test::srgb_colorants();
  for (double& value : rounded) value += 0.002;
  EXPECT_EQ(other_than_srgb(test::icc_profile("vendor's", rounded)), "");
  EXPECT_EQ(other_than_srgb(test::icc_profile("Display P3", test::display_p3_colorants())), "Display P3");
  EXPECT_EQ(other_than_srgb(test::icc_profile("sRGB?", test::display_p3_colorants())), "sRGB?");
  EXPECT_EQ(other_than_srgb(test::icc_profile("Mac", test::srgb_colorants(), 1.8)), "Mac");
  EXPECT_EQ(other_than_srgb(test::icc_profile("a\nb\x1b[0m", test::srgb_colorants(), 1.0)), "a b [0m");
  const std::string whole = test::icc_profile("Display P3", test::display_p3_colorants());
  for (size_t length = 1; length < whole.size(); length += 7) {
    EXPECT_NE(other_than_srgb(whole.substr(0, length)), "") << length;
  }
}

TEST_F(ImageTagsTest, WarnsOnceOfColoursThatAreNotSrgb) {
  const std::string png = encode("png"), jpeg = encode("mjpeg", "yuvj444p");
  const std::string p3 = test::icc_profile("Display P3", test::display_p3_colorants());
  const std::string srgb = test::icc_profile("sRGB", test::srgb_colorants());
  EXPECT_TRUE(contains(warning_of(test::read_file(case_file("display_p3.png"))), "its colours are P3, not sRGB"));
  EXPECT_EQ(warning_of(png), "");
  EXPECT_EQ(warning_of(test::with_jpeg_segment(jpeg, 2, "ICC_PROFILE\0\1\1"s + srgb)), "");
  EXPECT_TRUE(contains(warning_of(test::with_jpeg_segment(jpeg, 2, "ICC_PROFILE\0\1\1"s + p3)), "are Display P3, not"));
  // In two parts, out of order.
  const std::string second = test::with_jpeg_segment(jpeg, 2, "ICC_PROFILE\0\1\2"s + p3.substr(0, 200));
  EXPECT_TRUE(contains(warning_of(test::with_jpeg_segment(second, 2, "ICC_PROFILE\0\2\2"s + p3.substr(200))),
                       "are Display P3, not"));
  EXPECT_TRUE(contains(warning_of(test::with_png_chunk(png, "cICP", "\x0c\x0d\0\1"s)), "are Display P3, not"));
  EXPECT_TRUE(contains(warning_of(test::with_png_chunk(png, "cICP", "\x09\x10\0\1"s)), "BT.2020 PQ"));
  EXPECT_EQ(warning_of(test::with_png_chunk(png, "cICP", "\1\x0d\0\1"s)), "");
  EXPECT_EQ(warning_of(test::with_png_chunk(png, "gAMA", test::number(45455, 4))), "");
  EXPECT_TRUE(contains(warning_of(test::with_png_chunk(png, "gAMA", test::number(100000, 4))), "a gamma of 1.00"));
  const std::string linear = test::with_png_chunk(png, "gAMA", test::number(100000, 4));
  EXPECT_EQ(warning_of(test::with_png_chunk(linear, "sRGB", "\0"s)), "");  // says more
  if (!test::has_encoder("libwebp")) return;
  const std::string webp = encode("libwebp", "bgra");
  EXPECT_TRUE(contains(warning_of(test::with_webp_chunk(webp, "ICCP", p3)), "are Display P3, not"));
  EXPECT_EQ(warning_of(test::with_webp_chunk(webp, "ICCP", srgb)), "");
}

// As cameras mark it: in EXIF's own directory.
TEST_F(ImageTagsTest, KnowsAdobeRgbByExif) {
  const std::string jpeg = encode("mjpeg", "yuvj444p");
  for (const auto& [space, warning] :
       {std::pair{1, ""}, {2, "its colours are Adobe RGB (EXIF), not sRGB"}, {65535, ""}}) {
    const auto n = [](uint64_t value, size_t bytes) { return test::number(value, bytes); };
    const std::string block = "Exif\0\0MM\0*"s + n(8, 4) +                                      // the first directory:
                              n(1, 2) + n(34665, 2) + n(4, 2) + n(1, 4) + n(26, 4) + n(0, 4) +  // EXIF's is at 26
                              n(1, 2) + n(40961, 2) + n(3, 2) + n(1, 4) + n(space, 2) + n(0, 2) + n(0, 4);
    const std::string text = warning_of(test::with_jpeg_segment(jpeg, 1, block));
    EXPECT_TRUE(*warning == '\0' ? text.empty() : contains(text, warning)) << space << ": " << text;
  }
}

// --- kinds that FFmpeg reads wrongly --------------------------------------------------------------

TEST_F(ImageTagsTest, RefusesKindsOfTiffThatWouldBeReadWrongly) {
  const std::string tiff = encode("tiff"), grey = encode("tiff", "gray");
  EXPECT_EQ(error_of(tiff), "no error");
  EXPECT_EQ(error_of(grey), "no error");
  EXPECT_TRUE(contains(error_of(test::read_file(case_file("jpeg_compressed.tif"))), "cannot read (compression JPEG)"));
  EXPECT_TRUE(
      contains(error_of(test::read_file(case_file("zstd_compressed.tif"))), "cannot read (compression Zstandard)"));
  for (const auto& [tag, value, reason] :
       std::vector<std::tuple<int, int, std::string>>{{259, 7, "compression JPEG"},
                                                      {259, 50001, "compression WebP"},
                                                      {259, 34887, "compression LERC"},
                                                      {259, 999, "compression number 999"},
                                                      {322, 16, "stored in tiles"},
                                                      {339, 3, "floating point"},
                                                      {339, 2, "signed samples"},
                                                      {317, 3, "predictor"},
                                                      {262, 8, "colours in Lab"},
                                                      {262, 32803, "raw data"},
                                                      {262, 5, "CMYK of another form"}}) {
    const std::string error =
        error_of(test::with_tiff_tag(tiff, static_cast<uint16_t>(tag), static_cast<uint16_t>(value)));
    EXPECT_TRUE(contains(error, "a TIFF picture of a kind that FFmpeg")) << tag << " " << value;
    EXPECT_TRUE(contains(error, reason)) << tag << " " << value;
    EXPECT_TRUE(contains(error, "convert it to PNG or JPEG"));
  }
  EXPECT_TRUE(contains(error_of(test::with_tiff_tag(encode("tiff", "gray16le"), 262, 0)), "white as zero"));
  EXPECT_TRUE(contains(error_of(test::with_tiff_tag(grey, 284, 2)), "one plane for one sample"));
}

TEST_F(ImageTagsTest, RefusesBigTiff) {
  for (const std::string& start : {"II+\0\x08\0\0\0"s, "MM\0+\0\x08\0\0"s}) {
    EXPECT_TRUE(contains(error_of(start + std::string(200, '\0')), "is a BigTIFF picture of a kind that FFmpeg"));
  }
}

TEST_F(ImageTagsTest, RefusesATiffWithoutItsPixels) {
  const std::string grey = encode("tiff", "gray");
  const auto strip = TiffDirectory::open(bytes_of_text(grey));
  ASSERT_TRUE(strip);
  // The one strip's size is a LONG in its entry: none of it is there any more.
  const size_t at = grey.find(test::number(279, 2, ByteOrder::kLittle) + test::number(4, 2, ByteOrder::kLittle));
  ASSERT_NE(at, std::string::npos);
  std::string empty = grey;
  empty.replace(at + 8, 4, std::string(4, '\0'));
  EXPECT_TRUE(contains(error_of(empty), "is damaged or truncated: strips that are missing or cut"));
}

TEST_F(ImageTagsTest, RefusesATiffWhoseStripsCannotBeDecoded) {
  const std::string grey = encode("tiff", "gray");
  // Where the value of a tag stands that is one LONG.
  const auto value_of = [&](uint16_t tag) {
    return grey.find(test::number(tag, 2, ByteOrder::kLittle) + test::number(4, 2, ByteOrder::kLittle)) + 8;
  };
  constexpr uint16_t kCompression = 259, kNone = 1, kStripOffsets = 273, kStripByteCounts = 279;
  const auto number_at = [&](size_t at) { return little_endian(std::string_view(grey).substr(at), 4); };
  std::string packed = grey, short_one = grey;
  packed.replace(number_at(value_of(kStripOffsets)), number_at(value_of(kStripByteCounts)),
                 std::string(number_at(value_of(kStripByteCounts)), '\x7F'));
  EXPECT_TRUE(contains(error_of(packed), "the file is damaged or truncated"));
  short_one.replace(value_of(kStripByteCounts), 4, test::number(10, 4, ByteOrder::kLittle));
  EXPECT_TRUE(
      contains(error_of(test::with_tiff_tag(short_one, kCompression, kNone)), "strips that are missing or cut"));
}

TEST_F(ImageTagsTest, RefusesKindsOfJpegThatWouldBeReadWrongly) {
  const std::string jpeg = encode("mjpeg", "yuvj420p");
  const size_t frame = jpeg.find("\xff\xc0\0\x11\x08"s);  // SOF0 of three components, 8 bits
  ASSERT_NE(frame, std::string::npos);
  const auto with = [&](size_t offset, char value) {
    std::string changed = jpeg;
    changed[frame + offset] = value;
    return error_of(changed);
  };
  EXPECT_TRUE(contains(with(1, '\xc9'), "cannot read (arithmetic coding)"));
  EXPECT_TRUE(contains(with(1, '\xca'), "cannot read (arithmetic coding)"));
  EXPECT_TRUE(contains(with(1, '\xc5'), "cannot read (hierarchical coding)"));
  EXPECT_TRUE(contains(with(4, '\x0c'), "cannot read (12 bits a sample)"));
  EXPECT_TRUE(contains(with(11, '\x31'), "sampled in a rare way"));
  EXPECT_TRUE(contains(with(11, '\x42'), "sampled in a rare way"));
}

TEST_F(ImageTagsTest, TellsJpeg2000sColours) {
  const std::string start =
      "\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x0c"s + "ftypjp2 \0\0\0\x1bjp2h"s + "\0\0\0\x0f"s + "colr\1\0\0\0\0\0"s;
  const auto of_space = [&](char space) { return read_image_tags(folder_.write("a", start + space)).unreadable; };
  EXPECT_EQ(of_space('\x10'), "");
  EXPECT_EQ(of_space('\x11'), "");
  EXPECT_EQ(of_space('\x12'), "colours that are not RGB");
  EXPECT_EQ(of_space('\x0c'), "colours that are not RGB");
}

// Of a BMP without masks the fourth byte is padding; of a TIFF a sample that is not said to be alpha is none, and
// premultiplied colours are over black already.
TEST_F(ImageTagsTest, KnowsWhatIsNoTransparency) {
  for (const auto& [compression, is_opaque] : {std::pair{0, true}, {3, false}}) {
    std::string bmp = encode("bmp", "bgra");
    bmp.replace(30, 4, test::number(compression, 4, ByteOrder::kLittle));
    EXPECT_EQ(read_image_tags(folder_.write("a.bmp", bmp)).is_opaque, is_opaque);
  }
  const auto fill = [](int, int, int c) { return c == 3 ? 128 : 100; };
  std::vector<FramePtr> frames;
  frames.push_back(test::make_frame("rgba", 6, 4, fill));
  test::write_media(folder_.path() / "a.tif", {.codec = "tiff"}, frames);
  const std::string tiff = test::read_file(folder_.path() / "a.tif");
  EXPECT_EQ(read(test::with_tiff_tag(tiff, 338, 2)), "6x4, top left 50,50");
  EXPECT_EQ(read(test::with_tiff_tag(tiff, 338, 1)), "6x4, top left 100,100");
  EXPECT_EQ(read(test::with_tiff_tag(tiff, 338, 0)), "6x4, top left 100,100");
}

// A phone's JPEG has another behind it: a depth map, or what makes it HDR. It is no second frame.
TEST_F(ImageTagsTest, AStillPictureIsOneFrame) {
  std::vector<FramePtr> frames;
  frames.push_back(
      test::make_frame("yuvj420p", 200, 200, [](int x, int y, int) { return (x * 37 + y * 91 + x * y) & 255; }));
  test::write_media(folder_.path() / "one.jpg", {.codec = "mjpeg"}, frames);
  const std::string jpeg = test::read_file(folder_.path() / "one.jpg");
  const std::string listed = test::with_jpeg_segment(jpeg, 2, "MPF\0MM\0*"s);
  EXPECT_EQ(count_pictures(folder_.write("two.jpg", listed + jpeg)), 1);
  EXPECT_TRUE(read_picture(folder_.path() / "two.jpg").is_image);
  const std::string described =
      test::with_jpeg_segment(jpeg, 1, "http://ns.adobe.com/xap/1.0/\0<Container:Directory/>"s);
  EXPECT_EQ(count_pictures(folder_.write("two.jpg", described + jpeg)), 1);
  EXPECT_EQ(count_pictures(folder_.write("one.png", encode("png"))), 1);
}

TEST_F(ImageTagsTest, TakesDrawingsWithoutADeclaration) {
  const std::string drawing = "<svg xmlns='http://www.w3.org/2000/svg' width='4' height='2'/>";
  for (const std::string& start : {"", "<!-- by hand -->\n", "<?xml version='1.0'?>\n"}) {
    EXPECT_EQ(read_image_tags(folder_.write("a.png", start + drawing)).format, "svg_pipe") << start;
  }
  // Read, where FFmpeg can.
  const std::string error = error_of(drawing);
  EXPECT_TRUE(error == "no error" || contains(error, "an SVG drawing") || contains(error, "(svg)")) << error;
}

// FFmpeg would decode it to describe it, and the decoder then once more.
TEST_F(ImageTagsTest, AStillPictureIsDecodedOnce) {
  for (const std::string codec : {"png", "bmp", "tiff"}) {
    const fs::path path = folder_.write("a", encode(codec, codec == "bmp" ? "bgr24" : "rgb24"));
    const auto pixel_format = [&](bool describe) {
      return open_input(path, {}, describe).format->streams[0]->codecpar->format;
    };
    EXPECT_EQ(pixel_format(false), AV_PIX_FMT_NONE) << codec;
    EXPECT_NE(pixel_format(true), AV_PIX_FMT_NONE) << codec;
  }
}

// --- colours of subsampled pictures ---------------------------------------------------------------

// Against what Pillow reads, which is kept beside each.
TEST(StillToRgb, AgreesWithPillow) {
  for (const char* name :
       {"chroma_420.jpg", "chroma_420_progressive.jpg", "chroma_422.jpg", "chroma_440.jpg", "chroma_411.jpg",
        "chroma_444.jpg", "cmyk.jpg", "chroma_420.webp", "chroma_420_alpha.webp"}) {
    const Picture found = read_picture(case_file(name)).picture;
    const Picture expected = read_picture(case_file(std::string(name) + ".pillow.png")).picture;
    ASSERT_EQ(found.rgb.size(), expected.rgb.size()) << name;
    double sum = 0;
    for (size_t i = 0; i < found.rgb.size(); ++i) sum += std::abs(found.rgb[i] - expected.rgb[i]);
    EXPECT_LE(sum / static_cast<double>(found.rgb.size()), 0.25) << name;
  }
}

// A picture of one or two columns, rows, or both has no neighbours to interpolate from.
TEST_F(ImageTagsTest, ReadsTheSmallestSubsampledPictures) {
  for (const auto& [width, height] : {std::pair{1, 1}, {2, 2}, {3, 1}, {1, 3}, {4, 2}, {5, 5}}) {
    std::vector<FramePtr> frames;
    frames.push_back(test::make_frame("yuvj420p", width, height, [](int, int, int c) {
      return c == 0 ? 76 : c == 1 ? 85 : 255;
    }));
    test::write_media(folder_.path() / "a.jpg", {.codec = "mjpeg"}, frames);
    const Picture picture = read_picture(folder_.path() / "a.jpg").picture;
    ASSERT_EQ(picture.width, width);
    ASSERT_EQ(picture.height, height);
    for (size_t i = 0; i < picture.rgb.size(); i += 3) {
      EXPECT_GE(picture.rgb[i], 251) << width << "x" << height;
      EXPECT_LE(picture.rgb[i + 1], 4) << width << "x" << height;
    }
    fs::remove(folder_.path() / "a.jpg");
  }
}

}  // namespace
}  // namespace opensora::media
