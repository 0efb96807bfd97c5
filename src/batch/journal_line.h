// What a line of a journal may hold: the one place where that is checked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace opensora::batch {

// What a later run reads of a line; the fields that its event does not have are empty.
struct JournalLine {
  std::string event;
  std::string key, output, row_key;           // of a video
  uint64_t seed = 0;                          // of a video
  std::string file, sha256;                   // picture_done: the picture; video_done: the output
  uintmax_t bytes = 0;                        // of that file
  bool keeps_latent = false;                  // video_done: its latent stays beside it
  std::optional<std::string> prompts_file;    // run_started: as it was typed, empty: none; nullopt: not said
  int64_t videos = 0, done = 0, skipped = 0;  // run_finished
  bool has_error = false;                     // run_finished: the whole run was stopped
};

// Parses a line, given without its line feed. Throws JsonError (core/json_text.h) for anything that no version of the
// program so far has written, and says which field is wrong and how, `"seed" is missing`: text that is not a JSON
// object or has a key twice, another schema_version, an unknown event, a field that is missing, of another type or out
// of range. Unknown fields are accepted, as a later version may add some.
JournalLine parse_journal_line(std::string_view text);

}  // namespace opensora::batch
