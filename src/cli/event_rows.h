// The lines of --events and of the journal: the table that the README and the man page show.
// tests/pipelines/events.schema.json has the types; batch/observer.cpp and batch/batch.cpp write them.
#pragma once

#include <array>

namespace opensora::cli {

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
    {"video_sampled", true, "`latent`, `forwards`"},
    {"video_done", true,
     "`bytes`, `sha256`, `width`, `height`, `frames`, `prompt`, `seconds` by stage and `total`, "
     "`peak_memory_bytes`, `peak_device_memory_bytes`; `image`, `latent`, `suspicious` where there are"},
    {"out_of_memory", false, "as `video_failed`, which follows, and `flags`: a list of those that would fit"},
    {"video_failed", true, "`code` (the exit code that it would have alone), `error`; `latent` where it is kept"},
    {"run_finished", true,
     "`videos`, `done`, `skipped`, `failed`, `not_run`, `seconds`, `exit_code` (the program's); `error` where the "
     "whole "
     "run was stopped, or could not start: then there is no other event"},
    {"fault", true, "`file`: a mapped file was truncated or its disk failed; the run is over (no `time`)"},
}};

}  // namespace opensora::cli
