"""Checkpoints in the layouts they are published in, written from random models and read back."""

import argparse
import io
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from model_zoo import checkpoints, weight_files
from model_zoo.loading import load
from model_zoo.reference import ModelError

State = dict[str, Tensor]
NAME = "test_vit"


@pytest.fixture(scope="module")
def state() -> State:
    """The weights of a small vision transformer with a classifier."""
    return randomised(timm.create_model(NAME)).state_dict()


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


def test_safetensors(tmp_path: Path, state: State) -> None:
    save_file(state, tmp_path / "w.safetensors")
    assert_same(checkpoints.create(NAME, tmp_path / "w.safetensors"), state)


def test_half_precision_becomes_float32(tmp_path: Path, state: State) -> None:
    save_file({key: value.half() for key, value in state.items()}, tmp_path / "w.safetensors")
    model = checkpoints.create(NAME, tmp_path / "w.safetensors")
    assert_same(model, {key: value.half().float() for key, value in state.items()})


WRAPPED: dict[str, Callable[[State], Any]] = {
    "plain": lambda s: s,
    "DeiT's model": lambda s: {"model": s},
    "Lightning's state_dict": lambda s: {"state_dict": under("model.", s), "epoch": 3, "hparams": {"lr": 0.1}},
    "averaged weights": lambda s: {"model": {k: torch.zeros_like(v) for k, v in s.items()}, "model_ema": s},
    "data parallel": lambda s: under("module.", s),
    "compiled and data parallel": lambda s: {"model": under("module._orig_mod.", s)},
    "encoder": lambda s: {"state_dict": under("encoder.", s) | {"decoder.weight": torch.zeros(3)}},
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_wrappers_and_prefixes_come_off(tmp_path: Path, state: State, wrap: Callable[[State], Any]) -> None:
    torch.save(wrap(state), tmp_path / "w.pth")
    assert_same(checkpoints.create(NAME, tmp_path / "w.pth"), state)


def test_dinos_training_checkpoint_gives_its_teacher(tmp_path: Path, state: State) -> None:
    backbone = headless(state)
    projection = {"head.mlp.0.weight": torch.zeros(8, 64), "head.last_layer.weight_g": torch.zeros(9, 1)}
    student = {key: torch.zeros_like(value) for key, value in backbone.items()}
    checkpoint = {
        "student": under("module.backbone.", student) | under("module.", projection),
        "teacher": under("backbone.", backbone) | projection,
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
        "epoch": 100,
        "args": argparse.Namespace(arch="vit_small", patch_size=16),
    }
    torch.save(checkpoint, tmp_path / "checkpoint.pth")
    model = checkpoints.create(NAME, tmp_path / "checkpoint.pth")
    assert_same(model, backbone)
    assert model.num_classes == 0


def test_a_backbone_without_a_head_needs_none(tmp_path: Path, state: State) -> None:
    torch.save(headless(state), tmp_path / "dino.pth")
    model = checkpoints.create(NAME, tmp_path / "dino.pth")
    assert_same(model, headless(state))
    assert model(torch.zeros(1, 3, 160, 160)).shape == (1, 64)


def test_a_head_of_other_classes_is_kept(tmp_path: Path, state: State) -> None:
    own = state | {"head.weight": torch.randn(7, 64), "head.bias": torch.randn(7)}
    torch.save(own, tmp_path / "tuned.pth")
    model = checkpoints.create(NAME, tmp_path / "tuned.pth")
    assert model.num_classes == 7
    assert_same(model, own)


def test_maes_decoder_is_left_out(tmp_path: Path, state: State) -> None:
    decoder = {"mask_token": torch.zeros(1, 1, 32), "decoder_pos_embed": torch.zeros(1, 101, 32)}
    torch.save({"model": headless(state) | decoder}, tmp_path / "mae.pth")
    assert_same(checkpoints.create(NAME, tmp_path / "mae.pth"), headless(state))


def test_a_distilled_deit_keeps_both_heads(tmp_path: Path) -> None:
    state = randomised(timm.create_model("deit_tiny_distilled_patch16_224")).state_dict()
    torch.save({"model": state}, tmp_path / "deit.pth")
    model = checkpoints.create("deit_tiny_distilled_patch16_224", tmp_path / "deit.pth")
    assert model.num_classes == 1000
    assert_same(model, state)


def test_dinov2s_layout_is_translated(tmp_path: Path) -> None:
    name = "vit_small_patch14_reg4_dinov2"
    state = randomised(timm.create_model(name)).state_dict()
    published = {key: value for key, value in state.items() if key not in ("reg_token", "cls_token", "pos_embed")}
    # Published: registers under another name, and a position for CLS that timm adds to the token itself.
    published["register_tokens"] = state["reg_token"]
    published["mask_token"] = torch.zeros(1, 384)
    published["cls_token"] = torch.full_like(state["cls_token"], 2.0)
    published["pos_embed"] = torch.cat([torch.full_like(state["cls_token"], 0.5), state["pos_embed"]], dim=1)
    torch.save(published, tmp_path / "dinov2.pth")
    assert_same(
        checkpoints.create(name, tmp_path / "dinov2.pth"),
        state | {"cls_token": torch.full_like(state["cls_token"], 2.5)},
    )


def test_deit3s_layout_is_translated(tmp_path: Path) -> None:
    name = "deit3_small_patch16_224"
    state = randomised(timm.create_model(name)).state_dict()
    published = {re.sub(r"ls([12])\.gamma", r"gamma_\1", key): value for key, value in state.items()}
    assert "blocks.0.gamma_1" in published
    torch.save({"model": published}, tmp_path / "deit3.pth")
    assert_same(checkpoints.create(name, tmp_path / "deit3.pth"), state)


def test_dinov3s_layout_is_translated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "vit_small_patch16_dinov3"
    state = randomised(timm.create_model(name)).state_dict()
    published = {}
    for key, value in state.items():
        published[re.sub(r"gamma_([12])", r"ls\1.gamma", key).replace("reg_token", "storage_tokens")] = value
        if key.endswith("qkv.weight"):
            published[key.replace("weight", "bias")] = torch.zeros(len(value))
            published[key.replace("weight", "bias_mask")] = torch.zeros(len(value))
    published |= {"mask_token": torch.zeros(1, 384), "rope_embed.periods": torch.zeros(16)}
    torch.save(published, tmp_path / "dinov3.pth")
    assert_same(checkpoints.create(name, tmp_path / "dinov3.pth"), state)
    assert capsys.readouterr().out == "", "timm prints the biases it leaves out"


def test_swins_layout_is_translated(tmp_path: Path) -> None:
    name = "swin_tiny_patch4_window7_224"
    state = randomised(timm.create_model(name)).state_dict()
    published = {}
    for key, value in state.items():
        earlier = re.sub(r"layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", key)
        published[earlier.replace("head.fc.", "head.")] = value
    published["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.int64)
    torch.save({"model": published}, tmp_path / "swin.pth")
    assert_same(checkpoints.create(name, tmp_path / "swin.pth"), state)


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


@pytest.fixture(scope="module")
def vit() -> State:
    return randomised(timm.create_model("vit_tiny_patch16_224", num_classes=21)).state_dict()


@pytest.mark.parametrize("prefix", ["", "opt/target/"])
def test_googles_archives(tmp_path: Path, vit: State, prefix: str) -> None:
    np.savez(tmp_path / "vit.npz", **{prefix + key: value for key, value in google_archive(vit, 3).items()})
    model = checkpoints.create("vit_tiny_patch16_224", tmp_path / "vit.npz")
    assert model.num_classes == 21
    assert_same(model, vit)


def test_googles_archive_without_a_head(tmp_path: Path, vit: State) -> None:
    np.savez(tmp_path / "vit.npz", **google_archive(headless(vit), 3))
    assert_same(checkpoints.create("vit_tiny_patch16_224", tmp_path / "vit.npz"), headless(vit))


def test_an_archive_that_does_not_fit_names_what_differs(tmp_path: Path, vit: State) -> None:
    arrays = google_archive(vit, 3)
    deeper = arrays | {
        key.replace("encoderblock_0/", "encoderblock_12/"): value
        for key, value in arrays.items()
        if "encoderblock_0/" in key
    }
    lacking = {key: value for key, value in arrays.items() if "encoderblock_11/" not in key}
    cases = (
        (deeper, "vit_tiny_patch16_224", "unknown Transformer/encoderblock_12/"),
        (lacking, "vit_tiny_patch16_224", "lacks Transformer/encoderblock_11/"),
        (arrays, "test_vit", "does not fit"),
        (arrays, "swin_tiny_patch4_window7_224", "plain vision transformers only"),
        ({key: value for key, value in arrays.items() if key != "cls"}, "vit_tiny_patch16_224", "lacks cls"),
    )
    for content, name, said in cases:
        np.savez(tmp_path / "vit.npz", **content)
        with pytest.raises(ModelError, match=said) as refusal:
            checkpoints.create(name, tmp_path / "vit.npz")
        assert "\n" not in str(refusal.value)


def test_an_archive_of_objects_is_refused(tmp_path: Path, vit: State) -> None:
    np.savez(tmp_path / "vit.npz", **google_archive(vit, 3) | {"head/bias": np.array([Trap(tmp_path)], dtype=object)})
    with pytest.raises(ModelError, match="plain arrays"):
        checkpoints.create("vit_tiny_patch16_224", tmp_path / "vit.npz")
    assert not (tmp_path / "sprung").exists()


class Trap:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.mkdir, (self.folder / "sprung",)


def test_a_pickle_that_is_not_plain_tensors_is_refused_and_does_not_run(tmp_path: Path, state: State) -> None:
    torch.save(state | {"extra": Trap(tmp_path)}, tmp_path / "zip.pth")
    torch.save(state | {"extra": Trap(tmp_path)}, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Trap(tmp_path)))
    torch.save(timm.create_model(NAME), tmp_path / "module.pth")
    for name in ("zip.pth", "legacy.pth", "bare.pth", "module.pth"):
        with pytest.raises(ModelError, match="tensors") as refusal:
            checkpoints.create(NAME, tmp_path / name)
        assert "\n" not in str(refusal.value)
        assert name in str(refusal.value)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz"])
def test_damaged_files_are_refused(tmp_path: Path, state: State, suffix: str) -> None:
    whole = io.BytesIO()
    if suffix == ".npz":
        np.savez(whole, **{key: value.numpy() for key, value in state.items()})
    elif suffix == ".pth":
        torch.save(state, whole)
    else:
        save_file(state, tmp_path / "whole")
        whole.write((tmp_path / "whole").read_bytes())
    for content in (b"", b"not weights at all", whole.getvalue()[: whole.tell() // 2]):
        path = tmp_path / f"broken{suffix}"
        path.write_bytes(content)
        with pytest.raises(ModelError) as refusal:
            checkpoints.create(NAME, path)
        assert path.name in str(refusal.value)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {}, torch.zeros(3), {"model": {"lr": 0.1}}])
def test_a_file_without_weights_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="holds no weights by name"):
        checkpoints.create(NAME, tmp_path / "w.pth")


def test_a_checkpoint_that_does_not_fit_names_the_first_keys(tmp_path: Path, state: State) -> None:
    renamed = {key.replace("blocks.5.", "blocks.9."): value for key, value in state.items()}
    torch.save(renamed, tmp_path / "renamed.pth")
    with pytest.raises(ModelError) as refusal:
        checkpoints.create(NAME, tmp_path / "renamed.pth")
    said = str(refusal.value)
    assert "it lacks blocks.5.norm1.weight, blocks.5.norm1.bias" in said
    assert "it has the unknown blocks.9.norm1.weight" in said
    assert "more" in said

    torch.save(state | {"norm.weight": torch.zeros(65)}, tmp_path / "shape.pth")
    with pytest.raises(ModelError, match=r"norm\.weight is 65 instead of 64"):
        checkpoints.create(NAME, tmp_path / "shape.pth")

    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="it has the unknown a"):
        checkpoints.create(NAME, tmp_path / "other.pth")


def test_too_large_a_file_is_refused_before_it_is_read(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_files, "LARGEST_FILE", 2**20)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"holds .* GiB, more than"):
        checkpoints.create(NAME, tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("embedding/kernel.npy", bytes(2**21))
    assert (tmp_path / "bomb.npz").stat().st_size < 2**20
    with pytest.raises(ModelError, match=r"holds .* GiB, more than"):
        checkpoints.create(NAME, tmp_path / "bomb.npz")


def test_timm_does_not_keep_a_second_copy_of_the_weights(tmp_path: Path, state: State) -> None:
    torch.save(state, tmp_path / "w.pth")
    model = checkpoints.create(NAME, tmp_path / "w.pth")
    assert not any(isinstance(value, (dict, Tensor)) for value in model.pretrained_cfg.values())


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


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_classifier_behind_a_representation_layer_is_left_out_and_said(
    tmp_path: Path, state: State, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    layer = {"pre_logits.fc.weight": torch.randn(64, 64), "pre_logits.fc.bias": torch.randn(64)}
    torch.save(under(prefix, state | layer), tmp_path / "old.pth")
    model = checkpoints.create(NAME, tmp_path / "old.pth")
    assert model.num_classes == 0
    assert_same(model, headless(state))
    assert "old.pth: its classifier reads a representation layer" in caplog.text


def test_an_archives_classifier_behind_a_representation_layer_is_left_out_and_said(
    tmp_path: Path, vit: State, caplog: pytest.LogCaptureFixture
) -> None:
    layer = {"pre_logits/kernel": np.zeros((192, 192), np.float32), "pre_logits/bias": np.zeros(192, np.float32)}
    np.savez(tmp_path / "old.npz", **google_archive(vit, 3), **layer)
    model = checkpoints.create("vit_tiny_patch16_224", tmp_path / "old.npz")
    assert_same(model, headless(vit))
    assert "old.npz: its classifier reads a representation layer" in caplog.text


@pytest.mark.parametrize("prefix", ["", "opt/target/"])
def test_an_archives_unknown_names_are_refused_by_name(tmp_path: Path, vit: State, prefix: str) -> None:
    arrays = {prefix + key: value for key, value in google_archive(vit, 3).items()}
    first = {prefix + "AAA/first": np.zeros(3, np.float32)}  # the one at the start of the file
    last = {prefix + "Transformer/foo/kernel": np.zeros(3, np.float32)}
    np.savez(tmp_path / "vit.npz", **first, **arrays, **last)
    with pytest.raises(ModelError, match=f"unknown {prefix}AAA/first, {prefix}Transformer/foo/kernel"):
        checkpoints.create("vit_tiny_patch16_224", tmp_path / "vit.npz")


def test_another_patch_size_is_refused_and_not_resampled(tmp_path: Path, state: State) -> None:
    torch.save(state | {"patch_embed.proj.weight": torch.randn(64, 3, 14, 14)}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="patches have 14x14 pixels instead of 16x16"):
        checkpoints.create(NAME, tmp_path / "w.pth")


def test_no_usable_weight_is_refused(tmp_path: Path) -> None:
    save_file({}, tmp_path / "empty.safetensors")
    torch.save({"decoder_pos_embed": torch.zeros(1, 3, 4)}, tmp_path / "decoder.pth")
    for file in ("empty.safetensors", "decoder.pth"):
        with pytest.raises(ModelError, match=f"{file} holds no weights of an encoder"):
            checkpoints.create("vit_tiny_patch16_224", tmp_path / file)


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (torch.full((64,), torch.nan), r"NaN or infinite weights \(norm\.weight\)"),
        (torch.tensor([torch.inf] + [1.0] * 63), r"NaN or infinite weights \(norm\.weight\)"),
        (torch.full((64,), 1e300, dtype=torch.float64), r"NaN or infinite weights \(norm\.weight\)"),
        (torch.zeros(64, dtype=torch.complex64), r"norm\.weight is complex64"),
        (torch.zeros(64, dtype=torch.int64), r"norm\.weight is int64"),
        (torch.zeros(64, dtype=torch.bool), r"norm\.weight is bool"),
        (torch.zeros(64).to_sparse(), r"w\.pth .* plain (tensors|values)"),
        (torch.zeros(64, device="meta"), r"without plain values \(norm\.weight\)"),
    ],
    ids=["nan", "infinite", "overflow", "complex", "integer", "boolean", "sparse", "meta"],
)
def test_weights_that_are_no_real_numbers_are_refused(tmp_path: Path, state: State, odd: Tensor, said: str) -> None:
    torch.save(state | {"norm.weight": odd}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=said):
        checkpoints.create(NAME, tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (np.full(192, np.inf, np.float32), r"NaN or infinite weights \(norm\.weight\)"),
        (np.zeros(192, np.complex64), "other values than real numbers"),
        (np.zeros(192, np.int32), "other values than real numbers"),
    ],
)
def test_an_archive_of_no_real_numbers_is_refused(tmp_path: Path, vit: State, odd: np.ndarray, said: str) -> None:
    np.savez(tmp_path / "vit.npz", **google_archive(vit, 3) | {"Transformer/encoder_norm/scale": odd})
    with pytest.raises(ModelError, match=said):
        checkpoints.create("vit_tiny_patch16_224", tmp_path / "vit.npz")
