"""The relevance page's panels, scales and sentence as data; its target picker."""

import numpy as np
import pytest
import xarray as xr

from dashboard.compute.asking import ModelResult
from dashboard.compute.requests import Request
from dashboard.compute.work import probe_of
from dashboard.controls import target_choice
from dashboard.draw.sentences import percent
from dashboard.images import gallery
from dashboard.view import Shown
from dashboard.views.relevance import concentration, maps
from dashboard.views.relevance import view as relevance
from model_zoo.adapter import Geometry, ModelSpec
from probes.core import targets


def dataset(values: np.ndarray, *, vanished: bool = False, name: str = "heart, card suit") -> xr.Dataset:
    return xr.Dataset(
        {
            "relevance": (("image", "y", "x"), values[None]),
            "vanished": ("image", [vanished]),
            "target_value": ("image", [2.5]),
            "target_class": ("image", [-1 if name == "similarity" else 3]),
        }
        | ({} if name == "similarity" else {"target_probability": ("image", [0.25])}),
        coords={"target_name": ("image", [name])},
        attrs={"vector": "mean"} if name == "similarity" else {},
    )


def model(title: str = "A", message: str = "", **datasets: xr.Dataset) -> ModelResult:
    spec = ModelSpec("vit", (224, 224), 56, (4, 4), ("cls",), (), (), 10)
    geometry = Geometry((224, 224), (0, 0, 224, 224), (224, 224))
    found = dict.fromkeys(maps.METHODS, datasets["found"]) if datasets else {}
    return ModelResult(title, title, "#0072B2", spec, (geometry,), found, message, False, {"chefer": message})


def test_maps_are_divided_by_their_mean_so_that_models_share_a_scale() -> None:
    small, large = np.arange(16.0).reshape(4, 4), 1e6 * np.arange(16.0).reshape(4, 4)
    one, two = (
        maps.relevance_map("chefer", model(t, found=dataset(v)), "scene:2") for t, v in (("A", small), ("B", large))
    )
    np.testing.assert_allclose(one.values, two.values)
    assert one.values.mean() == pytest.approx(1)
    scale = maps.scales([one, two])[False]
    assert (scale.low, scale.units, scale.signed) == (0, "times even relevance", False)
    assert scale.high == pytest.approx(one.values.max())
    assert relevance.panel(one, None).scale is None  # the shared one
    assert one.note == "heart, 25\u202f%, logit 2.5"


def test_signed_maps_have_a_scale_of_their_own_around_zero() -> None:
    values = np.linspace(-3, 1, 16).reshape(4, 4)
    one = maps.relevance_map("integrated-gradients", model(found=dataset(values)), "scene:2")
    scale = maps.scales([one])[True]
    assert scale.signed
    assert scale.low == -scale.high
    assert relevance.panel(one, scale).scale is scale


def test_a_map_that_vanished_is_a_sentence_and_no_map() -> None:
    one = maps.relevance_map("grad-cam", model(found=dataset(np.full((4, 4), np.nan), vanished=True)), "scene:2")
    assert one.values is None
    assert "gives no map for heart" in one.message
    drawn = relevance.panel(one, None)
    assert drawn.values is None
    assert not drawn.waiting
    assert concentration.reading([one], "photo:chelsea") == ""


def test_an_undefined_model_says_why() -> None:
    drawn = relevance.panel(maps.relevance_map("chefer", model(message="Not defined here: windows."), "scene:2"), None)
    assert drawn.message == "Not defined here: windows."
    other = relevance.panel(maps.relevance_map("token-grad-cam", model(message="Not for chefer."), "scene:2"), None)
    assert (other.message, other.waiting) == ("computing …", True), "another method may well be defined"


def test_the_sentence_follows_from_the_numbers() -> None:
    even, one_patch = np.ones((4, 4)), np.zeros((4, 4))
    one_patch[0, 0] = 1
    found = [
        maps.relevance_map("chefer", model("A", found=dataset(even)), "scene:2"),
        maps.relevance_map("chefer", model("B", found=dataset(one_patch, name="similarity")), "scene:2"),
    ]
    said = concentration.reading(found, "photo:chelsea")
    assert "**A** (heart, 25\u202f%, logit 2.5): Chefer 62\u202f%" in said  # 10 of 16 patches hold 60% of an even map
    assert "**B** (similarity to Scene 3, mean of patches, 2.5): Chefer 6\u202f%" in said
    assert "n = 1 image" in said
    mask = gallery.mask("scene:0")
    on_object = concentration.reading(found[:1], "scene:0")
    assert f"Chefer {percent(float(mask.mean()))}" in on_object  # an even map lies on it by its area


def test_without_a_classifier_the_top_class_becomes_a_similarity() -> None:
    request = Request(
        ("m",), ("scene:2",), "attention-relevance", tuple(target_choice.Chosen("top", "scene:4").params.items())
    )
    asked = probe_of(request)
    with_classes, without = (ModelSpec("vit", (64, 64), 16, (4, 4), (), (), (), n) for n in (10, 0))
    assert [targets.meant(spec, asked.target) for spec in (with_classes, without)] == ["top", "similarity"]
    assert target_choice.Chosen("similarity", "scene:4").params == {
        "target": "similarity",
        "of": "scene:4",
        "pool": "card",
    }
    assert target_choice.Chosen("cat", "scene:4").params == {"target": "cat"}  # a model without classes says so there


def test_likeliest_classes_alternate_between_models() -> None:
    assert target_choice.likeliest({"A": ["cat", "dog"], "B": ["cup", "cat", "bee"]}) == ["cat", "cup", "dog", "bee"]


def test_all_methods_stand_beside_each_other_in_a_row_a_model() -> None:
    two = [model(title, found=dataset(np.arange(16.0).reshape(4, 4))) for title in "AB"]
    found = [maps.relevance_map(method, one, "scene:2") for method in maps.METHODS for one in two]
    scale = maps.scales(found)
    rows = relevance.rows("scene:0", found, scale[True], by_model=True)
    assert [row.title for row in rows] == ["A", "B"]
    assert [panel.name for panel in rows[1].panels] == list(maps.METHODS.values())
    assert [panel.scale is scale[True] for panel in rows[1].panels] == [m == maps.SIGNED for m in maps.METHODS]
    drawn = Shown("t", rows, scale=scale[False]).svg()
    assert drawn.count(f">{maps.METHODS['chefer']}<") == 2
