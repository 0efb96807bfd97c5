#include "cli/batch_options.h"

#include <charconv>
#include <cstdio>
#include <system_error>

#include "opensora/error.h"

namespace opensora::cli {
namespace {

const char* const kGroup = "Batch";

void parse_shard(const std::string& text, BatchOptions& options) {
  char rest = 0;
  if (std::sscanf(text.c_str(), "%6ld/%6ld%c", &options.shard, &options.shards, &rest) == 2 && options.shard >= 1 &&
      options.shard <= options.shards) {
    return;
  }
  throw UsageError("--shard: expected I/N with I from 1 to N, such as 2/8, found \"" + text + "\"");
}

void add_run_flags(CLI::App& command, BatchFlags& flags) {
  BatchOptions& options = flags.options;
  command
      .add_flag("--resume", options.resume, "Go on with the run of --output-dir: what is finished is not made again")
      ->group(kGroup);
  CLI::Option* keep_going =
      command.add_flag("--keep-going", flags.keep_going, "Go on after a video that fails (default)")->group(kGroup);
  command.add_flag("--fail-fast", options.fail_fast, "Stop at the first video that fails")
      ->excludes(keep_going)
      ->group(kGroup);
  command.add_option("--shard", flags.shard, "I/N: make every N-th row only, from the I-th on (job arrays)")
      ->group(kGroup);
  command.add_option("--timeout", options.timeout, "Seconds that one video may take; it fails then")
      ->check(CLI::NonNegativeNumber)
      ->group(kGroup);
  command
      .add_option("--overlap", options.overlap,
                  "on: decode and write a video while the next is sampled; off; auto: on with a GPU")
      ->check(CLI::IsMember({"auto", "on", "off"}))
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_flag("--keep-latents", options.keep_latents,
                "Leave each video's latent beside it, as NAME.latent.safetensors")
      ->group(kGroup);
  command
      .add_option("--events", options.events,
                  "Write what happens as lines of JSON to this file, or to the open descriptor N: fd:N")
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
      .add_option("--prompts-file", prompts_file, "A video a row: .txt, .csv, .json or .jsonl; - for standard input")
      ->type_name("FILE")
      ->group(kGroup);
  command.add_option("--prompts-format", prompts_format, "What the prompts file is (default: by its name; of -: txt)")
      ->check(CLI::IsMember({"txt", "csv", "json", "jsonl"}))
      ->group(kGroup);
  command.add_option("--output-dir", options.output_dir, "Folder for the videos and the run's journal, run.jsonl")
      ->type_name("DIR")
      ->group(kGroup);
  command
      .add_option("--name-template", options.name_template,
                  "Names in --output-dir, of {index} {name} {seed} {sample} {slug} {prompt} (default: {name} where all "
                  "rows have one, else {index}-{name}; and -{sample} where rows have several videos)")
      ->group(kGroup);
  command.add_option("--num-samples", options.samples, "Videos a row, with seed, seed + 1, …")
      ->check(CLI::Range(1, 1'000'000))
      ->group(kGroup);
  add_run_flags(command, *this);
}

bool BatchFlags::is_batch() const {
  return !prompts_file.empty() || !options.output_dir.empty() || options.samples > 1 || seeds.size() > 1;
}

BatchOptions BatchFlags::resolve() const {
  BatchOptions resolved = options;
  resolved.prompts_file = prompts_file == "-" ? "stdin" : prompts_file;
  if (!shard.empty()) parse_shard(shard, resolved);
  if (!is_batch()) {
    if (resolved.resume) throw UsageError("--resume needs --output-dir: the run's journal is there");
    return resolved;
  }
  if (resolved.output_dir.empty()) resolved.output_dir = ".";
  return resolved;
}

}  // namespace opensora::cli
