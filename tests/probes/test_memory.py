"""What is taken by images on their way through a model, and by what probes hold between two passes."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import timm
import torch
import xarray as xr
from torch import Tensor

import probes
from model_zoo.adapter import Adapter
from model_zoo.loading import load
from model_zoo.scenes import Scenes
from probes.core import memory
from probes.core.capture import Batch, Tokens, forward
from probes.core.evaluation import scenes
from probes.core.memory import at_once, image_bytes, token_shape
from probes.core.runs import batch_size, engine, lanes
from probes.core.runs.measure import shard_size
from tests.probes.families import FAMILIES, inputs, noise, peaked


@pytest.mark.parametrize("family", [*FAMILIES, "resnet50"])
def test_tokens_and_channels_are_those_of_the_pass(family: str) -> None:
    adapter = peaked(family)
    seen: dict[str, Tokens] = {}
    wanted = [point for point in adapter.spec.points if point not in ("embed", "features", "logits")]
    with torch.inference_mode():
        x = inputs(adapter, noise(1))
        forward(adapter, x, range(1), on_tokens=lambda t: seen.__setitem__(t.point, t), points=dict.fromkeys(wanted))
    assert {point: token_shape(adapter, point) for point in wanted} == {
        point: tuple(tokens.values.shape[1:]) for point, tokens in seen.items()
    }


def tensors(value: Any) -> list[Tensor]:
    """All tensors that lie in a state."""
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else vars(value).values() if hasattr(value, "features") else ()
    return [tensor for part in parts for tensor in tensors(part)]


@pytest.mark.parametrize("representation", ["tokens", "mean"])
@pytest.mark.parametrize(("minibatch", "batch"), [(8, 1), (8, 2), (8, 8), (8, 3), (6, 4), (4, 8)])
def test_cka_holds_no_more_than_it_says(minibatch: int, batch: int, representation: str) -> None:
    adapter = Adapter(timm.create_model("test_vit"))
    probe = probes.load("cka")(minibatch=minibatch, representation=representation)
    state, most = probe.init(adapter.spec), 0
    points = dict.fromkeys(probe.taps(adapter.spec))
    for start in range(0, 24, batch):
        images = range(start, min(start + batch, 24))

        def take(seen: Tokens) -> None:
            nonlocal state
            state = probe.update(state, seen)

        with torch.inference_mode():
            forward(adapter, torch.randn(len(images), 3, 160, 160), images, on_tokens=take, points=points)
        most = max(most, sum(4 * tensor.numel() for tensor in tensors(state)))
    assert most == probe.held_bytes(adapter, 24, batch)


def test_batches_leave_room_for_what_probes_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = Adapter(timm.create_model("test_vit"))
    cka = probes.load("cka")(minibatch=512)
    held = cka.held_bytes(adapter, 512, 1)
    free = int(held + 3 * image_bytes(adapter) / memory.SHARE)
    monkeypatch.setattr(memory, "free_bytes", lambda: free)
    monkeypatch.setattr(lanes.torch, "get_num_threads", lambda: 4)
    here = engine.Here("cpu")
    here.models = {"a": adapter}
    assert here.fitting(["a"], {}) == batch_size.fitting([adapter], 4) > 2
    assert here.fitting(["a"], {"cka": cka}) == 2
    assert lanes.lanes(here.models, {}, 512, 1) == 4
    assert lanes.lanes(here.models, {"cka": cka}, 512, 1) == 1


def test_what_cannot_be_held_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = Adapter(timm.create_model("test_vit"))
    chosen = {"cka": probes.load("cka")(minibatch=100), "token-norm": probes.load("token-norm")()}
    needed = chosen["cka"].held_bytes(adapter, shard_size(chosen, 4), 4)
    monkeypatch.setattr(memory, "free_bytes", lambda: needed - 1)
    here = engine.Here("cpu")
    here.models = {"a": adapter, "b": adapter}
    with pytest.raises(
        ValueError, match=r"hold .* GB, cka the most, and .* free: choose a smaller --image-size, fewer"
    ):
        here.fitting(["a", "b"], chosen)
    monkeypatch.setattr(memory, "free_bytes", lambda: 100 * needed)
    assert here.fitting(["a", "b"], chosen) >= 1


@pytest.mark.parametrize(("images", "run"), [(1, 1), (5, 4), (64, 64), (1000, 64)])
def test_passes_of_a_probes_own_are_of_as_many_images_as_fit(
    images: int, run: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = Adapter(timm.create_model("test_vit"))
    monkeypatch.setattr(memory, "free_bytes", lambda: int(images * image_bytes(adapter) / memory.SHARE))
    assert at_once(adapter, 64) == run


@pytest.mark.parametrize(("name", "parameters"), [("lesion", {"branches": False}), ("saliency-score", {"steps": 4})])
def test_where_memory_is_short_a_probe_runs_fewer_images_and_finds_the_same(
    name: str, parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, sizes = peaked("vit_tiny_patch16_224"), []
    handle = adapter.module.blocks[-1].register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    masks = [partial(np.eye, 90, 120)]
    batch = Batch(adapter, range(1), inputs(adapter, noise(1)), noise(1), masks)
    found = []
    for images in (1000, 2):
        monkeypatch.setattr(memory, "free_bytes", lambda n=images: int(n * image_bytes(adapter) / memory.SHARE))
        probe = probes.load(name)(**parameters)
        sizes.clear()
        found.append(probe.compute(probe.update(probe.init(adapter.spec), batch)))
        assert (max(sizes) > 2) == (images == 1000)
    handle.remove()
    xr.testing.assert_allclose(*found)


def test_where_memory_is_short_fewer_scenes_are_read_at_once_and_as_many_outlined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adapter, found = load("scenes-vit-supervised", device="cpu"), []
    for images in (1000, 8):
        monkeypatch.setattr(memory, "free_bytes", lambda n=images: int(n * image_bytes(adapter) / memory.SHARE))
        read = list(scenes._read(adapter, scenes._scenes(adapter, Scenes(), 20), outlined=1))
        assert [len(some.labels) for some in read] == ([20] if images == 1000 else [8, 8, 4])
        found.append(scenes._joined(read))
    torch.testing.assert_close(found[0].features, found[1].features)
    np.testing.assert_allclose(found[0].iou, found[1].iou, atol=1e-3)
