"""Squares of how alike the layers of models are: as charts, in words and as one picture. Pure."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from dashboard.compute.asking import Outcome
from dashboard.draw import matrices, palette
from dashboard.draw.matrices import Square
from dashboard.draw.panels import Scale
from dashboard.state import models

REPRESENTATIONS = {"card": "by each model's card", "tokens": "all tokens", "cls": "CLS", "mean": "mean of patches"}
Squares = Mapping[tuple[str, str], xr.Dataset]
"""Titles of the models across and up to how alike their layers are."""


def figure(across: str, up: str, dataset: xr.Dataset) -> go.Figure:
    """One square: layers of one model across, of another (or the same) up, colours from 0 to 1 in every square."""
    values = dataset.transpose("layer_a", "layer_b")["cka"].values
    names = [[point_name(point) for point in dataset[name].values.tolist()] for name in ("point_a", "point_b")]
    said = np.empty((*values.shape, 3), dtype=object)
    said[..., 0], said[..., 1] = np.array(names[0])[:, None], np.array(names[1])[None]
    said[..., 2] = np.vectorize(palette.number, otypes=[object])(dataset["cka_sd"].values)
    drawn = go.Figure()
    drawn.add_heatmap(
        z=values.T,
        x=list(range(1, len(names[0]) + 1)),
        y=list(range(1, len(names[1]) + 1)),
        customdata=said.swapaxes(0, 1),
        zmin=0,
        zmax=1,
        colorscale=palette.plotly_scale(),
        showscale=False,
        hovertemplate=f"{across}: %{{customdata[0]}}<br>{up}: %{{customdata[1]}}<br>"
        "CKA %{z:.3f}, spread over minibatches %{customdata[2]}<extra></extra>",
    )
    for axis, name, points in ((drawn.update_xaxes, across, names[0]), (drawn.update_yaxes, up, names[1])):
        blocks = all(point.startswith("block") for point in points)
        step = 1 if len(points) <= 12 else 4
        axis(
            title=f"{name}, {'layer' if blocks else 'point in order of computing'}",
            showgrid=False,
            zeroline=False,
            dtick=step,
            constrain="domain",
        )
    drawn.update_yaxes(scaleanchor="x", constraintoward="top")
    return drawn.update_layout(height=400, plot_bgcolor="rgba(0,0,0,0)")


def features(dataset: xr.Dataset) -> str:
    """What was read of both models: "CLS and mean of patches", or once where it is the same."""
    return " and ".join(dict.fromkeys(REPRESENTATIONS[dataset.attrs[name]] for name in ("used_a", "used_b")))


def title(pair: tuple[str, str]) -> str:
    """What a square is called."""
    return pair[0] if pair[0] == pair[1] else f"{pair[0]} and {pair[1]}"


def point_name(point: str) -> str:
    """A canonical point as a person reads it, counted from 1."""
    kind, _, index = point.partition(".")
    names = {"resid_post": "block", "attn_out": "attention of block", "mlp_out": "MLP of block"}
    return f"{names[kind]} {int(index) + 1}" if index else "input of block 1"


def reading(squares: Squares) -> str:
    """What the square between two models says, or within the only one."""
    (across, up), dataset = next(((k, v) for k, v in squares.items() if k[0] != k[1]), next(iter(squares.items())))
    values = dataset["cka"].values
    n, batches = dataset.attrs["n"], dataset.attrs["minibatches"]
    left = f"; {dataset.attrs['dropped']} left over" if dataset.attrs["dropped"] else ""
    count = f"n = {n} images in {batches} minibatch{'es' if batches > 1 else ''}{left}"
    convention = f"{count}; features are {features(dataset)}"
    constant = dataset.attrs["constant"]
    if not np.isfinite(values).any():
        who = f"**{across}**" if across == up else f"**{across}** or **{up}**"
        return f"CKA is undefined here, as every image gives the same in each layer of {who} ({convention})."
    said = f" Undefined where every image gives the same: {', '.join(map(point_name, constant))}." if constant else ""
    if across == up:
        ends, before = (palette.number(float(values[-1, other])) for other in (0, max(len(values) - 2, 0)))
        alone = f"the last layer has CKA {ends} with the first and {before} with the one before it"
        return f"In **{across}** {alone} ({convention}).{said}"
    at = np.unravel_index(np.nanargmax(values), values.shape)
    names = [point_name(dataset[n].values[i]) for n, i in zip(("point_a", "point_b"), at, strict=True)]
    most, last = palette.number(float(values[at])), palette.number(float(values[-1, -1]))
    return (
        f"**{across}** and **{up}** are most alike at {names[0]} and {names[1]}, CKA {most}; their last layers have "
        f"{last} ({convention}).{said}"
    )


def document(found: Squares, colours: Mapping[str, str], said: str) -> str:
    """All squares as SVG, layers counted from the left and from the bottom."""
    scale = Scale(0.0, 1.0, "CKA")
    drawn = []
    for (across, up), dataset in found.items():
        values = dataset.transpose("layer_b", "layer_a")["cka"].values[::-1]
        axes = []
        for name, kind in ((across, "point_a"), (up, "point_b")):
            points = [point_name(point) for point in dataset[kind].values.tolist()]
            what = "layer" if all(point.startswith("block") for point in points) else "point in order of computing"
            step = 1 if len(points) <= 12 else 4
            places = [((i + 0.5) / len(points), str(i + 1)) for i in range(0, len(points), step)]
            axes.append((f"{name}, {what}", places))
        (name_a, places_a), (name_b, places_b) = axes
        raised = [(1 - at, text) for at, text in places_b]
        pixels = matrices.painted(values, scale)
        drawn.append(
            Square(
                title((across, up)),
                colours[across],
                f"CKA of layers, {features(dataset)}",
                pixels,
                name_a,
                name_b,
                places_a,
                raised,
            )
        )
    return matrices.svg(drawn, scale=scale, title="Similarity of layers (CKA)", caption=said)


def of_run(datasets: Mapping[str, xr.Dataset], colours: Mapping[str, str], image: int) -> dict[str, go.Figure]:
    """The squares of a run's models and pairs, each by its name; a pair's is ``A+B``."""
    found = {}
    for name, dataset in datasets.items():
        labels, dot, run = name.partition(" · ")
        across, _, up = labels.partition("+")
        found[name] = figure(f"{across}{dot}{run}", f"{up or across}{dot}{run}", dataset)
    return found


def squares_of(outcome: Outcome) -> dict[tuple[str, str], xr.Dataset]:
    """Every model against itself, and between the first and the last the square of both."""
    alone = [((model.title, model.title), model.datasets["cka"]) for model in outcome.models if "cka" in model.datasets]
    both = [
        ((models.title(a), models.title(b)), dataset)
        for (a, b), dataset in outcome.pairs.items()
        if "undefined" not in dataset.attrs
    ]
    return dict([*alone[:1], *both, *alone[1:]])
