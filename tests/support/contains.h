// For checks of messages: EXPECT_TRUE(contains(error.what(), "num_steps")).
#pragma once

#include <gtest/gtest.h>

#include <string>

namespace opensora::test {

inline testing::AssertionResult contains(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "no \"" << part << "\" in: " << text;
}

}  // namespace opensora::test
