"""Writes what the official Python computes in bfloat16 on the CPU, for the golden tests.

  OPENSORA_SRC=CHECKOUT python official_bf16_cases.py [OUTPUT]

CHECKOUT is a checkout of hpcaitech/Open-Sora. The inputs are those of the float32 cases in tests/data/reference/cases,
the weights those of tests/data/reference/ckpts; OUTPUT is cases/official_bf16.safetensors beside them by default. It
holds, as bfloat16, CASE.out of each model, CASE.z of each encoder, and of the whole run pipeline_t2v its latent and
video. CASE.exact, float32, is the same in float32 with times rounded to bfloat16 all the same: how far it is from
CASE.out is what bfloat16 does to the arithmetic alone.

As on a GPU, timestep_embedding() is compiled, which takes a C++ compiler, and the noise is CUDA's, which is computed
here by itself. Needs what bench_official.py needs, and numpy.
"""

import json
import os
import sys
from pathlib import Path

import diffusers.models  # noqa: F401  before the stand-ins
import numpy as np
import torch
import transformers  # noqa: F401

compile_function = torch.compile
import official_on_cpu  # noqa: E402, F401  before the official code
import opensora.models.mmdit.model as mmdit  # noqa: E402
import opensora.utils.inference as inference  # noqa: E402
import opensora.utils.sampling as sampling  # noqa: E402
from opensora.models.dc_ae.models.dc_ae import DCAE, dc_ae_f32  # noqa: E402
from opensora.models.hunyuan_vae.autoencoder_kl_causal_3d import (  # noqa: E402
    AutoEncoder3DConfig, AutoencoderKLCausal3D)
from opensora.models.text.conditioner import HFEmbedder  # noqa: E402
from opensora.models.vae.autoencoder_2d import AutoEncoder, AutoEncoderConfig  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

DATA = Path(__file__).parent.parent / "tests/data/reference"
CHECKPOINTS = DATA / "ckpts"
T5, CLIP = "google/t5-v1_1-xxl", "openai/clip-vit-large-patch14"
TRANSFORMERS = {
    "mmdit": "Open_Sora_v2.safetensors",
    "mmdit_dc_ae": "Open_Sora_v2_Video_DC_AE.safetensors",
    "flux": "flux1-dev.safetensors",
}
AUTOENCODERS = {
    "hunyuan_vae_image": "hunyuan_vae.safetensors",
    "hunyuan_vae_untiled": "hunyuan_vae.safetensors",
    "dc_ae_image": "F32T4C128_AE.safetensors",
    "dc_ae_untiled": "F32T4C128_AE.safetensors",
    "flux_ae": "flux1-dev-ae.safetensors",
}


def load_case(name):
    """The tensors of a float32 case, and its description."""
    file = DATA / "cases" / f"{name}.safetensors"
    with safe_open(file, "pt") as opened:
        return load_file(file), json.loads(opened.metadata()["case"])


def with_weights(model, file, dtype):
    model.load_state_dict(load_file(CHECKPOINTS / file), strict=True)
    return model.to(dtype).eval()


# --- the models ---------------------------------------------------------------------------------------------------


def transformer(config, file, dtype):
    """In float32 it still sees the times that a run in bfloat16 sees."""
    model = with_weights(mmdit.MMDiTModel(mmdit.MMDiTConfig(from_pretrained=None, cache_dir=None, **config)), file,
                         dtype)
    forward = model.forward

    def with_rounded_times(*, timesteps, guidance=None, **kwargs):
        def rounded(t):
            return None if t is None else t.bfloat16().to(dtype)

        return forward(timesteps=rounded(timesteps), guidance=rounded(guidance), **kwargs)

    model.forward = with_rounded_times
    return model


def run_transformer(name, dtype):
    case, description = load_case(name)
    model = transformer(description["config"], TRANSFORMERS[name], dtype)
    return model(**{key.removeprefix("in."): value.to(dtype) for key, value in case.items() if key.startswith("in.")})


def autoencoder(name, config, dtype):
    file = AUTOENCODERS[name]
    if name == "flux_ae":
        return with_weights(AutoEncoder(AutoEncoderConfig(from_pretrained=None, cache_dir=None, **config)), file, dtype)
    if name.startswith("hunyuan"):
        sizes = {**config, "block_out_channels": tuple(config["block_out_channels"])}
        return with_weights(AutoencoderKLCausal3D(AutoEncoder3DConfig(from_pretrained=None, **sizes)), file, dtype)
    sizes = dc_ae_f32("dc-ae-f32t4c128", None)
    for half in sizes.encoder, sizes.decoder:
        half.width_list, half.depth_list = config["width_list"], config["depth_list"]
    model = with_weights(DCAE(sizes), file, dtype)
    model.decoder.disc_off_grad_ckpt = False
    return model


def run_autoencoder(name, dtype):
    """Its latent of the case's frames, and its frames of the case's latent."""
    case, description = load_case(name)
    model = autoencoder(name, description["config"], dtype)
    model.sample = False  # FLUX's: the mean of the posterior
    mean = {"sample_posterior": False} if name.startswith("hunyuan") else {}
    return model.encode(case["in.x"].to(dtype), **mean), model.decode(case["z"].to(dtype))


def embedder(name, length, dtype):
    return HFEmbedder(str(CHECKPOINTS / name), length, torch_dtype=dtype)


# --- the whole run ------------------------------------------------------------------------------------------------


def cuda_normal(shape, seed):
    """torch.randn on a GPU, for fewer elements than it has threads: each thread's first number."""
    count = int(np.prod(shape))
    assert count <= 64 * 1024, "more elements than a small GPU has threads"
    mask = np.uint64(0xFFFFFFFF)
    words = [np.zeros(count, np.uint64) for _ in range(4)]
    words[2] = np.arange(count, dtype=np.uint64)
    keys = np.uint64(seed) & mask, np.uint64(seed) >> np.uint64(32)
    for _ in range(10):
        a, b = words[0] * np.uint64(0xD2511F53), words[2] * np.uint64(0xCD9E8D57)
        words = [b >> np.uint64(32) ^ words[1] ^ keys[0], b & mask, a >> np.uint64(32) ^ words[3] ^ keys[1], a & mask]
        keys = (keys[0] + np.uint64(0x9E3779B9)) & mask, (keys[1] + np.uint64(0xBB67AE85)) & mask
    uniform, angle = (words[0] + 0.5) / 2**32, (words[1] + 0.5) / 2**32 * 2 * np.pi
    return torch.from_numpy(np.sqrt(-2 * np.log(uniform)) * np.sin(angle)).float().view(shape)


def run_pipeline(dtype):
    """The latent and the video of pipeline_t2v."""
    _, description = load_case("pipeline_t2v")
    configs = json.loads((CHECKPOINTS / "tiny.json").read_text())
    model = transformer({key: value for key, value in configs["model"].items()
                         if key not in ("type", "from_pretrained")}, TRANSFORMERS["mmdit"], dtype)
    ae = autoencoder("hunyuan_vae_untiled", {key: value for key, value in configs["ae"].items()
                                             if key not in ("type", "from_pretrained")}, dtype)
    get_noise, decode, latents = sampling.get_noise, ae.decode, []
    sampling.get_noise = lambda *args, **kwargs: cuda_normal(
        get_noise(*args, **kwargs).shape, description["seed"]).bfloat16().to(dtype)

    def noting_decode(latent):
        latents.append(latent)
        return decode(latent)

    ae.decode = noting_decode
    api = sampling.prepare_api(model, ae, embedder(T5, configs["t5"]["max_length"], dtype),
                               embedder(CLIP, configs["clip"]["max_length"], dtype), {})
    option = sampling.sanitize_sampling_option(sampling.SamplingOption(**description["options"]))
    text = inference.add_motion_score_to_text(inference.add_fps_info_to_text([description["user_prompt"]], fps=24), "4")
    assert text == [description["prompt"]], text
    video = api(option, "t2v", seed=description["seed"], text=text, patch_size=2, channel=64)
    sampling.get_noise = get_noise
    return latents[0], video


def main():
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA / "cases/official_bf16.safetensors"
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)  # the same sums wherever it runs
    mmdit.timestep_embedding = compile_function(mmdit.timestep_embedding, dynamic=True)
    half, full = torch.bfloat16, torch.float32
    tensors = {}
    for name in TRANSFORMERS:
        tensors[f"{name}.out"], tensors[f"{name}.exact"] = run_transformer(name, half), run_transformer(name, full)
    for name in AUTOENCODERS:
        tensors[f"{name}.z"], tensors[f"{name}.out"] = run_autoencoder(name, half)
    clip, t5 = embedder(CLIP, 77, half).hf_module, embedder(T5, 64, half).hf_module
    tensors["clip.out"] = clip(input_ids=load_case("clip")[0]["ids"]).last_hidden_state
    tensors["t5.out"] = t5(input_ids=load_case("t5")[0]["ids"], attention_mask=None).last_hidden_state
    tensors["pipeline_t2v.latent"], tensors["pipeline_t2v.video"] = run_pipeline(half)
    tensors["pipeline_t2v.exact"], _ = run_pipeline(full)
    description = dict(made_by=f"scripts/{Path(__file__).name}", torch=torch.__version__,
                       cpu=torch.backends.cpu.get_cpu_capability())
    save_file({key: value.contiguous() for key, value in tensors.items()}, output,
              metadata={"case": json.dumps(description)})
    for name in TRANSFORMERS:
        error = (tensors[f"{name}.out"].float() - tensors[f"{name}.exact"]).norm() / tensors[f"{name}.exact"].norm()
        print(f"{name}: bfloat16 is {error:.1e} from float32")
    print(f"{output}: {os.path.getsize(output)} bytes")


if __name__ == "__main__":
    main()
