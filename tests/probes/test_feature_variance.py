"""Variance of feature maps against plain loops, and against maps whose variance is known."""

import numpy as np
import pytest
import torch

from model_zoo.adapter import ModelSpec
from probes.core.capture import Tokens
from probes.feature_variance import FeatureVariance
from tests.probes import streams
from tests.probes.test_contract import fold


def by_loops(z: np.ndarray) -> np.ndarray:
    """Of each image the mean over channels of the unbiased variance over positions."""
    images, channels, rows, columns = z.shape
    found = np.zeros((images, channels))
    for i in range(images):
        for c in range(channels):
            mean = sum(z[i, c, y, x] for y in range(rows) for x in range(columns)) / (rows * columns)
            squares = sum((z[i, c, y, x] - mean) ** 2 for y in range(rows) for x in range(columns))
            found[i, c] = squares / (rows * columns - 1)
    return found.mean(1)


@pytest.mark.parametrize("name", [*streams.IN_TWO_STEPS, *streams.IN_ONE_STEP])
def test_matches_the_definition_in_every_family(name: str) -> None:
    adapter, probe = streams.small(name), FeatureVariance()
    expected = streams.maps(adapter)
    result = probe.compute(fold(probe, adapter, [range(1), range(1, 2)]))
    assert result.point.values.tolist() == list(expected)
    before = None
    for point, z in expected.items():
        each = z.reshape(*z.shape[:2], -1).var(2, ddof=1).mean(1)
        here = result.sel(point=point)
        np.testing.assert_allclose(here.variance, each.mean(), rtol=1e-9)
        np.testing.assert_allclose(here.variance_sem, each.std(ddof=1) / np.sqrt(2), rtol=1e-7)
        if before is not None:
            error = (each - before).std(ddof=1) / np.sqrt(2)
            np.testing.assert_allclose(here.change_sem, error, rtol=1e-6, atol=1e-9 * each.mean())
        before = each
    np.testing.assert_allclose(each, by_loops(z), rtol=1e-9)


def of_maps(z: torch.Tensor) -> float:
    probe, grid = FeatureVariance(), (z.shape[2], z.shape[3])
    spec = ModelSpec("toy", grid, 1, grid, ("cls",), (), ("embed",), 0)
    tokens = torch.cat([torch.full((len(z), 1, z.shape[1]), 1e4, dtype=z.dtype), z.flatten(2).transpose(1, 2)], 1)
    state = probe.update(probe.init(spec), Tokens("embed", range(len(z)), tokens, 1, grid))
    return float(probe.compute(state).variance[0])


def test_a_constant_map_has_none_whatever_its_level_and_its_prefix() -> None:
    assert of_maps(torch.arange(6.0).reshape(1, 6, 1, 1).expand(2, 6, 4, 7)) == 0


def test_noise_has_its_own_variance() -> None:
    z = 3 * torch.randn(16, 50, 6, 9, generator=torch.Generator().manual_seed(0))
    assert of_maps(z + 100) == pytest.approx(9, rel=0.03)


def test_one_position_has_no_variance() -> None:
    assert np.isnan(of_maps(torch.ones(2, 3, 1, 1)))
