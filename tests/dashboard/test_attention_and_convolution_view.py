"""The page of the three questions: what it says of known numbers, and that it opens with the shipped models."""

import json

import numpy as np
import pytest
import xarray as xr

from dashboard.draw.figures import courses, lesion_effects
from dashboard.views.attention_and_convolution import answers, heads, numbers, view
from tests.dashboard.test_frequency_views import CNN, HALVES, VIT, stream
from tests.dashboard.test_landscape_view import plane
from tests.dashboard.test_pages import app, clean
from tests.dashboard.turning import turn_to


def lesions(parts, values, head_cosine=None, **attrs):
    """Effects of (layer, part), right answers as shares; heads where cosines of (layer, head) are given."""
    shape = np.shape(values)
    found = {"part_cosine": (("layer", "part"), np.full(shape, 0.9)), "part_top1": (("layer", "part"), values)}
    count = [0] * shape[0]
    if head_cosine is not None:
        count = [int(np.isfinite(row).sum()) for row in head_cosine]
        found["head_cosine"] = (("layer", "head"), np.array(head_cosine))
    return xr.Dataset(found, {"part": parts, "head_count": ("layer", count)}, {"n": 8, **attrs})


NAN = np.nan
TRANSFORMER = lesions(["attention", "mlp"], [[-0.3, -0.8], [-0.1, 0.0]], top1=0.9)
CONVOLUTIONS = lesions(["block"], [[-0.2], [-0.4], [0.0]], top1=0.8)
HYBRID = lesions(["block", "attention", "mlp"], [[-0.5, NAN, NAN], [NAN, -0.1, 0.05]], top1=1.0)


def test_models_are_told_apart_by_the_parts_of_their_blocks():
    assert [answers.kind(one) for one in (TRANSFORMER, CONVOLUTIONS, HYBRID)] == [
        "transformer",
        "convolutional",
        "hybrid",
    ]


def test_the_loss_near_the_weights_is_a_mean_over_a_disc():
    axis = np.linspace(-1, 1, 11)
    alpha, beta = np.meshgrid(axis, axis)
    bowl = xr.Dataset({"loss": (("beta", "alpha"), alpha**2 + beta**2)}, {"alpha": axis, "beta": axis})
    inside = [a * a + b * b for a in axis for b in axis if a * a + b * b <= 0.16 + 1e-9]
    assert len(inside) == 13
    assert answers.near(bowl) == pytest.approx(np.mean(inside))


def test_what_helps_is_told_in_numbers_beside_the_papers_answer():
    said = answers.helps({"ViT": TRANSFORMER, "CNN": CONVOLUTIONS}, {"ViT": plane(0.1, 0.3)}, {})
    assert "**ViT** attention −20, MLP −40; **CNN** convolution −20." in said
    assert "Loss at the weights → its mean within 0.4 lengths of them, nats: **ViT** 0.2 → 0.2." in said
    assert said.startswith("- **Park & Kim 2022**")
    assert "*Not shown*" in said
    assert "Rank correlation" not in said


def test_without_labels_for_all_the_embedding_is_compared():
    unlabelled = TRANSFORMER.drop_vars("part_top1")
    assert answers.effect_of({"a": TRANSFORMER, "b": unlabelled}) == "cosine"
    assert "The embedding turns (1 − cosine)" in answers.helps({"a": TRANSFORMER, "b": unlabelled}, {}, {})
    assert answers.effect_of({"a": TRANSFORMER}) == "top1"


def test_spans_are_counted_over_all_models():
    found = {"ViT": courses.course(VIT), "CNN": courses.course(CNN)}
    said = answers.convolution(found, {})
    assert "across attention it falls in 2 and rises in 0 of 2 blocks" in said
    assert "across convolutions it falls in 0 and rises in 2 of 2 blocks (1 more change the grid)" in said
    assert answers.convolution({}, {}) == ""


def test_of_a_hybrid_every_part_is_told_in_order():
    detail = {"H": courses.course(stream([-2.0, -1.0, -1.5, -1.4], ["embedding", "block", *HALVES[1:3]]))}
    square = xr.Dataset({"cka": (("layer_a", "layer_b"), [[0.2, 0.9], [0.4, 0.6]])})
    said = answers.together({"H": HYBRID, "ViT": TRANSFORMER}, detail, {("H", "ViT"): square})
    assert "**H** 100.0%, **ViT** 90.0%" in said
    assert "convolution 1: −50, attention 2: −10, MLP 2: 5." in said
    assert "convolution 1: 1, attention 2: −0.5, MLP 2: 0.1." in said
    assert "CKA of **H** and **ViT**: at most 0.9, of their last layers 0.6." in said
    assert "choose a hybrid" in answers.together({"ViT": TRANSFORMER}, {}, {})


def test_heads_are_matched_by_layer_and_ranked():
    cosine = [[NAN] * 4, [0.9, 0.8, 0.7, 0.6], [NAN] * 4, [0.5, 0.4, 0.3, 0.2]]
    found = lesions(["block"], np.zeros((4, 1)), head_cosine=cosine)
    distances = xr.Dataset(
        {"distance": (("layer", "head"), np.arange(8.0).reshape(2, 4) * 10)}, attrs={"diagonal": 100.0}
    )
    points = heads.points(found, distances)
    assert points[:, 0].tolist() == [2] * 4 + [4] * 4
    assert points[:, 1].tolist() == [1, 2, 3, 4] * 2
    np.testing.assert_allclose(points[:, 2], np.arange(8) / 10)
    assert heads.correlation(points) == pytest.approx(1)
    assert heads.correlation(points * [1, 1, -1, 1]) == pytest.approx(-1)
    assert np.isnan(heads.correlation(points[:7]))
    assert len(heads.points(TRANSFORMER, distances)) == 0, "no head was left out"


def test_the_table_holds_every_figure_and_counts_from_one():
    square = xr.Dataset({"cka": (("layer_a", "layer_b"), [[0.5, 0.25]]), "cka_sd": (("layer_a", "layer_b"), [[0, 0]])})
    square = square.assign_coords(layer_a=[0], layer_b=[0, 1], point_a=("layer_a", ["resid_post.0"]))
    whole = numbers.together(
        {
            "lesion": lesion_effects.table({"a": TRANSFORMER}),
            "head": numbers.of_heads({"a": np.array([[1, 2, 0.3, 0.4]]), "b": np.zeros((0, 4))}),
            "loss": numbers.of_datasets({"a": plane(0.5, 2.5)}, "loss"),
            "detail": numbers.of_courses({"a": courses.course(VIT)}),
            "CKA": numbers.of_datasets({"a and b": square}, "cka", "cka_sd"),
            "variance": numbers.of_courses({}),
        }
    )
    assert list(whole.columns[:2]) == ["model", "quantity"]
    of = {name: lines.dropna(axis=1) for name, lines in whole.groupby("quantity")}
    assert set(of) == {"lesion", "head", "loss", "detail", "CKA"}
    assert of["lesion"]["layer"].tolist() == [1, 1, 2, 2]
    assert of["head"][["model", "layer", "head", "distance", "effect"]].values.tolist() == [["a", 1, 2, 0.3, 0.4]]
    assert len(of["loss"]) == plane(0.5, 2.5)["loss"].size
    assert of["loss"].set_index(["alpha", "beta"])["loss"].min() == plane(0.5, 2.5)["loss"].min()
    assert of["CKA"][["model", "layer_a", "layer_b", "cka"]].values.tolist() == [
        ["a and b", 1, 1, 0.5],
        ["a and b", 1, 2, 0.25],
    ]
    assert of["detail"]["block"].min() == 0


@pytest.mark.parametrize("question", view.QUESTIONS.values())
def test_each_question_is_answered_by_the_shipped_models(question, settle):
    at = settle(turn_to(app(ask=[question], set=["chosen"], image=[f"scene:{i}" for i in range(4)]).run(), PAGE))
    clean(at)
    said = " ".join(one.value for one in at.markdown)
    assert "Park & Kim 2022" in said
    assert "n = 4 images" in said
    names = {
        trace.get("name", "") for chart in at.get("plotly_chart") for trace in json.loads(chart.proto.spec)["data"]
    }
    assert {"ResNet", "Hybrid", "ViT, supervised"} <= {name.rpartition(", ")[0] or name for name in names} | names
    assert [one.label for one in at.get("download_button")] == ["PNG", "SVG", "CSV"]


def test_models_without_a_hybrid_are_asked_too(settle):
    asked = app(ask=["How do they combine?"], whose=["as chosen"], set=["chosen"], image=["photo:coffee", "scene:1"])
    at = settle(turn_to(asked.run(), PAGE))
    clean(at)
    assert "choose a hybrid" in " ".join(one.value for one in at.markdown)


PAGE = "attention-and-convolution"
