// The text of a prompts file before its rows are read: files that are not text, line ends, and invisible characters.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "batch/row_errors.h"

namespace opensora::batch {

// For a file that cannot hold prompts, what it is and what to do: "is an Excel workbook (.xlsx), …". Empty if it may be
// text.
std::string foreign_kind(std::string_view bytes);

// Drops a byte order mark at the start, and the Ctrl-Z that DOS programs put at the end.
std::string_view without_marks(std::string_view text);

// Adds an error for each line that is not UTF-8 or holds a NUL byte.
void check_encoding(std::string_view text, RowErrors& errors);

// The length in bytes of the line end at text[at], which may be LF, CRLF, CR, or Unicode's NEL, LS or PS; 0 if there is
// none.
size_t line_end_at(std::string_view text, size_t at);

// Takes a line off the front of `text`, which is not empty, and returns it without its end.
std::string_view take_line(std::string_view& text);

// JSON whose line ends are all LF: CRLF and CR are replaced, and so are NEL, LS and PS outside of strings, where JSON
// does not allow them. Strings may contain these three.
std::string with_line_feeds(std::string_view json);

// The first character of `text`, which is not empty. A byte that belongs to no character stands for itself.
std::string_view first_character(std::string_view text);

// Strips white space of any kind from both ends, and characters without width (zero-width space, byte order mark, …).
std::string_view trim(std::string_view text);

// Drops the characters that visible() would replace.
std::string without_invisible(std::string_view text);

// For messages: shows white space other than the space itself, and characters without width, as <U+00A0>.
std::string visible(std::string_view text);

}  // namespace opensora::batch
