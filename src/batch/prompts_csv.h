// The rows of a CSV file.
#pragma once

#include <string_view>
#include <vector>

#include "batch/prompts_file.h"
#include "batch/row_builder.h"

namespace opensora::batch {

// The separator is the one of Excel's first line "sep=;" if there is one. Otherwise it is the one of , ; | and tab with
// which most cells of the first row are known columns, and `usual` in case of a tie. Unless it is the comma, 7,5 is
// read as the number 7.5. Rows with errors are left out.
std::vector<Row> csv_rows(std::string_view text, char usual, RowBuilder& builder, RowErrors& errors);

// Whether the first line of a text holds the headings of a CSV file: a prompt and at least one other column.
bool has_csv_headings(std::string_view text, const RowBuilder& builder);

}  // namespace opensora::batch
