import io

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import xarray as xr

from dashboard.draw import charts, frame


def dataset(layers, heads, seed=0, units="nats"):
    values = np.random.default_rng(seed).random((layers, heads))
    return xr.Dataset({"entropy": (("layer", "head"), values, {"units": units})})


COLOURS = {"a": "#0072B2", "b": "#E69F00"}


def test_a_point_a_head_and_a_line_through_the_means():
    data = {"a": dataset(12, 6), "b": dataset(12, 3, 1)}
    figure = charts.over_layers(data, "entropy", COLOURS, label="entropy", at={"a": 11})
    points, line = figure.data[0], figure.data[1]
    assert sorted(points.y) == sorted(data["a"].entropy.values.ravel())
    assert list(line.y) == pytest.approx(list(data["a"].entropy.values.mean(1)))
    assert list(line.x) == list(range(1, 13))
    assert line.marker.size[11] > line.marker.size[0]
    assert {trace.line.color for trace in figure.data if trace.mode == "lines+markers"} == set(COLOURS.values())
    assert figure.layout.xaxis.title.text == "layer"
    assert figure.layout.yaxis.title.text == "entropy (nats)"


def test_models_of_several_depths_share_a_relative_axis():
    figure = charts.over_layers({"a": dataset(12, 6), "b": dataset(24, 3)}, "entropy", COLOURS, label="entropy")
    assert "relative" in figure.layout.xaxis.title.text
    for line in figure.data[1::2]:
        assert (line.x[0], line.x[-1]) == (0, 1)


def test_missing_heads_are_left_out_and_a_model_without_any_value_is_not_drawn():
    padded, empty = dataset(4, 6), dataset(4, 2)
    padded.entropy.values[1:, 3:] = np.nan
    empty.entropy.values[:] = np.nan
    figure = charts.over_layers({"a": padded, "b": empty}, "entropy", COLOURS, label="entropy")
    assert len(figure.data) == 2
    assert len(figure.data[0].y) == 6 + 3 * 3
    assert np.isfinite(figure.data[1].y).all()


def test_a_figure_keeps_the_margin_and_the_legend_that_it_has_of_its_own():
    plain = frame.dressed(go.Figure()).layout
    assert (plain.margin.t, plain.legend.y, plain.legend.orientation) == (28, 1.02, "h")
    own = frame.dressed(go.Figure(layout={"margin": {"t": 72}, "legend": {"y": 1.2}})).layout
    assert (own.margin.t, own.margin.l, own.legend.y, own.legend.orientation) == (72, 8, 1.2, "h")


def test_a_csv_counts_layers_heads_rows_and_columns_from_one():
    values = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)
    one = xr.Dataset(
        {"map": (("layer", "head", "y", "x"), values)}, coords={"layer": [0, 1], "head": [0, 1, 2], "query_row": -1}
    )
    lines = pd.read_csv(io.StringIO(frame.csv({"a": one})))
    assert list(lines.columns[:5]) == ["model", "layer", "head", "row", "column"]
    for name, last in {"layer": 2, "head": 3, "row": 2, "column": 2}.items():
        assert sorted(lines[name].unique()) == list(range(1, last + 1))
    at = lines[lines["layer"].eq(2) & lines["head"].eq(3) & lines["row"].eq(1) & lines["column"].eq(2)]
    assert at["map"].tolist() == [values[1, 2, 0, 1]]
    assert set(lines["query_row"]) == {-1}, "no row at all stays none"
    pair = xr.Dataset({"cka": (("layer_a", "layer_b"), np.eye(2))}, coords={"layer_a": [0, 1], "layer_b": [0, 1]})
    lines = pd.read_csv(io.StringIO(frame.csv({"a + b": pair})))
    assert lines[lines["cka"].eq(1)][["layer_a", "layer_b"]].values.tolist() == [[1, 1], [2, 2]]


def test_a_name_that_would_be_a_formula_is_a_text_in_a_csv():
    names = ["=1+1.png", "-1", "+cmd|' /C calc'!A0", "@sum", "a=1.png"]
    one = xr.Dataset({"value": ("image", np.linspace(-1.5, 1, 5))}, coords={"image_name": ("image", names)})
    lines = pd.read_csv(io.StringIO(frame.csv({"=a": one})), dtype={"image_name": str})
    assert lines["image_name"].tolist() == ["'=1+1.png", "-1", "'+cmd|' /C calc'!A0", "'@sum", "a=1.png"]
    assert set(lines["model"]) == {"'=a"}
    assert lines["value"].tolist() == one.value.values.tolist()
