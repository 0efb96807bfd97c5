// HEIC and AVIF: taken out of their boxes, turned, and put together from tiles.
#include "media/heif.h"

#include <gtest/gtest.h>

#include <array>

#include "media/media_reader.h"
#include "opensora/error.h"
#include "opensora/video.h"
#include "support/picture_files.h"
#include "support/temporary_folder.h"

namespace opensora::media {
namespace {

using test::case_file;

namespace fs = std::filesystem;

// "32x24 red green blue white": the size, and the corners from the top left.
std::string describe(const Picture& picture) {
  const auto colour = [&](int x, int y) -> std::string {
    const uint8_t* p = &picture.rgb[(static_cast<size_t>(y) * picture.width + x) * 3];
    const std::array<bool, 3> bright = {p[0] > 220, p[1] > 220, p[2] > 220};
    if (bright == std::array{true, true, true}) return " white";
    return bright[0] ? " red" : bright[1] ? " green" : bright[2] ? " blue" : " none";
  };
  const int right = picture.width - 3, bottom = picture.height - 3;
  return std::to_string(picture.width) + "x" + std::to_string(picture.height) + colour(2, 2) + colour(right, 2) +
         colour(2, bottom) + colour(right, bottom);
}

TEST(Heif, ReadsPhonesPicturesUpright) {
  EXPECT_EQ(describe(read_picture(case_file("phone.heic")).picture), "32x24 red green blue white");
  EXPECT_TRUE(read_picture(case_file("phone.heic")).is_image);
  EXPECT_EQ(describe(read_picture(case_file("turned.avif")).picture), "53x75 red blue green white");
  EXPECT_EQ(count_pictures(case_file("phone.heic")), 1);
}

// Quarters to the left, then mirrored from side to side. The EXIF of phone.heic says something else, and does not
// count.
TEST(Heif, TurnsByAnyQuarter) {
  const test::TemporaryFolder folder;
  std::string bytes = test::read_file(case_file("turned.avif"));
  const size_t box = bytes.find("irot");
  ASSERT_NE(box, std::string::npos);
  for (const auto& [quarters, upright] : {std::pair{'\0', "75x53 green red white blue"},
                                          {'\1', "53x75 white green blue red"},
                                          {'\2', "75x53 blue white red green"},
                                          {'\3', "53x75 red blue green white"}}) {
    bytes[box + 4] = quarters;
    EXPECT_EQ(describe(read_picture(folder.write("a.avif", bytes)).picture), upright) << int{quarters};
  }
}

TEST(Heif, PutsTilesTogether) {
  const std::optional<HeifPicture> picture = read_heif(bytes_of_file(case_file("grid.avif")));
  ASSERT_TRUE(picture);
  EXPECT_EQ(picture->rows, 2);
  EXPECT_EQ(picture->columns, 2);
  EXPECT_EQ(picture->size, (Size{128, 128}));
  EXPECT_EQ(describe(read_picture(case_file("grid.avif")).picture), "128x128 red green blue white");
  EXPECT_EQ(count_pictures(case_file("grid.avif")), 1);
  EXPECT_EQ(read_video_info(case_file("grid.avif")).width, 128);
  EXPECT_EQ(read_video_info(case_file("grid.avif")).frames, 1);
}

// Whatever is cut off or changed: a picture, or an error; no crash, no enormous memory.
TEST(Heif, TakesNoHarmFromDamage) {
  const test::TemporaryFolder folder;
  for (const char* name : {"phone.heic", "grid.avif"}) {
    const std::string whole = test::read_file(case_file(name));
    for (size_t length = 0; length < whole.size(); length += 3) {
      const auto picture = read_heif(bytes_of_text(whole.substr(0, length)));
      EXPECT_TRUE(!picture || picture->stream.size() < 2 * whole.size());
    }
    for (size_t at = 0; at < std::min<size_t>(whole.size(), 700); ++at) {
      for (const char value : {'\0', '\1', '\x7f', '\xff'}) {
        std::string changed = whole;
        changed[at] = value;
        read_heif(bytes_of_text(changed));
      }
    }
    const fs::path cut = folder.write("cut", whole.substr(0, whole.size() * 9 / 10));
    EXPECT_THROW(read_picture(cut), InputMediaError) << name;
  }
}

}  // namespace
}  // namespace opensora::media
