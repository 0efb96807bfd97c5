// MP4 files that were cut off, are encrypted, or are only a part: each says what it is.
#include "media/container_faults.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "media/media_reader.h"
#include "media/video_info.h"
#include "opensora/error.h"
#include "support/contains.h"
#include "support/file_error.h"
#include "support/temporary_folder.h"
#include "support/write_media.h"

namespace opensora::media {
namespace {

namespace fs = std::filesystem;
using test::contains;
using test::MediaSpec;

using Options = std::vector<std::pair<std::string, std::string>>;

std::string big_endian(uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift & 0xff);
  return bytes;
}

std::string box(const std::string& type, const std::string& content) {
  return big_endian(static_cast<uint32_t>(content.size() + 8)) + type + content;
}

class ContainerFaultsTest : public testing::Test {
 protected:
  std::string video(const std::string& muxer, const Options& muxer_options = {}) const {
    std::vector<FramePtr> frames;
    for (int i = 0; i < 12; ++i) {
      frames.push_back(test::make_frame("yuv420p", 64, 64, [&](int x, int y, int) { return (x * y + 9 * i) & 127; }));
    }
    const MediaSpec spec{
        .codec = "libx264", .muxer = muxer, .options = {{"preset", "ultrafast"}}, .muxer_options = muxer_options};
    test::write_media(folder_.path() / "whole", spec, frames);
    return test::read_file(folder_.path() / "whole");
  }
  // The message of the error that reading all of it ends with; it names the file and is one line.
  std::string error_of(const std::string& bytes) const {
    const fs::path path = folder_.write("video", bytes);
    return test::input_error(path, [&] { count_pictures(path); });
  }

  test::TemporaryFolder folder_;
};

size_t begin_of(const std::string& bytes, const std::string& type) { return bytes.find(type) - 4; }

TEST_F(ContainerFaultsTest, AnMp4WithoutItsIndex) {
  for (const char* muxer : {"mp4", "mov"}) {
    const std::string whole = video(muxer);  // the index is at the end
    EXPECT_EQ(error_of(whole), "no error");
    const size_t moov = begin_of(whole, "moov");
    for (const size_t length : {moov, moov - 700, begin_of(whole, "mdat") + 100}) {
      EXPECT_TRUE(contains(error_of(whole.substr(0, length)), "incomplete: it has no index (moov); the recording"))
          << length;
    }
    for (const size_t length : {moov + 8, moov + 300}) {
      EXPECT_TRUE(contains(error_of(whole.substr(0, length)), "incomplete: its index (moov) should end at byte"))
          << length;
    }
  }
  EXPECT_TRUE(contains(error_of(box("ftyp", "isom") + box("mdat", std::string(900, '\0'))), "it has no index (moov)"));
}

TEST_F(ContainerFaultsTest, AnMp4WithoutItsPictures) {
  const std::string whole = video("mp4", {{"moov_size", "4000"}});
  ASSERT_LT(begin_of(whole, "moov"), begin_of(whole, "mdat"));
  const size_t mdat = begin_of(whole, "mdat");
  EXPECT_TRUE(contains(error_of(whole.substr(0, mdat)), "it has an index (moov) and no media data (mdat)"));
  for (const size_t length : {mdat + 8, mdat + 200, whole.size() - 400}) {
    EXPECT_TRUE(contains(error_of(whole.substr(0, length)), "incomplete: its media data (mdat) should end at byte"))
        << length;
  }
}

TEST_F(ContainerFaultsTest, PartsOfAFragmentedMp4) {
  const std::string whole = video("mp4", {{"movflags", "frag_every_frame+empty_moov+default_base_moof"}});
  EXPECT_EQ(error_of(whole), "no error");
  const size_t first = begin_of(whole, "moof");
  EXPECT_TRUE(contains(error_of(whole.substr(first)), "is a fragment of an MP4 without its beginning (moov)"));
  EXPECT_TRUE(contains(error_of(box("styp", "msdh\0\0\0\0msdh") + whole.substr(first)), "is a fragment of an MP4"));
  EXPECT_TRUE(contains(error_of(whole.substr(0, first)), "is the initialization segment of a fragmented MP4"));
}

TEST_F(ContainerFaultsTest, EncryptedMp4) {
  const Options encryption = {{"encryption_scheme", "cenc-aes-ctr"},
                              {"encryption_key", "76a6c65c5ea762046bd749a2e632ccbb"},
                              {"encryption_kid", "a7e61c373e219033c21091fa607bf3b8"}};
  EXPECT_TRUE(contains(error_of(video("mp4", encryption)), "is encrypted (DRM)"));
  Options fragments = encryption;
  fragments.emplace_back("movflags", "frag_keyframe+empty_moov+default_base_moof");
  EXPECT_TRUE(contains(error_of(video("mp4", fragments)), "is encrypted (DRM)"));
  const fs::path path = folder_.write("fragments", video("mp4", fragments));
  try {
    read_video_info(path);
    FAIL() << "its packets cannot be read";
  } catch (const InputMediaError& error) {
    EXPECT_TRUE(contains(error.what(), path.string() + ": is encrypted (DRM)"));
  }
  std::string bought = video("mp4");
  bought.replace(bought.find("avc1", bought.find("stsd")), 4, "drmi");
  EXPECT_TRUE(contains(error_of(bought), "is encrypted (DRM)"));
}

TEST_F(ContainerFaultsTest, AScrambledTransportStream) {
  std::string stream = video("mpegts");
  EXPECT_EQ(error_of(stream), "no error");
  constexpr size_t kPacket = 188, kVideo = 0x100;
  for (size_t at = 0; at < stream.size(); at += kPacket) {
    const size_t pid = (stream[at + 1] & 0x1f) << 8 | static_cast<uint8_t>(stream[at + 2]);
    if (pid != kVideo) continue;
    const auto flags = static_cast<uint8_t>(stream[at + 3]);
    stream[at + 3] = static_cast<char>(flags | 0x80);
    const size_t payload = at + 4 + ((flags & 0x20) != 0 ? 1 + static_cast<uint8_t>(stream[at + 4]) : 0);
    for (size_t i = payload; i < at + kPacket; ++i) stream[i] = static_cast<char>(stream[i] * 31 + i * 7 + 99);
  }
  EXPECT_TRUE(contains(error_of(stream), "is encrypted (a scrambled MPEG-TS)"));
}

TEST_F(ContainerFaultsTest, AReferenceMovie) {
  const std::string url = "other.mov" + std::string(11, '\0');
  const std::string reference = box("rdrf", std::string(4, '\0') + "url " + big_endian(20) + url);
  EXPECT_TRUE(contains(error_of(box("moov", box("rmra", box("rmda", reference)))), "is a reference movie"));
}

TEST_F(ContainerFaultsTest, OtherFilesAreNotBlamed) {
  EXPECT_EQ(container_fault(folder_.write("a", video("matroska"))), "");
  EXPECT_EQ(container_fault(folder_.write("b", video("mp4"))), "");
  EXPECT_EQ(container_fault(folder_.write("c", "This is a text.")), "");
  EXPECT_EQ(container_fault(folder_.write("d", "")), "");
  EXPECT_EQ(container_fault(folder_.path() / "none"), "");
  // Boxes without an end, in an index without one.
  EXPECT_NE(container_fault(folder_.write("e", std::string("\0\0\0\1moov\xff\xff\xff\xff\xff\xff\xff\xff", 16))), "");
  EXPECT_NE(container_fault(folder_.write("f", box("moov", std::string(64, '\0')))), "");
}

}  // namespace
}  // namespace opensora::media
