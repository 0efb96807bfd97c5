#include "core/cuda_plugin.h"

#include <dlfcn.h>
#include <spdlog/spdlog.h>

#include <filesystem>
#include <vector>

namespace opensora {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFile = "libopensora_cuda.so";
constexpr const char* kNotBuilt = "not built";

struct Loaded {
  const CudaPlugin* table = nullptr;
  std::string state;  // empty before it is opened
};

Loaded& loaded() {
  static Loaded plugin;
  return plugin;
}

// Looks where the plug-in is for the program in a build tree, for the tests in a build tree, and for an installation.
// Empty if it is in none of these places.
fs::path find_plugin() {
  std::error_code unreadable;
  const fs::path folder = fs::read_symlink("/proc/self/exe", unreadable).parent_path();
  for (const fs::path& file :
       {folder / kFile, folder.parent_path() / kFile, folder.parent_path() / "lib/opensora" / kFile}) {
    if (fs::is_regular_file(file, unreadable)) return file;
  }
  return {};
}

Loaded open_plugin() {
  const fs::path file = find_plugin();
  if (file.empty()) return {nullptr, kNotBuilt};
  void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* error = dlerror();
    return {nullptr, "cannot be opened: " + std::string(error != nullptr ? error : "unknown error")};
  }
  const auto get = reinterpret_cast<GetCudaPlugin>(dlsym(library, kGetCudaPlugin));
  if (get == nullptr) return {nullptr, file.string() + " is not our plug-in"};
  const CudaPlugin* table = get();
  if (table->version != CudaPlugin::kVersion) return {nullptr, file.string() + " is of another version of opensora"};
  return {table, "loaded"};
}

}  // namespace

void load_cuda_plugin() {
  static const bool done = [] {
    loaded() = open_plugin();
    if (loaded().table == nullptr && loaded().state != kNotBuilt) {
      spdlog::warn("the CUDA plug-in is not used: {}", loaded().state);
    }
    return true;
  }();
  static_cast<void>(done);
}

const CudaPlugin* cuda_plugin() { return loaded().table; }

std::string cuda_plugin_state() {
  if (!loaded().state.empty()) return loaded().state;
  return find_plugin().empty() ? kNotBuilt : "built";
}

}  // namespace opensora
