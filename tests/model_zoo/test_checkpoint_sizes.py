"""Checkpoints of other input sizes than the architecture's own."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from torch import nn

from model_zoo.loading import load
from tests.model_zoo.states import assert_same, google_archive

# Architecture, and the size that the file was made at.
SAVED_AT = [
    ("vit_tiny_patch16_224", 384),
    ("vit_tiny_patch16_224", 96),
    ("vit_tiny_patch16_224", 224),
    ("vit_tiny_patch16_224", (96, 160)),
    ("deit_tiny_distilled_patch16_224", 96),
    ("cait_xxs24_224", 96),
    ("beit_base_patch16_224", 96),
    ("vit_base_patch16_siglip_224", 96),
    ("vit_small_patch14_reg4_dinov2", 224),
]


@pytest.mark.parametrize(("name", "size"), SAVED_AT, ids=[f"{name}-{size}" for name, size in SAVED_AT])
def test_a_file_saved_at_the_size_asked_for_is_the_model_it_was_saved_from(
    tmp_path: Path, name: str, size: int | tuple[int, int]
) -> None:
    torch.manual_seed(0)
    original = timm.create_model(name, img_size=size).eval()
    with torch.no_grad():
        for key, parameter in original.named_parameters():
            if "pos_embed" in key or "bias_table" in key:
                parameter.normal_()
    save_file(original.state_dict(), tmp_path / "w.safetensors")
    adapter = load(f"timm:{name}@{tmp_path}/w.safetensors", image_size=size, device="cpu")
    sides = size if isinstance(size, tuple) else (size, size)
    assert adapter.spec.input_size == sides
    assert_same(adapter.module, original.state_dict())
    image = torch.randn(1, 3, *sides)
    with torch.inference_mode():
        assert torch.equal(adapter.module(image), original(image))


def test_googles_archive_saved_at_the_size_asked_for(tmp_path: Path) -> None:
    original = timm.create_model("vit_tiny_patch16_224", img_size=384, num_classes=5)
    with torch.no_grad():
        assert isinstance(original.pos_embed, nn.Parameter)
        original.pos_embed.normal_()
    np.savez(tmp_path / "vit.npz", **google_archive(original.state_dict(), 3))
    adapter = load(f"timm:vit_tiny_patch16_224@{tmp_path}/vit.npz", image_size=384, device="cpu")
    assert_same(adapter.module, original.state_dict())


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "cait_xxs24_224"])
def test_a_file_of_another_size_is_interpolated_once_to_the_native_one(tmp_path: Path, name: str) -> None:
    original = timm.create_model(name, img_size=96)
    with torch.no_grad():
        original.pos_embed.normal_()  # type: ignore[operator, union-attr]
    state = original.state_dict()
    save_file(state, tmp_path / "w.safetensors")
    adapter = load(f"timm:{name}@{tmp_path}/w.safetensors", device="cpu")
    assert adapter.spec.input_size == (224, 224)
    prefix = state["pos_embed"].shape[1] - 36
    once = resample_abs_pos_embed(state["pos_embed"], new_size=[14, 14], num_prefix_tokens=prefix)
    assert_same(adapter.module, state | {"pos_embed": once})


def test_a_window_family_is_resized_after_it_is_built(tmp_path: Path) -> None:
    name = "swin_tiny_patch4_window7_224"
    save_file(timm.create_model(name).state_dict(), tmp_path / "w.safetensors")
    adapter = load(f"timm:{name}@{tmp_path}/w.safetensors", image_size=256, device="cpu")
    assert adapter.spec.layers[0].window == (8, 8), "windows that grow with the grid are set_input_size's"
