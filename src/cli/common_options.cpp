#include "cli/common_options.h"

namespace opensora::cli {

void add_machine_options(CLI::App& command, std::string& device, std::string& dtype, int& threads) {
  const char* group = "Machine";
  command.add_option("--device", device, "auto, cpu, cuda or cuda:N")->capture_default_str()->group(group);
  command.add_option("--dtype", dtype, "fp32, bf16 or fp16 (default: bf16 on CUDA and on a CPU with AMX, else fp32)")
      ->check(CLI::IsMember({"fp32", "bf16", "fp16"}))
      ->group(group);
  command.add_option("--threads", threads, "CPU threads (default: all cores)")
      ->check(CLI::Range(1, 4096))
      ->group(group);
}

void add_progress_option(CLI::App& command, std::string& progress) {
  command.add_option("--progress", progress, "auto, bar, plain or none")
      ->check(CLI::IsMember({"auto", "bar", "plain", "none"}))
      ->capture_default_str()
      ->group("Output");
}

void add_writing_options(CLI::App& command, int& crf, bool& overwrite, std::string& progress) {
  const char* group = "Output";
  command.add_option("--crf", crf, "Quality of H.264 and H.265: 0 (best) to 51")->capture_default_str()->group(group);
  command.add_flag("--overwrite", overwrite, "Replace an existing file")->group(group);
  add_progress_option(command, progress);
}

}  // namespace opensora::cli
