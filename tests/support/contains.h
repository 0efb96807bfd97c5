// For checks of messages: EXPECT_TRUE(contains(message_of<UsageError>([&] { … }), "num_steps")).
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

namespace opensora::test {

inline testing::AssertionResult contains(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "no \"" << part << "\" in: " << text;
}

// The message of the ErrorType that `action` must throw; it must be one line.
template <typename ErrorType>
std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const ErrorType& error) {
    EXPECT_FALSE(contains(error.what(), "\n")) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

}  // namespace opensora::test
