#include "cli/process.h"

#include <gtest/gtest.h>

namespace opensora::cli {
namespace {

TEST(PatientThreads, AMachineIsBusyWhereOthersRunAndHaveRun) {
  EXPECT_TRUE(is_busy("2.97 3.54 3.78 5/142 23566\n"));
  EXPECT_TRUE(is_busy("0.50 0.10 0.01 2/142 23566\n"));
  EXPECT_TRUE(is_busy("12.00 3.54 3.78 11/142 23566\n"));
  EXPECT_FALSE(is_busy("2.97 3.54 3.78 1/142 23566\n"));  // its own runs before
  EXPECT_FALSE(is_busy("0.49 3.54 3.78 2/142 23566\n"));  // for a moment
  EXPECT_FALSE(is_busy("0.00 0.00 0.00 1/142 23566\n"));
  EXPECT_FALSE(is_busy(""));
  EXPECT_FALSE(is_busy("2.97"));
}

}  // namespace
}  // namespace opensora::cli
