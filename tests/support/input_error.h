// What is said of an image or a video that cannot be read.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>

#include "opensora/error.h"

namespace opensora::test {

// The message of the error that `read` must end with; it is one line and names the file.
inline std::string input_error(const std::filesystem::path& path, const std::function<void()>& read) {
  try {
    read();
  } catch (const InputMediaError& error) {
    const std::string message = error.what();
    EXPECT_TRUE(message.starts_with(path.string() + ": ")) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return message;
  }
  return "no error";
}

}  // namespace opensora::test
