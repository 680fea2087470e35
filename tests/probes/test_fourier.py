"""Spectra of feature maps against numpy's transform, and against what is known of noise, constants and waves."""

import numpy as np
import pytest
import torch

from model_zoo.adapter import ModelSpec
from probes.core.capture import Tokens
from probes.core.stream import stream_points
from probes.fourier import Fourier
from tests.probes import streams
from tests.probes.families import peaked
from tests.probes.test_contract import fold

TURNED = ("resnet10t", "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224")


def diagonal(z: np.ndarray) -> tuple[list[float], np.ndarray]:
    """Frequencies and mean log amplitudes of maps (images, channels, rows, columns), bin by bin."""
    rows, columns = z.shape[2:]
    shifted = np.fft.fftshift(np.log(np.abs(np.fft.fft2(z)) + 1e-6), axes=(2, 3)).mean((0, 1))
    side = min(rows, columns)
    values = []
    for k in range(-(-side // 2)):
        down, across = (int(k * n / side + 0.5) for n in (rows, columns))
        values.append(shifted[rows // 2 + down, columns // 2 + across])
    return [2 * np.pi * k / side for k in range(len(values))], np.array(values)


def radial(z: np.ndarray) -> tuple[list[float], np.ndarray]:
    rows, columns = z.shape[2:]
    spectrum = np.log(np.abs(np.fft.fft2(z)) + 1e-6).mean((0, 1))
    side = min(rows, columns)
    found: dict[int, list[float]] = {k: [] for k in range(side // 2 + 1)}
    for y in range(rows):
        for x in range(columns):
            down, across = min(y, rows - y) / rows, min(x, columns - x) / columns
            ring = int(np.floor(round(side * np.hypot(down, across), 9) + 0.5))
            if ring in found:
                found[ring].append(spectrum[y, x])
    return [2 * np.pi * k / side for k in found], np.array([np.mean(values) for values in found.values()])


@pytest.mark.parametrize("name", [*streams.IN_TWO_STEPS, *streams.IN_ONE_STEP])
def test_matches_numpy_in_every_family(name: str) -> None:
    adapter = streams.small(name)
    expected = streams.maps(adapter)
    result = Fourier().compute(fold(Fourier(), adapter, [range(1), range(1, 2)]))
    assert result.point.values.tolist() == list(expected)
    before = None
    for point, z in expected.items():
        frequencies, values = diagonal(z)
        here = result.sel(point=point).dropna("frequency", subset=["log_amplitude"])
        assert (int(here.grid_height), int(here.grid_width)) == z.shape[2:]
        np.testing.assert_allclose(here.frequency, frequencies, rtol=1e-12)
        np.testing.assert_allclose(here.log_amplitude, values, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(here.relative, values - values[0], rtol=1e-6, atol=1e-7)
        each = np.array([diagonal(z[i : i + 1])[1] for i in range(2)])
        error = (each - each[:, :1]).std(0, ddof=1) / np.sqrt(2)
        np.testing.assert_allclose(here.relative_sem, error, rtol=1e-5, atol=1e-8)
        of_image, grid = each - each[:, :1], z.shape[2:]
        if before is not None and before[1] == grid:
            error = (of_image - before[0]).std(0, ddof=1) / np.sqrt(2)
            np.testing.assert_allclose(here.change_sem, error, rtol=1e-5, atol=1e-8)
        else:
            assert here.change_sem.isnull().all()
        before = of_image, grid


@pytest.mark.parametrize("name", [*TURNED, "vit_small_patch14_reg4_dinov2", "swin_tiny_patch4_window7_224"])
def test_rings_match_numpy(name: str) -> None:
    adapter = streams.small(name)
    probe = Fourier(spectrum="radial")
    result = probe.compute(fold(probe, adapter, [range(2)]))
    for point, z in streams.maps(adapter).items():
        frequencies, values = radial(z)
        here = result.sel(point=point).dropna("frequency", subset=["log_amplitude"])
        np.testing.assert_allclose(here.frequency, frequencies, rtol=1e-12)
        np.testing.assert_allclose(here.log_amplitude, values, rtol=1e-6, atol=1e-8)


def test_spans_say_what_lies_between_the_points() -> None:
    spans = {name: Fourier().compute(fold(Fourier(), streams.small(name), [range(1)])) for name in (
        "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", *streams.IN_ONE_STEP)}  # fmt: skip
    vit, swin, resnet, side_by_side = spans.values()
    assert vit.span.values.tolist() == ["embedding", *["attention", "mlp"] * 4]
    assert vit.layer.values.tolist() == [-1, 0, 0, 1, 1, 2, 2, 3, 3]
    assert swin.span.values.tolist() == ["embedding", *["attention", "mlp"] * 2, "merging", *["attention", "mlp"] * 2]
    assert swin.grid_width.values.tolist() == [56] * 5 + [28] * 5
    assert resnet.span.values.tolist() == ["embedding", *["block"] * 4]
    assert side_by_side.span.values.tolist() == ["embedding", *["block"] * 3]


def test_a_transformer_of_two_streams_says_why_it_has_none() -> None:
    assert "blocks of this model are not known" in (Fourier().undefined(peaked("tnt_s_patch16_224").spec) or "")


def of_maps(z: torch.Tensor, probe: Fourier | None = None):
    """The probe on given maps (images, channels, rows, columns)."""
    probe, grid = probe or Fourier(), (z.shape[2], z.shape[3])
    spec = ModelSpec("toy", grid, 1, grid, (), (), ("embed", "resid_post.0"), 0)
    assert stream_points(spec) == ("embed", "resid_post.0")
    tokens = z.flatten(2).transpose(1, 2)
    return probe.compute(probe.update(probe.init(spec), Tokens("embed", range(len(z)), tokens, 0, grid)))


@pytest.mark.parametrize("spectrum", ["diagonal", "radial"])
@pytest.mark.parametrize("grid", [(14, 14), (13, 13), (10, 16)])
def test_white_noise_is_flat(grid: tuple[int, int], spectrum: str) -> None:
    """But for frequency 0, where the amplitude of a real number has a mean logarithm lower by ln(2)/2."""
    z = torch.randn(64, 400, *grid, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = of_maps(z, Fourier(spectrum=spectrum)).isel(point=0)
    inside = found.relative.values[1:-1]
    np.testing.assert_allclose(inside, np.log(2) / 2, atol=0.03)
    assert float(found.relative[0]) == 0


@pytest.mark.parametrize(("grid", "frequency"), [((12, 12), 4), ((9, 9), 2), ((8, 20), 3), ((20, 8), 3)])
def test_a_wave_shows_at_its_frequency(grid: tuple[int, int], frequency: int) -> None:
    side = min(grid)
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    down, across = (int(frequency * n / side + 0.5) / n for n in grid)
    wave = torch.cos(2 * torch.pi * (down * y + across * x))
    found = of_maps(wave.expand(1, 2, *grid)).isel(point=0)
    assert int(np.argmax(found.log_amplitude.values)) == frequency
    assert float(found.frequency[frequency]) == pytest.approx(2 * np.pi * frequency / side)
    np.testing.assert_allclose(found.log_amplitude[frequency], np.log(grid[0] * grid[1] / 2), rtol=1e-6)
    others = np.delete(found.log_amplitude.values, frequency)
    assert (others < np.log(1e-5)).all()


def test_a_grid_on_its_side_has_the_same_spectrum() -> None:
    z = torch.randn(2, 3, 8, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for spectrum in ("diagonal", "radial"):
        one, other = (of_maps(maps, Fourier(spectrum=spectrum)) for maps in (z, z.transpose(2, 3)))
        np.testing.assert_allclose(one.log_amplitude, other.log_amplitude, rtol=1e-9)


def test_float32_keeps_a_weak_wave_beside_a_large_mean() -> None:
    z = torch.randn(1, 64, 14, 14, generator=torch.Generator().manual_seed(0)) + 300
    exact = of_maps(z.double()).log_amplitude.isel(point=0)
    np.testing.assert_allclose(of_maps(z).log_amplitude.isel(point=0), exact, atol=2e-3)


def test_an_unknown_spectrum_names_the_known() -> None:
    with pytest.raises(ValueError, match="diagonal, radial"):
        Fourier(spectrum="ring")
