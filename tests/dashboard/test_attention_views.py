"""The pages of heads, rollout and token norms: figures as data, sentences as numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from streamlit.testing.v1 import AppTest

from dashboard.draw import frame
from dashboard.state.models import title
from dashboard.views.heads import maps, mosaic, overview
from dashboard.views.rollout import conventions, toy
from dashboard.views.token_norms import norms as token_norms
from model_zoo.adapter import ModelSpec
from model_zoo.layout import AttentionLayer
from probes.attention_rollout import AttentionRollout
from probes.core.attention import AttentionRows
from tests.dashboard.turning import turn_to

HOME = str(Path(__file__).parents[2] / "dashboard" / "Home.py")
COLOURS = {"a": "#0072B2", "b": "#E69F00"}


@pytest.mark.parametrize("convention", ["paper", "vit-explain"])
@pytest.mark.parametrize(("fusion", "discard"), [("mean", 0.0), ("max", 0.5), ("min", 0.2)])
def test_the_worked_example_is_what_the_probe_computes(convention, fusion, discard):
    probe = AttentionRollout(fusion=fusion, discard=discard, convention=convention)
    layers = tuple(AttentionLayer(f"blocks.{i}.attn", 2, (2, 2), 1) for i in range(2))
    state = probe.init(spec := ModelSpec("toy", (2, 2), 1, (2, 2), ("cls",), layers, (), 0))
    assert probe.undefined(spec) is None
    for index, weights in enumerate(toy.TOY):
        state = probe.update(state, AttentionRows(index, range(1), torch.arange(5), torch.from_numpy(weights)[None]))
    result = probe.compute(state)
    shown = toy.product(fusion, discard, convention)
    np.testing.assert_allclose(shown[-1].values, result.rollout.values[0], rtol=1e-6)
    steps = toy.layers(fusion, discard, convention)
    assert len(steps[0]) == (6 if discard else 5)
    if convention == "paper":
        np.testing.assert_allclose(steps[0][-1].values.sum(1), 1)
    assert f"{shown[-1].values[0, 0]:.2f}" in toy.html(shown)


def test_the_toys_attention_rows_sum_to_one():
    np.testing.assert_allclose(toy.TOY.sum(-1), 1)


def rollouts(values):
    return xr.Dataset({"rollout": (("image", "y", "x"), np.array([values], float))})


def test_the_sentence_about_rollout_counts_patches_and_ranks():
    data = {
        "paper": {"a": rollouts([[0.6, 0.2], [0.1, 0.1]])},
        "vit-explain": {"a": rollouts([[1.0, 0.4], [0.2, 0.2]])},
    }
    said = conventions.reading(data, 0.6)
    assert "falls on 1 of 4; the two conventions order the patches alike to ρ = 1" in said
    nothing = {"paper": {"a": rollouts([[np.nan, np.nan]])}}
    assert conventions.reading(nothing, 0.6) == ""


def norms(registers=0):
    norm = np.ones((1, 2, 2, 3))
    norm[0, 1, 0, 2] = 5
    tokens = ["cls", *(f"reg{i + 1}" for i in range(registers))]
    return xr.Dataset(
        {
            "norm": (("image", "layer", "y", "x"), norm),
            "high": (("image", "layer", "y", "x"), norm > 3),
            "prefix_norm": (("image", "layer", "token"), np.full((1, 2, len(tokens)), 2.0)),
        },
        coords={
            "layer": [0, 1],
            "token": tokens,
            "grid_height": ("layer", [2, 2]),
            "grid_width": ("layer", [3, 3]),
        },
        attrs={"factor": 3.0},
    )


def test_token_norms_are_drawn_in_medians_with_the_prefix_tokens():
    data = {"a": norms(), "b": norms(4)}
    figure = token_norms.figure(data, COLOURS, {"a": 1, "b": 1})
    longest = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert [list(trace.y) for trace in longest] == [[1, 5], [1, 5]]
    assert len(figure.data) == 2 + 1 + 5
    assert "median" in figure.layout.yaxis.title.text
    said = token_norms.reading(data, {"a": 1, "b": 1})
    assert "**a** (no registers): 1 of 6 patches are high in layer 2; the longest is 5 medians long" in said
    assert "**b** (4 registers)" in said
    counted = token_norms.histogram(data, COLOURS, {"a": 1, "b": 0})
    assert max(counted.data[0].x) == 5
    assert max(counted.data[1].x) == 1


def attention(layers=3, heads=2):
    values = np.random.default_rng(0).random((1, layers, heads, 2, 4)).astype(np.float32)
    values[0, 2, 1] = np.nan
    return xr.DataArray(
        values,
        dims=("image", "layer", "head", "y", "x"),
        coords={
            "head_count": ("layer", [2, 2, 1]),
            "grid_height": ("layer", [2] * 3),
            "grid_width": ("layer", [4] * 3),
        },
    )


def test_the_mosaic_puts_layers_across_and_heads_down():
    tiles = mosaic.tiles(attention())
    assert [(t.layer, t.head) for t in tiles] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
    canvas = mosaic.picture(tiles, None)
    height, width = canvas.shape[0] // 2, canvas.shape[1] // 3
    assert width == 2 * (height - 2) + 2  # a grid of 2×4 is not made square
    assert canvas[:height, 2 * width :, 3].any()
    assert not canvas[height:, 2 * width :, 3].any()  # layer 3 has no second head
    figure = mosaic.figure(tiles, 1.0, "#0072B2", (1, 0))
    assert list(figure.data[0].x) == [1, 1, 2, 2, 3]
    assert list(figure.data[0].y) == [1, 2, 1, 2, 1]
    frame = figure.layout.shapes[0]
    assert (frame.x0, frame.x1, frame.y0, frame.y1) == (1.5, 2.5, 0.5, 1.5)
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]


def test_one_scale_for_all_models_ends_where_few_weights_lie_above():
    tiles = mosaic.tiles(attention())
    everything = np.concatenate([t.values.ravel() for t in tiles])
    assert mosaic.ceiling([tiles]) == pytest.approx(np.percentile(everything, 99))
    faint = [mosaic.Tile(0, 0, np.full((2, 2), 0.001))]
    assert mosaic.ceiling([tiles, faint]) <= mosaic.ceiling([tiles])
    shared = mosaic.picture(faint, mosaic.ceiling([tiles]))
    own = mosaic.picture(faint, None)
    assert not np.array_equal(shared, own)


def test_a_chosen_head_goes_into_the_link_and_nonsense_falls_back(monkeypatch):
    held: dict[str, tuple[str, ...]] = {}
    monkeypatch.setattr(overview.link, "get", lambda name: held.get(name, ()))
    monkeypatch.setattr(overview.link, "put", lambda name, *values: held.__setitem__(name, values))
    overview.choose(1, 5, 2)
    assert held["heads"] == ("-", "5.2")
    overview.choose(0, 12, 1)
    assert held["heads"] == ("12.1", "5.2")
    assert [overview.linked_head(i) for i in range(3)] == [(12, 1), (5, 2), None]
    dataset = xr.Dataset({"attention": attention()})
    assert overview.chosen_head(dataset, 1) == (2, 0)  # layer 5 of 3, which has one head
    for nonsense in ("x", "3", "0.0", "²..1", "-1.2"):
        held["heads"] = (nonsense,)
        layer, head = overview.chosen_head(dataset, 0)
        assert 0 <= layer < 3
        assert head == 0


def test_the_table_of_heads_names_every_weight_of_every_layer():
    values = np.arange(2 * 3 * 2 * 2, dtype=np.float32).reshape(1, 2, 3, 2, 2)
    names = ("image", "layer", "head", "y", "x")
    dataset = xr.Dataset(
        {"attention": (names, values)},
        coords={"head_count": ("layer", [3, 3]), "grid_height": ("layer", [2, 2]), "grid_width": ("layer", [2, 2])},
    )
    lines = frame.csv(maps.table({"ViT": dataset})).splitlines()
    assert lines[0] == "model,layer,head,row,column,attention_weight"
    assert len(lines) == 1 + values.size
    assert lines[1] == "ViT,1,1,1,1,0"
    assert lines[-1] == f"ViT,2,3,2,2,{values.max():g}"


def test_the_models_keep_their_order_where_columns_stand_under_one_another(settle):
    at = AppTest.from_file(HOME, default_timeout=120)
    at.query_params["model"] = [f"timm:test_vit@random:{seed}" for seed in range(3)]
    at.query_params["image"] = "photo:coffee"
    settle(turn_to(at, "heads"))
    titles = [title(model) for model in at.query_params["model"]]
    drawn = [html.proto.body for html in at.main.get("html")]
    assert [title for body in drawn for title in titles if f">{title}<" in body] == titles
    statistics = [said.value for said in at.main.markdown]
    assert "**Attention to CLS**" in statistics
    assert "**Attention to patches**" not in statistics, "it is what the others leave, nearly 1 everywhere"
