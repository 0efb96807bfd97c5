#include "media/interruption.h"

namespace opensora::media {

int Interruption::should_stop(void* interruption) noexcept {
  auto& self = *static_cast<Interruption*>(interruption);
  try {
    self.check();
    return 0;
  } catch (...) {
    self.thrown_ = std::current_exception();
    return 1;
  }
}

void Interruption::check() {
  if (thrown_) std::rethrow_exception(thrown_);
  if (poll_) poll_();
}

}  // namespace opensora::media
