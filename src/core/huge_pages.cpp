#include "core/huge_pages.h"

#include <sys/mman.h>

#include <cstdint>

namespace opensora {

void use_huge_pages(const at::Tensor& tensor) {
  constexpr uintptr_t kHugePage = uintptr_t{2} << 20;
  if (!tensor.is_cpu() || tensor.nbytes() < 2 * kHugePage) return;
  const auto begin = reinterpret_cast<uintptr_t>(tensor.const_data_ptr()), end = begin + tensor.nbytes();
  const uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage, last = end / kHugePage * kHugePage;
  ::madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
}

}  // namespace opensora
