"""Charts in saved pictures: what the figure on the page says is said in the file."""

import xml.etree.ElementTree as ET

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.draw import chart_files, export
from dashboard.views.digits import figures
from dashboard.views.digits.runs import Look
from dashboard.views.scenes import shape_bias

SVG = "{http://www.w3.org/2000/svg}"


def texts_of(svg):
    return [text for node in ET.fromstring(svg).iter(f"{SVG}text") if (text := "".join(node.itertext()).strip())]


def marks(svg, kind):
    return [node for node in ET.fromstring(svg).iter() if node.get("aria-roledescription") == kind]


def test_bars_keep_names_colours_and_the_title_of_their_axis():
    found = {"ViT, supervised": {"shape bias": 0.9, "accuracy": 0.8, "decisions": 100}}
    svg = chart_files.svg(shape_bias.figure(found), "By shape?", "**n** = 1")
    assert {"By shape?", "n = 1", "ViT, supervised", "shape bias (0: by surface, 1: by shape)"} <= set(texts_of(svg))
    assert [bar.get("fill").lower() for bar in marks(svg, "bar")] == ["#0072b2"]


def test_two_axes_up_have_their_own_ticks_and_all_points_are_drawn():
    looks = [Look(k + 1, 2.0 / (k + 1), 0.5 + 0.1 * k, (5.0,) * 4, np.eye(16).reshape(4, 4, 4, 4)) for k in range(3)]
    svg = chart_files.svg(figures.curves(looks), "Loss")
    texts = texts_of(svg)
    assert {"loss (nats)", "accuracy (0 to 1)", "training loss", "accuracy on held-out digits"} <= set(texts)
    assert len(marks(svg, "point")) == 6
    assert export.png(figures.document(looks, "said")).startswith(b"\x89PNG")
    table = figures.table(looks)
    assert list(table["distance_px_layer_1"]) == [5.0, 5.0, 5.0]
    assert table["epoch"].min() == 1


def test_subplots_keep_titles_bands_lines_and_ticks():
    drawn = make_subplots(1, 2, subplot_titles=["layer 1", "layer 2"], shared_yaxes=True)
    for column in (1, 2):
        drawn.add_scatter(
            x=[0, 1, 1, 0],
            y=[3, 4, 2, 1],
            fill="toself",
            fillcolor="#0072B2",
            opacity=0.2,
            showlegend=False,
            row=1,
            col=column,
        )
        drawn.add_scatter(
            x=[0, 1], y=[2, 3], name="ViT", line={"color": "#0072B2"}, showlegend=column == 1, row=1, col=column
        )
    drawn.add_hline(y=2.5)
    drawn.update_xaxes(tickvals=[0, 1], ticktext=["none", "10 k"], title="images seen")
    svg = chart_files.svg(drawn, "Title")
    texts = texts_of(svg)
    assert {"layer 1", "layer 2", "ViT"} <= set(texts)
    assert texts.count("10 k") == texts.count("images seen") == 2
    assert len(marks(svg, "area mark")) == len(marks(svg, "line mark")) == 2
    assert len(marks(svg, "rule mark")) == 2


def test_a_logarithmic_axis_is_one_in_the_file():
    drawn = go.Figure(go.Scatter(x=[1, 10, 100], y=[0, 0.5, 1], mode="markers", name="a", marker={"color": "#0072B2"}))
    drawn.update_xaxes(type="log", range=[0, 2])
    places = [
        float(point.get("transform").partition("(")[2].partition(",")[0])
        for point in marks(chart_files.svg(drawn, "t"), "point")
    ]
    assert abs((places[2] - places[1]) - (places[1] - places[0])) < 0.5


def test_an_axis_that_begins_at_zero_does_so_in_the_file():
    drawn = go.Figure(go.Scatter(x=[1, 2], y=[5, 6], mode="markers", name="a", marker={"color": "#0072B2"}))
    drawn.update_yaxes(title="up", rangemode="tozero")
    assert "0" in texts_of(chart_files.svg(drawn, "t"))
    assert "0" not in texts_of(chart_files.svg(drawn.update_yaxes(rangemode="normal"), "t"))


def test_standard_errors_open_marks_and_marks_of_several_sizes_are_drawn():
    drawn = go.Figure()
    drawn.add_scatter(
        x=[1, 2],
        y=[3.0, 4.0],
        error_y={"array": [0.5, 0.25]},
        mode="lines+markers",
        name="ViT",
        line={"color": "#0072B2"},
        marker={"symbol": "circle-open", "size": np.array([8, 14])},
    )
    drawn.add_scatter(x=[1], y=[2.0], mode="markers", name="heads", showlegend=False, marker={"color": "#E69F00"})
    svg = chart_files.svg(drawn, "Distance")
    assert len(marks(svg, "rule mark")) == 2
    above = {child: parent for parent in ET.fromstring(svg).iter() for child in parent}

    def filled(node):
        return node.get("fill") or filled(above[node])

    points = [node for node in above if node.get("aria-roledescription") == "point"]
    assert [filled(point) for point in points] == ["none", "none", "#E69F00"]
