// The manual's table of GPUs is what plan says of them.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "core/units.h"
#include "opensora/config.h"
#include "opensora/plan.h"
#include "request/parameter.h"
#include "support/program.h"
#include "support/published_request.h"

namespace opensora {
namespace {

std::vector<RunPlan> plans_of(const std::string& config) {
  return plan_for_all_gpus(test::published_request(config),
                           {.device_memory = {}, .base = {}, .may_lack_weights = true});
}

std::string cell(const RunPlan& plan) {
  const MemoryVerdict& memory = *plan.memory;
  if (!memory.fits) {
    if (memory.flags.empty()) return "-";
    return fmt::format("{} with `{}`", format_duration(memory.seconds_with_flags.value()),
                       fmt::join(request::with_flags(memory.flags), " "));
  }
  const bool is_streamed =
      std::any_of(plan.stages.begin(), plan.stages.end(), [](const auto& stage) { return stage.streams_blocks; });
  return format_duration(plan.seconds.value()) + (is_streamed ? " (s)" : "");
}

std::string gpu_rows() {
  const std::vector<std::string> configs = {"256px", "768px", "720p", "high_compression"};
  std::string table =
      fmt::format("| `--gpu` | GPU | {} |\n| --- | --- | --- | --- | --- | --- |\n", fmt::join(configs, " | "));
  const std::vector<KnownGpu> gpus = known_gpus();
  std::vector<std::string> rows;
  for (const KnownGpu& gpu : gpus) rows.push_back(fmt::format("| {} | {} |", gpu.key, gpu.name));
  for (const std::string& config : configs) {
    const std::vector<RunPlan> plans = plans_of(config);
    for (size_t i = 0; i < gpus.size(); ++i) rows[i].append(" ").append(cell(plans[i])).append(" |");
  }
  for (const std::string& row : rows) table.append(row).append("\n");
  return table;
}

// OPENSORA_UPDATE_README=1 in the environment writes it there.
TEST(PlanForAllGpus, IsTheReadmesTable) {
  const std::string begin = "<!-- What plan says of each GPU, written by PlanForAllGpus.IsTheReadmesTable. -->\n\n",
                    end = "\n<!-- The end of what plan says. -->\n";
  std::string manual = test::readme();
  const size_t from = manual.find(begin), to = manual.find(end);
  ASSERT_TRUE(from != std::string::npos && to != std::string::npos && from < to);
  const size_t first = from + begin.size();
  if (std::getenv("OPENSORA_UPDATE_README") != nullptr) {
    manual.replace(first, to - first, gpu_rows());
    std::ofstream(test::readme_file()) << manual;
    return;
  }
  EXPECT_EQ(manual.substr(first, to - first), gpu_rows()) << "OPENSORA_UPDATE_README=1 ctest -R PlanForAllGpus";
}

}  // namespace
}  // namespace opensora
