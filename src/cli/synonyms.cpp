#include "cli/synonyms.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>

namespace opensora::cli {
namespace {

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
    Synonym{"--sampling-method --sampler --sampler-name --sample-method --solver --schedule --scheduler", "",
            "there is one sampler, the official Euler steps"},
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
    Synonym{"--configuration --config-file --cfg-file --preset", "--config", ""},
    Synonym{"--lora --lora-model-dir --lora-dir --lora-path --loras --lora-scale --lora-weights", "",
            "LoRA is not supported yet"},
    Synonym{"--controlnet --control-net --control-image", "", "ControlNet is not supported"},
    Synonym{"--quantize --quantization --quant --gguf --nf4 --int8 --fp8 --load-in-8bit --load-in-4bit", "",
            "quantized weights are not supported; --dtype bf16 takes half of fp32's memory"},
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

}  // namespace

std::optional<std::string> answer_for(const CLI::App& command, const std::string& argument) {
  const std::string name = canonical(argument);
  for (const Synonym& synonym : kSynonyms) {
    if (!has_word(synonym.names, name) || !has_flag(command, synonym.flag)) continue;
    return synonym.answer.empty() ? "use " + std::string(synonym.flag) : std::string(synonym.answer);
  }
  // "--num_frames", "--Steps", "-crf": ours, in another dress.
  const size_t letters = name.find_first_not_of('-');
  if (letters == std::string::npos || name.size() - letters < 2) return std::nullopt;
  const std::string flag = "--" + name.substr(letters);
  if (flag != argument && has_flag(command, flag)) return "use " + flag;
  return std::nullopt;
}

}  // namespace opensora::cli
