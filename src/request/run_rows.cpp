// The table's rows of how a run goes and what it writes.
#include <algorithm>
#include <optional>
#include <string_view>

#include "core/text.h"
#include "opensora/error.h"
#include "opensora/video.h"
#include "request/rows.h"

namespace opensora::request {
namespace {

using nlohmann::ordered_json;

constexpr int64_t kMostSamples = 1'000'000, kMostShards = 1'000'000;
constexpr double kLongestTimeout = 1e9;  // seconds

// "2/8"
void set_shard(Settings& settings, const Given& given) {
  const size_t slash = std::min(given.text.find('/'), given.text.size());
  const std::string_view all = given.text;
  const int64_t shard = parse_whole<int64_t>(all.substr(0, slash)).value_or(0);
  const int64_t shards = slash < all.size() ? parse_whole<int64_t>(all.substr(slash + 1)).value_or(0) : 0;
  if (shard < 1 || shard > shards || shards > kMostShards) {
    throw UsageError(fmt::format("{}: expected I/N with I from 1 to N and N up to {}, such as 2/8, found \"{}\"",
                                 given.name, kMostShards, given.text));
  }
  settings.batch.shard = shard;
  settings.batch.shards = shards;
}

void append_device(Rows& table) {
  Parameter device = text("--device", "auto, cpu, cuda or cuda:N", &GenerateRequest::device);
  device.set = [](Settings& s, const Given& given) { s.request.device = device_name(given); };
  append(table, "Machine", Scope::kMachine, {std::move(device).showing_default()});
  append(
      table, "Machine", Scope::kRunContent,
      {choice("--dtype",
              "fp32, bf16 or fp16 (default: bf16 on CUDA (fp16 before Ampere) and on a CPU with AMX, else fp32)",
              {"fp32", "bf16", "fp16"}, &GenerateRequest::dtype)
           .also_by({"match"}),
       choice("--quant-compute",
              "Products with 8-bit weights: weights (made floating-point first), full (activations are rounded to 8 "
              "bits too, which is faster and costs about 1 % of a product with int8, 3 % with fp8), auto (full where "
              "the device is faster by it, and a file does not forbid it)",
              {"auto", "weights", "full"}, &GenerateRequest::quant_compute)
           .showing_default()
           .unless_default()});
}

void append_machine(Rows& table) {
  append(
      table, "Machine", Scope::kMachine,
      {whole("--threads", "CPU threads (default: all cores)", {1, kMaxThreads}, &GenerateRequest::threads)
           .reported_as([](const Settings& s) {
             return s.request.threads > 0 ? ordered_json(s.request.threads) : ordered_json();
           }),
       on_off("--keep-models",
              "Keep transformers and autoencoders until the end, if memory allows: none is loaded twice",
              &GenerateRequest::keep_models),
       choice(
           "--offload",
           "Where weights are: none (on the device, all models, to the end), model (one model at a time), block "
           "(the blocks of a transformer, and on a GPU of T5, as they are used), auto (model, or block where that does "
           "not fit)",
           {"none", "model", "block", "auto"}, &GenerateRequest::offload)
           .showing_default(),
       bytes("--max-memory",
             "Limit of the run's memory on the device, such as 4GiB; on the CPU without mapped weights (default: none)",
             &GenerateRequest::max_memory),
       choice("--cuda-graphs",
              "Replay the transformer's forwards as CUDA graphs: auto (where launching holds the GPU up), on (a "
              "warning where there are none) or off; only if the first replay equals the forward as it is",
              {"auto", "on", "off"}, &GenerateRequest::cuda_graphs)
           .showing_default(),
       bytes("--device-memory",
             "Memory to plan for, such as 24GiB (default: the device's); with it and no --device, of a GPU",
             &Settings::device_memory),
       text("--gpu",
            "Plan for this GPU, which need not be here, by its published figures: h100, 4090, …; with its time",
            &Settings::gpu),
       path("--trace", "FILE", "Write what ran when to this JSON file, for chrome://tracing or Perfetto",
            &Settings::trace)});
}

void append_encoding(Rows& table) {
  Parameter size = {.names = "--output-size",
                    .help = "Scale the frames to this size (Lanczos), or none: as generated (default: configuration)",
                    .kind = Kind::kSize,
                    .type = "WxH",
                    .set = [](Settings& s, const Given& given) { s.request.output_size = pixel_size_or_none(given); },
                    .get = [](const Settings& s) { return to_json(s.request.output_size); }};
  append(table, "Output", Scope::kOutput,
         {path("-o,--output", "FILE",
               "File to write: .mp4, .mov or .mkv (.png for one frame; default: the prompt's first words and the seed)",
               &GenerateRequest::output),
          on_off("--overwrite", "Replace an existing file", &GenerateRequest::overwrite)});
  append(table, "Output", Scope::kContent,
         {choice("--codec", "h264, h265, or ffv1 (lossless, .mkv or .mov)", {"h264", "h265", "ffv1"},
                 &GenerateRequest::codec)
              .showing_default()
              .decoding(),
          text("--pix-fmt",
               "FFmpeg's name of a pixel format that the codec takes: yuv420p (default), yuv444p, yuv420p10le, …; "
               "rgb: the codec's RGB (default of ffv1)",
               &GenerateRequest::pix_fmt)
              .decoding(),
          whole("--crf", "Quality of H.264 and H.265, 0 is the best", {0, kMaxCrf}, &GenerateRequest::crf)
              .showing_default()
              .reported_as([](const Settings& s) {
                return s.request.codec == "ffv1" ? ordered_json() : ordered_json(s.request.crf);
              })
              .decoding(),
          std::move(size).from_config({"output_size"}).decoding()});
}

void append_files(Rows& table) {
  Parameter no_metadata =
      on_off("--no-metadata", "Do not write into the video what it was made with", &GenerateRequest::metadata);
  no_metadata.set = [](Settings& s, const Given& given) { s.request.metadata = !switch_state(given); };
  no_metadata.get = [](const Settings& s) { return ordered_json(!s.request.metadata); };
  append(
      table, "Output", Scope::kOutput,
      {path("--contact-sheet", "FILE", "Also write up to 12 frames side by side into this PNG",
            &GenerateRequest::contact_sheet),
       path("--save-frames", "DIR", "Also write each frame as frame-00001.png, … to this folder",
            &GenerateRequest::save_frames),
       whole(
           "--preview-every",
           "After every so many steps, write what the video will be to <output>.preview.png; removed at the end; cheap "
           "with a TAEHV in the model folder",
           {0, kMaxSteps}, &GenerateRequest::preview_every),
       on_off("--strict", "Exit with 8 if the video is all black, all of one colour or frozen; the file is kept",
              &GenerateRequest::strict),
       path("--save-tensors", "FILE", "Also write noise, latent, video and timesteps to this safetensors file",
            &GenerateRequest::save_tensors),
       std::move(no_metadata),
       on_off("--sidecar", "Also write what it was made with beside the output, as .json", &GenerateRequest::sidecar)});
}

void append_rows_and_names(Rows& table) {
  append(table, "Batch", Scope::kBatch,
         {path("--prompts-file", "FILE", "A video a row: .txt, .csv, .tsv, .json or .jsonl; - for standard input",
               &BatchOptions::prompts_file),
          choice("--prompts-format", "What the prompts file is (default: by its name; of -: txt)",
                 {"txt", "csv", "tsv", "json", "jsonl"}, &Settings::prompts_format),
          path("--output-dir", "DIR",
               "Folder for the videos and the run's journal, run.jsonl (default of several videos: a new folder called "
               "after the prompts file or the prompt)",
               &BatchOptions::output_dir),
          text("--name-template",
               "Names in --output-dir, of {index} {name} {seed} {sample} {slug} {prompt} (default: {name} where all "
               "rows have one, else {index}-{name}; and -{sample} where rows have several videos)",
               &BatchOptions::name_template),
          whole("--num-samples", "Videos a row, with seed, seed + 1, …", {1, kMostSamples}, &BatchOptions::samples)});
}

void append_batch(Rows& table) {
  Parameter shard = {
      .names = "--shard",
      .help = "I/N: make every N-th row only, from the I-th on (job arrays)",
      .type = "I/N",
      .set = set_shard,
      .get = [](const Settings& s) { return ordered_json(fmt::format("{}/{}", s.batch.shard, s.batch.shards)); }};
  append(
      table, "Batch", Scope::kBatch,
      {on_off("--resume", "Go on with the folder's run: what is finished is not made again", &BatchOptions::resume),
       on_off("--keep-going", "Go on after a video that fails (default)", &Settings::keep_going)
           .reported_as([](const Settings& s) { return ordered_json(!s.batch.fail_fast); })
           .excluding({"fail-fast"}),
       on_off("--fail-fast", "Stop at the first video that fails", &BatchOptions::fail_fast).excluding({"keep-going"}),
       std::move(shard),
       real("--timeout", "Seconds that one video may take; it fails then (0: any)", {0, kLongestTimeout},
            &BatchOptions::timeout),
       choice("--overlap",
              "on: decode and write a video while the next is sampled; off; auto: on with a GPU that has "
              "room for both models",
              {"auto", "on", "off"}, &BatchOptions::overlap)
           .showing_default(),
       on_off("--keep-latents", "Leave each video's latent beside it, as NAME.latent.safetensors",
              &BatchOptions::keep_latents),
       path("--events", "FILE",
            "Write what happens as lines of JSON to this file, to standard output (-) or to the open descriptor N: "
            "fd:N",
            &BatchOptions::events)});
}

}  // namespace

void append_run(Rows& table) {
  append_device(table);
  append_machine(table);
  append_encoding(table);
  append_files(table);
  append_rows_and_names(table);
  append_batch(table);
}

}  // namespace opensora::request
