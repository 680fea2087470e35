"""The similarities of every two positions as mosaics, on the page and in the saved picture, and in words."""

from collections.abc import Mapping

import plotly.graph_objects as go
import xarray as xr

from dashboard.draw import frame, matrices, model_columns, palette
from dashboard.draw.matrices import Square
from dashboard.draw.position_tiles import figure, mosaic, neighbours, scale_of


def document(datasets: Mapping[str, xr.Dataset], colours: Mapping[str, str], said: str) -> str:
    """The mosaics of all models as SVG, on one scale where they have the same units."""
    scales = {name: scale_of(dataset) for name, dataset in datasets.items()}
    shared = next(iter(scales.values())) if len(set(scales.values())) == 1 else None
    drawn = []
    for name, dataset in datasets.items():
        pixels = matrices.painted(mosaic(dataset["similarity"])[0], scales[name], gaps=True)
        axes = "column of the position", "row of the position"
        own = None if shared else scales[name]
        drawn.append(Square(name, colours[name], dataset.attrs["source"], pixels, *axes, scale=own))
    return matrices.svg(drawn, scale=shared, title="Similarity of positions", caption=said)


def of_run(datasets: Mapping[str, xr.Dataset]) -> dict[str, go.Figure]:
    """A mosaic for each model of a run, with a colour bar of its own."""
    return {name: figure(dataset) for name, dataset in datasets.items()}


def reading(datasets: Mapping[str, xr.Dataset]) -> str:
    """One sentence a model: neighbours against the rest."""
    said = []
    for name, dataset in datasets.items():
        near, far = (written(value) for value in neighbours(dataset["similarity"]))
        height, width = dataset.sizes["y"], dataset.sizes["x"]
        what = f"{scale_of(dataset).units} {near} side by side, {far} otherwise"
        said.append(f"**{name}**: {what} (mean over {height} × {width} positions; {dataset.attrs['remark']}).")
    return "  \n".join(said)


def written(value: float) -> str:
    """A mean similarity: two digits after the point, more only where a bias is small."""
    return "0" if abs(value) < 5e-5 else f"{value:.2f}" if abs(value) >= 0.095 else palette.number(value, 2)


def draw(datasets: Mapping[str, xr.Dataset], colours: Mapping[str, str]) -> None:
    """Draw a mosaic a model, and one colour bar where all have the same scale."""
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
