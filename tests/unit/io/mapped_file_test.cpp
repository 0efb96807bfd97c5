// Files that change while they are mapped: noticed before a stage, and named by the fault handler.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "io/mapped_file.h"
#include "opensora/error.h"
#include "opensora/generate.h"
#include "opensora/process.h"
#include "support/contains.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using test::contains;

constexpr uint64_t kBytes = 3 * 65536;

fs::path write_zeros(const test::TemporaryFolder& folder, const std::string& name) {
  return folder.write(name, std::string(kBytes, '\0'));
}

std::string check_message() {
  try {
    io::check_mapped_files();
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return {};
}

TEST(MappedFiles, AFileThatShrinksIsNamedWithBothSizes) {
  const test::TemporaryFolder folder;
  const fs::path path = write_zeros(folder, "weights");
  {
    const io::MappedFile file(path);
    EXPECT_EQ(check_message(), "");
    fs::resize_file(path, 1000);
    EXPECT_EQ(check_message(), path.string() + ": has shrunk from 196608 to 1000 bytes while in use");
    fs::resize_file(path, 2 * kBytes);
    EXPECT_EQ(check_message(), "");
    fs::resize_file(path, 1000);
  }
  EXPECT_EQ(check_message(), "");  // nobody uses it any more
}

TEST(MappedFiles, ADeletedOrReplacedFileStaysUsable) {
  const test::TemporaryFolder folder;
  const fs::path path = write_zeros(folder, "weights");
  const io::MappedFile file(path);
  fs::rename(folder.write("short", "x"), path);
  EXPECT_EQ(check_message(), "");
  EXPECT_EQ(file.text(kBytes - 1, 1), std::string(1, '\0'));
  fs::remove(path);
  EXPECT_EQ(check_message(), "");
}

TEST(MappedFiles, ManyThreadsMapAndUnmap) {
  const test::TemporaryFolder folder;
  const fs::path path = write_zeros(folder, "weights");
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        const io::MappedFile file(path);
        io::check_mapped_files();
        EXPECT_NE(io::find_mapping(file.data() + kBytes - 1), nullptr);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const int somewhere_else = 0;
  EXPECT_EQ(io::find_mapping(&somewhere_else), nullptr);
}

TEST(MappedFiles, ARunStopsBeforeTheNextStage) {
  const test::TemporaryFolder folder;
  const fs::path demo = fs::path(OPENSORA_CONFIGS) / "demo";
  const fs::path weights = folder.path() / "transformer.safetensors";
  fs::copy_file(demo / "Open_Sora_v2.safetensors", weights);
  GenerateRequest request;
  request.model_dir = demo;
  request.config = load_config(demo / "config.json");
  request.config.sampling.num_frames = 5;
  request.config.sampling.num_steps = 1;
  request.files.diffusion_model = weights;
  request.keep_models = true;  // or nothing would be mapped any more
  request.device = "cpu";
  request.output = folder.path() / "out.mp4";
  const auto truncate_after_sampling = [&](const Progress& progress) {
    if (progress.stage == "denoise" && progress.done == 1) fs::resize_file(weights, 4096);
  };
  std::string message;
  try {
    generate(request, truncate_after_sampling);
  } catch (const CheckpointError& error) {
    message = error.what();
  }
  EXPECT_TRUE(contains(message, weights.string() + ": has shrunk from "));
  EXPECT_FALSE(fs::exists(request.output));
}

// Runs `work` in a child process with the handler installed; its stderr comes back in `err`.
template <typename Work>
int status_of_child(const fs::path& err, Work&& work) {
  const pid_t child = fork();
  if (child == 0) {
    if (freopen(err.c_str(), "w", stderr) == nullptr) _exit(126);
    install_fault_handler();
    work();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

TEST(FaultHandler, NamesTheFileAndExitsWithTheCheckpointCode) {
  const test::TemporaryFolder folder;
  const fs::path path = write_zeros(folder, "a \"quoted\"\nname"), other = write_zeros(folder, "other");
  const fs::path err = folder.path() / "err", journal = folder.path() / "run.jsonl";
  const int status = status_of_child(err, [&] {
    FILE* stream = fopen(journal.c_str(), "a");
    add_fault_descriptor(fileno(stream));
    add_fault_descriptor(STDOUT_FILENO);
    remove_fault_descriptor(STDOUT_FILENO);
    const io::MappedFile other_file(other), file(path);
    fs::resize_file(path, 100);
    const volatile std::byte* data = file.data();
    static_cast<void>(data[kBytes - 1]);
  });
  ASSERT_TRUE(WIFEXITED(status)) << status;
  EXPECT_EQ(WEXITSTATUS(status), 4);
  const std::string name = (folder.path() / "a \"quoted\"?name").string();  // on one line
  EXPECT_EQ(test::read_file(err), "opensora: error: " + name + ": was truncated or its disk failed while in use\n");
  const auto line = nlohmann::json::parse(test::read_file(journal));
  EXPECT_EQ(line["event"], "fault");
  EXPECT_EQ(line["file"], path.string());
}

TEST(FaultHandler, LeavesOtherBusErrorsAlone) {
  const test::TemporaryFolder folder;
  const fs::path path = write_zeros(folder, "weights");
  const int status = status_of_child(folder.path() / "err", [&] {
    const io::MappedFile file(path);
    raise(SIGBUS);
  });
  ASSERT_TRUE(WIFSIGNALED(status)) << status;
  EXPECT_EQ(WTERMSIG(status), SIGBUS);
  EXPECT_EQ(test::read_file(folder.path() / "err"), "");
}

}  // namespace
}  // namespace opensora
