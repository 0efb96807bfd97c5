#include "opensora/machine.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <fmt/format.h>
#include <torch/headeronly/version.h>
#include <unicode/uversion.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <set>

#include "core/cpu_features.h"
#include "core/cuda_plugin.h"
#include "core/device.h"
#include "core/machine.h"
#include "core/output_file.h"
#include "core/units.h"
#include "media/ffmpeg.h"
#include "opensora/checkpoint.h"
#include "opensora/process.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kGiB = int64_t{1} << 30;

class Diagnosis {
 public:
  void ok(const char* topic, const std::string& text) { add(topic, Health::kOk, text, "", ExitCode::kSuccess); }
  void warn(const char* topic, const std::string& text, const std::string& advice) {
    add(topic, Health::kWarning, text, advice, ExitCode::kSuccess);
  }
  void fail(const char* topic, const std::string& text, const std::string& advice, ExitCode code) {
    add(topic, Health::kError, text, advice, code);
  }

  // What goes wrong while looking is a finding too.
  void look(const char* topic, const std::function<void()>& at) {
    try {
      at();
    } catch (const InterruptedError&) {
      throw;
    } catch (const Error& error) {
      fail(topic, error.what(), "", error.code());
    } catch (const std::exception& error) {
      warn(topic, fmt::format("cannot be told: {}", error.what()), "");
    }
  }

  std::vector<Finding> findings;

 private:
  void add(const char* topic, Health health, const std::string& text, const std::string& advice, ExitCode code) {
    findings.push_back({topic, health, text, advice, code});
  }
};

void look_at_versions(Diagnosis& d) {
  std::string text = "opensora " + version();
  for (const auto& [name, value] : library_versions()) {
    if (name != "CUDA") text.append(", ").append(name).append(" ").append(value);
  }
  d.ok("versions", text);
}

void look_at_cpu(Diagnosis& d) {
  const CpuInfo cpu = cpu_info();
  std::string text = fmt::format("{}, {} core(s); LibTorch uses {}", cpu.model.empty() ? "unknown model" : cpu.model,
                                 cpu.cores, at::get_cpu_capability());
  std::string features;
  for (const char* flag : {"avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16", "asimd"}) {
    if (std::find(cpu.flags.begin(), cpu.flags.end(), flag) == cpu.flags.end()) continue;
    features.append(features.empty() ? "" : " ").append(flag);
  }
  if (cpu.model.empty() && cpu.flags.empty()) {
    return d.warn("cpu", text, "/proc/cpuinfo does not tell more: nothing needs to be done if runs are fast enough");
  }
  text += features.empty() ? "; no vector extensions that it knows" : "; has " + features;
  text += default_dtype(cpu_features()) == at::kBFloat16 ? "; `dtype` bf16 is its default, as AMX multiplies it"
                                                         : "; `dtype` fp32 is its default, as it has no AMX";
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
    text += "; " + computing_text(dtype, at::kCPU);
  }
  if (at::get_cpu_capability() == "DEFAULT") {
    return d.warn("cpu", text, "expect it to be slow: a CPU with AVX2 is many times faster");
  }
  d.ok("cpu", text);
}

void look_at_memory(Diagnosis& d) {
  const MemoryInfo memory = memory_info();
  if (!memory.total && !memory.available) {
    return d.warn("memory", "cannot be told: /proc/meminfo is not readable", "give opensora plan `device_memory`");
  }
  std::string text = fmt::format("{} available", format_bytes(memory.available.value_or(0)));
  if (memory.total) text += fmt::format(" of {}", format_bytes(*memory.total));
  if (memory.cgroup_limit) text += fmt::format(", limited to {} by the container", format_bytes(*memory.cgroup_limit));
  if (memory.available.value_or(kGiB) < kGiB) {
    return d.warn("memory", text, "end other programs, or see opensora plan for what a run needs");
  }
  d.ok("memory", text);
}

void look_at_gpus(Diagnosis& d) {
  const NvidiaDriver& driver = nvidia_driver();
  if (driver.gpus.empty() && driver.problem.empty()) {
    return d.ok("gpu", "none: no NVIDIA driver (libcuda.so.1) with a GPU was found; runs are on the CPU");
  }
  if (driver.gpus.empty()) return d.fail("gpu", gpu_problem(0), "", ExitCode::kDevice);
  int index = 0;
  for (const GpuInfo& gpu : driver.gpus) {
    const std::string text = fmt::format("cuda:{}: {}, {}, compute capability {}.{}", index, gpu.name,
                                         format_bytes(gpu.memory_bytes), gpu.capability / 10, gpu.capability % 10);
    const std::string warning = gpu_warning(gpu, index);
    if (warning.empty()) {
      d.ok("gpu", text);
    } else {
      d.warn("gpu", text, warning);
    }
    ++index;
  }
}

// Whether runs can use each GPU: what keeps all from it is told once.
void try_gpus(Diagnosis& d) {
  std::set<std::string> told;
  for (int i = 0; i < nvidia_gpu_count(); ++i) {
    std::string problem = gpu_problem(i);
    if (problem.empty()) problem = launch_problem({at::kCUDA, static_cast<c10::DeviceIndex>(i)});
    if (problem.empty()) {
      d.ok("gpu", fmt::format("cuda:{}: a kernel of LibTorch's runs there", i));
    } else if (told.insert(problem).second) {
      d.fail("gpu", fmt::format("cuda:{}: {}", i, problem), "", ExitCode::kDevice);
    }
  }
}

// Call after the libraries have been opened, and with them the plug-in.
void look_at_cuda_plugin(Diagnosis& d, bool has_gpu) {
  const std::string state = cuda_plugin_state(), text = "CUDA plug-in: " + state;
  if (!has_gpu || state == "loaded" || state == "built") return d.ok("cuda", text);  // "built": see try_gpus()
  d.warn("cuda", text, "a GPU is slower without it: run scripts/setup.sh and build again");
}

// The official build of LibTorch finds all of its libraries beside itself or in nvidia/.
void look_at_cuda(Diagnosis& d) {
  const bool has_gpu = nvidia_gpu_count() > 0;
  const std::string driver = nvidia_driver_cuda_version();
  std::string missing;
  for (const CudaLibrary& library : cuda_libraries()) {
    if (library.path.empty()) {
      missing.append(missing.empty() ? "" : "; ").append(library.name).append(": ").append(library.problem);
    } else {
      d.ok("cuda", library.name + ": " + library.path.string());
    }
  }
  if (has_gpu) d.ok("cuda", "the driver serves CUDA " + driver);
  look_at_cuda_plugin(d, has_gpu);
  if (missing.empty()) return;
  if (has_gpu || !nvidia_driver().problem.empty())
    return d.warn("cuda", missing, "run scripts/setup.sh --cuda, or use `device` cpu");  // see try_gpus()
  d.ok("cuda", "not needed without a GPU: " + missing);
}

void look_at_ffmpeg(Diagnosis& d) {
  std::string found;
  for (const char* name : {"libx264", "libx265", "ffv1"}) {
    if (media::has_encoder(name)) found.append(found.empty() ? "" : ", ").append(name);
  }
  const std::string text = "encoders: " + (found.empty() ? "none that is of use" : found);
  if (!media::has_encoder("libx264")) {
    return d.fail("ffmpeg", text, "videos need H.264: install a libavcodec that is built with libx264",
                  ExitCode::kOutput);
  }
  d.ok("ffmpeg", text);
}

void look_at_threads(Diagnosis& d) {
  const int threads = at::get_num_threads(), cores = cpu_info().cores;
  double load = 0;
  const bool has_load = getloadavg(&load, 1) == 1;
  std::string text = fmt::format("{} for {} core(s)", threads, cores);
  if (has_load) text += fmt::format(", load {:.1f}", load);
  const char* spin = std::getenv("GOMP_SPINCOUNT");
  if (threads > cores) {
    return d.warn("threads", text, fmt::format("more threads than cores wait for each other: `threads` {}", cores));
  }
  if (has_load && load > cores && threads > 1 && (spin == nullptr || *spin == '\0')) {
    return d.warn("threads", text, "the cores are busy with other work: GOMP_SPINCOUNT=0 keeps threads from spinning");
  }
  d.ok("threads", text);
}

void look_at_models(Diagnosis& d, const fs::path& model_dir, const std::string& source,
                    const std::string& config_name) {
  const std::string where = model_dir.string() + " (" + source + ")";
  std::error_code unreadable;
  if (!fs::is_directory(model_dir, unreadable)) {
    return d.fail("models", where + ": no such folder", "give `model_dir` the folder with the weights",
                  ExitCode::kCheckpoint);
  }
  const fs::path own = model_dir / "config.json";
  const Config config = load_config(!config_name.empty()          ? find_config(config_name)
                                    : fs::exists(own, unreadable) ? own
                                                                  : find_config("256px"));
  d.ok("models", where + ", configuration " + config.name);
  for (const VerifiedComponent& component : verify(model_dir, config).components) {
    if (component.problems.empty()) {
      d.ok("models",
           fmt::format("{}: {}, {} parameters", component.name, component.path.string(), component.parameters));
      continue;
    }
    d.fail("models",
           fmt::format("{}: {} problem(s), first: {}", component.name, component.problems.size(),
                       component.problems.front()),
           "opensora verify lists them all", ExitCode::kCheckpoint);
  }
}

void look_at_folder(Diagnosis& d, const char* what, const fs::path& folder) {
  const std::string name = fmt::format("{} {}", what, folder.string());
  if (::access(folder.c_str(), W_OK | X_OK) != 0) {
    return d.warn("folders", name + ": cannot be written", "give `output` a file in another folder");
  }
  std::error_code unreadable;
  const fs::space_info space = fs::space(folder, unreadable);
  if (unreadable) return d.ok("folders", name + ": writable");
  const auto free = static_cast<int64_t>(space.available);
  const std::string text = fmt::format("{}: writable, {} free", name, format_bytes(free));
  if (free < kGiB) return d.warn("folders", text, "a full disk ends a run: make room");
  d.ok("folders", text);
}

}  // namespace

std::vector<Finding> diagnose(const fs::path& model_dir, const std::string& model_dir_source,
                              const std::string& config) {
  Diagnosis d;
  d.look("versions", [&] { look_at_versions(d); });
  d.look("cpu", [&] { look_at_cpu(d); });
  d.look("memory", [&] { look_at_memory(d); });
  d.look("gpu", [&] { look_at_gpus(d); });
  d.look("cuda", [&] { look_at_cuda(d); });
  d.look("gpu", [&] { try_gpus(d); });
  d.look("ffmpeg", [&] { look_at_ffmpeg(d); });
  d.look("threads", [&] { look_at_threads(d); });
  d.look("configs", [&] { d.ok("configs", bundled_configs_dir().lexically_normal().string()); });
  d.look("models", [&] { look_at_models(d, model_dir, model_dir_source, config); });
  d.look("folders", [&] { look_at_folder(d, "current folder", fs::current_path()); });
  d.look("folders", [&] { look_at_folder(d, "temporary folder", fs::temp_directory_path()); });
  return std::move(d.findings);
}

std::string version() { return OPENSORA_VERSION; }

std::vector<std::pair<std::string, std::string>> library_versions() {
  return {{"LibTorch", TORCH_VERSION},
          {"FFmpeg", media::ffmpeg_version()},
          {"SentencePiece", OPENSORA_SENTENCEPIECE_VERSION},
          {"ICU", U_ICU_VERSION},
          {"CUDA", cuda_state()}};
}

}  // namespace opensora
