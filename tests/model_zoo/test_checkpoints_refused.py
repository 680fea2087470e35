"""Checkpoints that are damaged, hostile or of another network: refused in a sentence, and nothing runs."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from model_zoo import checkpoints, weight_files
from model_zoo.reference import ModelError
from tests.model_zoo.states import NAME, State, Trap, google_archive


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
