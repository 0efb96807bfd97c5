#include "cli/batch_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <system_error>

#include "cli/number_options.h"
#include "cli/validators.h"
#include "core/number_text.h"
#include "opensora/error.h"

namespace opensora::cli {
namespace {

const char* const kGroup = "Batch";
constexpr int64_t kMostShards = 1'000'000;
constexpr double kLongestTimeout = 1e9;  // seconds

// "2/8"
void parse_shard(const std::string& text, BatchOptions& options) {
  const size_t slash = std::min(text.find('/'), text.size());
  const std::string_view all = text;
  const auto shard = parse_whole<int64_t>(all.substr(0, slash));
  const auto shards = slash < all.size() ? parse_whole<int64_t>(all.substr(slash + 1)) : std::nullopt;
  if (!shard || !shards || *shard < 1 || *shard > *shards || *shards > kMostShards) {
    throw UsageError(fmt::format("--shard: expected I/N with I from 1 to N and N up to {}, such as 2/8, found \"{}\"",
                                 kMostShards, text));
  }
  options.shard = *shard;
  options.shards = *shards;
}

void add_run_flags(CLI::App& command, BatchFlags& flags) {
  BatchOptions& options = flags.options;
  command.add_flag("--resume", options.resume, "Go on with the folder's run: what is finished is not made again")
      ->group(kGroup);
  CLI::Option* keep_going =
      command.add_flag("--keep-going", flags.keep_going, "Go on after a video that fails (default)")->group(kGroup);
  command.add_flag("--fail-fast", options.fail_fast, "Stop at the first video that fails")
      ->excludes(keep_going)
      ->group(kGroup);
  command
      .add_option_function<std::string>(
          "--shard", [&options](const std::string& text) { parse_shard(text, options); },
          "I/N: make every N-th row only, from the I-th on (job arrays)")
      ->type_name("I/N")
      ->group(kGroup);
  add_real(command, "--timeout", options.timeout, {0, kLongestTimeout},
           "Seconds that one video may take; it fails then (0: any)")
      ->group(kGroup);
  command
      .add_option("--overlap", options.overlap,
                  "on: decode and write a video while the next is sampled; off; auto: on with a GPU")
      ->check(one_of({"auto", "on", "off"}))
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_flag("--keep-latents", options.keep_latents,
                "Leave each video's latent beside it, as NAME.latent.safetensors")
      ->group(kGroup);
  command
      .add_option(
          "--events", options.events,
          "Write what happens as lines of JSON to this file, to standard output (-) or to the open descriptor N: "
          "fd:N")
      ->type_name("FILE")
      ->group(kGroup);
}

}  // namespace

std::vector<uint64_t> parse_seeds(const std::string& text) {
  std::vector<uint64_t> seeds;
  for (const char *at = text.data(), *end = at + text.size();;) {
    uint64_t& seed = seeds.emplace_back();
    const auto [rest, error] = std::from_chars(at, end, seed);
    if (error != std::errc() || (rest != end && *rest != ',')) {
      throw UsageError("--seed: expected integers from 0 to 18446744073709551615, found \"" + text + "\"");
    }
    if (rest == end) return seeds;
    at = rest + 1;
  }
}

void BatchFlags::add_to(CLI::App& command) {
  command
      .add_option("--prompts-file", prompts_file,
                  "A video a row: .txt, .csv, .tsv, .json or .jsonl; - for standard input")
      ->type_name("FILE")
      ->group(kGroup);
  command.add_option("--prompts-format", prompts_format, "What the prompts file is (default: by its name; of -: txt)")
      ->check(one_of({"txt", "csv", "tsv", "json", "jsonl"}))
      ->group(kGroup);
  command
      .add_option(
          "--output-dir", options.output_dir,
          "Folder for the videos and the run's journal, run.jsonl (default of several videos: a new folder called "
          "after the prompts file or the prompt)")
      ->type_name("DIR")
      ->group(kGroup);
  command
      .add_option("--name-template", options.name_template,
                  "Names in --output-dir, of {index} {name} {seed} {sample} {slug} {prompt} (default: {name} where all "
                  "rows have one, else {index}-{name}; and -{sample} where rows have several videos)")
      ->group(kGroup);
  add_whole(command, "--num-samples", options.samples, {1, 1'000'000}, "Videos a row, with seed, seed + 1, …")
      ->group(kGroup);
  add_run_flags(command, *this);
}

BatchOptions BatchFlags::resolve() const {
  BatchOptions resolved = options;
  resolved.prompts_file = prompts_file == "-" ? "stdin" : prompts_file;
  if (resolved.shards > 1 && resolved.output_dir.empty()) {
    throw UsageError("--shard needs --output-dir: the shards of a run share it");
  }
  return resolved;
}

}  // namespace opensora::cli
