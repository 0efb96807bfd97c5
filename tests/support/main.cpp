// As GTest's own main, but without LibTorch's tear-down, which would be a third of a short test's time.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const int result = RUN_ALL_TESTS();
  std::cout.flush();
  std::fflush(nullptr);
  _exit(result);
}
