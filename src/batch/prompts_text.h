// The text of a prompts file, before its rows are read: what is no text, line ends, and characters that nobody sees.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "batch/row_errors.h"

namespace opensora::batch {

// What a file is that cannot hold prompts, and what to do: "is an Excel workbook (.xlsx), …". Empty: it may be text.
std::string foreign_kind(std::string_view bytes);

// Without a byte order mark in front, and without the Ctrl-Z that DOS programs put at the end.
std::string_view without_marks(std::string_view text);

// Adds an error for each line that is not UTF-8 or holds a NUL byte.
void check_encoding(std::string_view text, RowErrors& errors);

// Bytes of the line end at text[at]: of LF, CRLF, CR, and Unicode's NEL, LS and PS; 0: there is none.
size_t line_end_at(std::string_view text, size_t at);

// Takes a line off the front of `text`, which is not empty, and returns it without its end.
std::string_view take_line(std::string_view& text);

// JSON with one kind of line end, LF: CRLF and CR become LF, and outside of strings NEL, LS and PS, which are no white
// space of JSON. Strings may hold those three.
std::string with_line_feeds(std::string_view json);

// The bytes of the first character; a byte that belongs to none stands for itself. `text` is not empty.
std::string_view first_character(std::string_view text);

// Without white space of any kind at both ends, and without what has no width (zero-width space, byte order mark, …).
std::string_view trim(std::string_view text);

// Without what visible() would show otherwise.
std::string without_invisible(std::string_view text);

// For messages: white space but the space itself, and what has no width, as <U+00A0>.
std::string visible(std::string_view text);

}  // namespace opensora::batch
