"""The page of lesions: its figures as data, heads switched off by the link and by hand, the answers in words."""

from xml.etree import ElementTree

import numpy as np
import pytest
import xarray as xr

from dashboard.draw import panels
from dashboard.draw.figures import lesion_effects
from dashboard.views.lesions import switches
from tests.dashboard.test_pages import app, clean, linked
from tests.dashboard.turning import turn_to

COLOURS = {"A": "#0072b2", "B": "#e69f00"}


def study(layers: int = 3, heads: int = 2, *, classifier: bool = True, seed: int = 0) -> xr.Dataset:
    random = np.random.default_rng(seed)
    over = {"head": (layers, heads), "part": (layers, 2)}
    variables = {}
    for dimension, shape in over.items():
        variables[f"{dimension}_cosine"] = (("layer", dimension), 1 - random.random(shape), {"units": "cosine"})
        if classifier:
            variables[f"{dimension}_confidence"] = (("layer", dimension), random.random(shape) - 0.8, {"units": "p"})
    coords = {"layer": range(layers), "head": range(heads), "part": ["attention", "mlp"]}
    return xr.Dataset(variables, coords, {"n": 8, "labelled": 0})


def test_maps_share_a_scale_and_count_from_one():
    both = {"A": study(), "B": study(4, 3, seed=1)}
    shared = lesion_effects.scale(both, "cosine")
    assert shared.low == 0
    values = lesion_effects.drawn(both["A"], "head", "cosine")
    figure = lesion_effects.head_map(values, shared, COLOURS["A"], [(3, 2)])
    cells, marks, crosses = figure.data
    assert (cells.zmin, cells.zmax) == (shared.low, shared.high)
    np.testing.assert_array_equal(cells.z, 1 - both["A"]["head_cosine"].values.T)
    assert (min(marks.x), max(marks.x), min(marks.y), max(marks.y)) == (1, 3, 1, 2)
    assert (crosses.x, crosses.y) == ((3,), (2,))
    assert [figure.layout.xaxis.title.text, figure.layout.yaxis.title.text] == ["layer", "head"]
    signed = lesion_effects.scale(both, "confidence")
    assert signed.signed
    assert signed.low == -signed.high


def test_curves_have_a_line_a_part_and_share_depth_where_models_differ():
    figure = lesion_effects.curves({"A": study(), "B": study(4, seed=1)}, "cosine", COLOURS)
    assert [trace.name for trace in figure.data] == ["A, attention", "A, MLP", "B, attention", "B, MLP"]
    assert [trace.line.dash for trace in figure.data] == ["solid", "dash"] * 2
    assert {trace.line.color for trace in figure.data[:2]} == {COLOURS["A"]}
    assert figure.data[2].x[-1] == 1.0
    assert "relative depth" in figure.layout.xaxis.title.text
    assert figure.layout.yaxis.title.text == "1 − cosine to the intact embedding"


def test_a_model_without_what_was_asked_says_why():
    said = lesion_effects.reading({"A": study(), "B": study(classifier=False)}, "confidence")
    assert "**A**, most: layer " in said
    assert "**B**: it has no classifier, so no confidence" in said
    assert "n = 8 images." in said
    assert lesion_effects.drawn(study(), "head", "top1") is None


def test_the_saved_picture_has_the_maps_the_curves_and_the_sentence():
    both = {"A": study(), "B": study(4, 3, seed=1)}
    svg = lesion_effects.document(both, "cosine", COLOURS, "What?")
    texts = " ".join(ElementTree.fromstring(svg).itertext())
    for text in ("What?", "1 − cosine to the intact embedding", "layer", "head", "most: layer"):
        assert text in texts
    assert svg.count("<image") == 3, "a map a model, and the bar of the colours"


def test_the_table_has_a_line_a_lesion_and_counts_from_one():
    lines = lesion_effects.table({"A": study(), "B": study(4, 3, classifier=False)})
    assert list(lines)[:4] == ["model", "layer", "part", "head"]
    assert len(lines) == 3 * (2 + 2) + 4 * (3 + 2)
    mine = lines[lines["model"].eq("A")]
    assert sorted(mine["layer"].unique()) == [1, 2, 3]
    assert sorted(mine["head"].dropna().unique()) == [1, 2]
    third = mine[mine["layer"].eq(3) & mine["head"].eq(2)]
    assert third["cosine"].item() == study()["head_cosine"].values[2, 1]
    assert third["part"].item() == "head"


@pytest.fixture
def opened(settle, monkeypatch):
    """Open the page with small models, with what was drawn of panels."""
    drawn = []
    real = panels.patch_panels
    monkeypatch.setattr(panels, "patch_panels", lambda p, shown, **kw: (drawn.append(shown), real(p, shown, **kw)))

    def go(**query):
        at = app(image=["scene:0"], **query).run()
        drawn.clear()
        return settle(turn_to(at, "lesions")), drawn

    return go


def test_heads_of_the_link_are_off_and_the_answer_is_told(opened, settle):
    at, drawn = opened(off=["2.1,3.2", "-"])
    clean(at)
    chosen = next(one for one in at.multiselect if one.label.startswith("Switched off: "))
    assert chosen.value == ["2.1", "3.2"]
    said = " ".join(one.value for one in at.markdown)
    assert "without layer 2 head 1, layer 3 head 2: cosine to the intact embedding" in said
    assert "nothing is switched off" in said
    intact, lesioned = drawn[-2:]
    assert np.abs(intact[0].values - lesioned[0].values).max() > 0
    np.testing.assert_array_equal(intact[1].values, lesioned[1].values)
    chosen.set_value(["2.1"])
    settle(at)
    assert linked(at, "off") == ["2.1", "-"]
    assert "without layer 2 head 1: cosine" in " ".join(one.value for one in at.markdown)


def test_nonsense_in_the_link_switches_nothing(opened):
    at, drawn = opened(off=["99.1,x.y,1.1.1,<b>", "nan"])
    clean(at)
    assert [one.value for one in at.multiselect] == [[], []]
    assert drawn == []


def test_a_click_switches_a_head_off_and_on(monkeypatch):
    kept = {"off": ("1.2",)}
    monkeypatch.setattr(switches.link, "get", lambda name: kept.get(name, ()))
    monkeypatch.setattr(switches.link, "put", lambda name, *values: kept.update({name: values}))
    switches.toggle(1, "3.1")
    assert kept["off"] == ("1.2", "3.1")
    switches.toggle(1, "3.1")
    switches.toggle(0, "1.2")
    assert kept["off"] == ()
