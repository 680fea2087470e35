"""CKA: which layers of two models represent the same images alike."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import streamlit as st
import xarray as xr

from dashboard.compute import asking
from dashboard.compute.asking import Ask, Outcome
from dashboard.controls import choices
from dashboard.draw import frame, matrices, model_columns, palette
from dashboard.draw.frame import Help
from dashboard.draw.matrices import Square
from dashboard.draw.panels import Scale
from dashboard.state import models
from dashboard.state.selection import Selection
from dashboard.view import Answer, Images, Page, Shown, View

Squares = Mapping[tuple[str, str], xr.Dataset]
"""Titles of the models across and up to how alike their layers are."""
REPRESENTATIONS = {"tokens": "all tokens", "cls": "CLS", "mean": "mean of patches"}
POINTS = {"blocks": "block outputs", "all": "also attention, MLP"}
HOW = """
Each square compares every layer of one model (across) with every layer of another (up). **Yellow: the two layers order
the same images alike**, up to a rotation and one scale of their features; dark blue: they have nothing in common.

- A model against itself is 1 on the diagonal. A bright block around it is a stage in which little changes.
- Between two models, a bright line along the diagonal means that they build up alike; a bright row means that one layer
  of the model resembles many of the other.
- Hover for the value and its spread over minibatches.
"""
FORMULA = r"""
$$\mathrm{CKA} = \frac{\sum \mathrm{HSIC}_1(K,L)}{\sqrt{\sum \mathrm{HSIC}_1(K,K)\,\sum \mathrm{HSIC}_1(L,L)}}, \qquad
K = XX^\top,\; L = YY^\top$$

$$\mathrm{HSIC}_1 = \tfrac{1}{n(n-3)}\Big[\mathrm{tr}(KL) + \tfrac{(1^\top K1)(1^\top L1)}{(n-1)(n-2)} -
\tfrac{2}{n-2}1^\top KL1\Big]$$

over minibatches of n = 32 images, diagonals set to zero, sums taken before dividing. Source: Kornblith et al. 2019,
[arXiv:1905.00414](https://arxiv.org/abs/1905.00414); Nguyen et al. 2021,
[arXiv:2010.15327](https://arxiv.org/abs/2010.15327).
"""
NOT_SHOWN = """
- **Which** features two layers share: CKA is blind to rotation, and high CKA is not the same function.
- Small directions: those of largest variance decide, and a few outlying images can.
- It depends on the images. Few images make a noisy estimate, which can leave 0 to 1 a little.
"""


@dataclass(frozen=True)
class Chosen:
    """What the controls say: one or two models, and the keys of ``REPRESENTATIONS`` and ``POINTS``."""

    models: tuple[str, ...]
    representation: str
    points: str


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


def title(pair: tuple[str, str]) -> str:
    """What a square is called."""
    return pair[0] if pair[0] == pair[1] else f"{pair[0]} and {pair[1]}"


def point_name(point: str) -> str:
    """A canonical point as a person reads it, counted from 1."""
    kind, _, index = point.partition(".")
    names = {"resid_post": "block", "attn_out": "attention of block", "mlp_out": "MLP of block"}
    return f"{names[kind]} {int(index) + 1}" if index else "input of block 1"


def reading(squares: Squares, representation: str) -> str:
    """What the square between two models says, or within the only one."""
    (across, up), dataset = next(((k, v) for k, v in squares.items() if k[0] != k[1]), next(iter(squares.items())))
    values = dataset["cka"].values
    n, batches = dataset.attrs["n"], dataset.attrs["minibatches"]
    left = f"; {dataset.attrs['dropped']} left over" if dataset.attrs["dropped"] else ""
    count = f"n = {n} images in {batches} minibatch{'es' if batches > 1 else ''}{left}"
    convention = f"{count}; features are {REPRESENTATIONS[representation]}"
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
            Square(title((across, up)), colours[across], "CKA of layers", pixels, name_a, name_b, places_a, raised)
        )
    return matrices.svg(drawn, scale=scale, title="Similarity of layers (CKA)", caption=said)


def two_of(selection: Selection) -> tuple[str, ...]:
    """Draw the choice of two models when there are more, and return them."""
    if len(selection.models) <= 2:
        return selection.models
    chosen = []
    for place, (label, key) in enumerate((("Model", "across"), ("against", "up"))):
        if st.session_state.get(key) not in selection.models:
            st.session_state.pop(key, None)
        chosen.append(
            st.selectbox(
                label,
                selection.models,
                index=place,
                key=key,
                bind="query-params",
                format_func=models.title,
                width=150,
            )
        )
    return tuple(dict.fromkeys(chosen))


def squares_of(outcome: Outcome) -> dict[tuple[str, str], xr.Dataset]:
    """Every model against itself, and between the first and the last the square of both."""
    alone = [((model.title, model.title), model.datasets["cka"]) for model in outcome.models if "cka" in model.datasets]
    both = [
        ((models.title(a), models.title(b)), dataset)
        for (a, b), dataset in outcome.pairs.items()
        if "undefined" not in dataset.attrs
    ]
    return dict([*alone[:1], *both, *alone[1:]])


def controls(selection: Selection) -> Chosen:
    """Draw the models, their features and the points."""
    pair = two_of(selection)
    representation = choices.one_of("Features", REPRESENTATIONS, "representation")
    return Chosen(pair, representation, choices.one_of_many("Layers", POINTS, "points", width=155))


def asks(chosen: Chosen) -> list[Ask]:
    """One comparison of the two models."""
    params: dict[str, str | int] = {"representation": chosen.representation, "points": chosen.points, "minibatch": 32}
    return [Ask("cka", params, pairs=True)]


def draw_squares(answer: Answer[Chosen], _: Shown) -> None:
    """A square beside the other, on one scale."""
    outcome, colours = answer.outcome, answer.outcome.colours
    found = squares_of(outcome)
    notes = {title(pair): f"{'within' if pair[0] == pair[1] else 'between'}, CKA of layers" for pair in found}
    halves = {title((a, b)): f"linear-gradient(to right, {colours[a]} 50%, {colours[b]} 50%)" for a, b in found}
    places = model_columns.columns(notes, halves, most=3) if found else {}
    for index, ((a, b), dataset) in enumerate(found.items()):
        with places[title((a, b))]:
            alt = f"CKA of every layer of {a} with every layer of {b}"
            frame.chart(figure(a, b, dataset), key=f"cka-{index}", alt=alt)
    if found:
        model_columns.bar("0", "1 CKA; one scale for all squares")
    for dataset in outcome.pairs.values():
        if "undefined" in dataset.attrs:
            st.info(asking.sentence(f"No square between the two: {dataset.attrs['undefined']}"), icon=":material/info:")


def shown(answer: Answer[Chosen]) -> Shown:
    """What the squares say."""
    outcome = answer.outcome
    found = squares_of(outcome)
    said = reading(found, answer.chosen.representation) if found else ""
    return Shown(
        "Similarity of layers (CKA)",
        said=said,
        table={f"{a} + {b}": dataset for (a, b), dataset in found.items()},
        document=(lambda: document(found, outcome.colours, said)) if found else None,
    )


VIEW = View(
    Page("Layer similarity (CKA)", section="Representation", order=60),
    "Which layers represent images alike?",
    Help(HOW, FORMULA, NOT_SHOWN),
    controls,
    shown,
    asks=asks,
    models=lambda chosen, _: chosen.models,
    images=Images(several=True, set_default="scenes-100"),
    above=draw_squares,
)
