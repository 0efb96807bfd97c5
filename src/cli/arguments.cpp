#include "cli/arguments.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <functional>
#include <map>
#include <optional>
#include <string_view>

#include "cli/parameter_options.h"
#include "core/text.h"
#include "opensora/error.h"

namespace opensora::cli {
namespace {

// What other programs call our flags: what users of diffusers, ComfyUI, stable-diffusion.cpp, llama.cpp, ffmpeg and
// the official script type.
struct Synonym {
  std::string_view names;   // lower case, with "-" for "_", spaces between
  std::string_view flag;    // of ours; the row counts for commands that have it. Empty: for all
  std::string_view answer;  // empty: "use <flag>"
};

// The first row that fits counts.
constexpr std::array kSynonyms = {
    // Outputs.
    Synonym{"--out --output-file --outfile --out-file --save-path --save-as --output-path --file --output-name --dst",
            "--output", "use -o"},
    Synonym{"--out --output --save-dir --out-dir --outdir --output-folder --output-path -o", "--output-dir", ""},
    Synonym{"--output-directory --dest", "--output-dir", ""},
    Synonym{"--force --yes -y --replace --clobber", "--overwrite", ""},
    Synonym{"-c:v -vcodec --vcodec --encoder --video-codec -codec:v -codec", "--codec", ""},
    Synonym{"-pix-fmt -pix --pixel-format", "--pix-fmt", ""},
    Synonym{"--quality -q:v -qp --qp", "--crf", ""},
    Synonym{"--preview --preview-interval --taesd-preview-only", "--preview-every", ""},
    Synonym{"--save-latent --save-latents", "--keep-latents", ""},
    // Texts.
    Synonym{"--text --positive --positive-prompt --caption --prompts -e", "--prompt", "use -p"},
    Synonym{"--negative --neg --neg-prompt --negative-text --uncond", "--negative-prompt", "use -n"},
    Synonym{"--prompt-file --prompts-path --input-file --dataset --dataset.data-path --csv", "--prompts-file", ""},
    Synonym{"--noise-seed --manual-seed --random-seed --rng-seed --generator", "--seed", "use -s"},
    // Sizes and lengths.
    Synonym{"--frames --length --video-frames --video-length --num-video-frames --n-frames --nframes --frame-count "
            "-frames:v --video-size-frames --duration",
            "--num-frames", ""},
    Synonym{"--size --res --image-dims --dimensions --video-size", "--width", "use -W and -H, or --resolution"},
    Synonym{"--w", "--width", "use -W"},
    Synonym{"--h", "--height", "use -H"},
    Synonym{"--ratio --aspect --ar", "--aspect-ratio", ""},
    Synonym{"-r --frame-rate --framerate --rate --fps-save --frames-per-second --save-fps", "--fps", ""},
    Synonym{"--motion --motion-bucket-id", "--motion-score", ""},
    // Sampling.
    Synonym{"--num-inference-steps --inference-steps --num-steps --sampling-steps --sample-steps --infer-steps "
            "--num-sampling-steps --ddim-steps",
            "--steps", ""},
    Synonym{"--guidance-scale --cfg-scale --cfg --guidance-strength --text-guidance --unconditional-guidance-scale "
            "--scale",
            "--guidance", ""},
    Synonym{"--img-cfg-scale --image-guidance-scale --image-guidance --guidance-image --img-guidance", "--guidance-img",
            ""},
    Synonym{"--shift --time-shift --sigma-shift", "--flow-shift", ""},
    Synonym{"--batch-size --batch-count --num-videos --num-images --num-outputs --num-videos-per-prompt --num-sample",
            "--num-samples", ""},
    Synonym{"--sampling-method --sampler-name --sample-method --solver", "--sampler", ""},
    Synonym{"--schedule --scheduler", "--flow-shift",
            "the schedule is the official one: see --flow-shift and --sampler"},
    Synonym{"--teacache --easycache --magcache --cache-mode --fbcache --teacache-thresh", "--cache",
            "use --cache pairs, or --speed"},
    // References.
    Synonym{"--init-img --init-image --input-image --img --ref --reference --ref-image --start-image --first-frame "
            "--image-path --start-img",
            "--image", "use -i"},
    Synonym{"--last-frame --end-img --last-image --tail-image", "--end-image", ""},
    Synonym{"--init-video --input-video --ref-video --video-path --control-video", "--video", ""},
    Synonym{"--condition --cond --condition-type --mode", "--cond-type", ""},
    Synonym{"--refine-prompt --refine --enhance-prompt --prompt-enhancer", "",
            "prompts are used as they are; rewrite them before"},
    // Models.
    Synonym{"--model --models -m --ckpt --checkpoint --ckpt-path --checkpoint-path --ckpt-dir --checkpoint-dir "
            "--models-dir --model-path --weights --pretrained-model-name-or-path",
            "--model-dir", ""},
    Synonym{"--model --models -m --ckpt --ckpt-dir --checkpoint --checkpoint-dir", "DIR", "give the folder as it is"},
    Synonym{"--unet --transformer --dit --diffusion --model-transformer", "--diffusion-model", ""},
    Synonym{"--t5 --t5-xxl --text-encoder", "--t5xxl", ""},
    Synonym{"--clip --clip-path", "--clip-l", ""},
    Synonym{"--configuration --config-file --cfg-file", "--config", ""},
    Synonym{"--lora --lora-model-dir --lora-dir --lora-path --loras --lora-scale --lora-weights", "",
            "LoRA is not supported yet"},
    Synonym{"--controlnet --control-net --control-image", "", "ControlNet is not supported"},
    Synonym{
        "--quantize --quantization --quant --gguf --nf4 --int8 --fp8 --load-in-8bit --load-in-4bit", "",
        "weights are quantized in their file: opensora quantize makes one, and --diffusion-model or --t5xxl names it "
        "(also in fp8 or GGUF, made by others)"},
    Synonym{"--type --precision --torch-dtype --weight-dtype --data-type", "--dtype", ""},
    Synonym{"--fp16 --half --float16", "--dtype", "use --dtype fp16"},
    Synonym{"--bf16 --bfloat16", "--dtype", "use --dtype bf16"},
    Synonym{"--fp32 --float32 --full-precision --no-half", "--dtype", "use --dtype fp32"},
    // The machine.
    Synonym{"--low-vram --lowvram --medvram --novram --cpu-offload --enable-model-cpu-offload --offload-model "
            "--offload-to-cpu --enable-sequential-cpu-offload --sequential-offload --clip-on-cpu --vae-on-cpu "
            "--save-memory",
            "--offload", "use --offload block, and --vae-tiling"},
    Synonym{"--highvram --gpu-only --normalvram", "--offload", "use --offload none"},
    Synonym{"--vram --vram-limit --memory-limit --max-vram --reserve-vram", "--max-memory", ""},
    Synonym{"--tiled-vae --tile-vae --enable-vae-tiling --tiling --tiled-decode --vae-tile-size", "--vae-tiling", ""},
    Synonym{"--cpu --use-cpu --force-cpu", "--device", "use --device cpu"},
    Synonym{"--cuda --gpu --gpus --gpu-id --device-id -ngl --n-gpu-layers", "--device", "use --device cuda, or cuda:N"},
    Synonym{"-t --thread --num-threads --n-threads --cpu-threads -j --jobs", "--threads", ""},
    // Runs.
    Synonym{"--continue --restart", "--resume", ""},
    Synonym{"--dry --simulate -n --estimate", "--dry-run", ""},
    Synonym{"--debug -d", "--verbose", "use -v"},
    Synonym{"--silent -s", "--quiet", "use -q"},
    Synonym{"-loglevel --loglevel", "--log-level", ""},
    Synonym{"--no-progress --disable-progress-bar --no-progress-bar", "--progress", "use --progress none"},
    Synonym{"--format --output-format", "--json", ""},
    Synonym{"--help-all --help-full --usage -?", "--help", ""},
    Synonym{"-v", "--version", ""},
};

// "--Num_Frames" -> "--num-frames"
std::string canonical(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return c == '_' ? '-' : static_cast<char>(std::tolower(c)); });
  return name;
}

bool has_word(std::string_view words, std::string_view word) {
  for (size_t begin = 0; begin < words.size();) {
    const size_t end = std::min(words.find(' ', begin), words.size());
    if (words.substr(begin, end - begin) == word) return true;
    begin = end + 1;
  }
  return false;
}

bool has_flag(const CLI::App& command, std::string_view flag) {
  return flag.empty() || command.get_option_no_throw(std::string(flag)) != nullptr;
}

// What to say of an argument that `command` does not know, such as "use -o" or "LoRA is not supported yet". `argument`
// has its dashes and no "=value". nullopt: it is nobody's name for anything that the command has.
std::optional<std::string> answer_for(const CLI::App& command, const std::string& argument) {
  const std::string name = canonical(argument);
  for (const Synonym& synonym : kSynonyms) {
    if (!has_word(synonym.names, name) || !has_flag(command, synonym.flag)) continue;
    return synonym.answer.empty() ? "use " + std::string(synonym.flag) : std::string(synonym.answer);
  }
  // "--num_frames", "--Steps" and "-crf" are our own flags in another spelling.
  const size_t letters = name.find_first_not_of('-');
  if (letters == std::string::npos || name.size() - letters < 2) return std::nullopt;
  const std::string flag = "--" + name.substr(letters);
  if (flag != argument && has_flag(command, flag)) return "use " + flag;
  return std::nullopt;
}

std::string before_equals(const std::string& argument) { return argument.substr(0, argument.find('=')); }

bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

const CLI::App* find_command(const CLI::App& app, const std::string& name) {
  for (const CLI::App* command : app.get_subcommands(nullptr)) {
    if (command->get_name() == name) return command;
  }
  return nullptr;
}

// Calls `visit` for each argument that stands where an option may, with the command that it belongs to and its index.
// Values, commands and what follows "--" are left out.
void visit_options(const CLI::App& app, const std::vector<std::string>& arguments,
                   const std::function<void(const CLI::App& command, size_t place)>& visit) {
  const CLI::App* command = &app;
  for (size_t i = 0; i < arguments.size() && arguments[i] != "--"; ++i) {
    const std::string& argument = arguments[i];
    if (!argument.starts_with("-")) {
      const CLI::App* sub = command == &app ? find_command(app, argument) : nullptr;
      if (sub != nullptr) command = sub;
      continue;
    }
    visit(*command, i);
    const CLI::Option* option = command->get_option_no_throw(argument);
    if (option != nullptr && takes_value(*option)) ++i;
  }
}

// After "--crf=" the parser would take the next argument for the value.
bool is_given_nothing(const std::string& argument) { return argument.starts_with("--") && argument.ends_with("="); }

void refuse_empty(const CLI::Option& option, const std::string& flag) {
  if (!takes_value(option)) throw UsageError(flag + ": is a switch and takes no value");
  if (may_be_empty(option)) return;
  throw UsageError(flag + ": expected a value, found \"\"; leave the flag out if there is none");
}

// The parser would read "-steps" as "-s teps", and "-pix_fmt" as a prompt.
void refuse_one_dash(const CLI::App& command, const std::string& argument) {
  const std::string flag = before_equals(argument);
  if (flag.size() < 3 || flag.starts_with("--")) return;
  if (const auto answer = answer_for(command, flag)) throw UsageError("unknown option " + flag + ": " + *answer);
}

std::vector<std::string> flags_of(const CLI::App& command) {
  std::vector<std::string> flags;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
    for (const std::string& name : option->get_fnames()) flags.push_back("--" + name);
  }
  return flags;
}

std::string see_help(const std::string& command) {
  return " (see opensora " + command + (command.empty() ? "" : " ") + "--help)";
}

std::string unknown_option(const CLI::App& command, const std::string& argument) {
  const std::string flag = before_equals(argument);
  if (const auto answer = answer_for(command, flag)) return "unknown option " + flag + ": " + *answer;
  const auto nearest = flag.size() > 2 ? nearest_name(flag, flags_of(command)) : std::nullopt;
  return "unknown option " + flag + (nearest ? "; did you mean " + *nearest + "?" : "") + see_help(command.get_name());
}

// Of a text that belongs to no option. Most often it is a prompt, which other programs take without a flag.
std::string stray_text(const CLI::App& command, const std::string& text) {
  const CLI::Option* prompt = command.get_option_no_throw("--prompt");
  const std::string unknown = "unknown argument \"" + text + "\"";
  if (prompt == nullptr) return unknown + see_help(command.get_name());
  if (prompt->count() == 0) {
    return fmt::format("{}; a prompt is given with -p: opensora {} -p \"{}\"", unknown, command.get_name(), text);
  }
  return unknown + "; a prompt of several words is put in quotes" + see_help(command.get_name());
}

// What other programs call commands.
const std::map<std::string, std::string>& known_commands() {
  static const std::map<std::string, std::string> commands = {
      {"run", "generate"},   {"make", "generate"},      {"create", "generate"},    {"sample", "generate"},
      {"infer", "generate"}, {"inference", "generate"}, {"txt2vid", "generate"},   {"t2v", "generate"},
      {"i2v", "generate"},   {"img2vid", "generate"},   {"txt2video", "generate"}, {"info", "inspect"},
      {"show", "inspect"},   {"benchmark", "bench"},    {"check", "verify"},       {"test", "selftest"},
      {"estimate", "plan"},  {"embed", "encode-text"},  {"encode", "encode-text"}, {"tokenise", "tokenize"}};
  return commands;
}

std::optional<std::string> nearest_command(const CLI::App& app, const std::string& word) {
  std::vector<std::string> names, starting;
  for (const CLI::App* sub : app.get_subcommands(nullptr)) names.push_back(sub->get_name());
  std::copy_if(names.begin(), names.end(), std::back_inserter(starting),
               [&](const std::string& name) { return word.size() > 1 && name.starts_with(word); });
  if (starting.size() == 1) return starting.front();
  if (const auto found = known_commands().find(word); found != known_commands().end()) return found->second;
  return nearest_name(word, names);
}

std::string no_command(const CLI::App& app, const std::vector<std::string>& extras) {
  if (extras.empty()) {
    std::vector<std::string> names;
    for (const CLI::App* sub : app.get_subcommands(nullptr)) names.push_back(sub->get_name());
    return fmt::format("give a command: {}{}", fmt::join(names, ", "), see_help(""));
  }
  const std::string& word = extras.front();
  if (word.starts_with("-")) {
    const CLI::App& generate = *app.get_subcommand("generate");
    const std::string flag = before_equals(word);
    if (generate.get_option_no_throw(flag) != nullptr || answer_for(generate, flag)) {
      return fmt::format("{}: a command comes first: opensora generate {} …{}", flag, flag, see_help(""));
    }
    return unknown_option(app, word);
  }
  if (const auto nearest = nearest_command(app, word)) {
    return fmt::format("unknown command \"{}\"; did you mean {}?{}", word, *nearest, see_help(""));
  }
  return fmt::format("unknown command \"{}\"{}; a video of a prompt: opensora generate -p \"{}\"", word, see_help(""),
                     word);
}

std::string unknown_argument(const CLI::App& app) {
  const std::vector<std::string> extras = app.remaining(/*recurse=*/true);
  const CLI::App& command = selected(app);
  if (&command == &app) return no_command(app, extras);
  const std::string found = extras.empty() ? "" : extras.front();
  return found.starts_with("-") && found.size() > 1 ? unknown_option(command, found) : stray_text(command, found);
}

std::string required(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& command = selected(app);
  const std::vector<std::string> extras = app.remaining(/*recurse=*/true);
  const bool has_unknown =
      std::any_of(extras.begin(), extras.end(), [](const std::string& extra) { return extra.starts_with("--"); });
  if (&command == &app || has_unknown) return unknown_argument(app);
  return parse_error_text(error) + see_help(command.get_name());
}

// "Could not convert: --json = maybe" -> "--json"
std::string flag_in(const std::string& text) {
  const size_t begin = text.find("--");
  return begin == std::string::npos ? "" : text.substr(begin, text.find_first_of(" :=", begin) - begin);
}

}  // namespace

const CLI::App& selected(const CLI::App& app) {
  const auto commands = app.get_subcommands();
  return commands.empty() ? app : *commands.front();
}

std::vector<std::string> prepare_arguments(const CLI::App& app, std::vector<std::string> arguments) {
  if (!arguments.empty() && arguments.front() == "help") {
    arguments.erase(arguments.begin());
    arguments.insert(arguments.begin() + (arguments.empty() ? 0 : 1), "--help");
  }
  std::vector<size_t> empty_prompts;
  visit_options(app, arguments, [&](const CLI::App& command, size_t place) {
    const std::string flag = before_equals(arguments[place]);
    const CLI::Option* option = command.get_option_no_throw(flag);
    if (option == nullptr) return refuse_one_dash(command, arguments[place]);
    if (!is_given_nothing(arguments[place])) return;
    refuse_empty(*option, flag);
    empty_prompts.push_back(place);
  });
  for (auto place = empty_prompts.rbegin(); place != empty_prompts.rend(); ++place) {
    arguments[*place].pop_back();
    arguments.insert(arguments.begin() + static_cast<std::ptrdiff_t>(*place) + 1, "");
  }
  return arguments;
}

std::string parse_error_text(const CLI::ParseError& error) {
  std::string text = error.what();
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr) {
    const std::string name = text.substr(0, text.find(": "));
    if (name.starts_with("-")) return name + ": expected a value, found none";
  }
  if (dynamic_cast<const CLI::ConversionError*>(&error) != nullptr) {
    const std::string flag = flag_in(text);
    if (!flag.empty()) return flag + ": is a switch and takes no value but true or false";
  }
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

std::string usage_message(const CLI::App& app, const CLI::ParseError& error) {
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) return unknown_argument(app);
  if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr) return required(app, error);
  return parse_error_text(error);
}

bool asks_for_json(const CLI::App& app, const std::vector<std::string>& arguments) {
  bool asks = false;
  visit_options(app, arguments, [&](const CLI::App& command, size_t place) {
    asks = asks || (arguments[place] == "--json" && command.get_option_no_throw("--json") != nullptr);
  });
  return asks;
}

}  // namespace opensora::cli
