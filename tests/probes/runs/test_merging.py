"""What merging keeps in memory."""

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

import probes
from model_zoo.images import sources
from model_zoo.loading import load
from probes.core.command import main
from probes.core.runner import run
from probes.core.runs import merge, shards
from probes.core.runs.measure import Measurement, Shard
from tests.fuzz import kills


def test_the_state_of_one_model_is_gone_before_that_of_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged, states = merge._merged, []
    left = []

    def noted(*asked: Any) -> Any:
        gc.collect()
        left.append(sum(state() is not None for state in states))
        found = merged(*asked)
        states.append(weakref.ref(found))
        return found

    monkeypatch.setattr(merge, "_merged", noted)
    images = kills.pictures(tmp_path / "images", 4)
    words = kills.arguments(images, tmp_path / "out.zarr", "embedding-similarity", "cka")
    assert main([*words, "--workers", "0"]) == 0
    assert left == [0, 0, 0, 0]


def test_more_images_than_a_result_of_all_can_hold_are_refused_before_any_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    features = 4 * 5 * 192  # one prefix token and four patches
    monkeypatch.setattr(merge, "free_bytes", lambda: 25 * features)
    monkeypatch.setattr(Measurement, "loader", lambda self: pytest.fail("an image is opened"))
    images = kills.pictures(tmp_path / "images", 40)
    assert main([*kills.arguments(images, tmp_path / "out.zarr", "token-norm", "cka", "patch-pca")]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "patch-pca holds features of all 40 images at the end" in said
    assert "choose at most 25 images with --limit" in said
    assert not list(tmp_path.glob("*out.zarr*"))
    monkeypatch.undo()
    monkeypatch.setattr(merge, "free_bytes", lambda: 25 * features)
    words = [*kills.arguments(images, tmp_path / "out.zarr", "patch-pca"), "--limit", "25"]
    assert main([*words, "--workers", "0"]) == 0


def test_the_image_that_others_are_compared_with_is_seen_before_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, write = [], shards.write

    def noted(folder: Any, group: int, shard: Shard, *about: Any) -> Any:
        waiting.append(len(shard.sections["state/patch-similarity/a"].waiting))
        return write(folder, group, shard, *about)

    monkeypatch.setattr(shards, "write", noted)
    images, out = kills.pictures(tmp_path / "images", 40), tmp_path / "out.zarr"
    words = [*kills.arguments(images, out, "patch-similarity"), "--workers", "0", "--param", "patch-similarity.of=37"]
    assert main(words) == 0
    assert waiting == [0, 0, 0]
    adapter = load(f"{kills.MODEL}:0", image_size=(32, 32))
    probe = probes.load("patch-similarity")(of=37)
    whole = run({"a": adapter}, sources([images]), {"p": probe}, dtype="float32")["p"]["a"]
    found = dict(kills.groups(out))["patch-similarity/a"]
    xr.testing.assert_allclose(found, whole, rtol=1e-6, atol=1e-6)
    assert found.similarity.sel(image=37).max() == pytest.approx(1)
