// File URLs, other URLs, and files whose names look like either.
#include "core/local_file.h"

#include <gtest/gtest.h>

#include "support/contains.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

using test::contains;

TEST(LocalFile, DecodesFileUrlsOfThisMachine) {
  for (const char* url : {"file:///nowhere/a%20b.png", "file://localhost/nowhere/a%20b.png", "file:/nowhere/a%20b.png",
                          "FILE:///nowhere/a b.png", "File://LocalHost/nowhere/%61 b.png"}) {
    EXPECT_EQ(local_file(url), "/nowhere/a b.png") << url;
    EXPECT_FALSE(is_remote_url(url)) << url;
  }
  EXPECT_EQ(local_file("file:///nowhere/caf%C3%A9.png"), "/nowhere/café.png");
  EXPECT_EQ(local_file("file:///nowhere/50%.png"), "/nowhere/50%.png");
  EXPECT_EQ(local_file("file:///nowhere/%zz%4"), "/nowhere/%zz%4");
  EXPECT_EQ(local_file("file:///nowhere/a%00b"), "/nowhere/a%00b");
  EXPECT_EQ(local_file("file:a%23b.png"), "a#b.png");
}

TEST(LocalFile, StartsFromTheFolder) {
  EXPECT_EQ(local_file("a.png", "folder"), "folder/a.png");
  EXPECT_EQ(local_file("file:a%20b.png", "folder"), "folder/a b.png");
  EXPECT_EQ(local_file("file:///x/a.png", "folder"), "/x/a.png");
  EXPECT_EQ(local_file("/x/a.png", "folder"), "/x/a.png");
  EXPECT_EQ(local_file("https://example.org/a.png", "folder"), "https://example.org/a.png");
}

TEST(LocalFile, AFileThatIsThereWins) {
  const test::TemporaryFolder folder;
  for (const char* name : {"file:x", "http:x", "data:y", "a%20b.png", "file:a%20c"}) {
    const auto path = folder.write(name, "x");
    EXPECT_EQ(local_file(path.string()), path);
    EXPECT_EQ(local_file(name, folder.path()), path);
    EXPECT_FALSE(is_remote_url(path.string()));
  }
}

TEST(LocalFile, KnowsWhatIsNotHere) {
  for (const char* url :
       {"http://a/b.png", "HTTPS://a/b.png", "rtsp://a", "s3://bucket/a.png", "data:image/png;base64,AA", "gs://a/b",
        "ftp:x", "file://server/a.png", "file://", "hf://a/b", "newscheme+x://a", "pipe:0"}) {
    EXPECT_TRUE(is_remote_url(url)) << url;
    EXPECT_TRUE(contains(remote_url_advice(url), "only local files are read")) << url;
  }
  for (const char* name : {"a.png", "./a:b.png", "C:\\a.png", "12:30.png", "take:2.png", ":x", "", "a b://c", "x:y"}) {
    EXPECT_FALSE(is_remote_url(name)) << name;
  }
  EXPECT_TRUE(contains(remote_url_advice("file://server/a"), "another machine"));
  const std::string data = "data:image/png;base64," + std::string(100000, 'A');
  EXPECT_LT(shorten_url(data).size(), 210u);
  EXPECT_EQ(shorten_url("http://a/b"), "http://a/b");
}

}  // namespace
}  // namespace opensora
