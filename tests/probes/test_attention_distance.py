"""Mean attention distance against loops over the definition, and the known values."""

from functools import cache
from math import dist, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_zoo.adapter import Adapter, ModelSpec
from model_zoo.layout import AttentionLayer
from probes.attention_distance import AttentionDistance, distances, uniform_distance
from probes.core.attention import AttentionRows
from tests.probes.families import inputs, noise, peaked
from tests.probes.test_capture import captured
from tests.probes.test_contract import fold


def by_definition(a: np.ndarray, prefix: int, width: int, patch: int, renormalise: bool) -> float:
    """One head of one image: (tokens, tokens)."""
    found = []
    for q in range(prefix, len(a)):
        total = mass = 0.0
        for k in range(prefix, len(a)):
            total += a[q, k] * patch * dist(divmod(q - prefix, width), divmod(k - prefix, width))
            mass += a[q, k]
        found.append(total / mass if renormalise else total)
    return sum(found) / len(found)


@cache
def model(name: str) -> Adapter:
    return peaked(name)


@pytest.mark.parametrize("renormalise", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",  # one prefix token
        "deit_tiny_distilled_patch16_224",  # two
        "vit_small_patch14_reg4_dinov2",  # five
        "vit_base_patch16_siglip_224",  # none
        "beit_base_patch16_224",
    ],
)
def test_matches_the_definition(name: str, renormalise: bool) -> None:
    adapter, probe = model(name), AttentionDistance(renormalise=renormalise)
    spec = adapter.spec
    assert spec.grid[0] != spec.grid[1]
    result = probe.compute(fold(probe, adapter, [range(2), range(2, 3)]))
    rows = captured(adapter, inputs(adapter, noise(4)[:3]))
    prefix = len(spec.prefix)
    for index, layer in enumerate(spec.layers):
        if layer.kind == "pool":
            assert np.isnan(result.distance[index]).all()
            assert "only one token" in str(result.reason[index].values)
            continue
        weights = rows[layer.name].numpy()
        for head in range(layer.heads):
            each = np.array([by_definition(w[head], prefix, spec.grid[1], spec.patch, renormalise) for w in weights])
            np.testing.assert_allclose(result.distance[index, head], each.mean(), rtol=1e-9)
            np.testing.assert_allclose(result.distance_sem[index, head], each.std(ddof=1) / sqrt(3), rtol=1e-5)
            if prefix:
                mass = weights[:, head, prefix:, 0].mean()
                np.testing.assert_allclose(result.cls_mass[index, head], mass, rtol=1e-9)
    if not prefix:
        assert np.isnan(result.cls_mass).all()
    assert result.attrs["n"] == 3


def test_the_patches_of_later_stages_are_as_large_as_they_are() -> None:
    """A hybrid whose last stage attends among patches of 32 pixels, after one with patches of 16."""
    small = {"embed_dim": (16, 16, 32, 64), "depths": (1, 1, 1, 1), "block_type": ("C", "C", "T", "T")}
    adapter = peaked("coatnet_0_224", (64, 96), **small)
    first, last = adapter.spec.layers
    assert (first.grid, last.grid) == ((4, 6), (2, 3))
    probe = AttentionDistance()
    result = probe.compute(fold(probe, adapter, [range(2)]))
    rows = captured(adapter, inputs(adapter, noise(4)[:2]))
    for index, (layer, side) in enumerate(((first, 16), (last, 32))):
        for head in range(layer.heads):
            each = [by_definition(w[head], 0, layer.grid[1], side, True) for w in rows[layer.name].numpy()]
            np.testing.assert_allclose(result.distance[index, head], np.mean(each), rtol=1e-9)


def of_matrix(a: np.ndarray, prefix: int, grid: tuple[int, int], patch: int, **parameters: bool) -> float:
    layer = AttentionLayer("blocks.0.attn", 1, grid, prefix)
    names = ("cls", "dist", "reg1", "reg2", "reg3")[:prefix]
    size = (grid[0] * patch, grid[1] * patch)
    spec = ModelSpec("toy", size, patch, grid, names, (layer,), (), 0)
    probe = AttentionDistance(**parameters)
    rows = AttentionRows(0, range(1), range(len(a)), torch.from_numpy(a)[None, None])
    return float(probe.compute(probe.update(probe.init(spec), rows)).distance[0, 0])


def test_uniform_attention_at_224_in_patches_of_16() -> None:
    tokens = 1 + 14 * 14
    uniform = np.full((tokens, tokens), 1 / tokens)
    assert of_matrix(uniform, 1, (14, 14), 16) == pytest.approx(116.5, abs=0.05)
    assert uniform_distance((14, 14), 16) == pytest.approx(116.5, abs=0.05)
    assert distances((14, 14), 16, torch.arange(196)).max() == pytest.approx(294.2, abs=0.05)


def test_half_the_mass_on_cls_halves_the_raw_convention() -> None:
    tokens = 1 + 3 * 5
    a = np.full((tokens, tokens), 0.5 / (tokens - 1))
    a[:, 0] = 0.5
    assert of_matrix(a, 1, (3, 5), 8, renormalise=False) == pytest.approx(of_matrix(a, 1, (3, 5), 8) / 2)


@given(
    height=st.integers(1, 4),
    width=st.integers(1, 4),
    prefix=st.sampled_from([0, 1, 2, 5]),
    patch=st.sampled_from([1, 8, 14]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_laws(height: int, width: int, prefix: int, patch: int, seed: int) -> None:
    """Looking only at oneself is 0; uniform is the stated reference; nothing exceeds the diagonal between centres."""
    tokens, grid = prefix + height * width, (height, width)
    assert of_matrix(np.eye(tokens), prefix, grid, patch) == 0
    uniform = of_matrix(np.full((tokens, tokens), 1 / tokens), prefix, grid, patch)
    assert uniform == pytest.approx(uniform_distance(grid, patch))
    scores = np.random.default_rng(seed).normal(size=(tokens, tokens)) * 5
    a = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    farthest = patch * sqrt((height - 1) ** 2 + (width - 1) ** 2)
    assert 0 <= of_matrix(a, prefix, grid, patch, renormalise=False) <= of_matrix(a, prefix, grid, patch) + 1e-9
    assert of_matrix(a, prefix, grid, patch) <= farthest + 1e-9


def test_one_image_has_no_standard_error() -> None:
    probe, adapter = AttentionDistance(), model("vit_tiny_patch16_224")
    result = probe.compute(fold(probe, adapter, [range(1)]))
    assert np.isnan(result.distance_sem).all()
    assert np.isfinite(result.distance).all()


def test_the_state_does_not_grow_with_images() -> None:
    probe, adapter = AttentionDistance(), model("vit_tiny_patch16_224")

    def numbers(batches: list[range]) -> int:
        state = fold(probe, adapter, batches)
        assert not state.open
        return sum(np.size(a) for moments in state.moments.values() for a in vars(moments).values())

    assert numbers([range(1)]) == numbers([range(1), range(1, 2), range(2, 4)])


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("swin_tiny_patch4_window7_224", "windows of 7×7"),
        ("cait_xxs24_224", "mixed after the softmax"),
        ("resnet18", "convolutional"),
    ],
)
def test_undefined_says_why(name: str, word: str) -> None:
    assert word in (AttentionDistance().undefined(peaked(name).spec) or "")
