"""A training as a course of moments: what its snapshots show, as panels, a figure, a table and words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from dashboard.compute.asking import ModelResult
from dashboard.controls import object_masks
from dashboard.draw import head_maps, panels, position_tiles
from dashboard.draw.palette import number
from dashboard.draw.panels import Panel, Row
from dashboard.draw.sentences import percent
from dashboard.images import gallery, masks
from dashboard.state import models
from dashboard.state.selection import Point
from model_zoo.training.snapshots import Moment
from probes.core.saliency import overlap


@dataclass(frozen=True)
class Course:
    """One model's training.

    Attributes:
        title: the model, as the user reads it.
        colour: the model's colour.
        start: what the position embeddings began as.
        sizes: sides of the training images, px.
        moments: its snapshots in order, the finished model last.
        results: what there is of each of them, called what `name` says.
    """

    title: str
    colour: str
    start: str
    sizes: tuple[int, ...]
    moments: tuple[Moment, ...]
    results: tuple[ModelResult, ...]

    @property
    def began(self) -> str:
        """How the training went, in a few words."""
        sides = " to ".join(dict.fromkeys(f"{side}" for side in (self.sizes[0], self.sizes[-1])))
        return f"trained on {self.moments[-1].images:,} scenes of {sides} px; positions began as {self.start}"

    @staticmethod
    def name(moment: Moment) -> str:
        """What a panel of this moment is called."""
        if moment.images == 0:
            return "untrained"
        return f"{moment.images:,} images" + (", end" if moment.final else "")

    def at(self, images: int) -> Moment:
        """The last moment at which no more than this many images were seen."""
        return next((one for one in reversed(self.moments) if one.images <= images), self.moments[0])

    def ready(self, probe: str) -> dict[Moment, xr.Dataset]:
        """Datasets of a probe at the moments that have one."""
        pairs = zip(self.moments, self.results, strict=True)
        return {moment: model.datasets[probe] for moment, model in pairs if probe in model.datasets}

    def attention(self, place: int, picture: str, head: str) -> Row:
        """CLS attention of the last block on one image at every moment.

        Args:
            place: of the image in the datasets.
            picture: its id.
            head: ``mean``, ``max`` or a number from 1.
        """
        key = object_masks.key_of(picture)
        outline = masks.outlined(picture, key) if key else None
        drawn = []
        for model in self.results:
            dataset = model.datasets.get("attention-maps")
            if dataset is None:
                drawn.append(panels.pending(model))
                continue
            one = dataset["attention"].isel(image=slice(place, place + 1))
            values = head_maps.choose_head(head_maps.layer_heads(one, one.sizes["layer"] - 1), head).values
            note = ""
            if key:
                mask = masks.mask(picture, key)
                inside = overlap(values, mask, model.geometries[place], 0.6).mass_inside
                note = f"{percent(inside)} on the object" if np.isfinite(inside) else "does not see the object"
            drawn.append(panels.of_model(model, note, values, image=place, outline=outline))
        title, of = f"{self.title} · {self.began}", masks.named(key) if key else ""
        return Row(picture, drawn, title=title, outline=outline, outline_of=of)

    def positions(self, picture: str, point: Point, images: int) -> Row:
        """The similarity of all positions to the one under a point, at every moment.

        Args:
            picture: id of what it is drawn over.
            point: the position.
            images: the moment at which all positions are shown elsewhere; it is noted.
        """
        drawn = []
        for moment, model in zip(self.moments, self.results, strict=True):
            dataset = model.datasets.get("position-similarity")
            if dataset is None:
                drawn.append(panels.pending(model))
                continue
            values = position_tiles.at_point(dataset, point)["similarity"].values
            note = "all its tiles below" if moment is self.at(images) else ""
            drawn.append(Panel(model.title, model.colour, note, gallery.whole(picture), values))
        title = f"{self.title} · position embeddings began as {self.start}"
        return Row(picture, drawn, title=title, point=point, clickable=True)


def place(images: np.ndarray | float, unit: float) -> np.ndarray:
    """Where a number of images lies on the axis: 0 at 0, logarithmic beyond ``unit``."""
    return np.arcsinh(np.asarray(images, float) / unit)


def axis_unit(courses: Sequence[Course]) -> float:
    """Half of the images before the first snapshot that has seen any."""
    return min((m.images for one in courses for m in one.moments if m.images), default=2) / 2


def distance_figure(courses: Sequence[Course], images: int) -> go.Figure:
    """Mean attention distance along the training, a small chart a layer, all on one scale.

    Args:
        courses: those with ``attention-distance`` (layer, head), px, at some moments.
        images: the chosen moment, marked by a line.
    """
    unit = axis_unit(courses)
    datasets = [dataset for one in courses for dataset in one.ready("attention-distance").values()]
    layers = max(dataset.sizes["layer"] for dataset in datasets)
    across = 3 if layers > 2 else layers
    down = -(-layers // across)
    drawn = make_subplots(
        down, across, shared_yaxes="all", shared_xaxes="all", horizontal_spacing=0.03, vertical_spacing=0.12,
        subplot_titles=[f"layer {i + 1}" for i in range(layers)],
    )  # fmt: skip
    for one in courses:
        found = one.ready("attention-distance")
        seen = np.array([moment.images for moment in found])
        for layer in range(next(iter(found.values())).sizes["layer"]):
            values = np.stack([dataset["distance"].values[layer] for dataset in found.values()])
            at = {"row": layer // across + 1, "col": layer % across + 1}
            x, low, high = place(seen, unit), np.nanmin(values, 1), np.nanmax(values, 1)
            drawn.add_scatter(
                x=np.concatenate([x, x[::-1]]), y=np.concatenate([high, low[::-1]]), fill="toself", mode="lines",
                line={"width": 0}, fillcolor=one.colour, opacity=0.2, hoverinfo="skip", showlegend=False,
                legendgroup=one.title, name=f"{one.title}, heads", **at,
            )  # fmt: skip
            drawn.add_scatter(
                x=x, y=np.nanmean(values, 1), mode="lines+markers", name=one.title, legendgroup=one.title,
                showlegend=layer == 0, line={"color": one.colour, "width": 2.5},
                marker={"symbol": models.mark(one.colour), "size": 8, "color": one.colour},
                customdata=np.stack([seen, low, high], 1),
                hovertemplate=f"{one.title}<br>%{{customdata[0]:,}} images: %{{y:.1f}} px, heads %{{customdata[1]:.1f}}"
                " to %{customdata[2]:.1f}<extra></extra>",
                **at,
            )  # fmt: skip
    uniform = sorted({round(float(dataset["uniform_distance"]), 3) for dataset in datasets})
    for even in uniform:
        drawn.add_hline(y=even, line={"dash": "dash", "width": 1, "color": "#8a8f98"})
    drawn.add_vline(x=float(place(images, unit)), line={"dash": "dot", "width": 1.5, "color": "#8a8f98"})
    largest = max(moment.images for one in courses for moment in one.moments)
    ticks = [0, *(n for n in (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000) if unit < n <= largest)]
    drawn.update_xaxes(tickvals=place(np.array(ticks), unit), ticktext=[short(n) for n in ticks], showticklabels=True)
    drawn.update_xaxes(title="images seen", row=down)
    lengths = np.concatenate([uniform, *(dataset["distance"].values.ravel() for dataset in datasets)])
    low, high = np.nanmin(lengths), np.nanmax(lengths)
    drawn.update_yaxes(range=[low - 0.06 * (high - low), high + 0.06 * (high - low)])
    drawn.update_yaxes(title="distance (px)", col=1)
    return drawn.update_layout(height=260 * down + 40, margin={"t": 72}, legend={"y": 1 + 36 / (260 * down - 40)})


def short(images: int) -> str:
    """A round number of images: 10 k, 1 M."""
    if images >= 1_000_000:
        return f"{images // 1_000_000} M"
    return f"{images // 1_000} k" if images >= 1_000 else str(images)


def in_words(courses: Sequence[Course], n: int) -> str:
    """From where to where the mean distance went, with n and the convention."""
    lines = []
    for one in courses:
        found = one.ready("attention-distance")
        first, last = next(iter(found)), next(reversed(found))
        before, after = (number(float(found[moment]["distance"].mean())) for moment in (first, last))
        start, end = (list(found[moment]["distance"].mean("head").values) for moment in (first, last))
        moved = max(range(len(start)), key=lambda layer: abs(end[layer] - start[layer]))
        most = f"layer {moved + 1} most, from {number(start[moved])} to {number(end[moved])} px"
        lines.append(
            f"**{one.title}**: mean attention distance from {before} px ({one.name(first)}) to {after} px "
            f"({one.name(last)}); {most}."
        )
    if not lines:
        return ""
    even = number(float(next(iter(courses[0].ready("attention-distance").values()))["uniform_distance"]))
    lines.append(
        f"Even attention would have {even} px. n = {n} image{'s' * (n > 1)}, renormalised over the patches, in pixels "
        "of the input; whatever size a model was trained at, it is shown at its final one."
    )
    return "  \n".join(lines)


def positions_in_words(courses: Sequence[Course]) -> str:
    """How similar neighbouring and other positions are at the beginning and at the end."""
    lines = []
    for one in courses:
        found = one.ready("position-similarity")
        if len(found) < 2:
            continue
        parts = []
        for moment in (next(iter(found)), next(reversed(found))):
            near, far = (number(value, 2) for value in position_tiles.neighbours(found[moment]["similarity"]))
            parts.append(f"{near} side by side and {far} otherwise ({one.name(moment)})")
        lines.append(f"**{one.title}**: mean cosine {', then '.join(parts)}. Its positions began as {one.start}.")
    return "  \n".join(lines)


def table(courses: Sequence[Course]) -> pd.DataFrame:
    """Distances: a row a model, moment, layer and head, counted from 1."""
    rows = [
        {
            "model": one.title, "step": moment.step, "images_seen": moment.images, "layer": int(layer) + 1,
            "head": int(head) + 1, "distance_px": value, "n": dataset.attrs["n"],
        }
        for one in courses
        for moment, dataset in one.ready("attention-distance").items()
        for (layer, head), value in np.ndenumerate(dataset["distance"].values)
    ]  # fmt: skip
    return pd.DataFrame(rows)
