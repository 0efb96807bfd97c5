// opensora quantize: a checkpoint in 8 bits.
#include "opensora/quantize.h"

#include <fmt/format.h>

#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/parameter_options.h"
#include "cli/process.h"
#include "cli/standard_output.h"
#include "core/units.h"

namespace opensora::cli {
namespace {

struct Errors {
  double mean = 0, largest = 0;
  std::string worst;  // the layer of the largest
};

Errors errors_of(const QuantizeReport& report) {
  Errors errors;
  for (const QuantizedLayer& layer : report.layers) {
    errors.mean += layer.error / static_cast<double>(report.layers.size());
    if (layer.error < errors.largest) continue;
    errors.largest = layer.error;
    errors.worst = layer.name;
  }
  return errors;
}

nlohmann::ordered_json report_json(const QuantizeRequest& request, const QuantizeReport& report) {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const QuantizedLayer& layer : report.layers) {
    layers.push_back({{"name", layer.name},
                      {"format", layer.format},
                      {"rotation", layer.rotation},
                      {"shape", layer.shape},
                      {"error", layer.error}});
  }
  const Errors errors = errors_of(report);
  return {{"path", request.output.string()},   {"kind", report.kind},
          {"input_bytes", report.input_bytes}, {"bytes", report.output_bytes},
          {"kept_tensors", report.kept},       {"mean_error", errors.mean},
          {"largest_error", errors.largest},   {"layers", layers}};
}

void print_layer(const QuantizedLayer& layer) {
  const std::string rotated = layer.rotation > 0 ? fmt::format(", rotated by {}", layer.rotation) : "";
  std::cout << fmt::format("  {:<52} {}{}  error {:.2e}\n", layer.name, layer.format, rotated, layer.error);
}

void print_quantized(const QuantizeRequest& request, const QuantizeReport& report) {
  const Errors errors = errors_of(report);
  std::cout << fmt::format(
      "{}: {}, {} of {} ({:.1f} %); {} matrices quantised, {} tensors kept; error {:.2e} on average, "
      "at most {:.2e} ({})\n",
      request.output.string(), report.kind, format_bytes(report.output_bytes), format_bytes(report.input_bytes),
      100.0 * static_cast<double>(report.output_bytes) / static_cast<double>(report.input_bytes), report.layers.size(),
      report.kept, errors.mean, errors.largest, errors.worst);
}

void run_quantize(const CommandOptions& options, const QuantizeRequest& request) {
  options.apply_log();
  catch_signals();
  const QuantizeReport report = quantize(request, [&](const QuantizedLayer& layer) {
    if (!options.json && !options.quiet) print_layer(layer);
  });
  if (options.json) {
    print_json(report_json(request, report));
  } else {
    print_quantized(request, report);
  }
}

}  // namespace

void add_quantize(CLI::App& app) {
  auto options = std::make_shared<CommandOptions>();
  auto request = std::make_shared<QuantizeRequest>();
  CLI::App* command = app.add_subcommand(
      "quantize",
      "Write a transformer (Open-Sora's or FLUX) or T5 in 8 bits: half of bf16, with an error that it tells");
  command->add_option("IN", request->input, "Checkpoint: a file, an index of shards, or a folder")
      ->required()
      ->type_name("FILE|DIR");
  command->add_option("OUT", request->output, "Where to write: a safetensors file")->required()->type_name("FILE");
  command->add_option("--to", request->to, "int8 (error about 0.8 % a layer) or fp8 (e4m3, about 2.5 %)")
      ->check(one_of({"int8", "fp8"}))
      ->capture_default_str();
  command->add_flag("--rotate", request->rotate,
                    "int8: spread inputs over groups of 256 (ComfyUI's convrot), for weights with outliers; each use "
                    "of a weight takes a little longer");
  command->add_flag("--keep-modulations", request->keep_modulations,
                    "Leave a transformer's modulations as they are, 27 % of its weights (default: int8)");
  command->add_flag("--overwrite", request->overwrite, "Replace an existing file");
  options->add_json_to(*command, "Print one JSON object, with the error of each layer");
  options->add_log_to(*command);
  command->footer(
      "Norms, embeddings, biases, and the layers in front of the blocks and behind them stay as they are. The file "
      "goes\n"
      "where the original was, or is given with --diffusion-model, --t5xxl or --flux; inspect, verify and plan know "
      "it. ComfyUI and\n"
      "stable-diffusion.cpp read the layout of int8, LightX2V that of both.\n"
      "Examples:\n"
      "  opensora quantize ckpts/Open_Sora_v2.safetensors Open_Sora_v2_rotated.safetensors --to int8 --rotate\n"
      "  opensora quantize ckpts/google/t5-v1_1-xxl t5xxl_int8.safetensors");
  command->callback([options, request] { run_quantize(*options, *request); });
}

}  // namespace opensora::cli
