// Ranks that are threads of the tests: what they must do, and what they must not let pass.
#include "support/thread_ranks.h"

#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

#include "opensora/error.h"
#include "support/contains.h"
#include "support/engine_check.h"

namespace opensora::test {
namespace {

class ThreadRanks : public ::testing::TestWithParam<int> {
 protected:
  c10::InferenceMode inference_;
};

TEST_P(ThreadRanks, DoWhatAnEngineMust) {
  std::atomic<int> ranks_seen = 0;
  run_ranks(GetParam(), [&](Communicator& ranks) {
    EXPECT_TRUE(c10::InferenceMode::is_enabled());
    EXPECT_EQ(ranks.size(), GetParam());
    ranks_seen += 1 << ranks.rank();
    check_engine(ranks);
  });
  EXPECT_EQ(ranks_seen, (1 << GetParam()) - 1);
}

INSTANTIATE_TEST_SUITE_P(Counts, ThreadRanks, ::testing::Range(1, 9));

std::string error_of(int count, const std::function<void(Communicator&)>& work) {
  return message_of<std::logic_error>([&] { run_ranks(count, work); });
}

TEST(ThreadRanksFaults, DisagreeingShapesAreFound) {
  const std::string error = error_of(3, [](Communicator& ranks) {
    const at::Tensor in = at::ones({ranks.rank() + 1, 2});
    ranks.all_gather(std::vector{at::empty({1, 2}), at::empty({2, 2}), at::empty({4, 2})}, in);
  });
  EXPECT_TRUE(contains(error, "in all_gather, rank 2 sends Float[3, 2], and rank ")) << error;
}

TEST(ThreadRanksFaults, DisagreeingDtypesAreFound) {
  const std::string error = error_of(
      2, [](Communicator& ranks) { ranks.broadcast(at::ones({2}, ranks.rank() == 0 ? at::kFloat : at::kHalf), 0); });
  EXPECT_TRUE(contains(error, "rank 0 sends Float[2], and rank 1 takes Half[2]")) << error;
}

TEST(ThreadRanksFaults, DifferentCallsAreFound) {
  const std::string error = error_of(2, [](Communicator& ranks) {
    const at::Tensor tensor = at::ones({2});
    if (ranks.rank() == 0) {
      ranks.broadcast(tensor, 0);
    } else {
      ranks.all_gather(std::vector{at::empty({2}), at::empty({2})}, tensor);
    }
  });
  EXPECT_TRUE(contains(error, "broadcast") && contains(error, "all_gather")) << error;
}

TEST(ThreadRanksFaults, ACallBeforeWaitIsFound) {
  const std::string error = error_of(2, [](Communicator& ranks) {
    const auto pending = ranks.start_exchange({}, {});
    ranks.barrier();
  });
  EXPECT_TRUE(contains(error, "a barrier was begun while an exchange was not waited for")) << error;
}

TEST(ThreadRanksFaults, AChangeOfWhatIsSentIsFound) {
  const std::string error = error_of(2, [](Communicator& ranks) {
    const Transfer send{at::ones({2}), 1 - ranks.rank()}, receive{at::empty({2}), 1 - ranks.rank()};
    const auto pending = ranks.start_exchange({&send, 1}, {&receive, 1});
    if (ranks.rank() == 1) send.tensor.zero_();
    pending->wait();
  });
  EXPECT_TRUE(contains(error, "what was sent was changed")) << error;
}

TEST(ThreadRanksFaults, AnEarlyReaderFindsNothing) {
  run_ranks(2, [](Communicator& ranks) {
    const Transfer send{at::ones({2}), 1 - ranks.rank()}, receive{at::zeros({2}), 1 - ranks.rank()};
    const auto pending = ranks.start_exchange({&send, 1}, {&receive, 1});
    EXPECT_TRUE(receive.tensor.isnan().all().item<bool>());
    pending->wait();
    EXPECT_TRUE(at::equal(receive.tensor, send.tensor));
  });
}

TEST(ThreadRanksFaults, OneThatHasReturnedIsNotWaitedFor) {
  const auto work = [](Communicator& ranks) {
    if (ranks.rank() != 1) ranks.barrier();
  };
  EXPECT_TRUE(contains(message_of<RankError>([&] { run_ranks(3, work); }), "rank 1 has ended"));
}

TEST(ThreadRanksFaults, AnExceptionEndsAllAndIsRethrown) {
  std::atomic<int> ended = 0;
  try {
    run_ranks(4, [&](Communicator& ranks) {
      const auto pair = ranks.split(ranks.rank() / 2);
      if (ranks.rank() == 2) throw OutputError("disk full");
      try {
        for (;;) pair->barrier();
      } catch (const RankError& error) {
        EXPECT_STREQ(error.what(), "rank 2: disk full");
        ++ended;
        throw;
      }
    });
    FAIL();
  } catch (const OutputError& error) {
    EXPECT_STREQ(error.what(), "disk full");
  }
  EXPECT_EQ(ended, 3);
}

TEST(ThreadRanksFaults, AbortEndsAllCallsAndLaterOnes) {
  std::atomic<int> ended = 0;
  run_ranks(3, [&](Communicator& ranks) {
    if (ranks.rank() == 0) ranks.abort("enough");
    const auto expect_end = [&](const std::function<void()>& call) {
      try {
        call();
      } catch (const RankError& error) {
        EXPECT_STREQ(error.what(), "enough");
        ++ended;
      }
    };
    expect_end([&] { ranks.barrier(); });
    expect_end([&] { ranks.broadcast(at::ones({1}), 0); });
    expect_end([&] { ranks.split(0); });
  });
  EXPECT_EQ(ended, 9);
}

}  // namespace
}  // namespace opensora::test
