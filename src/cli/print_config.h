// generate --print-config: every value of a run and where it comes from.
#pragma once

#include "cli/generate_options.h"
#include "cli/row_request.h"

namespace opensora::cli {

// Prints for each row a table, or with options.json a line with an object {value, source} a key. `given`: flags of the
// command line; `from`: those of --from. Throws as generate() does for a request that cannot be run.
void print_config(const std::vector<RowRequest>& rows, const FlagValues& given, const FlagValues& from,
                  const GenerateOptions& options);

}  // namespace opensora::cli
