// libcuda.so.1, played: it answers what is asked of NVIDIA's driver before LibTorch is (core/machine.cpp), by variables
// of the environment, and drives nothing. Tests put it first by LD_LIBRARY_PATH.
//
// STUB_INIT: what cuInit returns, default 0. STUB_CUDA: the CUDA that the driver serves, default 13000. STUB_GPUS: the
// compute capabilities of the GPUs with commas between them, "75,89"; default: none.
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

namespace {

constexpr int kInvalidValue = 1, kUnknownError = 999;
constexpr int kMajor = 75, kMinor = 76;  // of the compute capability
constexpr size_t kMemory = size_t{24} << 30;

int number(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoi(text);
}

std::vector<int> capabilities() {
  const char* text = std::getenv("STUB_GPUS");
  std::istringstream list(text == nullptr ? "" : text);
  std::vector<int> values;
  for (std::string word; std::getline(list, word, ',');) values.push_back(std::atoi(word.c_str()));
  return values;
}

bool is_there(int device) { return device >= 0 && device < static_cast<int>(capabilities().size()); }

}  // namespace

extern "C" {

int cuInit(unsigned /*flags*/) { return number("STUB_INIT", 0); }

int cuGetErrorName(int error, const char** name) {
  *name = error == kUnknownError ? "CUDA_ERROR_UNKNOWN" : nullptr;
  return *name == nullptr ? kInvalidValue : 0;
}

int cuDriverGetVersion(int* version) {
  *version = number("STUB_CUDA", 13000);
  return 0;
}

int cuDeviceGetCount(int* count) {
  *count = static_cast<int>(capabilities().size());
  return 0;
}

int cuDeviceGet(int* device, int index) {
  *device = index;
  return is_there(index) ? 0 : kInvalidValue;
}

int cuDeviceGetName(char* name, int length, int device) {
  std::strncpy(name, "Stub GPU", static_cast<size_t>(length) - 1);
  return is_there(device) ? 0 : kInvalidValue;
}

int cuDeviceTotalMem_v2(size_t* bytes, int device) {
  *bytes = kMemory;
  return is_there(device) ? 0 : kInvalidValue;
}

int cuDeviceGetAttribute(int* value, int attribute, int device) {
  if (!is_there(device) || (attribute != kMajor && attribute != kMinor)) return kInvalidValue;
  const int capability = capabilities()[static_cast<size_t>(device)];
  *value = attribute == kMajor ? capability / 10 : capability % 10;
  return 0;
}

}  // extern "C"
