// What is said of a file that cannot be read.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>

#include "opensora/error.h"

namespace opensora::test {

// The message of the error that `read` must end with; it is one line and names the file.
template <typename Error>
std::string file_error(const std::filesystem::path& file, const std::function<void()>& read) {
  try {
    read();
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_TRUE(message.starts_with(file.string() + ": ")) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return message;
  }
  return "no error";
}

// Of an image or a video.
inline std::string input_error(const std::filesystem::path& file, const std::function<void()>& read) {
  return file_error<InputMediaError>(file, read);
}

// Of a checkpoint, what stands behind the file's name.
inline std::string checkpoint_error(const std::filesystem::path& file, const std::function<void()>& read) {
  const std::string message = file_error<CheckpointError>(file, read), name = file.string() + ": ";
  return message.starts_with(name) ? message.substr(name.size()) : message;
}

}  // namespace opensora::test
