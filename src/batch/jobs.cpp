#include "batch/jobs.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <system_error>
#include <utility>

#include "batch/output_name.h"
#include "batch/row_errors.h"
#include "core/device.h"
#include "media/sha256.h"
#include "media/video_writer.h"
#include "opensora/error.h"
#include "run/metadata.h"
#include "run/remains.h"

namespace opensora::batch {
namespace {

namespace fs = std::filesystem;
using run::Job;

// The seeds of a row's videos; nullopt: the first is to be drawn.
std::vector<std::optional<uint64_t>> seeds_of(const BatchRow& row, int64_t samples) {
  if (row.seeds.size() > 1 && samples > 1) {
    throw UsageError("several seeds and `num_samples` " + std::to_string(samples) + " exclude each other");
  }
  if (row.seeds.size() > 1) return {row.seeds.begin(), row.seeds.end()};
  std::optional<uint64_t> first = row.seeds.empty() ? row.request.seed : row.seeds.front();
  if (!first) first = row.request.config.sampling.seed;
  std::vector<std::optional<uint64_t>> seeds(static_cast<size_t>(samples));
  if (!first) return seeds;
  if (*first > std::numeric_limits<uint64_t>::max() - (seeds.size() - 1)) {
    throw UsageError(fmt::format("`seed` {} with `num_samples` {} goes beyond the last seed, {}", *first, samples,
                                 std::numeric_limits<uint64_t>::max()));
  }
  for (size_t i = 0; i < seeds.size(); ++i) seeds[i] = *first + i;
  return seeds;
}

// A hash of what determines the content, and of how it is computed.
std::string key_of(const Job& job, const run::CheckpointIdentities& checkpoints) {
  const std::string device = c10::DeviceTypeName(job.device.type(), /*lower_case=*/true);
  return media::sha256_of_text(
      fmt::format("{} {} {}", run::content_key(job, checkpoints), device, dtype_name(job.dtype)));
}

// Whether the file of a video_done is there and as it was left.
bool is_as_it_was(const JournalLine& done) {
  std::error_code error;
  if (fs::file_size(done.file, error) != done.bytes || error) return false;
  try {
    return media::sha256_of_file(done.file) == done.sha256;
  } catch (const Error&) {
    return false;
  }
}

// Whether two files have one name, whatever folder stands in front of it: "p.csv", "./p.csv".
bool same_name(const fs::path& a, const fs::path& b) { return a.filename() == b.filename(); }

}  // namespace

std::vector<Job> make_jobs(const std::vector<BatchRow>& rows, const BatchOptions& options) {
  std::vector<Job> jobs;
  RowErrors errors(options.prompts_file);
  for (size_t i = 0; i < rows.size(); ++i) {
    try {
      int64_t sample = 0;
      for (const std::optional<uint64_t> seed : seeds_of(rows[i], options.samples)) {
        GenerateRequest request = rows[i].request;
        request.seed = seed;
        Job& job = jobs.emplace_back(run::make_job(request));
        job.seed_is_drawn = !seed;
        job.row = static_cast<int64_t>(i) + 1;
        job.sample = sample++;
        if (job.seed_is_drawn && job.sample > 0) job.seed = jobs[jobs.size() - 2].seed + 1;
        if (rows[i].line > 0) job.place = fmt::format("{}:{}", options.prompts_file, rows[i].line);
      }
    } catch (const UsageError& error) {
      if (rows[i].line == 0) throw;
      errors.add(rows[i].line, error.what());
    }
  }
  errors.throw_if_any();
  return jobs;
}

void settle_seeds(std::vector<Job>& jobs, const run::CheckpointIdentities& checkpoints, const History& history) {
  std::map<std::string, int64_t> occurrences;  // equal rows whose seeds are drawn are still videos of their own
  std::map<int64_t, uint64_t> first_seeds;     // by row, from the journal; the seeds of its other videos follow
  for (Job& job : jobs) {
    if (job.seed_is_drawn) {
      const uint64_t drawn = std::exchange(job.seed, 0);
      const std::string content = key_of(job, checkpoints);
      job.seed = drawn;
      job.row_key = media::sha256_of_text(fmt::format("{} {}", content, occurrences[content]++));
      std::optional<uint64_t> known = history.seed(job.row_key);
      if (!known && jobs.size() == 1) known = run::find_drawn_seed(job.request.output, job.row_key);
      if (known) first_seeds.emplace(job.row, *known - static_cast<uint64_t>(job.sample));
      if (const auto first = first_seeds.find(job.row); first != first_seeds.end()) {
        job.seed = known.value_or(first->second + static_cast<uint64_t>(job.sample));
      }
      job.latent_metadata[run::kLatentRowKey] = job.row_key;
    }
    job.key = key_of(job, checkpoints);
    job.latent_metadata[run::kLatentKey] = job.key;
  }
}

void name_outputs(std::vector<Job>& jobs, const std::vector<BatchRow>& rows, const BatchOptions& options,
                  const fs::path& folder) {
  if (folder.empty() && options.name_template.empty()) return;
  const auto row_of = [&](const Job& job) -> const BatchRow& { return rows[static_cast<size_t>(job.row) - 1]; };
  const bool all_named =
      std::all_of(jobs.begin(), jobs.end(), [&](const Job& job) { return !row_of(job).name.empty(); });
  const bool several = std::any_of(jobs.begin(), jobs.end(), [](const Job& job) { return job.sample > 0; });
  const std::string name_template =
      options.name_template.empty() ? default_name_template(all_named, several) : options.name_template;
  std::vector<NamedVideo> names;
  names.reserve(jobs.size());
  for (Job& job : jobs) {
    GenerateRequest& request = job.request;
    const std::string name = video_name(
        name_template,
        {.index = job.row, .name = row_of(job).name, .prompt = request.prompt, .seed = job.seed, .sample = job.sample});
    names.push_back({row_of(job).line, job.sample, name});
    request.output = folder / (name + (request.image_only || request.config.sampling.num_frames == 1
                                           ? ".png"
                                           : media::default_extension(request.codec)));
  }
  RowErrors errors(options.prompts_file);
  check_names(names, errors);
  if (options.prompts_file.empty() && !errors.empty()) {
    throw UsageError("`name_template`" + errors.lines().front());  // ": name …": no file to be named in front
  }
  errors.throw_if_any();
}

History::History(const std::vector<JournalLine>& journal, const std::string& prompts_file) {
  bool is_own = true;  // the run whose lines are read; journals of older versions do not say which prompts file it had
  for (const JournalLine& line : journal) {
    if (line.event == "run_started") {
      is_own = !line.prompts_file || same_name(*line.prompts_file, prompts_file);
    } else if (line.event == "video_planned") {
      outputs_.emplace(line.output, true);
      if (!line.row_key.empty()) seeds_[line.row_key] = line.seed;
    } else if (line.event == "video_sampled") {
      sampled_.insert(line.key);
    } else if (line.event == "video_done") {
      finished_[line.key] = line;
      outputs_[line.output] = is_own;
    }
  }
}

std::optional<uint64_t> History::seed(const std::string& row_key) const {
  const auto found = seeds_.find(row_key);
  return found == seeds_.end() ? std::nullopt : std::optional(found->second);
}

bool History::owns(const Job& job) const {
  const std::string output = job.request.output.string();
  const auto made = finished_.find(job.key);
  if (made != finished_.end() && made->second.file == output) return true;
  const auto found = outputs_.find(output);
  return found != outputs_.end() && found->second;
}

bool History::is_done(const Job& job) const {
  const auto found = finished_.find(job.key);
  if (found == finished_.end() || found->second.file != job.output.string()) return false;
  if (is_as_it_was(found->second)) return true;
  spdlog::warn("{}: is gone or has changed since it was finished; it is made again", found->second.file);
  return false;
}

bool History::has_left_latent(const Job& job) const {
  const auto found = finished_.find(job.key);
  return sampled_.contains(job.key) && (found == finished_.end() || !found->second.keeps_latent);
}

}  // namespace opensora::batch
