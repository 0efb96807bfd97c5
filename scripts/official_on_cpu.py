"""Makes the official Python (a checkout of hpcaitech/Open-Sora) importable on a machine without a GPU.

Importing this puts the checkout named by the environment's OPENSORA_SRC on the path. Packages that only exist for CUDA
are replaced by stand-ins: attention, RoPE and RMS norm by plain PyTorch that computes the same, what only training or
other front ends need by modules that answer every name. Import transformers and diffusers first: they look for some of
the replaced packages themselves.
"""

import importlib.machinery
import os
import sys
import types

import torch
import torch.nn.functional as F
import torchvision.io

# Imported by the official code, but not used in what is benchmarked.
UNUSED_PACKAGES = """
colossalai colossalai.booster colossalai.booster.plugin colossalai.checkpoint_io colossalai.cluster
colossalai.shardformer colossalai.shardformer.layer colossalai.shardformer.layer._operation
colossalai.shardformer.layer.utils colossalai.shardformer.modeling colossalai.shardformer.modeling.jit
colossalai.shardformer.modeling.t5 colossalai.shardformer.policies colossalai.shardformer.policies.base_policy
colossalai.shardformer.policies.t5 colossalai.utils colossalai.utils.safetensors colossalai.zero
colossalai.zero.low_level tensornvme tensornvme.async_file_io mmengine mmengine.config mmengine.registry peft openai
requests dask dask.dataframe av cv2
""".split()


class Anything:
    """Stands for any class or function that is imported and not used."""

    def __init__(self, *args, **kwargs):
        pass

    def __call__(self, *args, **kwargs):
        return Anything()

    def __getattr__(self, name):
        return Anything()


def add_module(name, **attributes):
    """Registers a module made of these attributes, and its parents where they are missing."""
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    module.__path__ = []
    for key, value in attributes.items():
        setattr(module, key, value)
    sys.modules[name] = module
    if "." in name:
        parent, child = name.rsplit(".", 1)
        if parent not in sys.modules:
            add_module(parent)
        setattr(sys.modules[parent], child, module)
    return module


def add_empty_module(name):
    """Registers a module that has every name that is asked of it, except Python's own."""

    def attribute(key):
        if key.startswith("__"):
            raise AttributeError(key)
        return Anything

    add_module(name).__getattr__ = attribute


def flash_attn_func(q, k, v):
    """FlashAttention's interface, on tensors [B, L, H, D]."""
    out = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    return out.transpose(1, 2)


class LigerRopeFunction:
    """Rotates pairs (i, i + D/2) of q and k [B, H, L, D]; cos and sin [1, L, D] repeat their left half."""

    @staticmethod
    def apply(q, k, cos, sin):
        half = q.shape[-1] // 2
        c, s = cos[..., :half].unsqueeze(1), sin[..., :half].unsqueeze(1)

        def rotate(x):
            a, b = x[..., :half].float(), x[..., half:].float()
            return torch.cat([a * c - b * s, b * c + a * s], -1).to(x.dtype)

        return rotate(q), rotate(k)


class LigerRMSNormFunction:
    @staticmethod
    def apply(x, weight, eps, offset, casting_mode, in_place):
        wide = x.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
        return (wide * scale).to(x.dtype) * (offset + weight)


class Registry:
    """mmengine's, as far as the official modules use it when they are imported."""

    def __init__(self, *args, **kwargs):
        pass

    def register_module(self, name=None, **kwargs):
        return lambda function: function


def call_directly(function, *args, **kwargs):
    """Gradient checkpointing without gradients."""
    kwargs.pop("use_reentrant", None)
    return function(*args, **kwargs)


def install():
    sys.path.insert(0, os.environ["OPENSORA_SRC"])
    torch.compile = lambda *args, **kwargs: lambda function: function  # the official code decorates with it
    for name in ("read_video", "write_video"):  # gone from newer versions of torchvision
        if not hasattr(torchvision.io, name):
            setattr(torchvision.io, name, None)
    add_empty_module("torchvision.io.video")
    for name in UNUSED_PACKAGES:
        if name not in sys.modules:
            add_empty_module(name)
    sys.modules["mmengine.registry"].Registry = Registry
    add_module("flash_attn", flash_attn_func=flash_attn_func)
    add_module("liger_kernel.ops.rope", LigerRopeFunction=LigerRopeFunction)
    add_module("liger_kernel.ops.rms_norm", LigerRMSNormFunction=LigerRMSNormFunction)
    add_module("opensora.acceleration.checkpoint", auto_grad_checkpoint=call_directly, checkpoint=call_directly)
    # Made as the parents of the last; the checkout's own take their place.
    del sys.modules["opensora"], sys.modules["opensora.acceleration"]


install()
