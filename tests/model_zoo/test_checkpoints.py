"""Checkpoints in the layouts they are published in, written from random models and read back."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from model_zoo import checkpoints
from tests.model_zoo.states import NAME, State, assert_same, google_archive, headless, randomised, under


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


@pytest.mark.parametrize("prefix", ["", "opt/target/"])
def test_googles_archives(tmp_path: Path, vit: State, prefix: str) -> None:
    np.savez(tmp_path / "vit.npz", **{prefix + key: value for key, value in google_archive(vit, 3).items()})
    model = checkpoints.create("vit_tiny_patch16_224", tmp_path / "vit.npz")
    assert model.num_classes == 21
    assert_same(model, vit)


def test_googles_archive_without_a_head(tmp_path: Path, vit: State) -> None:
    np.savez(tmp_path / "vit.npz", **google_archive(headless(vit), 3))
    assert_same(checkpoints.create("vit_tiny_patch16_224", tmp_path / "vit.npz"), headless(vit))


def test_timm_does_not_keep_a_second_copy_of_the_weights(tmp_path: Path, state: State) -> None:
    torch.save(state, tmp_path / "w.pth")
    model = checkpoints.create(NAME, tmp_path / "w.pth")
    assert not any(isinstance(value, (dict, Tensor)) for value in model.pretrained_cfg.values())


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
