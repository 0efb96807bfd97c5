// The man page, made from the option table.
#pragma once

#include <string>
#include <vector>

#include "cli/option_table.h"

namespace opensora::cli {

// opensora.1 in roff with the man macros.
std::string man_page(const std::vector<CommandRow>& table);

}  // namespace opensora::cli
