"""The course of a training: its figure, table and words as data, and the page itself with the shipped snapshots."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from streamlit.testing.v1 import AppTest

from dashboard.compute import results
from dashboard.compute.asking import ModelResult
from dashboard.draw import frame
from dashboard.state.selection import Selection
from dashboard.views.formation import along_training, trainings
from dashboard.views.formation.along_training import Course
from model_zoo.catalog import PRESETS
from model_zoo.training.config import Stage, TrainConfig
from model_zoo.training.snapshots import Moment, images_seen, moments, positions_start
from tests.dashboard.turning import turn_to

HOME = str(Path(__file__).parents[2] / "dashboard" / "Home.py")


def distances(level: float, layers: int = 4) -> xr.Dataset:
    values = level + np.arange(layers)[:, None] + np.array([[-2.0, 2.0]])
    return xr.Dataset(
        {"distance": (("layer", "head"), values), "uniform_distance": ((), 52.0)}, attrs={"n": 3, "diagonal": 158.0}
    )


def trained(title: str, colour: str, images: tuple[int, ...], levels: tuple[float, ...]) -> Course:
    along = tuple(Moment(f"{title}@{n}", n // 10, n, final=n == images[-1]) for n in images)
    results = tuple(
        ModelResult(one.model, title, colour, None, (), {"attention-distance": distances(level)})
        for one, level in zip(along, levels, strict=True)
    )
    return Course(title, colour, "random numbers", (56, 112), along, results)


COURSES = [
    trained("supervised", "#0072B2", (0, 1_000, 40_000), (50.0, 45.0, 30.0)),
    trained("DINO", "#009E73", (0, 600, 12_000, 80_000), (51.0, 50.0, 40.0, 35.0)),
]


def test_the_figure_has_a_chart_a_layer_on_one_scale_with_units() -> None:
    drawn = along_training.distance_figure(COURSES, 12_000)
    lines = [trace for trace in drawn.data if trace.mode == "lines+markers"]
    assert len(lines) == 4 * 2
    assert {trace.line.color for trace in lines} == {"#0072B2", "#009E73"}
    first = next(trace for trace in lines if trace.name == "DINO")
    assert list(first.customdata[:, 0]) == [0, 600, 12_000, 80_000]
    assert list(first.y) == pytest.approx([51.0, 50.0, 40.0, 35.0])
    assert list(first.customdata[:, 1]) == pytest.approx([49.0, 48.0, 38.0, 33.0])
    assert first.x[0] == 0.0
    assert drawn.layout.yaxis.title.text == "distance (px)"
    assert any(axis.title.text == "images seen" for axis in drawn.select_xaxes())
    follows = [axis.matches for axis in drawn.select_yaxes()]
    assert follows.count(None) == 1, "one scale for all layers: every axis but one follows that one"
    assert len(set(follows)) == 2
    marked = [shape.x0 for shape in drawn.layout.shapes if shape.line.dash == "dot"]
    assert set(marked) == {float(along_training.place(12_000, 300.0))}


def test_the_axis_is_0_at_0_and_logarithmic_beyond_the_first_snapshot() -> None:
    assert along_training.axis_unit(COURSES) == 300
    far = along_training.place(np.array([1e5, 1e6, 1e7]), 300)
    assert np.diff(far) == pytest.approx(np.log(10), rel=1e-3)
    assert along_training.place(0, 300) == 0
    assert [along_training.short(n) for n in (0, 100, 1_000, 100_000, 1_000_000)] == ["0", "100", "1 k", "100 k", "1 M"]


def test_a_moment_is_the_last_that_has_seen_no_more() -> None:
    assert [COURSES[1].at(n).images for n in (0, 599, 600, 40_000, 80_000)] == [0, 0, 600, 12_000, 80_000]
    assert COURSES[1].name(COURSES[1].moments[0]) == "untrained"
    assert COURSES[1].name(COURSES[1].moments[-1]) == "80,000 images, end"


def test_the_words_follow_from_the_numbers() -> None:
    said = along_training.in_words(COURSES, 3)
    assert "**supervised**: mean attention distance from 51.5 px (untrained) to 31.5 px (40,000 images, end)" in said
    assert "n = 3 images" in said
    assert "Even attention would have 52 px" in said
    assert "56 to 112 px; positions began as random numbers" in COURSES[0].began


def test_the_table_has_a_row_a_moment_layer_and_head() -> None:
    rows = along_training.table(COURSES)
    assert len(rows) == (3 + 4) * 4 * 2
    one = rows[rows["model"].eq("DINO") & rows["images_seen"].eq(600) & rows["layer"].eq(2) & rows["head"].eq(1)]
    assert one["distance_px"].tolist() == [49.0]


def test_images_are_counted_over_runs_that_follow_one_another() -> None:
    first = TrainConfig(objective="supervised", architecture="scenes_vit", stages=(Stage(6_400, 112),), batch_size=64)
    second = TrainConfig(objective="supervised", architecture="scenes_vit", stages=(Stage(3_200, 112),), batch_size=32)
    assert [images_seen([first, second], step) for step in (0, 50, 100, 150, 200, 999)] == [
        0, 3_200, 6_400, 8_000, 9_600, 9_600,
    ]  # fmt: skip


@pytest.mark.parametrize("key", trainings.SHIPPED)
def test_the_shipped_snapshots_run_from_the_start_to_the_shipped_weights(key: str) -> None:
    along = moments(key)
    assert len(along) >= 5
    assert along[0].images == 0
    assert along[-1].model == key
    assert along[-1].final
    assert [one.images for one in along] == sorted({one.images for one in along})
    assert positions_start(key) in ("random numbers", "sines and cosines of row and column")


def test_models_without_snapshots_are_named_and_the_shipped_pair_stands_in() -> None:
    both = Selection(("scenes-vit-mae", "scenes-vit-dino"), ("scene:0",))
    assert trainings.with_snapshots(both) == (["scenes-vit-dino"], ["scenes-vit-mae"])
    none = Selection(("timm:test_vit@random:0",), ("scene:0",))
    assert trainings.with_snapshots(none) == (list(trainings.SHIPPED), ["timm:test_vit@random:0"])


def test_five_models_without_snapshots_leave_the_shipped_pair_with_two_colours() -> None:
    at = AppTest.from_file(HOME, default_timeout=120)
    at.query_params["model"] = list(PRESETS["ViT training recipes (S/16)"])
    at.query_params["image"] = ["scene:0"]
    turn_to(at, "formation")
    at.run()
    assert len(PRESETS["ViT training recipes (S/16)"]) >= 5
    assert not at.exception
    assert [error.value for error in at.error] == []
    assert any(caption.value.startswith("No snapshots of the training: ") for caption in at.caption)
    for job in results.store().jobs.live():
        for visitor in list(job.waiting):
            results.store().jobs.leave(job, visitor)
        assert job.finished.wait(60)


def test_the_legend_stands_above_the_names_of_the_charts_and_the_data_fill_the_axis() -> None:
    drawn = frame.dressed(along_training.distance_figure(COURSES, 12_000))
    inside = drawn.layout.height - drawn.layout.margin.t - drawn.layout.margin.b
    names = [entry for entry in drawn.layout.annotations if entry.text.startswith("layer")]
    assert (drawn.layout.legend.y - max(name.y for name in names)) * inside > 25, "a name's line is 22 px tall"
    lengths = [y for trace in drawn.data for y in trace.y] + [52.0]
    low, high = drawn.layout.yaxis.range
    assert low < min(lengths)
    assert high > max(lengths)
    assert (max(lengths) - min(lengths)) / (high - low) > 0.85
