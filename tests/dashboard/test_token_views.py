"""Figures of the pages on single tokens as data: colours, correspondence, logit lens."""

import re

import numpy as np
import pytest
import xarray as xr

from dashboard.compute.asking import ModelResult
from dashboard.controls import choices, token_layers
from dashboard.draw import export, panels
from dashboard.draw.panels import Look, Panel, Row
from dashboard.images import gallery
from dashboard.state.selection import Depth
from dashboard.view import Shown
from dashboard.views import patch_colours
from dashboard.views.correspondence import lines, similarities
from dashboard.views.correspondence import view as correspondence
from dashboard.views.logit_lens import answers, class_colours
from dashboard.views.logit_lens import view as logit_lens
from model_zoo.adapter import Geometry, ModelSpec

PICTURE = "photo:coffee"
SIZE = gallery.load(PICTURE).size
GEOMETRY = Geometry(SIZE, (100.0, 0.0, 500.0, 400.0), (224, 224))
SPEC = ModelSpec(
    "vit", (32, 48), 8, (4, 6), ("cls",), (), ("embed", *(f"resid_post.{i}" for i in range(6)), "norm"), 10
)


def model(probe, dataset, **more):
    return ModelResult("m", "A", "#0072B2", SPEC, (GEOMETRY, GEOMETRY), {probe: dataset} if dataset else {}, **more)


def test_depth_to_layer():
    assert token_layers.text(SPEC, Depth(3, 6)) == "layer 3 of 6"
    assert token_layers.text(SPEC, Depth(1, 12)) == "layer 1 of 6"
    assert token_layers.text(SPEC, Depth(12, 12)) == "after the final norm"
    assert token_layers.text(SPEC, choices.LAST) == "after the final norm"


def test_a_facet_has_no_final_norm():
    assert token_layers.facet_text(SPEC, choices.LAST, "token") == "after the final norm"
    assert token_layers.facet_text(SPEC, choices.LAST, "key") == "key of layer 6 of 6"
    assert token_layers.facet_text(SPEC, Depth(3, 6), "query") == "query of layer 3 of 6"


def pca():
    rgb = np.random.default_rng(0).random((2, 4, 6, 3))
    rgb[1, 0, 0] = np.nan
    return xr.Dataset(
        {
            "rgb": (("image", "y", "x", "c"), rgb),
            "component": (("image", "y", "x", "c"), rgb * 5),
            "explained": ("c", [0.4, 0.2, 0.1]),
        },
        attrs={"foreground": "first", "foreground_fraction": 47 / 48},
    )


def test_colours_are_the_components_and_the_background_is_clear():
    data = pca()
    rgba = patch_colours.colours(data, 1)
    assert rgba[0, 0, 3] == 0
    assert (rgba[1:, :, 3] == 255).all()
    np.testing.assert_allclose(rgba[1:, :, :3] / 255.0, data["rgb"].values[1, 1:], atol=1 / 255)
    said = patch_colours.reading({"A": data})
    assert "**A** 70% (24 patches an image; foreground 97.9% of them); n = 2 images together." in said


def test_a_panel_of_colours_is_drawn_over_the_crop_and_says_what_it_is():
    one = patch_colours.panel(model("patch-pca", pca()), 0, Depth(3, 6))
    entry = panels.described(one, PICTURE, None, Look())
    assert (entry["state"], entry["grid"], entry["exact"]) == ("ready", [4, 6], True)
    assert len(entry["values"]) == 24
    assert entry["values"][0].count("/") == 2
    assert one.note == "layer 3 of 6"
    drawn = export.svg(PICTURE, [one], scale=None, look=Look(), title="t", caption="c")
    assert drawn.count("<image") == 3  # the original, the photo under the map, the map
    waiting = patch_colours.panel(model("patch-pca", None, waiting=True), 0, choices.LAST)
    assert waiting.waiting
    refused = patch_colours.panel(model("patch-pca", None, message="Not here."), 0, choices.LAST)
    assert (refused.message, refused.waiting) == ("Not here.", False)


def test_rows_of_images_are_one_picture():
    rows = [Row(PICTURE, [patch_colours.panel(model("patch-pca", pca()), i, choices.LAST)]) for i in (0, 1)]
    drawn = Shown("t", rows).svg()
    assert drawn.count("<image") == 2 * 3
    tops = [float(y) for y in re.findall(r"<svg x='24' y='([0-9.]+)'", drawn)]
    tall = export.WIDTH * SIZE[1] / SIZE[0]
    whole = float(re.match(r"<svg [^>]*? height='([0-9.]+)'", drawn)[1])
    assert len(tops) == 2
    assert tops[1] >= tops[0] + tall
    assert whole >= tops[1] + tall
    assert export.png(drawn).startswith(b"\x89PNG")


def matches():
    random = np.random.default_rng(1)
    similarity = random.uniform(-0.2, 0.9, (2, 4, 6))
    similarity[0, 1, 2] = 1
    return xr.Dataset(
        {
            "similarity": (("image", "y", "x"), similarity),
            "match": (("image", "y", "x"), random.integers(0, 24, (2, 4, 6))),
            "match_similarity": (("image", "y", "x"), random.random((2, 4, 6))),
            "mutual": (("image", "y", "x"), random.integers(0, 2, (2, 4, 6))),
        }
    )


def test_the_best_pairs_are_mutual_and_sorted():
    data = matches()
    pairs = lines.best_pairs(data, 1, 5)
    flat = {name: data[name].values[1].ravel() for name in data}
    assert len(pairs) == 5
    assert all(flat["mutual"][a] and flat["match"][a] == b for a, b, _ in pairs)
    values = [value for _, _, value in pairs]
    assert values == sorted(values, reverse=True)
    assert values[0] == flat["match_similarity"][flat["mutual"] == 1].max()


def test_lines_join_the_patches_where_they_lie():
    drawn = lines.lines((PICTURE, PICTURE), (GEOMETRY, GEOMETRY), (4, 6), [(0, 23, 0.5)], "#0072B2", "t")
    zoom = lines.SIDE / max(SIZE)
    ends = [float(x) for x in re.search(r"x1='(.+?)' y1='(.+?)' x2='(.+?)' y2='(.+?)'", drawn).groups()]
    second = SIZE[0] * zoom + 16
    cell = (400 / 6, 400 / 4)
    expected = (
        (100 + cell[0] / 2) * zoom,
        cell[1] / 2 * zoom,
        second + (500 - cell[0] / 2) * zoom,
        (400 - cell[1] / 2) * zoom,
    )
    assert ends == pytest.approx(expected, abs=0.1)


def test_similarities_share_one_scale_unless_asked_otherwise():
    data = {"A": matches(), "B": matches() - 0.3}
    scale = similarities.scale_of(data)
    assert (scale.low, scale.high) == (float(data["B"]["similarity"].min()), 1.0)
    shared = correspondence.Chosen(choices.LAST, "token", (0.5, 0.5), True, 12)
    apart = correspondence.Chosen(choices.LAST, "token", (0.5, 0.5), False, 12)
    assert correspondence.panel(model("patch-similarity", data["A"]), 0, shared).scale is None
    own = correspondence.panel(model("patch-similarity", data["A"]), 1, apart).scale
    assert own.low == data["A"]["similarity"].values[1].min()
    one = matches().isel(image=[0])
    assert "choose one more" in similarities.reading({"A": one}, "token")
    assert "of 24 patches have a mutual match" in similarities.reading({"A": matches()}, "key")
    unseen = matches().assign(similarity=matches()["similarity"] * np.nan)
    beyond = correspondence.panel(model("patch-similarity", unseen), 0, shared)
    assert "outside this model's crop" in beyond.message
    assert not beyond.waiting
    assert similarities.scale_of({"A": unseen, "B": data["B"]}) == scale, "what no model saw has no part in it"


def lens(cls=True):
    top = np.zeros((1, 3, 4, 6, 2), int)
    top[..., 1] = 7
    top[0, 0] = -1
    top[0, 2, :2, :, 0] = 5
    probability = np.full(top.shape, 0.25)
    final = np.full((1, 3, 2), 5 if cls else -1)
    return xr.Dataset(
        {
            "top_class": (("image", "layer", "y", "x", "rank"), top),
            "probability": (("image", "layer", "y", "x", "rank"), probability),
            "cls_class": (("image", "layer", "rank"), final),
            "cls_probability": (("image", "layer", "rank"), probability[:, :, 0, 0]),
        },
        coords={
            "layer": range(3),
            "grid_height": ("layer", [4, 4, 4]),
            "grid_width": ("layer", [6, 6, 6]),
        },
        attrs={"class_names": ["0 tench, Tinca", "5 electric ray", "7 cock"]},
    )


def test_each_patch_has_the_colour_of_its_class_and_the_surer_the_stronger():
    one = answers.at_layer(lens(), choices.LAST)
    shades = class_colours.legend([lens()], ["electric ray"])
    assert list(shades) == ["electric ray", "tench"]  # of all layers: a class keeps its colour
    assert len(set(class_colours.SHADES)) == len(class_colours.SHADES)
    rgba, texts = class_colours.painted(one, shades)
    assert tuple(rgba[0, 0, :3]) == shades["electric ray"]
    assert tuple(rgba[3, 5, :3]) == shades["tench"]
    assert texts[0] == "electric ray 0.25, cock 0.25"
    surer = one.copy(deep=True)
    surer["probability"] *= 3
    assert class_colours.painted(surer, shades)[0][0, 0, 3] > rgba[0, 0, 3]


def test_shares_of_the_final_answer_over_the_layers():
    values = answers.shares(lens())
    assert np.isnan(values[0])
    assert values[1:].tolist() == [0, 0.5]
    assert answers.final_answer(lens(cls=False)) == 0
    drawn = answers.figure({"A": lens()}, {"A": "#0072B2"}, choices.LAST)
    assert drawn.data[0].name == "A: electric ray"
    assert list(drawn.data[0].marker.size) == [8, 8, 14]
    assert list(answers.figure({"A": lens()}, {"A": "#0072B2"}, Depth(2, 3)).data[0].marker.size) == [8, 14, 8]
    assert answers.unread({"A": lens()}).startswith("No point for layer 1 of A: ")
    assert answers.unread({"A": lens().isel(layer=[1, 2])}) == ""
    assert "share, 0 to 1" in drawn.layout.yaxis.title.text
    assert "50% of the patches say its final answer, “electric ray”" in answers.reading({"A": lens()}, choices.LAST)


def test_a_layer_of_another_width_says_so():
    panel = logit_lens.panel(model("logit-lens", lens()), Depth(1, 3), {})
    assert "another width than that of layer 1" in panel.message
    assert isinstance(panel, Panel)
    assert "CLS: electric ray 0.25" in logit_lens.panel(model("logit-lens", lens()), Depth(3, 3), {}).note
