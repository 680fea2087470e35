"""The course of a training: its figure, table and words as data, and the page itself with the shipped snapshots."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from streamlit.testing.v1 import AppTest

from dashboard.compute import results
from dashboard.compute.asking import ModelResult
from dashboard.draw import frame
from dashboard.state.selection import Selection
from dashboard.views.digits.runs import Run
from dashboard.views.formation import curves, trainings
from dashboard.views.formation.along_training import Course
from dashboard.views.formation.measures import MEASURES, Measure, scene_labels
from model_zoo.catalog import PRESETS
from model_zoo.loading import load
from model_zoo.training.config import Stage, TrainConfig
from model_zoo.training.loop import build_student
from model_zoo.training.recipes import RECIPES
from model_zoo.training.snapshots import Moment, images_seen, moments, positions_start, sizes
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
    return Course(title, colour, "random numbers", (56, 112), along, results, ("scene:0", "scene:1", "scene:2"))


DISTANCE = MEASURES["distance"]
COURSES = [
    trained("supervised", "#0072B2", (0, 1_000, 40_000), (50.0, 45.0, 30.0)),
    trained("DINO", "#009E73", (0, 600, 12_000, 80_000), (51.0, 50.0, 40.0, 35.0)),
]


def test_the_figure_has_a_chart_a_layer_on_one_scale_with_units() -> None:
    drawn = curves.over_training(COURSES, DISTANCE, 12_000)
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
    assert set(marked) == {float(curves.place(12_000, 300.0))}


def test_the_axis_is_0_at_0_and_logarithmic_beyond_the_first_snapshot() -> None:
    assert curves.axis_unit(COURSES) == 300
    far = curves.place(np.array([1e5, 1e6, 1e7]), 300)
    assert np.diff(far) == pytest.approx(np.log(10), rel=1e-3)
    assert curves.place(0, 300) == 0
    assert [curves.short(n) for n in (0, 100, 1_000, 100_000, 1_000_000)] == ["0", "100", "1 k", "100 k", "1 M"]


def test_a_moment_is_the_last_that_has_seen_no_more() -> None:
    assert [COURSES[1].at(n).images for n in (0, 599, 600, 40_000, 80_000)] == [0, 0, 600, 12_000, 80_000]
    assert COURSES[1].name(COURSES[1].moments[0]) == "untrained"
    assert COURSES[1].name(COURSES[1].moments[-1]) == "80,000 images, end"


def test_the_words_follow_from_the_numbers() -> None:
    said = curves.in_words(COURSES, DISTANCE, 3)
    assert "**supervised**: distance (px) from 51.5 (untrained) to 31.5 (40,000 images, end)" in said
    assert "n = 3 images" in said
    assert "Even attention would have 52." in said
    assert "56 to 112 px; positions began as random numbers" in COURSES[0].began


def test_the_table_has_a_row_a_moment_layer_and_head() -> None:
    rows = curves.table(COURSES, DISTANCE)
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
    drawn = frame.dressed(curves.over_training(COURSES, DISTANCE, 12_000))
    inside = drawn.layout.height - drawn.layout.margin.t - drawn.layout.margin.b
    names = [entry for entry in drawn.layout.annotations if entry.text.startswith("layer")]
    assert (drawn.layout.legend.y - max(name.y for name in names)) * inside > 25, "a name's line is 22 px tall"
    lengths = [y for trace in drawn.data for y in trace.y] + [52.0]
    low, high = drawn.layout.yaxis.range
    assert low < min(lengths)
    assert high > max(lengths)
    assert (max(lengths) - min(lengths)) / (high - low) > 0.85


def of(measure: Measure, dataset: xr.Dataset, title: str = "one", colour: str = "#0072B2") -> Course:
    """A training whose two moments have the same dataset."""
    along = (Moment("a@step-00000", 0, 0), Moment("a", 10, 320, final=True))
    datasets = {measure.probe: dataset}
    results = tuple(ModelResult(one.model, title, colour, None, (), datasets) for one in along)
    return Course(title, colour, "random numbers", (112,), along, results, ("scene:0", "scene:1"))


def test_a_layer_of_a_shallow_model_stands_at_the_same_relative_depth() -> None:
    assert curves.places_of(6, 6) == [0, 1, 2, 3, 4, 5]
    assert curves.places_of(2, 6) == [0, 5]
    assert curves.places_of(1, 6) == [5]
    courses = [of(DISTANCE, distances(50.0, 6)), of(DISTANCE, distances(30.0, 2), "two", "#009E73")]
    drawn = curves.over_training(courses, DISTANCE, 320)
    lines = [trace for trace in drawn.data if trace.mode == "lines+markers" and trace.name == "two"]
    shallow = [(trace.yaxis, trace.hovertemplate) for trace in lines]
    deep = [t.yaxis for t in drawn.data if t.mode == "lines+markers" and t.name == "one"]
    assert [axis for axis, _ in shallow] == [deep[0], deep[5]]
    assert "layer 2 of 2" in shallow[1][1]
    assert "same relative depth" in curves.in_words(courses, DISTANCE, 2)


def test_a_quantity_of_the_whole_model_is_one_chart_without_a_band() -> None:
    measure = MEASURES["accuracy"]
    labels = scene_labels(("scene:0", "scene:1"))
    logits = np.zeros((1, 2, 10))
    logits[0, 0, int(labels[0])] = 1.0
    logits[0, 1, (int(labels[1]) + 1) % 10] = 1.0
    course = of(measure, xr.Dataset({"embedding": (("layer", "image", "feature"), logits)}))
    assert {float(values) for found in course.values(measure).values() for values in found.ravel()} == {0.5}
    drawn = curves.over_training([course], measure, 0)
    assert [trace.mode for trace in drawn.data] == ["lines+markers"]
    assert drawn.layout.yaxis.title.text == "share of right answers (0 to 1)"
    assert not [one.text for one in drawn.layout.annotations]


def test_pictures_that_are_no_scenes_have_no_right_answers_and_the_page_says_so() -> None:
    measure = MEASURES["accuracy"]
    dataset = xr.Dataset({"embedding": (("layer", "image", "feature"), np.eye(2)[None])})
    course = of(measure, dataset)
    photographs = Course(course.title, course.colour, "", (112,), course.moments, course.results, ("photo:cat", "a"))
    assert photographs.values(measure) == {}
    assert "nothing to measure" in photographs.undefined(measure)
    assert course.undefined(MEASURES["cka"]) == "", "what is still on its way is not undefined"


def test_likeness_is_of_each_moment_with_the_finished_model() -> None:
    measure = MEASURES["cka"]
    along = moments("scenes-vit-supervised")
    assert measure.asks([along], 15) == []
    asked = measure.asks([along], 16)
    assert [ask.models for ask in asked] == [(one.model,) for one in along]
    assert {ask.against for ask in asked} == {"scenes-vit-supervised"}
    assert len({ask.key for ask in asked}) == 1
    square = xr.Dataset({"cka": (("layer_a", "layer_b"), np.array([[0.2, 0.9], [0.8, 0.4]]))})
    assert measure.values(square).tolist() == [[0.2], [0.4]]


def test_a_logarithmic_axis_holds_the_data() -> None:
    wide = Measure("Wide", "size", "size", "attention-distance", lambda d: d["distance"] ** 8, "", log=True)
    drawn = curves.over_training(COURSES, wide, 0)
    low, high = drawn.layout.yaxis.range
    sizes = np.log10([y for trace in drawn.data for y in trace.y])
    assert drawn.layout.yaxis.type == "log"
    assert low < sizes.min() < sizes.max() < high
    assert high < 20


def test_every_quantity_is_drawn_of_a_shipped_training() -> None:
    """The page itself: a chart and a sentence with n, from the untrained network on."""
    at = AppTest.from_file(HOME, default_timeout=300)
    at.query_params["model"] = ["scenes-vit-supervised"]
    at.query_params["image"] = [f"scene:{i}" for i in range(4)]
    turn_to(at, "formation")
    at.run()
    for name, measure in MEASURES.items():
        at.selectbox(key="measure").set_value(name).run()
        for _ in range(2):
            for job in results.store().jobs.live():
                assert job.finished.wait(300)
            at.run()
        assert not at.exception
        assert [error.value for error in at.error] == []
        said = [one.value for one in at.markdown if "n = 4 images" in one.value]
        if measure.least > 4:
            assert not said
            assert any("at least 16 images" in one.value for one in at.caption)
            continue
        assert len(said) == 1
        assert f"**ViT, supervised**: {measure.label} from " in said[0]
        assert "(untrained)" in said[0]
        assert measure.title in [one.value for one in at.header]


def test_a_run_on_digits_can_be_followed_like_a_shipped_training() -> None:
    run = Run("formed", 2, 0, "visitor")
    run.train(run.job)
    along = moments(run.model)
    assert [one.step for one in along] == [0, 22, 44]
    assert [one.images for one in along] == [0, 1408, 2816]
    assert [one.model for one in along] == ["trained:formed@step-00000", "trained:formed@step-00022", "trained:formed"]
    assert (positions_start(run.model), sizes(run.model)) == ("random numbers", (16,))
    chosen = Selection((run.model, "scenes-resnet"), ("scene:0",))
    assert trainings.with_snapshots(chosen) == ([run.model], ["scenes-resnet"])
    first, last = (load(one.model, device="cpu") for one in (along[0], along[-1]))
    assert first.digest != last.digest
    assert first.spec.grid == last.spec.grid == (8, 8)
    again = build_student(replace(RECIPES["digits"], seed=0), 10)
    weights = dict(again.named_parameters())
    for path, value in first.module.named_parameters():
        assert torch.allclose(value, weights[path], atol=1e-3), "the untrained network is the one that was trained"


def test_layers_without_attention_have_no_line_of_it() -> None:
    measure = MEASURES["lesion"]
    values = np.array([[np.nan, 0.7], [0.9, 0.8]])
    dataset = xr.Dataset({"part_cosine": (("layer", "part"), values)}, coords={"part": ["attention", "mlp"]})
    course = of(measure, dataset)
    drawn = curves.over_training([course], measure, 0)
    assert [list(trace.y) for trace in drawn.data] == [[0.9, 0.9]]
    assert [trace.showlegend for trace in drawn.data] == [True]
    assert "layer 2 most" in curves.in_words([course], measure, 2)


def test_the_highest_frequency_is_that_of_each_blocks_own_grid() -> None:
    points = ["embed", "resid_post.0", "resid_mid.1", "resid_post.1"]
    relative = np.array([[0, 9, 9], [0, -1, -3], [0, 9, 9], [0, -2, np.nan]], float)
    dataset = xr.Dataset({"relative": (("point", "frequency"), relative)}, coords={"point": points})
    assert MEASURES["fourier"].values(dataset).tolist() == [[-3.0], [-2.0]]
