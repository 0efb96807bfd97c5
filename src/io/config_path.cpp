#include <algorithm>
#include <system_error>
#include <vector>

#include "core/nearest.h"
#include "opensora/config.h"
#include "opensora/error.h"

// Where configurations are, of include/opensora/config.h: find_config() and bundled_configs_dir().
namespace opensora {
namespace {

namespace fs = std::filesystem;

// Tells our folder from another one that is called "configs".
constexpr const char* kKnownConfig = "256px.json";

std::vector<std::string> config_names(const fs::path& folder) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

fs::path find_config(const std::string& name_or_file) {
  std::error_code unreadable;
  if (fs::is_regular_file(name_or_file, unreadable)) return name_or_file;
  const fs::path folder = bundled_configs_dir();
  fs::path bundled = folder / (name_or_file + ".json");
  if (fs::is_regular_file(bundled, unreadable)) return bundled;
  const std::vector<std::string> names = config_names(folder);
  throw UsageError("no configuration \"" + name_or_file + "\": neither a file nor a bundled one" +
                   did_you_mean(name_or_file, names) + " (bundled: " + join_names(names) + ")");
}

fs::path bundled_configs_dir() {
  const fs::path folder = fs::read_symlink("/proc/self/exe").parent_path();
  // In order: the program in a build tree, the tests in a build tree, an installation.
  const std::vector<fs::path> candidates = {folder.parent_path() / "configs",
                                            folder.parent_path().parent_path() / "configs",
                                            folder.parent_path() / "share/opensora/configs"};
  for (const fs::path& candidate : candidates) {
    std::error_code unreadable;
    if (fs::is_regular_file(candidate / kKnownConfig, unreadable)) return candidate;
  }
  throw UsageError("no bundled configurations in " + candidates[0].string() + " or " + candidates[2].string() +
                   "; give --config the path of a file");
}

}  // namespace opensora
