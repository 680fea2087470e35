"""Position embeddings: which places of the image a model tells apart before it has seen one."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import streamlit as st
import xarray as xr

from dashboard.compute import asking
from dashboard.controls import choices
from dashboard.controls.sidebar import sidebar
from dashboard.draw import export, frame, matrices, model_columns, palette, panels
from dashboard.draw.matrices import Square
from dashboard.draw.panels import Look, Panel, Scale
from dashboard.images import gallery
from dashboard.page import Page
from dashboard.state import link
from dashboard.state.selection import read_point
from model_zoo.adapter import Geometry

PAGE = Page("Position embeddings", section="Representation", order=40)

METRICS = {"cosine": "cosine", "dot": "dot product"}
MOST_CELLS = 75_000
HOW = """
The mosaic has **one tile for each position** of the patch grid, at that position; the tile shows how similar the
position's embedding is to every other. Orange: alike; blue: opposed; pale: unrelated.

- A bright spot at the tile's own place: the model tells places apart, near ones less than far ones.
- Rows and columns lighting up: it encodes row and column separately.
- Below, one tile at a time: click a place. The other models show the same place of the image.

Cosine has one scale, −1 to 1, for all models. Dot products and biases have units of their own, so each has its scale.
"""
FORMULA = r"""
$$s_{ij} = \frac{E_i \cdot E_j}{\lVert E_i\rVert\,\lVert E_j\rVert} \quad\text{or}\quad s_{ij} = E_i \cdot E_j$$

with $E$ the learned table without the rows of prefix tokens, interpolated to the grid in use. Rotary models: $E_i$ are
the cosines and sines of position $i$. Models with relative position biases (BEiT, Swin): $s_{ij}$ is what is added to
the attention score of query $i$ and key $j$, mean over heads and layers; in windowed models inside one window.

Source: Dosovitskiy et al. 2021, Fig. 7, [arXiv:2010.11929](https://arxiv.org/abs/2010.11929).
"""
NOT_SHOWN = """
- What the network **makes** of the table: later layers may ignore or sharpen it.
- Position that enters otherwise: through zero padding in a convolutional stem, or rotation beside a table.
- Dot products and biases of two models cannot be compared by their size.
"""


def mosaic(similarity: xr.DataArray) -> tuple[np.ndarray, list[str], list[str], int]:
    """Tiles with a gap of one cell between them, what each row and column of cells is, and the step between tiles.

    A fine grid would make a picture of millions of cells; then only every ``step``-th position has a tile.
    """
    values = similarity.transpose("query_y", "query_x", "y", "x").values
    height, width = values.shape[:2]
    step = 1
    while -(-height // step) * (height + 1) * -(-width // step) * (width + 1) > MOST_CELLS:
        step += 1
    tiles = np.pad(values[::step, ::step].astype(np.float64), ((0, 0),) * 2 + ((0, 1),) * 2, constant_values=np.nan)
    picture = tiles.swapaxes(1, 2).reshape(tiles.shape[0] * (height + 1), -1)[:-1, :-1]

    def names(kind: str, size: int) -> list[str]:
        return [
            f"{kind} {q + 1} against {kind} {k + 1}" if k < size else f"gap {q}"
            for q in range(0, size, step)
            for k in range(size + 1)
        ][:-1]

    return picture, names("row", height), names("column", width), step


def figure(dataset: xr.Dataset, *, bar: bool = True) -> go.Figure:
    """The mosaic of one model, colours centred at 0, with a colour bar of its own where models do not share one."""
    picture, rows, columns, _ = mosaic(dataset["similarity"])
    most = limit(dataset)
    drawn = go.Figure()
    drawn.add_heatmap(
        z=picture.round(3).astype(np.float32),
        x=columns,
        y=rows,
        zmin=-most,
        zmax=most,
        colorscale=palette.plotly_scale(signed=True),
        showscale=bar,
        colorbar={
            "title": {"text": units(dataset), "side": "bottom", "font": {"size": 13}},
            "orientation": "h",
            "y": -0.08,
            "yanchor": "top",
            "thickness": 10,
            "outlinewidth": 0,
            "nticks": 5,
        },
        hovertemplate="%{y}<br>%{x}<br>%{z:.3f}<extra></extra>",
        hoverongaps=False,
    )
    quiet = {"showticklabels": False, "ticks": "", "showgrid": False, "zeroline": False, "constrain": "domain"}
    drawn.update_xaxes(title="column of the position", type="category", **quiet)
    drawn.update_yaxes(
        title="row of the position",
        type="category",
        autorange="reversed",
        scaleanchor="x",
        constraintoward="top",
        **quiet,
    )
    return drawn.update_layout(height=460, plot_bgcolor="rgba(0,0,0,0)")


def document(datasets: Mapping[str, xr.Dataset], colours: Mapping[str, str], said: str) -> str:
    """The mosaics of all models as SVG, on one scale where they have the same units."""
    scales = {name: Scale(-limit(dataset), limit(dataset), units(dataset), True) for name, dataset in datasets.items()}
    shared = next(iter(scales.values())) if len(set(scales.values())) == 1 else None
    drawn = []
    for name, dataset in datasets.items():
        pixels = matrices.painted(mosaic(dataset["similarity"])[0], scales[name], gaps=True)
        axes = "column of the position", "row of the position"
        own = None if shared else scales[name]
        drawn.append(Square(name, colours[name], dataset.attrs["source"], pixels, *axes, scale=own))
    return matrices.svg(drawn, scale=shared, title="Similarity of positions", caption=said)


def limit(dataset: xr.Dataset) -> float:
    """End of the scale: 1 for a cosine, else the largest magnitude."""
    if dataset["similarity"].attrs["units"] == "cosine":
        return 1.0
    return float(np.abs(dataset["similarity"]).max()) or 1.0


def units(dataset: xr.Dataset) -> str:
    """What the numbers are."""
    return {"cosine": "cosine similarity", "dot": "dot product"}.get(
        dataset["similarity"].attrs["units"], "bias, attention score"
    )


def neighbours(similarity: xr.DataArray) -> tuple[float, float]:
    """Mean similarity of positions side by side, and of all others."""
    values = similarity.transpose("query_y", "query_x", "y", "x").values
    rows, columns = np.arange(values.shape[0])[:, None], np.arange(values.shape[1])[None]
    rows, columns = np.broadcast_arrays(rows, columns)
    across = np.abs(rows[:, :, None, None] - rows) + np.abs(columns[:, :, None, None] - columns)
    near, far = values[across == 1], values[across > 1]
    return float(near.mean()) if near.size else np.nan, float(far.mean()) if far.size else np.nan


def reading(datasets: Mapping[str, xr.Dataset]) -> str:
    """One sentence a model: neighbours against the rest."""
    said = []
    for name, dataset in datasets.items():
        near, far = (written(value) for value in neighbours(dataset["similarity"]))
        height, width = dataset.sizes["y"], dataset.sizes["x"]
        what = f"{units(dataset)} {near} side by side, {far} otherwise"
        said.append(f"**{name}**: {what} (mean over {height} × {width} positions; {dataset.attrs['remark']}).")
    return "  \n".join(said)


def page() -> None:
    """Draw the page."""
    selection = sidebar(images=False)
    frame.header("Which places does a model tell apart?")
    with frame.controls():
        metric = st.segmented_control(
            "Similarity",
            list(METRICS),
            default="cosine",
            required=True,
            key="metric",
            bind="query-params",
            format_func=METRICS.__getitem__,
        )
    outcome = asking.compute({"position-similarity": {"metric": metric}}, selection)
    ready = outcome.ready("position-similarity")
    if ready:
        draw_mosaics(ready, outcome.colours)
    frame.states(outcome, "position-similarity")
    asking.show_progress(outcome)
    if ready:
        st.markdown(reading(ready))
        st.subheader("One place against all others", anchor=False)
        one_place(outcome)
    frame.footer(
        how=HOW,
        formula=FORMULA,
        not_shown=NOT_SHOWN,
        name="positions",
        png=(lambda: export.png(document(ready, outcome.colours, reading(ready)))) if ready else None,
        svg=(lambda: document(ready, outcome.colours, reading(ready))) if ready else None,
        csv=(lambda: frame.csv({n: at_point(d) for n, d in ready.items()})) if ready else None,
    )


def draw_mosaics(datasets: Mapping[str, xr.Dataset], colours: Mapping[str, str]) -> None:
    """A mosaic a model, and one colour bar where all have the same scale."""
    notes = {}
    for name, dataset in datasets.items():
        step = mosaic(dataset["similarity"])[3]
        thinned = f" · a tile for one row and column in {step}" if step > 1 else ""
        notes[name] = f"{dataset.attrs['source']}, {dataset.sizes['y']} × {dataset.sizes['x']} positions{thinned}"
    same = all(dataset["similarity"].attrs["units"] == "cosine" for dataset in datasets.values())
    for index, (name, place) in enumerate(model_columns.columns(notes, colours, most=3).items()):
        with place:
            alt = f"Similarity of every two positions of {name}, a tile for each position"
            frame.chart(figure(datasets[name], bar=not same), key=f"tiles-{index}", alt=alt)
    if same:
        model_columns.bar("−1", "1 cosine similarity; one scale for all models", signed=True)


def written(value: float) -> str:
    """A mean similarity: two digits after the point, more only where a bias is small."""
    return "0" if abs(value) < 5e-5 else f"{value:.2f}" if abs(value) >= 0.095 else palette.number(value, 2)


def at_point(dataset: xr.Dataset) -> xr.Dataset:
    """The similarity to the chosen place only."""
    u, v = read_point(link.first("at")) or (0.3, 0.3)
    return dataset.isel(query_y=int(v * dataset.sizes["query_y"]), query_x=int(u * dataset.sizes["query_x"]))


def one_place(outcome: asking.Outcome) -> None:
    """Panels of the chosen place, which is chosen by clicking."""
    picture = "scene:0" if gallery.has_scenes() else next(iter(gallery.offered()))
    width, height = gallery.load(picture).size
    point = read_point(link.first("at")) or (0.3, 0.3)
    whole = Geometry((width, height), (0.0, 0.0, float(width), float(height)), (height, width))
    drawn, scales = [], []
    for model in outcome.models:
        dataset = model.datasets.get("position-similarity")
        if dataset is None:
            drawn.append(Panel(model.title, model.colour, message=model.message, waiting=model.waiting))
            continue
        one = at_point(dataset)
        scale = Scale(-limit(dataset), limit(dataset), units(dataset), signed=True)
        scales.append(scale)
        note = f"row {int(point[1] * dataset.sizes['y']) + 1}, column {int(point[0] * dataset.sizes['x']) + 1}"
        if model.spec and (dataset.sizes["y"], dataset.sizes["x"]) != model.spec.grid:
            note += f" of one {dataset.sizes['y']} × {dataset.sizes['x']} window"
        drawn.append(Panel(model.title, model.colour, note, whole, one["similarity"].values, scale=scale))
    same = len(set(scales)) == 1
    if same:
        drawn = [replace(panel, scale=None) for panel in drawn]
    look = Look(opacity=1.0, original=False)
    shared = scales[0] if same else None
    panels.patch_panels(picture, drawn, scale=shared, look=look, key="one-place", point=point, on_pick=choices.pick)
