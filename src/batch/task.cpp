#include "batch/task.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <optional>

#include "batch/output_name.h"
#include "batch/resume.h"
#include "batch/row_errors.h"
#include "core/device.h"
#include "media/encoding.h"
#include "media/sha256.h"
#include "opensora/error.h"
#include "pipeline/remains.h"
#include "pipeline/request_json.h"

namespace opensora::batch {
namespace {

// The seeds of a row's videos; nullopt: the first is to be drawn.
std::vector<std::optional<uint64_t>> seeds_of(const BatchRow& row, int64_t samples) {
  if (row.seeds.size() > 1 && samples > 1) {
    throw UsageError("several seeds and --num-samples " + std::to_string(samples) + " exclude each other");
  }
  if (row.seeds.size() > 1) return {row.seeds.begin(), row.seeds.end()};
  std::optional<uint64_t> first = row.seeds.empty() ? row.request.seed : row.seeds.front();
  if (!first) first = row.request.config.sampling.seed;
  std::vector<std::optional<uint64_t>> seeds(static_cast<size_t>(samples));
  if (!first) return seeds;
  if (*first > std::numeric_limits<uint64_t>::max() - (seeds.size() - 1)) {
    throw UsageError(fmt::format("--seed {} with --num-samples {} goes beyond the last seed, {}", *first, samples,
                                 std::numeric_limits<uint64_t>::max()));
  }
  for (size_t i = 0; i < seeds.size(); ++i) seeds[i] = *first + i;
  return seeds;
}

Task make_task(const BatchRow& row, std::optional<uint64_t> seed) {
  Task task;
  GenerateRequest request = row.request;
  request.seed = seed;
  task.video = pipeline::plan_video(request);
  task.line = row.line;
  task.name = row.name;
  task.seed_is_drawn = !seed;
  return task;
}

// What determines the content, and how it is computed.
std::string key_of(const pipeline::Video& video, const pipeline::CheckpointIdentities& checkpoints, uint64_t seed) {
  pipeline::Plan plan = video.plan;
  plan.seed = seed;
  const std::string device = c10::DeviceTypeName(plan.device.type(), /*lower_case=*/true);
  return media::sha256_of_text(
      fmt::format("{} {} {}", pipeline::content_key(video.request, plan, checkpoints), device, dtype_name(plan.dtype)));
}

}  // namespace

std::vector<Task> make_tasks(const std::vector<BatchRow>& rows, const BatchOptions& options) {
  std::vector<Task> tasks;
  RowErrors errors(options.prompts_file);
  for (size_t i = 0; i < rows.size(); ++i) {
    try {
      int64_t sample = 0;
      for (const std::optional<uint64_t> seed : seeds_of(rows[i], options.samples)) {
        Task& task = tasks.emplace_back(make_task(rows[i], seed));
        task.row = static_cast<int64_t>(i) + 1;
        task.sample = sample++;
        if (task.seed_is_drawn && task.sample > 0) task.video.plan.seed = tasks[tasks.size() - 2].video.plan.seed + 1;
        if (task.line > 0) task.place = fmt::format("{}:{}", options.prompts_file, task.line);
      }
    } catch (const UsageError& error) {
      if (rows[i].line == 0) throw;
      errors.add(rows[i].line, error.what());
    }
  }
  errors.throw_if_any();
  return tasks;
}

void settle_seeds(std::vector<Task>& tasks, const pipeline::CheckpointIdentities& checkpoints, const History& history) {
  std::map<std::string, int64_t> occurrences;  // equal rows whose seeds are drawn are still videos of their own
  std::map<int64_t, uint64_t> first_seeds;     // by row, as the journal has them: its other videos' follow from it
  for (Task& task : tasks) {
    pipeline::Plan& plan = task.video.plan;
    if (task.seed_is_drawn) {
      const std::string content = key_of(task.video, checkpoints, /*seed=*/0);
      task.row_key = media::sha256_of_text(fmt::format("{} {}", content, occurrences[content]++));
      std::optional<uint64_t> known = history.seed(task.row_key);
      if (!known && tasks.size() == 1) known = pipeline::find_drawn_seed(task.video.request.output, task.row_key);
      if (known) first_seeds.emplace(task.row, *known - static_cast<uint64_t>(task.sample));
      if (const auto first = first_seeds.find(task.row); first != first_seeds.end()) {
        plan.seed = known.value_or(first->second + static_cast<uint64_t>(task.sample));
      }
      task.video.latent_metadata[pipeline::kLatentRowKey] = task.row_key;
    }
    task.key = key_of(task.video, checkpoints, plan.seed);
    task.video.latent_metadata[pipeline::kLatentKey] = task.key;
  }
}

void name_outputs(std::vector<Task>& tasks, const BatchOptions& options, const std::filesystem::path& folder) {
  if (folder.empty() && options.name_template.empty()) return;
  const bool all_named = std::all_of(tasks.begin(), tasks.end(), [](const Task& task) { return !task.name.empty(); });
  const bool several = std::any_of(tasks.begin(), tasks.end(), [](const Task& task) { return task.sample > 0; });
  const NameTemplate name_template = options.name_template.empty() ? NameTemplate::by_default(all_named, several)
                                                                   : NameTemplate(options.name_template);
  std::vector<NamedVideo> names;
  names.reserve(tasks.size());
  for (Task& task : tasks) {
    GenerateRequest& request = task.video.request;
    const std::string name = name_template.render({.index = task.row,
                                                   .name = task.name,
                                                   .prompt = request.prompt,
                                                   .seed = task.video.plan.seed,
                                                   .sample = task.sample});
    names.push_back({task.line, task.sample, name});
    request.output = folder / (name + (request.image_only || request.config.sampling.num_frames == 1
                                           ? ".png"
                                           : media::default_extension(request.codec)));
  }
  RowErrors errors(options.prompts_file);
  check_names(names, errors);
  if (options.prompts_file.empty() && !errors.empty()) {
    throw UsageError("--name-template" + errors.lines().front());  // ": name …": no file to be named in front
  }
  errors.throw_if_any();
}

}  // namespace opensora::batch
