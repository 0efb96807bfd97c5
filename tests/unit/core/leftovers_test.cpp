// Temporary files of the dead and of the living, names of what lies beside an output, notes in pictures.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/output_file.h"
#include "core/temporary.h"
#include "media/png.h"
#include "opensora/error.h"
#include "support/read_video.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using test::read_file;

TEST(Leftovers, OfTheDeadGoAndOfTheLivingStay) {
  const test::TemporaryFolder folder;
  folder.write(".opensora-0123abcd.part", "a dead process's");
  folder.write(".opensora-abcdefgh.part/frame.png", "likewise");
  folder.write(".opensora-mine.part", "not ours");
  folder.write(".opensora-0123abcd.part2", "not ours");
  const Temporary living = create_temporary_file(folder.path());
  const Temporary many = create_temporary_folder(folder.path());
  remove_leftovers(folder.path());
  EXPECT_FALSE(fs::exists(folder.path() / ".opensora-0123abcd.part"));
  EXPECT_FALSE(fs::exists(folder.path() / ".opensora-abcdefgh.part"));
  EXPECT_TRUE(fs::exists(folder.path() / ".opensora-mine.part"));
  EXPECT_TRUE(fs::exists(folder.path() / ".opensora-0123abcd.part2"));
  EXPECT_TRUE(fs::exists(living.path));
  EXPECT_TRUE(fs::exists(many.path));
  remove_temporary(living.path);
  remove_temporary(many.path);
}

TEST(Leftovers, ALockGoesWithItsOwnerAndStaysWithARenamedFile) {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "a";
  FileLock other;
  EXPECT_EQ(other.take(path), FileLock::Outcome::kUnknown);
  {
    OutputFile file(path, false);
    file.commit();
    const FileLock kept = file.take_lock();
    EXPECT_EQ(other.take(path), FileLock::Outcome::kHeldElsewhere);
  }
  EXPECT_EQ(other.take(path), FileLock::Outcome::kTaken);
}

TEST(Leftovers, FilesThatAppearTogetherAppearAllOrNotAtAll) {
  const test::TemporaryFolder folder;
  const OutputFile first(folder.path() / "a", false), second(folder.path() / "b", false);
  write_content(first.staged(), "one");
  write_content(second.staged(), "two");
  folder.write("b", "another process's");
  const std::vector<StagedFile> both = {first.staged(), second.staged()};
  EXPECT_THROW(commit_together(both), OutputError);
  EXPECT_FALSE(fs::exists(folder.path() / "a"));
  EXPECT_EQ(read_file(folder.path() / "b"), "another process's");
}

TEST(Leftovers, NamesBesideAnOutputFitTheFileSystem) {
  EXPECT_EQ(beside("videos/sea.mp4", ".latent.safetensors"), "videos/sea.latent.safetensors");
  const std::string stem(251, 'x');
  const std::string latent = beside(stem + ".mp4", ".latent.safetensors").string();
  EXPECT_EQ(latent.size(), 255U);
  EXPECT_TRUE(latent.ends_with(".latent.safetensors"));
  EXPECT_NE(latent, beside(stem.substr(1) + "y.mp4", ".latent.safetensors").string());
}

TEST(Leftovers, ANoteChangesNoPixelAndGoesWithoutATrace) {
  const test::TemporaryFolder folder;
  const std::vector<uint8_t> pixels(size_t{5} * 4 * 3, 77);
  const std::string plain = media::encode_png("a.png", pixels.data(), 5, 4);
  const std::string noted = media::with_note(plain, "picture 0123");
  const fs::path file = folder.write("a.png", noted);
  EXPECT_EQ(media::read_note(file), "picture 0123");
  EXPECT_EQ(media::without_note(noted), plain);
  EXPECT_EQ(media::without_note(plain), plain);
  EXPECT_EQ(test::read_video(file).frames.at(0).rgb, std::vector<uint8_t>(pixels));
  for (const std::string& text : {std::string("no picture"), noted.substr(0, 40), std::string()}) {
    EXPECT_EQ(media::read_note(folder.write("b.png", text)), "");
  }
}

}  // namespace
}  // namespace opensora
