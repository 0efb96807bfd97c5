#include "cli/app.h"

int main(int argc, char** argv) { return opensora::cli::run(argc, argv); }
