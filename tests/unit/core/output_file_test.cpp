// A file that appears under its name only when it is whole.
#include "core/output_file.h"

#include <gtest/gtest.h>

#include "opensora/error.h"
#include "support/contains.h"
#include "support/media_fixture.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using test::contains;
using test::Files;
using test::message_of;

void write_bytes(const fs::path& file, const std::string& bytes) { std::ofstream(file, std::ios::binary) << bytes; }

class OutputFileTest : public test::MediaTest {};

TEST_F(OutputFileTest, AppearsOnlyOnCommit) {
  const fs::path path = folder_ / "a.bin";
  OutputFile file(path, false);
  EXPECT_EQ(file.temporary_path().parent_path(), folder_);
  write_bytes(file.temporary_path(), "data");
  EXPECT_FALSE(fs::exists(path));
  file.commit();
  EXPECT_EQ(files(), Files{"a.bin"});
  EXPECT_EQ(test::read_file(path), "data");
}

TEST_F(OutputFileTest, LeavesNothingWithoutCommit) {
  { OutputFile file(folder_ / "a.bin", false); }
  check_output(folder_ / "b.bin", false);
  EXPECT_EQ(files(), Files{});
}

TEST_F(OutputFileTest, KeepsAnExistingFileUnlessToldOtherwise) {
  const fs::path path = folder_ / "a.bin";
  write_bytes(path, "old");
  const std::string message = message_of<OutputError>([&] { OutputFile file(path, false); });
  EXPECT_EQ(message, path.string() + " exists; give `overwrite` or another `output`");
  { OutputFile uncommitted(path, true); }
  EXPECT_EQ(test::read_file(path), "old");
  OutputFile file(path, true);
  write_bytes(file.temporary_path(), "new");
  file.commit();
  EXPECT_EQ(test::read_file(path), "new");
  EXPECT_EQ(files(), Files{"a.bin"});
}

TEST_F(OutputFileTest, DoesNotClobberAFileThatAppearedMeanwhile) {
  const fs::path path = folder_ / "a.bin";
  {
    OutputFile file(path, false);
    write_bytes(path, "another process's");
    EXPECT_TRUE(contains(message_of<OutputError>([&] { file.commit(); }), "exists"));
  }
  EXPECT_EQ(test::read_file(path), "another process's");
  EXPECT_EQ(files(), Files{"a.bin"});
}

TEST_F(OutputFileTest, IsNotStoppedByAnotherTemporaryFile) {
  OutputFile first(folder_ / "a.bin", false);
  OutputFile second(folder_ / "a.bin", false);
  EXPECT_NE(first.temporary_path(), second.temporary_path());
}

TEST_F(OutputFileTest, SaysWhyAPathCannotBeUsed) {
  const auto message = [](const fs::path& path) {
    std::string text = message_of<OutputError>([&] { check_output(path, true); });
    EXPECT_TRUE(contains(text, path.string()));
    return text;
  };
  write_bytes(folder_ / "file", "");
  EXPECT_TRUE(contains(message(folder_ / "none" / "a.mp4"), "there is no folder"));
  EXPECT_TRUE(contains(message(folder_ / "file" / "a.mp4"), "is not a folder"));
  EXPECT_TRUE(contains(message(folder_), "is a folder"));
  EXPECT_TRUE(contains(message(folder_ / ""), "is a folder"));
  EXPECT_TRUE(contains(message("/dev/null"), "is not a regular file"));
  EXPECT_TRUE(contains(message("/proc/a.mp4"), "cannot create a file in /proc"));
  EXPECT_TRUE(contains(message(folder_ / std::string(300, 'x')), "File name too long"));
}

TEST_F(OutputFileTest, TakesTheLongestNameAndABareName) {
  const fs::path path = folder_ / std::string(255, 'x');
  OutputFile file(path, false);
  file.commit();
  EXPECT_TRUE(fs::exists(path));
  const fs::path before = fs::current_path();
  fs::current_path(folder_);
  check_output("bare.mp4", false);
  fs::current_path(before);
}

TEST_F(OutputFileTest, ReplacesASymbolicLinkNotItsTarget) {
  write_bytes(folder_ / "target", "old");
  fs::create_symlink("target", folder_ / "link");
  EXPECT_THROW(check_output(folder_ / "link", false), OutputError);
  OutputFile file(folder_ / "link", true);
  file.commit();
  EXPECT_FALSE(fs::is_symlink(folder_ / "link"));
  EXPECT_EQ(test::read_file(folder_ / "target"), "old");
}

}  // namespace
}  // namespace opensora
