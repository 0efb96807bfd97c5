// Memory in pages of 2 MiB instead of 4 KiB.
#pragma once

#include <ATen/ATen.h>

namespace opensora {

// Asks for huge pages for a tensor's memory on the CPU, before it is first touched. Does nothing to small ones, on
// other devices, and where the system has none.
void use_huge_pages(const at::Tensor& tensor);

}  // namespace opensora
