"""The page of attention distance: its chart and file as data, its words against numbers, what it opens with."""

import io
import re
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from streamlit.testing.v1 import AppTest

from dashboard.draw import frame
from dashboard.views.distance import head_distances, head_picker, heads_chart
from tests.dashboard.conftest import TINY
from tests.dashboard.turning import turn_to

HOME = str(Path(__file__).parents[2] / "dashboard" / "Home.py")
COLOURS = {"a": "#0072B2", "b": "#E69F00"}


def distances(values, uniform=60.0, sem=0.1, n=3, diagonal=160.0):
    """Distances (layer, head) as the probe gives them."""
    values = np.asarray(values, float)
    px = {"units": "px of the model's input"}
    return xr.Dataset(
        {
            "distance": (("layer", "head"), values, px),
            "distance_sem": (("layer", "head"), np.full(values.shape, sem), px),
            "cls_mass": (("layer", "head"), np.full(values.shape, 0.25), {"units": "fraction of attention"}),
            "uniform_distance": ((), uniform, px),
            "largest_distance": ((), 147.0, px),
        },
        coords={"layer": np.arange(len(values)), "head": np.arange(values.shape[1])},
        attrs={"n": n, "diagonal": diagonal},
    )


def random(seed, layers=4, heads=3, low=48, high=62, **more):
    return distances(np.random.default_rng(seed).uniform(low, high, (layers, heads)), **more)


def drawn(data, *, full=False, chosen=("a", 1, 1)):
    return heads_chart.chart(data, COLOURS, chosen, full=full).to_dict()


def layer_of(chart, mark):
    (found,) = [layer for layer in chart["layer"] if layer["mark"]["type"] == mark and "y2" not in layer["encoding"]]
    return found, pd.DataFrame(chart["datasets"][found["data"]["name"]])


def test_every_head_is_a_point_of_its_own_place_and_the_line_joins_the_means():
    data = head_distances.scaled({"a": random(0), "b": random(1)}, "px")
    chart = drawn(data)
    points, rows = layer_of(chart, "point")
    assert len(rows) == 2 * 4 * 3
    assert rows["place"].nunique() == len(rows)
    assert (rows["place"].round() == rows["layer"]).all(), "no head stands nearer to another layer"
    of_a, of_b = (rows[rows["model"].eq(name)].set_index(["layer", "head"])["place"] for name in "ab")
    assert (of_a.groupby("layer").max() < of_b.groupby("layer").min()).all(), "models stand beside each other"
    _, means = layer_of(chart, "line")
    for name, dataset in data.items():
        own = means[means["model"].eq(name)]
        np.testing.assert_allclose(own["mean"], dataset["distance"].values.mean(1))
        np.testing.assert_allclose(own["nearest"], dataset["distance"].values.min(1))
        np.testing.assert_allclose(own["farthest"], dataset["distance"].values.max(1))
    assert points["encoding"]["y"]["title"] == "mean attention distance (px of the input)"
    assert points["encoding"]["x"]["title"] == "layer"


@pytest.mark.parametrize("full", [False, True])
def test_the_axis_holds_all_that_is_drawn_and_begins_where_the_data_do_unless_asked_for_zero(full):
    data = head_distances.scaled({"a": random(0, sem=0.5), "b": random(1, sem=0.5)}, "px")
    chart = drawn(data, full=full)
    domains = {tuple(layer["encoding"]["y"]["scale"]["domain"]) for layer in chart["layer"]}
    ((low, high),) = domains
    least = min(float((one["distance"] - 0.5).min()) for one in data.values())
    most = max(60.0, *(float((one["distance"] + 0.5).max()) for one in data.values()))
    assert low == 0 if full else low == pytest.approx(least - 0.06 * (most - least))
    assert high == pytest.approx(most + 0.06 * (most - least))
    assert full or (most - least) / (high - low) > 0.85, "the data fill the chart"


def test_standard_errors_are_drawn_where_there_are_several_images():
    for sem, bars in ((0.3, 1), (np.nan, 0)):
        chart = drawn(head_distances.scaled({"a": random(0, sem=sem)}, "px"))
        rules = [one for one in chart["layer"] if one["mark"]["type"] == "rule" and "y2" in one["encoding"]]
        assert len(rules) == bars
        titles = [entry.get("title") for entry in layer_of(chart, "point")[0]["encoding"]["tooltip"]]
        assert ("standard error" in titles) == bool(bars)


def test_uniform_attention_stays_in_the_chart_also_far_from_the_data():
    data = head_distances.scaled({"a": random(0, low=10, high=12)}, "px")
    low, high = heads_chart.span(heads_chart.placed(data), full=False)
    assert low < 10.1
    assert high > 60


def test_one_dashed_line_for_models_with_the_same_uniform_distance_else_one_each():
    def lines(data):
        return [layer["mark"] for layer in drawn(data)["layer"] if "strokeDash" in layer["mark"]]

    assert [line["color"] for line in lines({"a": random(0), "b": random(1)})] == [heads_chart.GREY]
    other = {"a": random(0), "b": random(1, uniform=50.0)}
    assert [line["color"] for line in lines(other)] == list(COLOURS.values())


def test_models_of_several_depths_share_a_relative_axis():
    chart = drawn({"a": random(0), "b": random(1, layers=12)})
    points, rows = layer_of(chart, "point")
    assert "relative depth" in points["encoding"]["x"]["title"]
    centre = rows.groupby(["model", "layer"])["centre"].first()
    assert centre["a", 4] == pytest.approx(1, abs=0.05)
    assert centre["b", 12] == pytest.approx(1, abs=0.05)


def test_fractions_of_the_diagonal_divide_everything_by_it():
    data = {"a": random(0), "b": random(1, diagonal=320.0)}
    scaled = head_distances.scaled(data, "diagonal")
    for name, diagonal in (("a", 160), ("b", 320)):
        for variable in ("distance", "distance_sem", "uniform_distance"):
            np.testing.assert_allclose(scaled[name][variable], data[name][variable] / diagonal)
    assert "fraction of the diagonal" in layer_of(drawn(scaled), "point")[0]["encoding"]["y"]["title"]


def test_layers_without_a_distance_at_the_end_are_not_drawn():
    data = random(0)
    data["distance"][3] = np.nan
    assert set(head_distances.table(head_distances.scaled({"a": data}, "px"))["layer"]) == {1, 2, 3}


def test_the_verdict_follows_from_the_numbers():
    near = distances([[30, 34], [40, 44], [50, 52], [54, 56], [57, 59], [59, 61], [58, 60], [57, 57]])
    far = distances([[62, 66], [60, 64], [61, 61], [60, 60], [59, 59], [58, 58], [57, 57], [56, 56]])
    said = head_distances.verdict(head_distances.scaled({"a": near, "b": far}, "px"))
    # the first two of eight layers: a (30+34+40+44)/4 = 37, b 63; the last two: a (58+60+57+57)/4 = 58, b 56.5;
    # layer means from 32, which is 47 % below 60, to 64, which is 7 % above
    assert "**a** looks nearest (37 px) and **b** farthest (63 px)" in said
    assert "the mean rises in a (37 to 58) and falls in b (63 to 56.5)" in said
    assert "all layer means lie 47\u202f% below to 7\u202f% above uniform attention's 60 px" in said


def test_the_verdict_claims_nothing_within_the_standard_error():
    data = {"a": distances([[50.0, 51.0]] * 4, sem=0.6), "b": distances([[50.5, 51.5]] * 4, sem=0.6)}
    said = head_distances.verdict(head_distances.scaled(data, "px"))
    assert "all look equally far within the standard error (50.5 to 51 px)" in said
    assert "the mean stays within its standard error in a and b" in said
    assert "all layer means lie 15\u202f% to 16\u202f% below uniform" in said
    sure = {name: dataset.assign(distance_sem=dataset["distance_sem"] / 10) for name, dataset in data.items()}
    assert "**a** looks nearest" in head_distances.verdict(head_distances.scaled(sure, "px"))


def test_what_the_verdict_rests_on_is_said():
    data = head_distances.scaled({"a": random(0, sem=0.25), "b": random(1, sem=0.4, diagonal=320.0)}, "px")
    said = head_distances.basis(data, renormalised=True)
    assert "n = 3 images, standard error of a head over them at most 0.4 px" in said
    assert "renormalised over the patches" in said
    assert "input sizes differ" in said
    alone = head_distances.scaled({"a": random(0, sem=np.nan, n=1)}, "diagonal")
    assert "n = 1 image, so no standard error; attention as used" in head_distances.basis(alone, renormalised=False)
    assert "looks" in head_distances.verdict(alone)


def test_the_file_is_the_chart_of_the_page_with_title_and_caption():
    data = head_distances.scaled({"a": random(0), "b": random(1)}, "px")
    chart = heads_chart.chart(data, COLOURS, ("b", 2, 3), full=False)
    caption = "Mean attention distance.", head_distances.verdict(data), head_distances.basis(data, renormalised=True)
    document = heads_chart.document(chart, title="How far does each head look?", caption=caption)
    texts = re.sub(r"<[^>]+>", "\n", document)
    for words in ("How far does each head look?", "Mean attention distance.", "a", "b", "uniform: 60", "layer"):
        assert words in texts.splitlines(), words
    assert "n = 3 images" in " ".join(texts.split())
    assert document.count('aria-roledescription="point"') == 24
    assert isinstance(chart, alt.LayerChart)


def test_a_clicked_head_is_found_again_and_nonsense_falls_back_to_the_farthest():
    table = head_distances.table(head_distances.scaled({"a": random(0), "b": random(1)}, "px"))
    assert head_picker.chosen([{"model": "b", "layer": 2, "head": 3}], table) == ("b", 2, 3)
    far = table.loc[table["distance"].idxmax()]
    for nonsense in ([], [{"model": "b", "layer": 99, "head": 1}], [{"x": None}]):
        assert head_picker.chosen(nonsense, table) == (far["model"], far["layer"], far["head"])


def test_the_table_counts_from_one_and_says_its_units():
    data = head_distances.scaled({"a": random(0)}, "diagonal")
    table = pd.read_csv(io.StringIO(frame.csv(head_distances.table(data))))
    assert (table["layer"].min(), table["layer"].max(), table["head"].min(), table["head"].max()) == (1, 4, 1, 3)
    assert set(table["units"]) == {"fraction of the diagonal"}


def opened(settle, **link):
    at = AppTest.from_file(HOME, default_timeout=120)
    for name, value in link.items():
        at.query_params[name] = value
    return settle(turn_to(at, "distance"))


def test_the_page_opens_with_photographs_in_pixels_for_models_of_one_size(settle):
    at = opened(settle, model=list(TINY))
    assert at.session_state["units_choice"] == "px"
    assert at.selectbox(key="set_choice").value == "chosen"
    assert not at.exception


def test_models_of_several_input_sizes_are_compared_in_fractions_unless_pixels_are_asked_for(settle):
    models = ["scenes-vit-dino", "timm:test_vit@random:0"]  # 112 and 160 px
    at = opened(settle, model=models, image="photo:coffee")
    assert at.session_state["units_choice"] == "diagonal"
    assert "of the diagonal" in "".join(said.value for said in at.markdown)
    at = opened(settle, model=models, image="photo:coffee", units="px")
    assert at.session_state["units_choice"] == "px"
    assert "input sizes differ" in "".join(said.value for said in at.markdown)


def test_the_page_opens_with_scenes_for_models_of_scenes_and_a_picked_photograph_takes_their_place(settle):
    at = opened(settle, model="scenes-vit-dino")
    assert at.selectbox(key="set_choice").value == "scenes-32"
    assert "n = 32 images" in "".join(said.value for said in at.markdown)
    assert any("32 scenes" in said.value for said in at.sidebar.caption)
    assert at.selectbox(key="map_picture").value == "scene:0"
    at = opened(settle, model="scenes-vit-dino", image="photo:coffee")
    assert at.selectbox(key="set_choice").value == "chosen"
    assert "n = 1 image," in "".join(said.value for said in at.markdown)
    assert not any("scenes" in said.value for said in at.sidebar.caption)
    assert at.selectbox(key="map_picture").value == "photo:coffee"


def test_a_model_without_a_distance_says_so_beside_those_that_have_one(settle):
    at = opened(settle, model=["timm:test_vit@random:0", "scenes-resnet"], image="photo:coffee")
    assert ["ResNet" in said.value for said in at.info] == [True]
    assert any("looks" in said.value for said in at.markdown)
