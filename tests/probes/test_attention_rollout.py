"""Rollout against the full matrix product, vit-explain's arithmetic written from its formula, and the laws."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_zoo.adapter import Adapter, ModelSpec
from model_zoo.layout import AttentionLayer
from probes import attention_rollout
from probes.attention_rollout import AttentionRollout, discard_lowest
from probes.core.attention import AttentionRows
from tests.probes.families import inputs, noise, peaked
from tests.probes.test_capture import captured
from tests.probes.test_contract import fold

FUSE = {"mean": np.mean, "max": np.max, "min": np.min}


def layer_matrix(weights: np.ndarray, fusion: str, discard: float, convention: str) -> np.ndarray:
    """One layer's factor from the attention of one image (heads, tokens, tokens), entry by entry."""
    fused = FUSE[fusion](weights, axis=0)
    size = len(fused)
    flat = fused.flatten()
    order = sorted(range(flat.size), key=lambda i: (flat[i], i))
    for i in order[: int(flat.size * discard)]:
        if i != 0:
            flat[i] = 0
    fused = flat.reshape(size, size)
    out = np.empty((size, size))
    if convention == "paper":
        for i in range(size):
            row = fused[i] + np.eye(size)[i]
            out[i] = row / row.sum()
        return out
    half = (fused + np.eye(size)) / 2
    for j in range(size):
        out[:, j] = half[:, j] / half[j].sum()
    return out


def product(matrices: list[np.ndarray]) -> np.ndarray:
    joint = np.eye(len(matrices[0]))
    for matrix in matrices:
        joint = matrix @ joint
    return joint


@cache
def model(name: str) -> Adapter:
    """Peaked attention from the prefix tokens too: they start at zero, and a zero query attends to all alike."""
    adapter, generator = peaked(name), torch.Generator().manual_seed(1)
    for token in ("cls_token", "dist_token", "reg_token"):
        if (parameter := getattr(adapter.module, token, None)) is not None:
            parameter.normal_(generator=generator)
    return adapter


@cache
def attention(name: str) -> dict[str, torch.Tensor]:
    """All rows of two images."""
    return captured(model(name), inputs(model(name), noise(4)[:2]))


def expected(name: str, probe: AttentionRollout) -> np.ndarray:
    """(image, patch) by the whole product of (tokens × tokens) matrices."""
    spec, rows = model(name).spec, attention(name)
    maps = []
    for image in range(2):
        weights = [rows[layer.name][image].numpy() for layer in spec.layers]
        square = [w for w in weights if w.shape[1] == w.shape[2]]
        matrices = [layer_matrix(w, probe.fusion, probe.discard, probe.convention) for w in square[probe.start :]]
        joint = product(matrices)
        if spec.layers[-1].kind == "pool":
            row = FUSE[probe.fusion](weights[-1], axis=0)[0] @ joint
        else:
            row = joint[0] if spec.prefix else joint.mean(0)
        row = row[len(spec.prefix) :]
        maps.append(row / row.max() if probe.convention == "vit-explain" else row)
    return np.array(maps)


FAMILIES = (
    "vit_tiny_patch16_224",  # one prefix token
    "deit_tiny_distilled_patch16_224",  # two
    "vit_small_patch14_reg4_dinov2",  # five
    "vit_base_patch16_siglip_224",  # none
    "beit_base_patch16_224",
)
OPTIONS = (
    AttentionRollout(),
    AttentionRollout(fusion="max", start=1),
    AttentionRollout(fusion="min", discard=0.1),
    AttentionRollout(discard=0.5, convention="vit-explain"),
    AttentionRollout(fusion="max", convention="vit-explain"),
)


@pytest.mark.parametrize("probe", OPTIONS, ids=lambda p: f"{p.fusion}-{p.discard}-{p.start}-{p.convention}")
@pytest.mark.parametrize("name", FAMILIES)
def test_matches_the_full_product(name: str, probe: AttentionRollout) -> None:
    adapter = model(name)
    result = probe.compute(fold(probe, adapter, [range(1), range(1, 2)]))
    reference = expected(name, probe).reshape(2, *adapter.spec.grid)
    assert reference.std() > 0.05 * reference.mean(), "near uniform: the comparison would hide errors"
    np.testing.assert_allclose(result.rollout, reference, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_base_patch16_siglip_224"])
@pytest.mark.parametrize("probe", [OPTIONS[0], OPTIONS[2], OPTIONS[3]], ids=lambda p: p.convention)
def test_large_layers_are_computed_again_with_the_same_result(
    name: str, probe: AttentionRollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = model(name)
    kept = probe.compute(fold(probe, adapter, [range(2)]))
    monkeypatch.setattr("probes.core.attention.BLOCK_BYTES", 4_000)
    matrix = 4 * adapter.spec.layers[0].queries * adapter.spec.layers[0].keys
    for layers in (0, 3):
        monkeypatch.setattr(attention_rollout, "KEEP_BYTES", layers * matrix)
        asked = [probe.queries(adapter.spec, layer) for layer in range(probe._first(adapter.spec), 12)]
        assert asked == [slice(None)] * layers + [(0,)] * (len(asked) - layers)
        again = probe.compute(fold(probe, adapter, [range(2)]))
        np.testing.assert_allclose(again.rollout, kept.rollout, rtol=1e-6, atol=0)


def test_cls_that_joins_late() -> None:
    """ConViT: the first layers have patches only; what CLS keeps of itself stays on it."""
    adapter, probe = peaked("convit_tiny"), AttentionRollout()
    x = inputs(adapter, noise(4)[:1])
    rows, layers = captured(adapter, x), adapter.spec.layers
    assert layers[0].prefix == 0
    assert layers[-1].prefix == 1
    matrices = []
    for layer in layers:
        matrix = np.eye(1 + 14 * 14)
        matrix[1 - layer.prefix :, 1 - layer.prefix :] = layer_matrix(rows[layer.name][0].numpy(), "mean", 0, "paper")
        matrices.append(matrix)
    reference = product(matrices)[0]
    result = probe.compute(fold(probe, adapter, [range(1)]))
    np.testing.assert_allclose(result.rollout[0], reference[1:].reshape(14, 14), rtol=1e-6)
    np.testing.assert_allclose(result.prefix_share[0], reference[0], rtol=1e-9)


def rollout_of(layers: list[np.ndarray], prefix: int, grid: tuple[int, int], probe: AttentionRollout) -> tuple:
    """The probe on made-up attention, (heads, tokens, tokens) a layer."""
    names = ("cls", "dist", "reg1", "reg2", "reg3")[:prefix]
    kinds = tuple(AttentionLayer(f"blocks.{i}.attn", len(a), grid, prefix) for i, a in enumerate(layers))
    spec = ModelSpec("toy", (8, 8), 1, grid, names, kinds, (), 0)
    state = probe.init(spec)
    for i, a in enumerate(layers):
        state = probe.update(state, AttentionRows(i, range(1), range(a.shape[1]), torch.from_numpy(a)[None]))
    result = probe.compute(state)
    return result.rollout.values[0], float(result.prefix_share[0])


def test_two_by_two_by_hand() -> None:
    """CLS and one patch, two layers. Â₁ = ½[[1+.5, .5], [1, 1]], Â₂ = ½[[1+.2, .8], [.4, 1.6]].

    Row 0 of Â₂Â₁ is (.6·.75 + .4·.5, .6·.25 + .4·.5) = (.65, .35).
    """
    first, second = np.array([[[0.5, 0.5], [1.0, 0.0]]]), np.array([[[0.2, 0.8], [0.4, 0.6]]])
    found, share = rollout_of([first, second], 1, (1, 1), AttentionRollout())
    assert found.item() == pytest.approx(0.35)
    assert share == pytest.approx(0.65)


def test_vit_explain_divides_columns_by_row_sums() -> None:
    """F = [[.2, .9], [.6, .1]], a = [[.6, .45], [.3, .55]], row sums 1.05 and .85; two patches, no CLS to skip.

    Column 1 is divided by .85: row 0 is (.6/1.05, .45/.85); divided by the largest.
    """
    heads = np.array([[[0.2, 0.8], [0.6, 0.1]], [[0.1, 0.9], [0.5, 0.1]]])
    grid = (1, 2)
    found, _ = rollout_of([heads], 0, grid, AttentionRollout(fusion="max", convention="vit-explain"))
    row = np.array([(0.6 + 0.3) / 2 / 1.05, (0.45 + 0.55) / 2 / 0.85])  # without CLS: the mean of both rows
    np.testing.assert_allclose(found[0], row / row.max(), rtol=1e-6)


@pytest.mark.parametrize("convention", ["paper", "vit-explain"])
def test_a_map_that_nothing_reaches_is_no_map_of_zeros(convention: str) -> None:
    """CLS attends to itself alone and what little patches give is discarded."""
    a = np.array([[[0.98, 0.01, 0.01], [0.4, 0.3, 0.3], [0.2, 0.2, 0.6]]])
    found, share = rollout_of([a], 1, (1, 2), AttentionRollout(discard=0.3, convention=convention))
    assert np.isnan(found).all()
    assert share > 0


@given(
    prefix=st.sampled_from([0, 1, 2, 5]),
    height=st.integers(1, 3),
    width=st.integers(1, 4),
    heads=st.integers(1, 3),
    depth=st.integers(1, 4),
    fusion=st.sampled_from(["mean", "max", "min"]),
    discard=st.floats(0, 0.99),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_rows_sum_to_one(
    prefix: int, height: int, width: int, heads: int, depth: int, fusion: str, discard: float, seed: int
) -> None:
    tokens = prefix + height * width
    scores = np.random.default_rng(seed).normal(size=(depth, heads, tokens, tokens)) * 4
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    probe = AttentionRollout(fusion=fusion, discard=discard)
    found, share = rollout_of(list(weights), prefix, (height, width), probe)
    if np.isnan(found).all():  # everything that went to the patches was discarded
        assert discard > 0
        found = np.zeros(1)
    assert found.min() >= 0
    assert found.sum() + share == pytest.approx(1, abs=1e-6)


@given(values=st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.5]), min_size=4, max_size=16), share=st.floats(0, 0.99))
@settings(max_examples=60, deadline=None)
def test_discard_takes_exactly_the_lowest(values: list[float], share: float) -> None:
    """As many as asked for, the first weight excepted, and never a larger one before a smaller one."""
    fused = torch.tensor(values, dtype=torch.float64)[None, None] + 0.01
    kept = discard_lowest(fused, share)[0, 0]
    gone = (kept == 0).nonzero()[:, 0].tolist()
    count = int(len(values) * share)
    assert len(gone) in (count, count - 1)
    assert 0 not in gone
    assert torch.equal(kept[kept > 0], fused[0, 0][kept > 0])
    left = [v for i, v in enumerate(fused[0, 0].tolist()) if i not in gone and i != 0]
    assert all(fused[0, 0, g] <= min(left) for g in gone if left)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("cait_xxs24_224", "mixes heads"),
        ("swin_tiny_patch4_window7_224", "merges patches"),
        ("resnet18", "convolutional"),
    ],
)
def test_undefined_says_why(name: str, word: str) -> None:
    assert word in (AttentionRollout().undefined(peaked(name).spec) or "")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"discard": 1.0}, "below 1"),
        ({"discard": float("nan")}, "below 1"),
        ({"fusion": "median"}, "mean, max, min"),
        ({"convention": "other"}, "paper, vit-explain"),
        ({"start": -1}, "0 or more"),
    ],
)
def test_bad_parameters(parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AttentionRollout(**parameters)


@pytest.mark.parametrize(("name", "last"), [("vit_tiny_patch16_224", 3), ("vit_base_patch16_siglip_224", 2)])
def test_start_past_the_end(name: str, last: int) -> None:
    spec = model(name).spec
    assert AttentionRollout(start=last).undefined(spec) is None
    assert f"layers 0 to {last}" in (AttentionRollout(start=last + 1).undefined(spec) or "")


@pytest.mark.parametrize(("start", "index"), [("0.5", 2), ("2", 2), ("0.0", 0), ("last", 3), ("1.0", 3)])
def test_start_at_a_relative_depth(start: str, index: int) -> None:
    name = "vit_tiny_patch16_224"  # four layers
    found = AttentionRollout(start=start).compute(fold(AttentionRollout(start=start), model(name), [range(2)]))
    reference = expected(name, AttentionRollout(start=index)).reshape(2, *model(name).spec.grid)
    np.testing.assert_allclose(found.rollout, reference, rtol=1e-6, atol=1e-9)
    assert found.attrs["start"] == index


def test_a_relative_depth_is_over_the_layers_in_which_patches_ask() -> None:
    found = AttentionRollout(start="1.0").compute(
        fold(AttentionRollout(start="1.0"), model("vit_base_patch16_siglip_224"), [range(1)])
    )
    assert found.attrs["start"] == 2, "three blocks, then the pooling query"
