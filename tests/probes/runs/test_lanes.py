"""Shards that are folded side by side are those that are folded one after the other."""

import threading
from pathlib import Path

import pytest
import timm
import torch

import probes
from model_zoo.adapter import Adapter
from probes.core.command import main
from probes.core.runner import Fold
from probes.core.runs import engine, lanes
from tests.fuzz import kills
from tests.probes.runs.breaking import broken_off


@pytest.fixture
def two_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with two cores; the tests themselves run with one thread."""
    monkeypatch.setattr(engine, "lanes", lambda *asked: 2)


@pytest.mark.usefixtures("two_lanes")
def test_the_results_are_the_same_bit_for_bit(
    images: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    who, take = set(), Fold.take

    def noted(self: Fold, batch) -> None:
        who.add(threading.current_thread().name)
        take(self, batch)

    monkeypatch.setattr(Fold, "take", noted)
    assert main(kills.arguments(images, tmp_path / "out.zarr")) == 0
    assert len(who) == 2
    assert threading.main_thread().name not in who
    assert kills.same(tmp_path / "out.zarr", unbroken)


@pytest.mark.usefixtures("two_lanes")
def test_a_run_that_was_broken_off_goes_on(
    images: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = kills.arguments(images, tmp_path / "out.zarr")
    broken_off(words, monkeypatch)
    assert main([*words, "--resume"]) == 0
    assert kills.same(tmp_path / "out.zarr", unbroken)


@pytest.mark.usefixtures("two_lanes")
def test_an_error_in_one_lane_ends_all_of_them(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, take = [], Fold.take

    def failing(self: Fold, batch) -> None:
        take(self, batch)
        taken.append(batch.images)
        if batch.images.start >= 32:
            raise ArithmeticError("the third shard")

    monkeypatch.setattr(Fold, "take", failing)
    before = set(threading.enumerate())
    with pytest.raises(ArithmeticError, match="the third shard"):
        main([*kills.arguments(images, tmp_path / "out.zarr"), "--workers", "0"])
    assert set(threading.enumerate()) <= before
    assert torch.get_num_threads() == 1
    assert not (tmp_path / "out.zarr").exists()


def test_only_where_nothing_else_runs_the_model_and_the_inputs_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes.torch, "get_num_threads", lambda: 6)
    models = {"a": Adapter(timm.create_model("test_vit"))}
    watching = {name: probes.load(name)() for name in ("attention-maps", "cka", "logit-lens")}
    assert lanes.lanes(models, watching, 64) == 4
    assert lanes.lanes(models, watching | {"lesion": probes.load("lesion")()}, 64) == 1
    assert lanes.lanes(models, watching, 4096) == 1, "4096 inputs of 160 × 160 are more than 256 MiB"


def test_a_twin_has_the_same_weights_and_hooks_of_its_own() -> None:
    adapter = Adapter(timm.create_model("test_vit"))
    twin = adapter.twin()
    pairs = list(zip(adapter.module.parameters(), twin.module.parameters(), strict=True))
    assert all(one is other for one, other in pairs)
    assert (twin.spec, twin.digest) == (adapter.spec, adapter.digest)
    assert twin.lock is not adapter.lock
    seen = []
    adapter.module.register_forward_hook(lambda *_: seen.append("hook"))
    x = torch.randn(1, 3, 160, 160)
    with torch.inference_mode():
        other = twin.module(x)
        assert not seen
        assert torch.equal(other, adapter.module(x))
    assert seen == ["hook"]
