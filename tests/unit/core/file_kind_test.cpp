// Files are what they hold, whatever they are called.
#include "core/file_kind.h"

#include <gtest/gtest.h>

#include "support/temporary_folder.h"

namespace opensora {
namespace {

using namespace std::string_literals;

std::string name_of(const std::string& bytes) {
  const auto kind = file_kind(bytes, bytes.size());
  return kind ? std::string(kind->name) : "unknown";
}

TEST(FileKind, TellsPicturesAndVideos) {
  const std::string ftyp = "\0\0\0\x18"s + "ftyp";
  EXPECT_EQ(name_of("\x89PNG\r\n\x1a\n..."), "a PNG picture");
  EXPECT_EQ(name_of(ftyp + "heic\0\0\0\0mif1heic"s), "a HEIC picture");
  EXPECT_EQ(name_of(ftyp + "mif1\0\0\0\0mif1heic"s), "a HEIC picture");
  EXPECT_EQ(name_of(ftyp + "mif1\0\0\0\0mif1avif"s), "an AVIF picture");
  EXPECT_EQ(name_of(ftyp + "crx \0\0\0\1crx isom"s), "a camera's raw file (Canon CR3)");
  EXPECT_EQ(name_of(ftyp + "isom\0\0\2\0isommp41"s), "an MP4 video");
  EXPECT_EQ(name_of("RIFF\x10\0\0\0AVI LIST"s), "an AVI video");
  EXPECT_EQ(name_of("RIFF\x10\0\0\0WEBPVP8 "s), "a WebP picture");
  EXPECT_EQ(name_of("II*\0\x10\0\0\0CR\2\0"s), "a camera's raw file (Canon CR2)");
  EXPECT_EQ(name_of("II*\0\x10\0\0\0\0\0\0\0"s), "a TIFF picture");
  EXPECT_EQ(name_of("MM\0+\0\x08\0\0"s), "a BigTIFF picture");
  EXPECT_EQ(name_of("\xff\x0a\x12\x34"s), "a JPEG XL picture");
  EXPECT_EQ(name_of("8BPS\0\1"s), "a Photoshop document (PSD)");
  EXPECT_EQ(name_of("\0\0\2\0\0\0\0\0\0\0\0\0\x20\0\x20\0\x18\0"s), "a TGA picture");
  EXPECT_EQ(name_of("<?xml version=\"1.0\"?>\n<!-- x -->\n<svg width='4'>"), "an SVG drawing");
  std::string stream(188 * 6, '\xff');
  for (size_t at = 0; at < stream.size(); at += 188) stream[at] = 'G';
  EXPECT_EQ(name_of(stream), "an MPEG transport stream");
}

TEST(FileKind, TellsWhatIsNeither) {
  EXPECT_EQ(name_of("\xef\xbb\xbf \n<!DOCTYPE HTML><html>"), "an HTML page");
  EXPECT_EQ(name_of("<html><head>"), "an HTML page");
  EXPECT_EQ(name_of("<?xml version='1.0'?><!DOCTYPE html><html>"), "an HTML page");
  EXPECT_EQ(name_of("<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>"), "an XML document");
  EXPECT_EQ(name_of("%PDF-1.7\n"), "a PDF document");
  EXPECT_EQ(name_of("PK\3\4...."), "a ZIP archive");
  EXPECT_EQ(name_of("GGUF\3\0\0\0"s), "a GGUF model");
  EXPECT_EQ(name_of("\x0a\0\0\0\0\0\0\0{\"a\":null}xx"s), "a safetensors checkpoint");
  EXPECT_EQ(name_of("version https://git-lfs.github.com/spec/v1\noid sha256:00\n"), "a Git LFS pointer");
  EXPECT_EQ(name_of("{\"error\": \"no access\"}"), "a JSON text");
  EXPECT_EQ(name_of("Grüße,\tWelt\r\n"), "a text file");
  EXPECT_EQ(name_of("BMW is a car.\n"), "a text file");
  EXPECT_EQ(name_of("RIFF\x10\0\0\0WAVEfmt "s), "a sound file (WAV)");
}

TEST(FileKind, LeavesTheRestToFfmpeg) {
  EXPECT_EQ(name_of(""), "unknown");
  EXPECT_EQ(name_of(std::string(5000, '\0')), "unknown");
  EXPECT_EQ(name_of("ffconcat version 1.0\nfile 'a.mp4'\n"), "unknown");
  EXPECT_EQ(name_of("P3\n1 1\n255\n1 2 3\n"), "unknown");
  const test::TemporaryFolder folder;
  EXPECT_FALSE(file_kind(folder.path()));
  EXPECT_FALSE(file_kind(folder.path() / "none"));
  EXPECT_EQ(file_kind(folder.write("a.png", "%PDF-1.4"))->group, FileGroup::kOther);
}

}  // namespace
}  // namespace opensora
