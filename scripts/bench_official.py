"""Times the official Python on this machine's CPU, stage by stage, with random weights.

  OPENSORA_SRC=CHECKOUT python bench_official.py make DIR [--size mid|small] [--pixels 336x192] [--frames 17]
  OPENSORA_SRC=CHECKOUT python bench_official.py run DIR [--cond t2v|i2v_head] [--steps 50] [--threads 2] [--save FILE]
  OPENSORA_SRC=CHECKOUT python bench_official.py decode DIR [--threads 2]
  OPENSORA_SRC=CHECKOUT python bench_official.py compare DIR --save FILE --with FILE

CHECKOUT is a checkout of hpcaitech/Open-Sora. `make` writes bfloat16 checkpoints under the official names, a
configuration (DIR/bench.json), a picture (DIR/first_frame.png) and a latent (DIR/latent.safetensors): all that
`opensora generate` and `opensora decode` need to do the same work. `run` makes a video's frames from the prompt, in
float32, without writing them; `decode` only loads the autoencoder and decodes the latent. Both print one JSON object:
seconds by stage, forwards of the transformer, and the peak memory of the process. `compare` prints the largest
difference between the videos in two files, of --save and of `opensora generate --save-tensors`.

Needs torch (the version that opensora is built with), torchvision, transformers before 5, diffusers, einops, omegaconf,
safetensors, sentencepiece, pandas, ftfy, accelerate.
"""

import argparse
import functools
import json
import os
import resource
import shutil
from pathlib import Path

import diffusers.models  # noqa: F401  before the stand-ins
import transformers
import official_on_cpu  # noqa: F401  before the official code
import torch
import opensora.utils.inference
import opensora.utils.sampling
from opensora.models.hunyuan_vae.autoencoder_kl_causal_3d import AutoEncoder3DConfig, AutoencoderKLCausal3D
from opensora.models.mmdit.model import MMDiTConfig, MMDiTModel
from PIL import Image
from safetensors.torch import load_file, save_file
from stopwatch import Stopwatch

PROMPT = "raining, sea"
TOKENIZERS = Path(__file__).parent.parent / "tests/data/reference/ckpts"
T5, CLIP = "google/t5-v1_1-xxl", "openai/clip-vit-large-patch14"
FILES = {
    "model": "Open_Sora_v2.safetensors",
    "ae": "hunyuan_vae.safetensors",
    "t5": f"{T5}/model.safetensors",
    "clip": f"{CLIP}/model.safetensors",
}
SIZES = {
    "mid": dict(hidden=768, heads=12, double=4, single=8, channels=[64, 128, 256, 256], t5=256),
    "small": dict(hidden=256, heads=4, double=2, single=4, channels=[32, 64, 128, 128], t5=128),
}


# --- the models ---------------------------------------------------------------------------------------------------


def model_configs(size):
    """The keyword arguments of each model's configuration class."""
    s = SIZES[size]
    clip_width = 128
    return dict(
        model=dict(in_channels=64, vec_in_dim=clip_width, context_in_dim=s["t5"], hidden_size=s["hidden"],
                   mlp_ratio=4.0, num_heads=s["heads"], depth=s["double"], depth_single_blocks=s["single"],
                   axes_dim=[8, 28, 28], theta=10000, qkv_bias=True, guidance_embed=False, cond_embed=True,
                   fused_qkv=False, use_liger_rope=True, patch_size=2),
        ae=dict(in_channels=3, out_channels=3, latent_channels=16, layers_per_block=2,
                block_out_channels=s["channels"], use_spatial_tiling=True, use_temporal_tiling=False),
        t5=dict(vocab_size=32128, d_model=s["t5"], d_kv=64, d_ff=2 * s["t5"], num_layers=4, num_heads=4,
                feed_forward_proj="gated-gelu", tie_word_embeddings=False, dropout_rate=0.0),
        clip=dict(vocab_size=49408, hidden_size=clip_width, intermediate_size=512, num_hidden_layers=4,
                  num_attention_heads=4, max_position_embeddings=77, hidden_act="quick_gelu",
                  projection_dim=clip_width, bos_token_id=0, eos_token_id=2, pad_token_id=1),
    )


def build(name, config):
    """A model of the official code, or of transformers, as the official code uses it."""
    if name == "model":
        return MMDiTModel(MMDiTConfig(from_pretrained=None, cache_dir=None, **config))
    if name == "ae":
        channels = tuple(config["block_out_channels"])
        return AutoencoderKLCausal3D(
            AutoEncoder3DConfig(from_pretrained=None, **{**config, "block_out_channels": channels}))
    if name == "t5":
        return transformers.T5EncoderModel(transformers.T5Config(**config))
    return transformers.CLIPTextModel(transformers.CLIPTextConfig(**config))


def randomize(model, generator):
    """Matrices that keep the size of what goes through them; norms that do nothing."""
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            parameter.data = torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5
        else:
            parameter.data.fill_(0 if name.endswith("bias") else 1)


def stored_name(model_name, key):
    """A tensor's name in the file: newer versions of transformers leave CLIP's prefix out of their own names."""
    return "text_model." + key if model_name == "clip" and not key.startswith("text_model.") else key


def load(folder, names):
    """The named models, with the folder's weights in float32."""
    size = json.loads((folder / "size.json").read_text())["size"]
    models = {}
    for name in names:
        model = build(name, model_configs(size)[name]).float().eval()
        stored = load_file(folder / FILES[name])
        state = {key: stored[stored_name(name, key)] for key in model.state_dict()
                 if key != "encoder.embed_tokens.weight"}  # the same table as shared.weight
        missing, unexpected = model.load_state_dict(state, strict=False)
        assert not unexpected and all("embed_tokens" in key for key in missing), (missing, unexpected)
        models[name] = model
    return models


# --- make ---------------------------------------------------------------------------------------------------------


def write_configuration(folder, configs, frames):
    sampling = dict(resolution="256px", aspect_ratio="16:9", num_frames=frames, num_steps=50, shift=True,
                    temporal_reduction=4, is_causal_vae=True, guidance=7.5, guidance_img=3.0, text_osci=True,
                    image_osci=True, scale_temporal_osci=True, method="i2v", seed=None)
    config = dict(
        dtype="fp32", cond_type="t2v", sampling_option=sampling, motion_score="4", fps_save=24,
        model=dict(type="flux", from_pretrained=FILES["model"], **configs["model"]),
        ae=dict(type="hunyuan_vae", from_pretrained=FILES["ae"], **configs["ae"]),
        t5=dict(type="text_embedder", from_pretrained=T5, max_length=512),
        clip=dict(type="text_embedder", from_pretrained=CLIP, max_length=77))
    (folder / "bench.json").write_text(json.dumps(config, indent=1))


def copy_text_files(folder, configs):
    tokenizer_files = {T5: ["spiece.model"], CLIP: ["vocab.json", "merges.txt"]}
    for name, encoder in (("t5", T5), ("clip", CLIP)):
        for file in tokenizer_files[encoder] + ["tokenizer_config.json", "special_tokens_map.json"]:
            shutil.copyfile(TOKENIZERS / encoder / file, folder / encoder / file)
        config = json.loads((TOKENIZERS / encoder / "config.json").read_text())
        (folder / encoder / "config.json").write_text(json.dumps({**config, **configs[name]}, indent=1))


def make(args):
    folder, configs = args.dir, model_configs(args.size)
    width, height = args.pixels
    generator = torch.Generator().manual_seed(args.seed)
    for name, file in FILES.items():
        model = build(name, configs[name])
        randomize(model, generator)
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        state = {stored_name(name, key): value.bfloat16().contiguous() for key, value in model.state_dict().items()
                 if key != "encoder.embed_tokens.weight"}
        save_file(state, folder / file, metadata={"format": "pt"})
    write_configuration(folder, configs, args.frames)
    copy_text_files(folder, configs)
    gradient = torch.linspace(0, 255, width).round().to(torch.uint8).expand(height, width)
    Image.fromarray(gradient.numpy()).convert("RGB").save(folder / "first_frame.png")
    latent = torch.randn(1, 16, (args.frames - 1) // 4 + 1, height // 8, width // 8, generator=generator)
    save_file({"latent": latent}, folder / "latent.safetensors")
    (folder / "size.json").write_text(
        json.dumps(dict(size=args.size, width=width, height=height, frames=args.frames)))


# --- run ----------------------------------------------------------------------------------------------------------


def text_encoders(folder, t5, clip):
    """T5 and CLIP as the official HFEmbedder calls them: padded, without a mask."""
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / T5 / "spiece.model"))
    clip_tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / CLIP)

    def encode_t5(texts, added_tokens=0, seq_align=1):
        rows = [(pieces.encode(text)[:511] + [1]) for text in texts]
        ids = torch.tensor([row + [0] * (512 - len(row)) for row in rows])
        return t5(input_ids=ids, attention_mask=None).last_hidden_state

    def encode_clip(texts):
        tokens = clip_tokenizer(texts, truncation=True, max_length=77, padding="max_length", return_tensors="pt")
        return clip(input_ids=tokens["input_ids"]).pooler_output

    return encode_t5, encode_clip


def peak_memory_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def run(args):
    size = json.loads((args.dir / "size.json").read_text())
    watch = Stopwatch()
    models = watch.watch("load", load)(args.dir, FILES)
    model, ae = models["model"], models["ae"]
    encode_t5, encode_clip = text_encoders(args.dir, models["t5"], models["clip"])
    sampling, inference = opensora.utils.sampling, opensora.utils.inference

    denoiser = sampling.SamplingMethodDict[sampling.SamplingMethod.I2V]
    denoiser.denoise = watch.watch("denoise", denoiser.denoise)
    ae.encode = watch.watch("encode", functools.partial(ae.encode, sample_posterior=False))
    ae.decode = watch.watch("decode", ae.decode)
    sampling.get_noise = watch.watch("noise", sampling.get_noise)
    forwards = 0
    forward = model.forward

    def counting_forward(*call_args, **kwargs):
        nonlocal forwards
        forwards += kwargs["img"].shape[0]
        return forward(*call_args, **kwargs)

    model.forward = counting_forward
    api = sampling.prepare_api(model, ae, watch.watch("text", encode_t5), watch.watch("text", encode_clip), {})
    option = sampling.SamplingOption(
        width=size["width"], height=size["height"], num_frames=size["frames"], num_steps=args.steps, guidance=7.5,
        guidance_img=3.0, text_osci=True, image_osci=True, scale_temporal_osci=True, temporal_reduction=4,
        is_causal_vae=True, method=sampling.SamplingMethod.I2V)
    text = inference.add_motion_score_to_text(inference.add_fps_info_to_text([PROMPT], fps=24), "4")
    reference = {} if args.cond == "t2v" else {"ref": [str(args.dir / "first_frame.png")]}
    video = watch.watch("total", api)(sampling.sanitize_sampling_option(option), args.cond, seed=args.seed, text=text,
                                      patch_size=2, channel=64, **reference)
    if args.save:
        save_file({"noise": watch.results["noise"].contiguous(), "video": video.contiguous()}, args.save)
    report({**watch.seconds, "forwards": forwards})


def decode(args):
    ae = load(args.dir, ["ae"])["ae"]
    latent = load_file(args.dir / "latent.safetensors")["latent"]
    watch = Stopwatch()
    watch.watch("decode", ae.decode)(latent)
    report(watch.seconds)


def compare(args):
    official, other = load_file(args.save), load_file(args.other)
    assert torch.equal(official["noise"], other["noise"]), "the noise differs: not the same seed or size"
    print(f"{(official['video'] - other['video']).abs().max().item():.2g}")


def report(figures):
    rounded = {key: round(value, 3) for key, value in figures.items()}
    print(json.dumps({**rounded, "peak_memory_mib": peak_memory_mib()}))


def pixels(text):
    width, height = map(int, text.split("x"))
    return width, height


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["make", "run", "decode", "compare"])
    parser.add_argument("dir", type=Path)
    parser.add_argument("--size", choices=SIZES, default="mid")
    parser.add_argument("--pixels", type=pixels, default=(336, 192), help="WIDTHxHEIGHT of the video")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--cond", choices=["t2v", "i2v_head"], default="t2v")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--save", help="write the noise and the video to this safetensors file")
    parser.add_argument("--with", dest="other", help="the file to compare --save's with")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(args.threads)
    {"make": make, "run": run, "decode": decode, "compare": compare}[args.action](args)


if __name__ == "__main__":
    main()
