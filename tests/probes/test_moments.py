"""Moments against numpy in one pass, far from zero, where sums of squares lose every digit."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from probes.attention_distance import AttentionDistance
from probes.attention_statistics import AttentionStatistics
from probes.core.attention import AttentionRows
from probes.core.base import Probe
from probes.core.moments import Moments
from tests.probes.families import peaked


@given(
    parts=st.lists(st.integers(0, 5), min_size=1, max_size=6),
    offset=st.sampled_from([0.0, 1e3, -1e8]),
    seed=st.integers(0, 99),
)
def test_merged_moments_are_those_of_one_pass(parts: list[int], offset: float, seed: int) -> None:
    values = offset + np.random.default_rng(seed).normal(size=(sum(parts), 2, 3))
    pieces = np.split(values, np.cumsum(parts)[:-1])
    merged = sum((Moments.of(piece) for piece in reversed(pieces)), Moments())
    if len(values):
        np.testing.assert_allclose(merged.mean, values.mean(0), rtol=1e-12)
        np.testing.assert_array_equal(merged.count, np.full((2, 3), len(values)))
    if len(values) > 1:
        deviation = (values - offset).std(0, ddof=1)
        np.testing.assert_allclose(merged.deviation(), deviation, rtol=1e-6)
        np.testing.assert_allclose(merged.standard_error(), deviation / np.sqrt(len(values)), rtol=1e-6)
    else:
        assert np.isnan(merged.deviation()).all()
        assert np.isnan(merged.standard_error()).all()


def test_only_known_values_count() -> None:
    values, known = np.array([[1.0, np.nan], [3.0, 7.0]]), np.array([[True, False], [True, True]])
    found = Moments.of(values[:1], known[:1]) + Moments.of(values[1:], known[1:])
    np.testing.assert_array_equal(found.count, [2, 1])
    np.testing.assert_array_equal(found.mean, [2, 7])
    np.testing.assert_allclose(found.deviation(), [np.sqrt(2), np.nan])


@pytest.mark.parametrize(("probe", "variable"), [(AttentionDistance(), "distance"), (AttentionStatistics(), "entropy")])
@pytest.mark.parametrize("apart", [False, True])
def test_standard_error_of_images_that_hardly_differ(probe: Probe, variable: str, apart: bool) -> None:
    """Images that differ by a billionth: a sum of squares minus a squared sum has no digit left of that."""
    spec = peaked("vit_tiny_patch16_224").spec
    heads, tokens = spec.layers[0].heads, spec.layers[0].keys
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(heads, tokens, tokens, generator=generator, dtype=torch.float64)
    own = torch.randn(6, heads, tokens, tokens, generator=generator, dtype=torch.float64)
    weights = (common + 1e-8 * own).softmax(-1)

    def fold(start: int, stop: int) -> Any:
        rows = AttentionRows(0, range(start, stop), range(tokens), weights[start:stop])
        return probe.update(probe.init(spec), rows)

    def of(state: Any, name: str) -> np.ndarray:
        return probe.compute(state)[name][0].values

    single = np.array([of(fold(i, i + 1), variable) for i in range(6)])
    expected = np.std(single, axis=0, ddof=1) / np.sqrt(6)
    assert (expected < 1e-8 * np.mean(single, 0)).all()
    state = probe.merge(fold(4, 6), fold(0, 4)) if apart else fold(0, 6)
    np.testing.assert_allclose(of(state, f"{variable}_sem"), expected, rtol=1e-3)
