"""Attention statistics against loops over the definition, in float64."""

from math import log, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_zoo.adapter import ModelSpec
from model_zoo.images import ImageSource
from model_zoo.layout import AttentionLayer
from probes.attention_statistics import UNITS, AttentionStatistics
from probes.core.attention import AttentionRows
from probes.core.runner import run
from tests.probes.families import inputs, noise, peaked
from tests.probes.test_capture import written_out


def by_definition(a: np.ndarray, prefix: tuple[str, ...], asks_alone: bool) -> dict[str, float]:
    """One head of one image: (queries, keys)."""
    p, keys = len(prefix), a.shape[1]
    queries = range(a.shape[0]) if asks_alone else range(p, a.shape[0])
    entropy = np.mean([-sum(v * log(v) for v in a[q] if v > 0) for q in queries])
    mass = dict.fromkeys(("cls", "dist", "reg"), np.nan)
    for kind in mass:
        columns = [i for i, name in enumerate(prefix) if name.startswith(kind)]
        if columns:
            mass[kind] = np.mean([a[q, columns].sum() for q in queries])
    nmi = np.nan
    if not asks_alone:
        inside = a[p:, p:] / a[p:, p:].sum(1, keepdims=True)
        n = len(inside)
        pk = inside.sum(0) / n
        information = sum(
            inside[q, k] / n * log(inside[q, k] / pk[k]) for q in range(n) for k in range(n) if inside[q, k] > 0
        )
        nmi = information / sqrt(log(n) * -sum(v * log(v) for v in pk if v > 0))
    return {
        "entropy": entropy,
        "entropy_normalised": entropy / log(keys),
        "nmi": nmi,
        "mass_cls": mass["cls"],
        "mass_distillation": mass["dist"],
        "mass_register": mass["reg"],
        "mass_patch": np.mean([a[q, p:].sum() for q in queries]),
    }


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "deit_tiny_distilled_patch16_224",
        "vit_small_patch14_reg4_dinov2",
        "vit_base_patch16_siglip_224",
        "beit_base_patch16_224",
    ],
)
def test_matches_the_definition(name: str) -> None:
    adapter, images = peaked(name), noise(3)
    x = inputs(adapter, images)
    sources = [ImageSource(str(i), lambda i=i: images[i]) for i in range(3)]
    plain = type(adapter)(adapter.module, image_size=adapter.image_size)
    adapter.preprocess = lambda image: inputs(plain, [image])[0]
    result = run({"m": adapter}, sources, {"s": AttentionStatistics()}, batch_size=2)["s"]["m"]
    reference = written_out(adapter, x)
    assert result.attrs["n"] == 3
    for index, layer in enumerate(adapter.spec.layers):
        if layer.name not in reference:
            continue
        weights = reference[layer.name].numpy()
        for head in range(layer.heads):
            each = [by_definition(w[head], adapter.spec.prefix, layer.queries == 1) for w in weights]
            for variable in UNITS:
                values = np.array([e[variable] for e in each])
                np.testing.assert_allclose(result[variable][index, head], values.mean(), rtol=1e-7, atol=1e-10)
                sem = values.std(ddof=1) / sqrt(3)
                np.testing.assert_allclose(result[f"{variable}_sem"][index, head], sem, rtol=1e-5, atol=1e-9)


def one_layer(grid: tuple[int, int], prefix: tuple[str, ...]) -> ModelSpec:
    layer = AttentionLayer("blocks.0.attn", 1, grid, len(prefix))
    return ModelSpec("toy", (8, 8), 1, grid, prefix, (layer,), (), 0)


def statistics(a: torch.Tensor, prefix: tuple[str, ...], grid: tuple[int, int]) -> dict[str, float]:
    probe, spec = AttentionStatistics(), one_layer(grid, prefix)
    rows = AttentionRows(0, range(1), range(a.shape[0]), a[None, None])
    result = probe.compute(probe.update(probe.init(spec), rows))
    return {name: float(result[name][0, 0]) for name in UNITS}


@given(
    height=st.integers(1, 4),
    width=st.integers(2, 4),
    prefix=st.sampled_from([(), ("cls",), ("cls", "dist"), ("cls", "reg1", "reg2", "reg3", "reg4")]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_laws(height: int, width: int, prefix: tuple[str, ...], seed: int) -> None:
    """Masses sum to one; NMI and normalised entropy stay in 0..1; uniform attention: full entropy, no information."""
    tokens = len(prefix) + height * width
    generator = torch.Generator().manual_seed(seed)
    a = (5 * torch.randn(tokens, tokens, generator=generator, dtype=torch.float64)).softmax(-1)
    found = statistics(a, prefix, (height, width))
    assert np.nansum([v for k, v in found.items() if k.startswith("mass")]) == pytest.approx(1)
    assert -1e-9 <= found["nmi"] <= 1 + 1e-9
    assert 0 <= found["entropy_normalised"] <= 1
    uniform = statistics(torch.full((tokens, tokens), 1 / tokens, dtype=torch.float64), prefix, (height, width))
    assert uniform["entropy_normalised"] == pytest.approx(1)
    assert uniform["nmi"] == pytest.approx(0, abs=1e-6)


def test_every_query_its_own_key_has_full_information() -> None:
    found = statistics(torch.eye(12, dtype=torch.float64), (), (3, 4))
    assert found["nmi"] == pytest.approx(1)
    assert found["entropy"] == pytest.approx(0, abs=1e-12)


def test_even_attention_within_windows_is_full_entropy() -> None:
    layer = AttentionLayer("layers.0.blocks.0.attn", 1, (4, 4), 0, "window", (2, 2), (0, 0))
    spec = ModelSpec("toy", (8, 8), 2, (4, 4), (), (layer,), (), 0)
    block = torch.arange(16).view(2, 2, 2, 2).transpose(1, 2).reshape(4, 4)  # windows of a 4x4 grid
    a = torch.zeros(16, 16, dtype=torch.float64)
    for window in block:
        a[window.unsqueeze(1), window] = 0.25
    probe = AttentionStatistics()
    result = probe.compute(probe.update(probe.init(spec), AttentionRows(0, range(1), range(16), a[None, None])))
    assert float(result.entropy_normalised[0, 0]) == pytest.approx(1)
    assert np.isnan(result.nmi[0, 0])


def test_information_keeps_its_digits_when_patches_receive_next_to_nothing() -> None:
    generator = torch.Generator().manual_seed(3)
    inside = (3 * torch.randn(13, 12, generator=generator, dtype=torch.float64)).softmax(-1)
    values = {}
    for share in (0.5, 1e-5):
        a = torch.cat([torch.full((13, 1), 1 - share, dtype=torch.float64), share * inside], 1).float()
        values[share] = statistics(a, ("cls",), (3, 4))["nmi"]
    assert values[1e-5] == pytest.approx(values[0.5], rel=1e-4)
