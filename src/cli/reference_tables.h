// Tables that the man page and README.md both show, which a test compares.
#pragma once

#include <array>
#include <utility>

namespace opensora::cli {

// The lines of --events and of the journal. tests/pipelines/events.schema.json has the types of their fields;
// batch/observer.cpp and batch/batch.cpp write them.
struct EventRow {
  const char* name;
  bool in_journal;
  const char* fields;  // besides schema_version, event, time, and a video's own
};

inline constexpr std::array<EventRow, 16> kEvents = {{
    {"run_started", true, "`version`, `videos`, `resume`, `shard`, `device`, `prompts_file`"},
    {"video_planned", true, "`prompt`; `row_key` where the seed was drawn"},
    {"video_skipped", false, "(finished by an earlier run)"},
    {"model_loaded", false,
     "`model` (`clip`, `t5`, `transformer`, `autoencoder`, `flux`, `flux_autoencoder`), `seconds`"},
    {"video_started", true, "(its sampling begins, or its decoding if that is all)"},
    {"stage_started", false, "`stage`: `image`, `encode`, `denoise`, `decode`, `write`"},
    {"expected", false,
     "`stage` (`denoise`), `seconds` that are left of it, `basis`: `trial` (before the first step, of the CPU's "
     "kernels) or `first_step`"},
    {"step", false, "`stage` (`denoise`, `image`), `done`, `of`, `seconds`, `remaining_seconds`"},
    {"progress", false, "the same of other stages: tiles or frames"},
    {"picture_done", true, "`picture`, `bytes`, `sha256`: FLUX's"},
    {"video_sampled", true, "`latent`, `forwards`; `computed_steps` with `--cache`"},
    {"video_done", true,
     "`bytes`, `sha256`, `width`, `height`, `frames`, `prompt`, `seconds` by stage and `total`, "
     "`peak_memory_bytes`, `peak_device_memory_bytes`; `image`, `latent`, `suspicious` where there are"},
    {"out_of_memory", false, "as `video_failed`, which follows, and `flags`: a list of those that would fit"},
    {"video_failed", true, "`code` (the exit code that it would have alone), `error`; `latent` where it is kept"},
    {"run_finished", true,
     "`videos`, `done`, `skipped`, `failed`, `not_run`, `seconds`, `exit_code` (the program's); `error` where the "
     "whole run was stopped, or could not start: then there is no other event"},
    {"fault", true, "`file`: a mapped file was truncated or its disk failed; the run is over (no `time`)"},
}};

// The program's exit codes, and what they mean.
inline constexpr std::array<std::pair<const char*, const char*>, 14> kExitCodes = {{
    {"0", "done"},
    {"1", "internal error, or a check of `selftest` failed"},
    {"2", "a flag, a configuration, a prompt or a prompts file that cannot be used"},
    {"3", "some videos of a batch failed; the others are done"},
    {"4", "a checkpoint, tokenizer or text embedding is missing, damaged or of another model"},
    {"5", "the device is absent, its libraries cannot be opened, or it failed"},
    {"6", "out of memory"},
    {"7", "the output cannot be written, or exists already"},
    {"8", "with `--strict`: the video was written, but is black, of one colour or frozen"},
    {"9", "a reference image or video cannot be read"},
    {"10", "NaN or infinity in the latent or the video"},
    {"11", "one of several ranks ended, hangs or cannot be reached"},
    {"124", "the video took longer than `--timeout`"},
    {"128 + n",
     "stopped by signal n (SIGHUP 129, SIGINT 130, SIGTERM 143), after it has cleaned up; a second "
     "signal stops at once"},
}};

}  // namespace opensora::cli
