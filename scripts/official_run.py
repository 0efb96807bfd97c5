"""Makes a video's frames with the official Python, as its scripts/diffusion/inference.py does, and times the stages.

  OPENSORA_SRC=CHECKOUT torchrun --standalone --nproc_per_node 1 official_run.py run CONFIG --model-dir DIR --save FILE
      [--prompt TEXT] [--seed 42] [--steps N] [--frames N] [--size WxH] [--device cuda|cpu]
  python official_run.py compare FILE FILE

CONFIG is one of the official configurations, or a JSON file of the same keys; its checkpoints are looked for in
--model-dir. `run` makes one video from text on one GPU, in the environment that the official README sets up, and
prints a JSON object: seconds by stage, and the most memory that was allocated. On the CPU, in the environment of
bench_official.py, it does the same with stand-ins for what only exists for CUDA. `compare` prints the PSNR in decibels
of the videos in two files, of --save and of `opensora generate --save-tensors`, and that of their noise.
"""

import argparse
import json
import math
import os
import resource
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from stopwatch import Stopwatch


def read_config(file):
    if file.suffix == ".json":
        return json.loads(file.read_text())
    from mmengine.config import Config

    return Config.fromfile(file).to_dict()


def builders():
    """The official functions that build models, by the types in a configuration."""
    from opensora.models.hunyuan_vae.autoencoder_kl_causal_3d import CausalVAE3D_HUNYUAN
    from opensora.models.mmdit.model import Flux
    from opensora.models.text.conditioner import HFEmbedder

    return {"flux": Flux, "hunyuan_vae": CausalVAE3D_HUNYUAN, "text_embedder": HFEmbedder}


def build(section, args, dtype):
    options = {key: value for key, value in section.items() if key != "type"}
    options["from_pretrained"] = str(args.model_dir / options["from_pretrained"].removeprefix("./ckpts/"))
    if args.device == "cpu":
        options.pop("shardformer", None)
    model = builders()[section["type"]](**options, device_map=args.device, torch_dtype=dtype)
    return model.eval()


def sampling_options(config, args):
    options = dict(config["sampling_option"])
    if args.steps:
        options["num_steps"] = args.steps
    if args.frames:
        options["num_frames"] = args.frames
    if args.size:
        width, height = map(int, args.size.split("x"))
        options.update(resolution=None, aspect_ratio=None, width=width, height=height)
    return options


def peak_memory_bytes(device):
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def prepare_environment(device):
    if device == "cuda":
        sys.path.insert(0, os.environ["OPENSORA_SRC"])
        from opensora.utils.cai import init_inference_environment

        init_inference_environment()
        return
    import diffusers.models  # noqa: F401  before the stand-ins
    import transformers  # noqa: F401
    import official_on_cpu  # noqa: F401


def run(args):
    prepare_environment(args.device)
    import opensora.utils.inference as inference
    import opensora.utils.sampling as sampling

    config = read_config(args.config)
    dtype = torch.bfloat16
    watch = Stopwatch(torch.cuda.synchronize if args.device == "cuda" else lambda: None)
    names = ["model", "ae", "t5", "clip"]
    models = watch.watch("load", lambda: [build(config[name], args, dtype) for name in names])()
    model, ae, t5, clip = models

    option = sampling.sanitize_sampling_option(sampling.SamplingOption(**sampling_options(config, args)))
    denoiser = sampling.SamplingMethodDict[option.method]
    denoiser.denoise = watch.watch("denoise", denoiser.denoise)
    ae.decode = watch.watch("decode", ae.decode)
    sampling.get_noise = watch.watch("noise", sampling.get_noise)
    api = sampling.prepare_api(model, ae, watch.watch("text", t5), watch.watch("text", clip), {})
    text = inference.add_fps_info_to_text([args.prompt], fps=config.get("fps_save", 16))
    if "motion_score" in config:
        text = inference.add_motion_score_to_text(text, config["motion_score"])
    video = watch.watch("total", api)(option, "t2v", seed=args.seed, text=text, patch_size=2,
                                      channel=config["model"]["in_channels"])
    tensors = {"noise": watch.results["noise"], "video": video}
    save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, args.save)
    seconds = {stage: round(value, 3) for stage, value in watch.seconds.items()}
    print(json.dumps({**seconds, "peak_memory_bytes": peak_memory_bytes(args.device)}))


def psnr(a, b, span):
    error = (a - b).square().mean().item()
    return math.inf if error == 0 else 10 * math.log10(span**2 / error)


def compare(args):
    official, other = load_file(args.files[0]), load_file(args.files[1])
    videos = [tensors["video"].float().clamp(-1, 1) for tensors in (official, other)]
    noises = [tensors["noise"].float() for tensors in (official, other)]
    assert videos[0].shape == videos[1].shape, (videos[0].shape, videos[1].shape)
    print(f"{psnr(*videos, span=2):.1f} {psnr(*noises, span=2):.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    runs = actions.add_parser("run")
    runs.add_argument("config", type=Path)
    runs.add_argument("--model-dir", type=Path, required=True)
    runs.add_argument("--save", required=True)
    runs.add_argument("--prompt", default="raining, sea")
    runs.add_argument("--seed", type=int, default=42)
    runs.add_argument("--steps", type=int, help="default: the configuration's, as of the next two")
    runs.add_argument("--frames", type=int)
    runs.add_argument("--size", help="WxH")
    runs.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    compares = actions.add_parser("compare")
    compares.add_argument("files", nargs=2)
    args = parser.parse_args()
    with torch.inference_mode():
        {"run": run, "compare": compare}[args.action](args)


if __name__ == "__main__":
    main()
