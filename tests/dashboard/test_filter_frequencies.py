"""The spectrum of the first filters as it is drawn, against a Fourier transform written out."""

import cmath
import io
import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from dashboard.draw import frame, model_columns
from dashboard.views.filters import sheets, spatial_frequencies
from model_zoo.adapter import Adapter
from model_zoo.images import ImageSource
from probes.core.runner import run
from probes.patch_filters import PatchFilters
from tests.probes.families import noise, peaked

COLOURS = {"a": "#0072B2", "b": "#E69F00"}
SIDES = {"test_vit": 16, "resnet18": 7}  # even and odd


@pytest.fixture(scope="module")
def banks():
    """The probe's datasets of two models, and the weights as the modules hold them."""
    import timm

    adapters = {"a": Adapter(timm.create_model("test_vit").eval()), "b": Adapter(timm.create_model("resnet18").eval())}
    image = ImageSource("noise", lambda: noise(1)[0])
    found = run(adapters, [image], {"p": PatchFilters()})["p"]
    convolutions = {
        name: next(m for m in adapter.module.modules() if isinstance(m, nn.Conv2d))
        for name, adapter in adapters.items()
    }
    return found, {name: c.weight.detach().double().numpy() for name, c in convolutions.items()}


def amplitude(weights: np.ndarray, fy: float, fx: float) -> float:
    """Mean magnitude over filters and channels at one frequency, by the sum itself."""
    _, _, height, width = weights.shape
    wave = np.array([[cmath.exp(-2j * math.pi * (fy * y + fx * x)) for x in range(width)] for y in range(height)])
    return float(np.abs((weights * wave).sum((-2, -1))).mean())


@pytest.mark.parametrize("name", COLOURS)
def test_the_picture_is_the_fourier_transform_at_the_axes_frequencies(banks, name):
    datasets, weights = banks
    heat = spatial_frequencies.picture(datasets[name], 2.0).data[0]
    side = weights[name].shape[-1]
    every = np.abs(np.fft.fft2(weights[name])).mean((0, 1))
    assert heat.z.shape == (side + (side + 1) % 2,) * 2  # an even side repeats −0.5 at 0.5
    assert (heat.zmin, heat.zmax) == (0, 2.0)
    for row, column in [(0, 0), (1, 2), (side // 2, side // 2), (side // 2 + 1, 0), (-1, -1), (-1, 1)]:
        expected = amplitude(weights[name], heat.y[row], heat.x[column]) / every.mean()
        assert heat.z[row][column] == pytest.approx(expected, rel=1e-5)
    assert np.mean(heat.z[:side, :side]) == pytest.approx(1)
    assert (heat.x[side // 2], heat.y[side // 2]) == (0, 0)


def test_the_picture_spans_all_frequencies_with_units_and_down_is_down(banks):
    drawn = spatial_frequencies.picture(banks[0]["b"], 1.0)
    assert tuple(drawn.layout.xaxis.range) == (-0.5, 0.5)
    assert tuple(drawn.layout.yaxis.range) == (0.5, -0.5)
    assert "cycles per pixel" in drawn.layout.xaxis.title.text
    assert "cycles per pixel" in drawn.layout.yaxis.title.text


@pytest.mark.parametrize("index", [0, 1])
def test_the_lines_are_means_over_rings_of_the_fourier_transform(banks, index):
    datasets, weights = banks
    name = list(COLOURS)[index]
    line = spatial_frequencies.figure(datasets, COLOURS).data[index]
    side = weights[name].shape[-1]
    every = np.abs(np.fft.fft2(weights[name])).mean((0, 1))
    frequencies = np.fft.fftfreq(side)
    groups: dict[int, list[float]] = {}
    for row, column in np.ndindex(side, side):
        ring = round(math.hypot(frequencies[row], frequencies[column]) * side)
        groups.setdefault(ring, []).append(every[row, column] / every.mean())
    expected = [np.mean(groups[ring]) for ring in range(side // 2 + 1)]
    assert list(line.x) == pytest.approx([ring / side for ring in range(side // 2 + 1)])
    assert list(line.y) == pytest.approx(expected, rel=1e-5)
    assert list(line.customdata) == [len(groups[ring]) for ring in range(side // 2 + 1)]
    assert max(line.x) <= 0.5
    assert line.line.color == COLOURS[name]


def waves(frequency: float, side: int = 8):
    """Filters that are all one wave across, with their dataset."""
    row = np.cos(2 * np.pi * frequency * np.arange(side))
    module = nn.Sequential(nn.Conv2d(3, 4, side, bias=False))
    module[0].weight.data[:] = torch.as_tensor(np.broadcast_to(row, (4, 3, side, side)).copy())
    return module[0].weight.detach().double()


def of_weights(weight):
    """The probe's dataset of given weights."""
    adapter = peaked("vit_tiny_patch16_224", (64, 96))
    probe = PatchFilters()
    state = probe.init(adapter.spec)
    state.weight = weight
    return probe.compute(state)


def test_filters_of_one_wave_are_strongest_at_its_frequency_and_the_scale_is_that_of_all():
    datasets = {"a": of_weights(waves(0.25)), "b": of_weights(waves(0.125))}
    heat = spatial_frequencies.picture(datasets["a"], 1).data[0]
    row, column = np.unravel_index(heat.z.argmax(), heat.z.shape)
    assert (heat.y[row], abs(heat.x[column])) == (0, 0.25)
    said = spatial_frequencies.reading(datasets)
    assert "**a**: most at 0.25 cycles per pixel" in said
    assert "**b**: most at 0.125 cycles per pixel" in said
    assert "n = 4 filters" in said
    both = spatial_frequencies.ceiling(datasets)
    assert both == max(spatial_frequencies.ceiling({name: d}) for name, d in datasets.items())


def test_random_filters_are_called_flat_and_zero_filters_have_no_spectrum():
    noisy = torch.as_tensor(np.random.default_rng(0).normal(size=(64, 3, 8, 8)))
    assert "flat, as in random filters" in spatial_frequencies.reading({"a": of_weights(noisy)})
    zero = of_weights(torch.zeros(4, 3, 8, 8, dtype=torch.float64))
    assert "all its filters are zero" in spatial_frequencies.reading({"a": zero})
    assert spatial_frequencies.ceiling({"a": zero}) == 1
    assert np.isnan(spatial_frequencies.picture(zero, 1).data[0].z).all()


def test_the_table_holds_both_quantities(banks):
    datasets, weights = banks
    table = pd.read_csv(io.StringIO(frame.csv(sheets.table(datasets))))
    assert set(table.model) == {"a", "b"}
    amplitudes = table[(table.model == "b") & table.quantity.str.startswith("amplitude")]
    assert len(amplitudes) == 49
    zero = amplitudes[(amplitudes.frequency_y == 0) & (amplitudes.frequency_x == 0)].value.item()
    assert zero == pytest.approx(amplitude(weights["b"], 0, 0), rel=1e-5)
    assert table["rank"].min() == 1
    assert len(table[(table.model == "a") & table.quantity.str.startswith("spectrum")]) == datasets["a"].sizes["rank"]


def test_rows_of_models_are_even():
    assert [model_columns.across(n, 4) for n in range(1, 7)] == [2, 2, 3, 4, 3, 3]
