"""The table, ranking and answer of the saliency page, object masks, and the sanity page's figure, as data."""

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from PIL import Image
from streamlit.testing.v1 import AppTest

from dashboard.compute.asking import ModelResult
from dashboard.controls import object_masks, progress
from dashboard.controls.map_options import MapOptions
from dashboard.images import gallery, masks
from dashboard.state.selection import Selection
from dashboard.views.dino_supervised import object_scores, removal_curves, scored_maps, verdict
from dashboard.views.dino_supervised import view as dino_supervised
from dashboard.views.dino_supervised.object_scores import Scores
from dashboard.views.sanity import correlations
from dashboard.views.sanity import view as sanity
from model_zoo.adapter import Geometry, ModelSpec
from model_zoo.decoding import ImageError
from probes.core.saliency import baselines, overlap
from tests.dashboard.turning import turn_to

HOME = str(Path(__file__).parents[2] / "dashboard" / "Home.py")
WHOLE = Geometry((224, 224), (0.0, 0.0, 224.0, 224.0), (224, 224))


def scores(iou: list[list[float]], *, untrained: bool = False) -> Scores:
    values = np.array(iou)
    area = np.full(len(values), 0.2)
    known = {"uniform": flat(0.18, area), "centre": flat(0.31, area)}
    return Scores(values, (values > 0.3).astype(float), values / 2, area, untrained, known)


def flat(iou: float, area: np.ndarray) -> Scores:
    """A baseline: one value on every image."""
    column = np.full((len(area), 1), iou)
    return Scores(column, column, np.full_like(column, 2 * iou), area)


DINO = scores([[0.1, 0.5], [0.2, 0.6], [0.1, 0.55]])
SUPERVISED = scores([[0.3, 0.2], [0.32, 0.2], [0.28, 0.1]])
RANDOM = scores([[0.2, 0.1], [0.3, 0.1], [0.25, 0.2]], untrained=True)


def test_the_table_has_each_models_best_head() -> None:
    rows = object_scores.table({"DINO": DINO, "supervised": SUPERVISED}).set_index("Model")
    assert rows.loc["DINO", "Best head"] == 2
    assert rows.loc["supervised", "Best head"] == 1
    assert rows.loc["DINO", "IoU"] == pytest.approx(0.55)
    assert rows.loc["DINO", "± (standard error)"] == pytest.approx(np.std([0.5, 0.6, 0.55], ddof=1) / 3**0.5)
    assert rows.loc["DINO", "IoU, mean of heads"] == pytest.approx(DINO.iou.mean())
    assert rows.loc["supervised", "Images"] == 3
    assert list(rows.index) == ["DINO", "supervised", "Uniform attention", "Centre prior"]
    assert rows.loc["Centre prior", "IoU"] == pytest.approx(0.31)
    assert rows["Best head"].isna().tolist() == [False, False, True, True]
    saved = object_scores.per_image({"DINO": DINO}).set_index("model")
    assert saved.loc["Uniform attention", "iou"].tolist() == pytest.approx([0.18] * 3)
    assert len(saved) == 3 * 2 + 3 + 3


def test_baselines_of_models_that_see_other_patches_stand_apart() -> None:
    finer = replace(SUPERVISED, baselines={"uniform": flat(0.17, DINO.area), "centre": flat(0.33, DINO.area)})
    assert list(object_scores.without_looking({"a": DINO, "b": SUPERVISED})) == ["Uniform attention", "Centre prior"]
    apart = object_scores.without_looking({"a": DINO, "b": finer})
    assert list(apart) == [f"{kind} ({name}’s patches)" for kind in object_scores.BASELINES.values() for name in "ab"]


def test_the_ranking_puts_the_best_head_first() -> None:
    figure = object_scores.ranking({"DINO": DINO, "random": RANDOM}, {"DINO": "#0072B2", "random": "#E69F00"})
    assert list(figure.data[0].y) == pytest.approx([0.55, 0.4 / 3])
    assert list(figure.data[0].customdata) == [2, 1]
    assert figure.data[1].line.dash == "dot"
    assert [line.name for line in figure.data[2:]] == ["Uniform attention", "Centre prior"]
    assert [list(line.y) for line in figure.data[2:]] == [pytest.approx([0.18] * 2), pytest.approx([0.31] * 2)]
    assert "IoU" in figure.layout.yaxis.title.text
    assert "ranked" in figure.layout.xaxis.title.text


def test_the_answer_follows_from_the_numbers() -> None:
    said = verdict.answer({"supervised": SUPERVISED, "DINO": DINO, "random": RANDOM}, 0.6)
    assert said.index("**supervised** 0.3 ±") < said.index("**DINO** 0.55"), "in the order of the panels"
    assert "uniform attention 0.18, centre prior 0.31. IoU rewards the outline" in said
    assert "**supervised** 15\u202f%, **DINO** 28\u202f%, **random** 12\u202f%, uniform attention 36\u202f%" in said
    assert "Mass rewards attention on any part of the object" in said
    assert "an IoU near 0.18: its mask takes 60\u202f% of all patches" in said
    assert "which covers 20\u202f% of what is seen" in said
    assert "By IoU not above the centre prior by more than two standard errors: **supervised**." in said
    assert "**DINO** picks out the object better (by IoU) than **supervised**, by 0.25" in said
    assert "By IoU not above the best head of random weights by more than two standard errors: **supervised**." in said
    assert "n = 3" in said


def test_models_are_compared_on_the_images_whose_objects_both_see() -> None:
    """Image 1 is not seen by the one and image 0 not by the other: one image is left, and nothing is broadcast."""
    first = replace(scores([[0.5], [0.9]]), places=(0, 2))
    second = replace(scores([[0.1], [0.4]]), places=(1, 2))
    assert first.ahead_of(second) == pytest.approx([0.5])
    assert "**a** is ahead of **b** by 0.5; one image" in verdict.answer({"a": first, "b": second}, 0.6)
    three = replace(scores([[0.1], [0.4], [0.2]]), places=(0, 1, 2))
    assert "paired over images" in verdict.answer({"a": first, "b": three}, 0.6)
    nowhere = replace(scores([[0.1]]), places=(7,))
    assert "**a** and **b** see the objects of different images" in verdict.answer({"a": first, "b": nowhere}, 0.6)


def test_a_model_is_held_against_its_own_architecture_untrained() -> None:
    weak = replace(scores([[0.15], [0.16], [0.14]], untrained=True), network="large")
    strong = replace(scores([[0.6], [0.61], [0.59]], untrained=True), network="small")
    model = replace(scores([[0.35], [0.36], [0.34]]), network="large")
    said = verdict.answer({"model": model, "strong": strong, "weak": weak}, 0.6)
    assert "above the best head of random weights by more than two standard errors." in said
    assert "not above the best head of random weights" not in said


def test_what_does_not_differ_is_not_called_better() -> None:
    noisy = scores([[0.1], [0.9], [0.5]]), scores([[0.8], [0.2], [0.45]])
    assert "too little to tell them apart" in verdict.answer(dict(zip("ab", noisy, strict=True)), 0.6)
    one = scores([[0.5]]), scores([[0.4]])
    assert "one image decides nothing" in verdict.answer(dict(zip("ab", one, strict=True)), 0.6)
    assert "random weights" not in verdict.answer({"a": RANDOM, "b": RANDOM}, 0.6)
    assert verdict.answer({}, 0.6) == ""


def model(values: np.ndarray, name: str = "m") -> ModelResult:
    """Maps (image, head, y, x) of a model that sees the whole scene."""
    images, heads, rows, columns = values.shape
    dataset = xr.Dataset(
        {"attention": (("image", "layer", "head", "y", "x"), values[:, None])},
        coords={
            "head_count": ("layer", [heads]),
            "grid_height": ("layer", [rows]),
            "grid_width": ("layer", [columns]),
        },
    )
    spec = ModelSpec("vit", (224, 224), 16, (rows, columns), ("cls",), (), (), 10)
    return ModelResult(name, name, "#0072B2", spec, (WHOLE,) * images, {"attention-maps": dataset})


def test_scores_are_the_probes_own_numbers() -> None:
    values = np.random.default_rng(0).random((2, 3, 14, 14))
    keys = {i: (f"scene:{i}", f"scene:{i}") for i in range(2)}
    found = scored_maps.scores_of(model(values), keys, 0.6)
    assert found is not None
    covered = masks.covered("scene:1", "scene:1", WHOLE, (14, 14))
    chance = baselines(masks.mask("scene:1", "scene:1"), WHOLE, covered, 0.6)
    assert found.baselines["uniform"].iou[1, 0] == chance["uniform"].iou
    assert found.baselines["centre"].mass_inside[1, 0] == chance["centre"].mass_inside
    for image in range(2):
        for head in range(3):
            expected = overlap(values[image, head], gallery.mask(f"scene:{image}"), WHOLE, 0.6)
            assert found.iou[image, head] == pytest.approx(expected.iou)
            assert found.mass_inside[image, head] == pytest.approx(expected.mass_inside)
    assert found.area[0] == pytest.approx(gallery.mask("scene:0").mean())
    assert scored_maps.scores_of(model(values), {}, 0.6) is None
    drawn = dino_supervised.panel(model(values), found, 1, "best", MapOptions())
    np.testing.assert_array_equal(drawn.values, values[1, found.best])
    assert drawn.note == f"head {found.best + 1} of 3"


def test_baselines_are_the_same_architectures_untrained() -> None:
    chosen = Selection(("deit-s16", "dino-s16", "timm:test_vit@random:0"), ("scene:0",))
    added = scored_maps.with_baselines(chosen).models[3:]
    assert added == ("timm:deit_small_patch16_224@random:0", "timm:vit_small_patch16_224@random:0")


def test_a_box_is_a_mask() -> None:
    mask = masks.mask("photo:chelsea", "box:25,50,75,100")
    height, width = mask.shape
    assert mask.mean() == pytest.approx(0.25, abs=0.01)
    assert mask[height - 1, width // 2]
    assert not mask[0, width // 2]
    assert not mask[height - 1, 0]


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_an_uploaded_mask_must_fit_its_picture() -> None:
    width, height = gallery.load("photo:chelsea").size
    white = np.zeros((height, width), np.uint8)
    white[:10, :20] = 255
    key = object_masks.upload("photo:chelsea", png(white), "mask.png")
    assert masks.mask("photo:chelsea", key).sum() == 200
    with pytest.raises(ImageError, match=r"The mask has 30 × 20 pixels and Cat"):
        object_masks.upload("photo:chelsea", png(np.full((20, 30), 255, np.uint8)), "small.png")
    with pytest.raises(ImageError, match="no white"):
        object_masks.upload("photo:chelsea", png(np.zeros((height, width), np.uint8)), "black.png")


def test_the_sanity_figure_and_sentence() -> None:
    stages = ["intact", "classifier", *(f"block {i}" for i in range(12, 0, -1)), "embedding"]
    correlation = np.linspace(1, -0.1, len(stages))[None]
    dataset = xr.Dataset(
        {
            "correlation": (("image", "stage"), correlation),
            "map": (("image", "stage", "y", "x"), np.random.default_rng(0).random((1, len(stages), 14, 14))),
        },
        coords={"stage": np.arange(len(stages)), "stage_name": ("stage", stages)},
        attrs={"n": 1, "seed": 0},
    )
    figure = correlations.figure({"m": dataset}, {"m": "#0072B2"})
    np.testing.assert_allclose(figure.data[0].y, correlation[0])
    assert figure.data[0].x[-1] == 100
    assert "rank correlation" in figure.layout.yaxis.title.text
    drawn = sanity.chosen_stages(len(stages))
    assert (drawn[0], drawn[1], drawn[-1], len(drawn)) == (0, 1, len(stages) - 1, sanity.MOST_STAGES)
    shown = replace(model(np.ones((1, 1, 2, 2))), datasets={"attention-sanity": dataset})
    row = sanity.row("photo:chelsea", shown, signed=False)
    assert [panel.name for panel in row.panels][::5] == ["intact", "all random"]
    assert row.scale.high == max(panel.values.max() for panel in row.panels)
    assert all(panel.values.mean() == pytest.approx(1) for panel in row.panels)
    waiting = sanity.row("photo:chelsea", replace(shown, datasets={}), signed=False)
    assert [panel.waiting for panel in waiting.panels] == [True]
    unknown = dataset.assign(correlation=dataset["correlation"].where(dataset["stage"] != len(stages) - 1))
    assert f"at 1 of {len(stages)} stages a map is the same everywhere" in correlations.reading({"m": unknown}, "mean")
    said = correlations.reading({"m": dataset}, "mean")
    assert "the same everywhere" not in said
    first = stages[int(np.flatnonzero(correlation[0] < 0.5)[0])]
    assert f"falls below 0.5 once {first} is random" in said
    assert "−0.1 with everything random" in said


def test_the_curves_stand_beside_random_orders() -> None:
    fraction = np.linspace(0, 1, 3)
    dataset = xr.Dataset(
        {
            "deletion": (("image", "fraction"), [[1.0, 0.2, 0.0]]),
            "insertion": (("image", "fraction"), [[0.0, 0.8, 1.0]]),
            "deletion_auc": ("image", [0.35]),
            "insertion_auc": ("image", [0.65]),
            "deletion_random_auc": ("image", [0.5]),
            "insertion_random_auc": ("image", [0.45]),
        },
        coords={"fraction": fraction},
        attrs={"n": 1, "curve_of": "probability of the class"},
    )
    figure = removal_curves.figure({"m": dataset}, {"m": "#0072B2"})
    assert [trace.name for trace in figure.data] == ["m, deletion", "m, insertion"]
    np.testing.assert_allclose(figure.data[0].y, [1.0, 0.2, 0.0])
    assert list(figure.data[0].x) == [0, 50, 100]
    assert figure.layout.yaxis.title.text == "probability of the class"
    assert "deletion 0.35 (random order 0.5; lower is better)" in removal_curves.answer({"m": dataset})


def test_what_the_curves_take_follows_from_a_measured_pass() -> None:
    model = ModelResult("a", "A", "#0072B2", None, (), {}, seconds=0.1)
    assert removal_curves.seconds([model, model], 10, at_once=2) == pytest.approx(2 * 0.1 * 10 * 15 / 2)
    assert removal_curves.seconds([model], 10, at_once=2) == pytest.approx(0.1 * 10 * 15)
    said = [progress.duration(seconds) for seconds in (2, 42.4, 150)]
    assert said == ["a few seconds", "about 42 s", "about 2 min"]


def test_the_curves_are_of_the_tables_images_and_run_when_asked_for(settle) -> None:
    at = AppTest.from_file(HOME, default_timeout=60)
    at.query_params["model"] = ["timm:test_vit@random:0"]
    at.query_params["image"] = ["scene:0", "scene:1"]
    at.query_params["set"] = "chosen"
    at.query_params["baseline"] = "false"
    at.session_state["below"] = "Deletion and insertion"
    settle(turn_to(at, "dino-supervised"))
    assert not at.exception
    said = " ".join(text.value for text in at.markdown)
    assert re.search(r"15 passes of 1 model for each of 2 images, \*\*(a few seconds|about \d+ s)\*\* here", said)
    assert "**: area under" not in said
    at.button(key="compute_curves").click()
    settle(at)
    assert not at.exception
    said = " ".join(text.value for text in at.markdown)
    assert "Each model's best head, 2 images in 4 steps" in said
