// How long the host takes to launch work, against the time that a device takes to do it.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>

namespace opensora {

struct LaunchTiming {
  double host = 0;        // seconds that launching takes the host
  double device = 0;      // seconds from the first launch until the device is done
  int64_t operators = 0;  // that were called
};

// Runs `work`, which launches into the current stream of this thread, once that is empty, and waits for it. A host that
// is about a thousand launches ahead is held up by the device; so the time of all launches is reckoned from that of the
// first.
LaunchTiming time_launching(at::Device device, const std::function<void()>& work);

// Seconds that `all` operators take the host, where the first `some` of them took it `seconds`.
double launching_seconds(int64_t some, double seconds, int64_t all);

// Whether launching holds the device up, so that a graph would be faster: the device takes less than twice the host's
// time. On a device that takes longer, the next launches are waiting when it is done with the last ones.
bool is_bound_by_launching(const LaunchTiming& timing);

}  // namespace opensora
