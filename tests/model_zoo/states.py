"""Weights of random models, and the layouts that others publish theirs in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

State = dict[str, Tensor]
NAME = "test_vit"


def randomised(model: nn.Module) -> nn.Module:
    """Every weight different, so that none can be mistaken for another or for a fresh one."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def assert_same(model: nn.Module, state: State) -> None:
    loaded = model.state_dict()
    assert loaded.keys() == state.keys()
    for key, value in state.items():
        torch.testing.assert_close(loaded[key], value, rtol=0, atol=0, msg=key)


def headless(state: State) -> State:
    return {key: value for key, value in state.items() if not key.startswith("head.")}


def under(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def google_archive(state: State, heads: int) -> dict[str, np.ndarray]:
    """A vision transformer's weights as the arrays of Google's archives, written from their published naming."""

    def numpy(key: str) -> np.ndarray:
        return state[key].numpy()

    width = state["cls_token"].shape[-1]
    depth = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))
    arrays = {
        "embedding/kernel": numpy("patch_embed.proj.weight").transpose(2, 3, 1, 0),
        "embedding/bias": numpy("patch_embed.proj.bias"),
        "cls": numpy("cls_token"),
        "Transformer/posembed_input/pos_embedding": numpy("pos_embed"),
        "Transformer/encoder_norm/scale": numpy("norm.weight"),
        "Transformer/encoder_norm/bias": numpy("norm.bias"),
    }
    if "head.weight" in state:
        arrays |= {"head/kernel": numpy("head.weight").T, "head/bias": numpy("head.bias")}
    for i in range(depth):
        block, layer = f"blocks.{i}.", f"Transformer/encoderblock_{i}/"
        attention = layer + "MultiHeadDotProductAttention_1/"
        for part, name in enumerate(("query", "key", "value")):
            rows = slice(part * width, (part + 1) * width)
            kernel = numpy(block + "attn.qkv.weight")[rows].T
            arrays[f"{attention}{name}/kernel"] = kernel.reshape(width, heads, -1)
            arrays[f"{attention}{name}/bias"] = numpy(block + "attn.qkv.bias")[rows].reshape(heads, -1)
        arrays[attention + "out/kernel"] = numpy(block + "attn.proj.weight").T.reshape(heads, -1, width)
        arrays[attention + "out/bias"] = numpy(block + "attn.proj.bias")
        for norm, name in (("norm1", "LayerNorm_0"), ("norm2", "LayerNorm_2")):
            arrays[f"{layer}{name}/scale"] = numpy(f"{block}{norm}.weight")
            arrays[f"{layer}{name}/bias"] = numpy(f"{block}{norm}.bias")
        for dense in (0, 1):
            arrays[f"{layer}MlpBlock_3/Dense_{dense}/kernel"] = numpy(f"{block}mlp.fc{dense + 1}.weight").T
            arrays[f"{layer}MlpBlock_3/Dense_{dense}/bias"] = numpy(f"{block}mlp.fc{dense + 1}.bias")
    return arrays


class Trap:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.mkdir, (self.folder / "sprung",)
