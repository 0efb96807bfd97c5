// How the ranks of a run share one video.
#pragma once

#include <string>

namespace opensora {

// `guidance` groups of ulysses * ring ranks each; rank r is in group r / (ulysses * ring), and within it at place
// p = r % (ulysses * ring) of the sequence: ring place p / ulysses, Ulysses place p % ulysses, so that those who
// exchange most are neighbours. On a step with several branches each group runs its share of them. On one with a single
// branch, and where there is one group, all ranks together are one sequence, laid out by whole_sequence().
struct RankLayout {
  int guidance = 1;
  int ulysses = 1;              // divides the number of heads: ranks exchange tokens for heads around attention
  int ring = 1;                 // keys and values are passed round
  bool shards_weights = false;  // each rank keeps its part of each block, and all gather a block ahead of its use

  int ranks() const { return guidance * ulysses * ring; }
  bool operator==(const RankLayout&) const = default;
};

// Of `ranks` as one sequence: as many as can be by Ulysses, which sends least; the others in a ring.
RankLayout whole_sequence(int ranks, int heads);

// "guidance=2,ulysses=4,ring=1"; what is 1 may be left out when it is read. Throws UsageError for `rank_layout`.
std::string layout_text(const RankLayout& layout);
RankLayout parse_layout(const std::string& text);

}  // namespace opensora
