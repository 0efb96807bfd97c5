#include "support/engine_check.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace opensora::test {
namespace {

class EngineCheck {
 public:
  EngineCheck(Communicator& ranks, at::ScalarType dtype) : ranks_(ranks), dtype_(dtype) {}

  void all_to_all() {
    std::vector<at::Tensor> out, in;
    for (int other = 0; other < ranks_.size(); ++other) {
      in.push_back(sent(ranks_.rank(), other));
      out.push_back(space(other, ranks_.rank()));
    }
    ranks_.all_to_all(out, in);
    for (int other = 0; other < ranks_.size(); ++other) expect(out[other], sent(other, ranks_.rank()), "all_to_all");
    count(in, 1);
  }

  // `in` may be this rank's part of the result.
  void all_gather(bool in_place) {
    std::vector<at::Tensor> out;
    for (int other = 0; other < ranks_.size(); ++other) out.push_back(space(other, 0));
    const at::Tensor in = in_place ? out[ranks_.rank()] : sent(ranks_.rank(), 0);
    if (in_place) in.copy_(sent(ranks_.rank(), 0));
    ranks_.all_gather(out, in);
    for (int other = 0; other < ranks_.size(); ++other) expect(out[other], sent(other, 0), "all_gather");
    count(std::vector<at::Tensor>(ranks_.size(), in), 1);
  }

  void broadcast() {
    for (int root = 0; root < ranks_.size(); ++root) {
      const at::Tensor tensor = root == ranks_.rank() ? sent(root, 1) : space(root, 1);
      ranks_.broadcast(tensor, root);
      expect(tensor, sent(root, 1), "broadcast");
      count(root == ranks_.rank() ? std::vector<at::Tensor>(ranks_.size(), tensor) : std::vector<at::Tensor>(), 1);
    }
  }

  // Two tensors to the next rank and one to the one after it, which in small groups are the same or this one.
  void exchange() {
    const int next = ranks_.rank() + 1, after = ranks_.rank() + 2;
    const std::vector<Transfer> sends = {
        {sent(ranks_.rank(), 3), at(next)}, {sent(ranks_.rank(), 4), at(next)}, {sent(ranks_.rank(), 5), at(after)}};
    const int before = at(ranks_.rank() - 1), second = at(ranks_.rank() - 2);
    const std::vector<Transfer> receives = {
        {space(before, 3), before}, {space(before, 4), before}, {space(second, 5), second}};
    const std::unique_ptr<PendingExchange> pending = ranks_.start_exchange(sends, receives);
    const at::Tensor meanwhile = sent(0, 0) + 1;  // any work
    pending->wait();
    expect(receives[0].tensor, sent(before, 3), "the first of an exchange");
    expect(receives[1].tensor, sent(before, 4), "the second of an exchange");
    expect(receives[2].tensor, sent(second, 5), "the third of an exchange");
    count({}, 1);
    for (const Transfer& send : sends) count_one(send.tensor, send.rank);
  }

  void barrier() { ranks_.barrier(); }

  Traffic expected() const { return expected_; }

 private:
  int at(int rank) const { return (rank + 2 * ranks_.size()) % ranks_.size(); }

  // Some are empty, all others differ in size.
  int64_t rows(int from, int key) const { return (from * 5 + key * 3) % 7; }
  at::TensorOptions options() const { return at::TensorOptions(dtype_).device(ranks_.device()); }
  at::Tensor sent(int from, int key) const {
    constexpr int64_t kWidth = 1021;
    const int64_t count = rows(from, key) * kWidth;
    return at::arange(count, at::TensorOptions(at::kInt))
        .add_(from * 13 + key)
        .remainder_(101)
        .to(options())
        .view({rows(from, key), kWidth});
  }
  at::Tensor space(int from, int key) const { return at::full_like(sent(from, key), 102); }

  void expect(const at::Tensor& actual, const at::Tensor& expected, const char* call) const {
    EXPECT_TRUE(at::equal(actual.cpu(), expected.cpu()))
        << call << " of " << toString(dtype_) << " on rank " << ranks_.rank() << " of " << ranks_.size();
  }

  void count(const std::vector<at::Tensor>& sends, int64_t calls) {
    expected_.calls += calls;
    for (int other = 0; other < static_cast<int>(sends.size()); ++other) count_one(sends[other], other);
  }
  void count_one(const at::Tensor& tensor, int to) {
    if (to != ranks_.rank()) expected_.bytes += static_cast<int64_t>(tensor.nbytes());
  }

  Communicator& ranks_;
  const at::ScalarType dtype_;
  Traffic expected_;
};

void check_calls(Communicator& ranks) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf, at::kByte, at::kLong}) {
    const Traffic before = ranks.traffic();
    EngineCheck check(ranks, dtype);
    check.all_to_all();
    check.all_gather(/*in_place=*/false);
    check.all_gather(/*in_place=*/true);
    check.barrier();
    check.broadcast();
    check.exchange();
    check.all_to_all();
    const Traffic after = ranks.traffic();
    EXPECT_EQ(after.calls - before.calls, check.expected().calls);
    EXPECT_EQ(after.bytes - before.bytes, check.expected().bytes) << toString(dtype);
  }
}

}  // namespace

void check_engine(Communicator& ranks) {
  check_calls(ranks);
  // Three groups by turns, of which the ranks of the last colour want none.
  const int colour = ranks.rank() % 3 == 2 ? -1 : ranks.rank() % 3;
  const std::shared_ptr<Communicator> group = ranks.split(colour);
  ASSERT_EQ(group == nullptr, colour < 0);
  if (group) {
    EXPECT_EQ(group->rank(), ranks.rank() / 3);
    EXPECT_EQ(group->size(), (ranks.size() - colour + 2) / 3);
    EXPECT_EQ(group->engine(), ranks.engine());
    EXPECT_EQ(group->device(), ranks.device());
    EXPECT_EQ(group->traffic().calls, 0);
    check_calls(*group);
    const std::shared_ptr<Communicator> again = group->split(0);
    check_calls(*again);
  }
  check_calls(ranks);
}

}  // namespace opensora::test
