#include "cli/common_options.h"

#include "cli/number_options.h"
#include "cli/validators.h"
#include "opensora/limits.h"

namespace opensora::cli {

void add_device_option(CLI::App& command, std::string& device) {
  const auto check = [](const std::string& text) -> std::string {
    const bool is_numbered = text.starts_with("cuda:") && text.size() > 5 && text.size() <= 8 &&
                             text.find_first_not_of("0123456789", 5) == std::string::npos;
    if (text == "auto" || text == "cpu" || text == "cuda" || is_numbered) return {};
    return "expected auto, cpu, cuda or cuda:N, found \"" + text + "\"";
  };
  command.add_option("--device", device, "auto, cpu, cuda or cuda:N")
      ->check(check)
      ->capture_default_str()
      ->group("Machine");
}

void add_machine_options(CLI::App& command, std::string& device, std::string& dtype, int& threads) {
  const char* group = "Machine";
  add_device_option(command, device);
  command.add_option("--dtype", dtype, "fp32, bf16 or fp16 (default: bf16 on CUDA and on a CPU with AMX, else fp32)")
      ->check(one_of({"fp32", "bf16", "fp16"}))
      ->group(group);
  add_threads_option(command, threads);
}

void add_threads_option(CLI::App& command, int& threads) {
  add_whole(command, "--threads", threads, {1, kMaxThreads}, "CPU threads (default: all cores)")->group("Machine");
}

void add_progress_option(CLI::App& command, std::string& progress) {
  command.add_option("--progress", progress, "auto, bar, plain or none")
      ->check(one_of({"auto", "bar", "plain", "none"}))
      ->capture_default_str()
      ->group("Output");
}

void add_writing_options(CLI::App& command, int& crf, bool& overwrite, std::string& progress) {
  const char* group = "Output";
  add_whole(command, "--crf", crf, {0, kMaxCrf}, "Quality of H.264 and H.265, 0 is the best")
      ->default_str(std::to_string(crf))
      ->group(group);
  command.add_flag("--overwrite", overwrite, "Replace an existing file")->group(group);
  add_progress_option(command, progress);
}

}  // namespace opensora::cli
