import numpy as np
import pytest
import xarray as xr

from dashboard.draw import charts


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
