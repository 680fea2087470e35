"""The pages of blur and of frequency noise: figures and words as data, and the picture against the probe's noise."""

import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image

from dashboard.compute.asking import ModelResult, Outcome
from dashboard.draw import chart_files
from dashboard.draw.figures import courses, over_depth
from dashboard.images import gallery
from dashboard.state.selection import Selection
from dashboard.view import Answer
from dashboard.views.fourier import spectra
from dashboard.views.fourier import view as fourier
from dashboard.views.frequency_noise import curves, pictures
from dashboard.views.frequency_noise import view as frequency_noise
from model_zoo.adapter import ModelSpec
from probes.core.capture import Batch
from probes.frequency_noise import FrequencyNoise
from tests.probes.families import peaked

COLOURS = {"ViT": "#0072B2", "CNN": "#56B4E9"}
HALVES = ["embedding", "attention", "mlp", "attention", "mlp"]


def stream(values, spans, sem=0.01, grids=None, n=8):
    """``fourier`` with ΔS at frequencies 0, π/2 and, on grids of 4, 3π/4 whose last is given."""
    grids = grids or [4] * len(values)
    begins = [span in ("block", "merging") or (span == "attention" and before != "merging")
              for before, span in zip(["", *spans], spans, strict=False)]  # fmt: skip
    layers = np.cumsum(begins) - 1
    relative = np.zeros((len(values), 3))
    relative[:, 1], relative[:, 2] = np.array(values) / 2, values
    for row, grid in enumerate(grids):
        if grid == 2:
            relative[row, 1:] = values[row], np.nan
    error = np.where(np.isfinite(relative), sem, np.nan)
    return xr.Dataset(
        {
            "relative": (("point", "frequency"), relative),
            "relative_sem": (("point", "frequency"), 10 * error),  # images differ more than their changes
            "change_sem": (("point", "frequency"), error),
        },
        coords={
            "point": [f"p{i}" for i in range(len(values))],
            "span": ("point", spans),
            "layer": ("point", layers),
            "grid_height": ("point", grids),
            "grid_width": ("point", grids),
            "frequency": [0.0, np.pi / 2, 3 * np.pi / 4],
        },
        attrs={"n": n, "spectrum": "diagonal"},
    )


VIT = stream([-2.0, -2.5, -2.2, -3.0, -2.9], HALVES)
CNN = stream([-2.0, -1.5, -1.0, -0.5], ["embedding", "block", "block", "block"], grids=[4, 4, 2, 2])


def test_a_course_reads_the_highest_frequency_that_a_point_has():
    vit, cnn = courses.course(VIT), courses.course(CNN)
    np.testing.assert_allclose(vit.depth, [0, 0.5, 1, 1.5, 2])
    np.testing.assert_allclose(cnn.depth, [0, 1, 2, 3])
    np.testing.assert_allclose(vit.values, [-2.0, -2.5, -2.2, -3.0, -2.9])
    np.testing.assert_allclose(cnn.frequency / np.pi, [0.75, 0.75, 0.5, 0.5])
    assert (vit.count, cnn.count) == (2, 3)


def test_merging_stands_at_the_depth_of_the_block_before():
    swin = courses.course(stream([-1, -2, -1, -3, -2, -1], ["embedding", "attention", "mlp", "merging", *HALVES[1:3]]))
    np.testing.assert_allclose(swin.depth, [0, 0.5, 1, 1, 1.5, 2])


def test_rises_and_falls_count_where_they_exceed_the_errors_and_the_grid_stays():
    vit = courses.course(VIT)
    assert vit.across("attention") == courses.Counts(2, 0, 2)
    assert vit.across("mlp") == courses.Counts(0, 2, 2)
    noisy = courses.course(stream([-2.0, -2.5, -2.2, -3.0, -2.9], HALVES, sem=0.06))
    assert noisy.across("mlp") == courses.Counts(0, 1, 2), "0.1 is within twice 0.06"
    assert courses.course(CNN).across("block") == courses.Counts(0, 2, 2, 1), "one block changes the grid"


def test_the_verdict_reads_the_numbers():
    said = courses.verdict({"ViT": courses.course(VIT), "CNN": courses.course(CNN)}, "the amplitude")
    assert "falls in 2 of 2 blocks; across the MLP it rises in 2 of 2** (as the paper has it)" in said
    assert "**CNN**: block falls in 0 and rises in 2 of 2, 1 left out, as the grid changes there." in said
    other_way = stream([-2.0, -1.5, -1.8, -1.0, -1.4], HALVES)
    assert "not what the paper has" in courses.verdict({"ViT": courses.course(other_way)}, "the amplitude")
    assert "blocks" not in courses.verdict({"CNN": courses.course(CNN)}, "the amplitude")


def test_nothing_is_shaded_where_models_of_one_depth_attend_at_different_places():
    hybrid = stream([-2.0, -2.1, -2.2, -2.3], ["embedding", "block", "attention", "mlp"])
    found = {"ViT": courses.course(VIT), "Hybrid": courses.course(hybrid)}
    assert {one.count for one in found.values()} == {2}
    figure = over_depth.figure(found, {**COLOURS, "Hybrid": "#D55E00"}, "Δ")
    assert not [trace for trace in figure.data if trace.fill == "toself"]


def test_the_chart_shades_attention_and_mlp_and_has_every_model_in_its_colour():
    figure = over_depth.figure({n: courses.course(d) for n, d in {"ViT": VIT, "CNN": CNN}.items()}, COLOURS, "Δ")
    bands = [trace for trace in figure.data if trace.fill == "toself"]
    lines = {trace.name: trace for trace in figure.data if trace.fill != "toself"}
    assert {name: line.line.color for name, line in lines.items()} == COLOURS
    assert [(band.name, band.x[0], band.x[1]) for band in bands] == [
        ("attention", 0.0, 0.25),
        ("attention", 0.5, 0.75),
        ("MLP", 0.25, 0.5),
        ("MLP", 0.75, 1.0),
    ]
    assert [band.showlegend for band in bands] == [True, False, True, False]
    np.testing.assert_allclose(lines["CNN"].x, [0, 1 / 3, 2 / 3, 1])
    assert figure.layout.xaxis.title.text.startswith("relative depth")
    low, high = figure.layout.yaxis.range
    assert low < -3
    assert high > -0.5
    assert lines["ViT"].customdata[1].tolist() == ["after attention of block 1", " at 0.75 π"]


def test_models_of_several_depths_are_not_shaded_and_one_alone_counts_its_blocks():
    deeper = stream([-2, -3, -2, -3, -2, -3, -2], [*HALVES, "attention", "mlp"])
    both = over_depth.figure({"ViT": courses.course(VIT), "CNN": courses.course(deeper)}, COLOURS, "Δ")
    assert all(trace.fill != "toself" for trace in both.data)
    alone = over_depth.figure({"ViT": courses.course(VIT)}, COLOURS, "Δ")
    assert alone.layout.xaxis.title.text == "blocks that were run"


def test_variance_has_a_logarithmic_axis_that_holds_all_points():
    variance = VIT.assign(
        variance=("point", [0.1, 0.05, 1, 2, 40.0]), variance_sem=("point", [0.0] * 5), change_sem=("point", [0.0] * 5)
    )
    figure = over_depth.figure({"ViT": courses.course(variance)}, COLOURS, "variance", log=True)
    low, high = figure.layout.yaxis.range
    assert figure.layout.yaxis.type == "log"
    assert low < np.log10(0.05) < np.log10(40) < high


def test_spectra_are_on_common_axes_without_gaps_and_coloured_by_depth():
    ready = {"ViT": VIT, "CNN": CNN}
    span = spectra.ends(ready)
    one, other = (spectra.figure({name: ready[name]}, span, titled=False) for name in ready)
    assert one.layout.yaxis.range == other.layout.yaxis.range == span
    assert one.layout.xaxis.range == other.layout.xaxis.range == (0, 1)
    assert len(one.data) == 5
    assert [len(trace.x) for trace in other.data] == [3, 3, 2, 2]
    assert one.data[0].line.color == spectra.colour(0)
    assert one.data[-1].line.color == spectra.colour(1)
    together = spectra.figure(ready, span)
    assert [note.text for note in together.layout.annotations] == ["ViT", "CNN"]


def answer(probe, datasets, chosen, **spec):
    models = tuple(
        ModelResult(
            name, name, COLOURS[name], ModelSpec(name, (16, 16), 4, (4, 4), (), (), (), 10, **spec), (), {probe: d}
        )
        for name, d in datasets.items()
    )
    return Answer(chosen, Selection(tuple(datasets), ("photo:coffee",)), Outcome(models, (), (), ()))


@pytest.mark.parametrize("probe", ["fourier", "feature-variance"])
def test_the_page_says_n_and_the_file_holds_its_charts(probe):
    datasets = {"ViT": VIT, "CNN": CNN}
    if probe != "fourier":
        datasets = {
            name: one.drop_vars(["relative", "relative_sem", "change_sem", "frequency"]).assign(
                variance=("point", np.arange(1.0, 1 + one.sizes["point"])),
                variance_sem=("point", np.zeros(one.sizes["point"])),
                change_sem=("point", np.zeros(one.sizes["point"])),
            )
            for name, one in datasets.items()
        }
    shown = fourier.shown(answer(probe, datasets, fourier.Chosen(probe, "diagonal")))
    assert "n = 8 images" in shown.said
    if probe == "fourier":
        assert "Highest frequency: 0.5 to 0.75 π of each grid (diagonal)" in shown.said
    drawn = shown.svg()
    assert drawn.startswith("<svg")
    assert ("All frequencies" in drawn) == (probe == "fourier")
    assert ">MLP<" in drawn


def noisy(labelled=8, power="ring"):
    f = np.linspace(0, np.pi, 5)
    missing = np.full(5, np.nan)
    change = np.array([-0.1, -0.5, -0.3, -0.05, 0.0]) if labelled else missing
    both = {"cosine": np.linspace(0.5, 0.9, 5), "kept": np.linspace(0.4, 1, 5), "accuracy_change": change}
    variables = {name: ("frequency", values) for name, values in both.items()}
    variables |= {f"{name}_sem": ("frequency", np.full(5, 0.02)) for name in both}
    rms = np.full(5, 0.2) if power == "equal" else np.linspace(0.01, 0.08, 5)
    attrs = {"n": 8, "labelled": labelled, "epsilon": 0.2, "noise_in": "pixels", "power": power}
    return xr.Dataset(variables | {"noise_rms": ("frequency", rms)}, coords={"frequency": f},
                      attrs=attrs | ({"accuracy_without_noise": 0.9} if labelled else {}))  # fmt: skip


def test_noise_curves_are_in_points_and_mark_the_frequency_of_the_picture():
    figure = curves.figure({"ViT": noisy(), "CNN": noisy(0)}, COLOURS, "accuracy_change", 0.25)
    assert [trace.name for trace in figure.data] == ["ViT"], "a model without known classes has no accuracy"
    np.testing.assert_allclose(figure.data[0].y, [-10, -50, -30, -5, 0])
    np.testing.assert_allclose(figure.data[0].x, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(figure.data[0].error_y.array, 2)
    assert figure.layout.shapes[0].x0 == 0.25
    assert figure.layout.yaxis.title.text == "change of accuracy (percentage points)"


def test_noise_reading_compares_low_with_high_frequencies():
    said = curves.reading({"ViT": noisy(), "CNN": noisy(0)}, ["CNN"])
    assert "**ViT**: −50 points at worst, at 0.25 π; on average −40 points at low" in said
    assert "and −2.5 points at high ones (accuracy without noise 90\u202f%)" in said
    assert "**CNN**: cosine 0.5 at worst, at 0 π" in said
    assert "Without a classifier, so by the embedding alone: CNN." in said
    assert "growing with frequency, 0.01 to 0.08" in said
    assert "noise the same, 0.2 of" in curves.reading({"ViT": noisy(power="equal")}, [])
    assert "97\u202f% of the answers stay" not in curves.reading({"ViT": noisy()}, [])


def test_without_known_classes_the_answers_are_held_against_those_without_noise():
    assert curves.measured({"ViT": noisy(0)}) == ("kept", "cosine")
    shown = frequency_noise.shown(
        answer("frequency-noise", {"ViT": noisy(0)}, frequency_noise.Chosen(0.5, 0.2, "ring"))
    )
    assert [chart.key for chart in shown.charts] == ["noise-kept", "noise-cosine"]
    assert shown.svg().startswith("<svg")
    assert chart_files.svg(shown.charts[0].figure, "t").startswith("<svg")


def test_moving_the_picture_asks_for_nothing_new():
    asked = [frequency_noise.VIEW.asks(frequency_noise.Chosen(at, 0.2, "ring")) for at in (0.0, 0.5, 1.0)]
    assert asked[0] == asked[1] == asked[2]


@pytest.mark.parametrize("power", ["ring", "equal"])
def test_the_picture_shows_what_the_probe_adds_to_the_first_image(power, monkeypatch):
    adapter = peaked("vit_tiny_patch16_224")
    seen = []
    from model_zoo import features

    monkeypatch.setattr(
        "probes.frequency_noise.extract",
        lambda module, x, logits: seen.append(x.clone()) or features.extract(module, x, logits=logits),
    )
    x = torch.zeros(1, 3, *adapter.spec.input_size, dtype=torch.float64)
    probe = FrequencyNoise(epsilon=0.3, frequencies=3, power=power)
    probe.update(probe.init(adapter.spec), Batch(adapter, range(1), x, [Image.new("RGB", (8, 8))]))
    std = np.array(adapter.config["std"])
    for place, f in enumerate((0, np.pi / 2, np.pi)):
        added = seen[1 + place][0].permute(1, 2, 0).numpy() * std
        drawn = pictures.noise(adapter.spec.input_size, f, epsilon=0.3, width=0.2, power=power)
        np.testing.assert_allclose(drawn, added, atol=1e-12)


def test_the_picture_is_what_the_model_sees_of_it():
    picture = gallery.load("photo:coffee")
    whole = pictures.cut(picture, gallery.whole("photo:coffee"), (20, 30))
    assert whole.shape == (20, 30, 3)
    assert 0 <= whole.min() < whole.max() <= 1
    assert pictures.shown(whole).shape == (20 * 22, 30 * 22, 3)
    assert pictures.cut(picture, None, (16, 16)).shape == (16, 16, 3)


def test_the_picture_has_the_size_of_the_input_before_the_model_was_loaded():
    model = ModelResult("scenes-vit-supervised", "ViT", COLOURS["ViT"], None, (), {})
    assert frequency_noise._input_size(model) == (112, 112)
