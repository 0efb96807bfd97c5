"""Writes what the original TAEHV computes in float32 on the CPU, for the golden tests.

  TAEHV_SRC=CHECKOUT python taehv_cases.py MODEL [OUTPUT]

CHECKOUT is a checkout of madebyollin/taehv. MODEL is a TAEHV of random numbers, as the tests make themselves one:

  opensora random-model FOLDER --config tests/data/reference/ckpts/tiny.json --tiny-vae

writes it to FOLDER/taehv.safetensors. OUTPUT is tests/data/reference/cases/taehv.safetensors by default. It holds a
video in.x in [-1, 1] with its latent z; two latents in.z with their videos out, in [-1, 1]; and a latent of one frame,
in.image_z, with its picture, image. Needs torch, safetensors and tqdm.
"""

import json
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, os.environ["TAEHV_SRC"])
from taehv import TAEHV  # noqa: E402

CASES = Path(__file__).parent.parent / "tests/data/reference/cases"


def encode(model, x):
    """[B, 3, T, H, W] in [-1, 1] -> [B, 16, t, h, w]; the original has frames before channels, and [0, 1]."""
    return model.encode_video(((x + 1) / 2).transpose(1, 2), show_progress_bar=False).transpose(1, 2)


def decode(model, z):
    return model.decode_video(z.transpose(1, 2), show_progress_bar=False).transpose(1, 2) * 2 - 1


def main():
    output = Path(sys.argv[2]) if len(sys.argv) > 2 else CASES / "taehv.safetensors"
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)  # the same sums wherever it runs
    torch.manual_seed(0)
    model = TAEHV(checkpoint_path=None).eval()
    model.load_state_dict({name: tensor.float() for name, tensor in load_file(sys.argv[1]).items()}, strict=True)
    tensors = {
        "in.x": torch.rand(1, 3, 9, 16, 24) * 2 - 1,
        "in.z": torch.randn(2, 16, 4, 3, 5) * 2,
        "in.image_z": torch.randn(1, 16, 1, 3, 2),
    }
    tensors["z"] = encode(model, tensors["in.x"])
    tensors["out"] = decode(model, tensors["in.z"])
    tensors["image"] = decode(model, tensors["in.image_z"])
    description = dict(made_by=f"scripts/{Path(__file__).name}", torch=torch.__version__,
                       cpu=torch.backends.cpu.get_cpu_capability())
    save_file({key: value.contiguous() for key, value in tensors.items()}, output,
              metadata={"case": json.dumps(description)})
    for key, value in tensors.items():
        clamped = (value.abs() == 1).float().mean()
        print(f"{key}: {list(value.shape)}, deviation {value.std():.3f}, {clamped:.0%} clamped")
    print(f"{output}: {os.path.getsize(output)} bytes")


if __name__ == "__main__":
    main()
