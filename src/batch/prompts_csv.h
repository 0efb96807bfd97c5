// The rows of a CSV file: which separator it has, what its headings mean.
#pragma once

#include <string_view>
#include <vector>

#include "batch/prompts_file.h"
#include "batch/row_builder.h"

namespace opensora::batch {

// The separator is what Excel's first line "sep=;" says, else that of , ; | and tab with which most of the first row's
// cells are known columns, and in doubt `usual`. In a file with another separator than the comma 7,5 is a number: 7.5.
// Rows that an error is added for are left out.
std::vector<Row> csv_rows(std::string_view text, char usual, RowBuilder& builder, RowErrors& errors);

// Whether the first line of a text is the headings of a CSV file, with a prompt and at least one column more.
bool has_csv_headings(std::string_view text, const RowBuilder& builder);

}  // namespace opensora::batch
