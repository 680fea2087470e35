"""A training as a course of moments: what its snapshots show, as panels and words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from dashboard.compute.asking import ModelResult
from dashboard.controls import object_masks
from dashboard.draw import head_maps, panels, position_tiles
from dashboard.draw.palette import number
from dashboard.draw.panels import Panel, Row
from dashboard.draw.sentences import percent
from dashboard.images import gallery, masks
from dashboard.state.selection import Point
from dashboard.views.formation.measures import Measure
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
        pictures: ids of the images behind the results.
    """

    title: str
    colour: str
    start: str
    sizes: tuple[int, ...]
    moments: tuple[Moment, ...]
    results: tuple[ModelResult, ...]
    pictures: tuple[str, ...] = ()

    @property
    def began(self) -> str:
        """How the training went, in a few words."""
        sides = " to ".join(dict.fromkeys(f"{side}" for side in (self.sizes[0], self.sizes[-1])))
        return f"trained on {self.moments[-1].images:,} images of {sides} px; positions began as {self.start}"

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

    def values(self, measure: Measure) -> dict[Moment, np.ndarray]:
        """A quantity, (layers, heads), at the moments that have it."""
        found = self.ready(measure.probe)
        read = {moment: measure.values(dataset, self.pictures) for moment, dataset in found.items()}
        return {moment: values for moment, values in read.items() if np.isfinite(values).any()}

    def undefined(self, measure: Measure) -> str:
        """Why there is nothing of a quantity, in one sentence; empty where there is something or something comes."""
        reasons = [model.reasons.get(measure.probe, "") for model in self.results]
        if any(reasons):
            return next(filter(None, reasons))
        there = len(self.ready(measure.probe)) == len(self.moments)
        return "There is nothing to measure in these images." if there and not self.values(measure) else ""

    def attention(self, place: int, picture: str, head: str) -> Row:
        """Attention of the last layer on one image at every moment: of CLS, or the mean of all patches without one.

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
        no_cls = any(one.spec is not None and "cls" not in one.spec.prefix for one in self.results)
        whose = "mean of all patches, as it has no CLS; " if no_cls else ""
        title, of = f"{self.title} · {whose}{self.began}", masks.named(key) if key else ""
        return Row(picture, drawn, title=title, outline=outline, outline_of=of)

    @property
    def has_positions(self) -> bool:
        """Whether its positions are embeddings that can be similar, not biases of attention."""
        found = self.ready("position-similarity").values()
        return any(dataset["similarity"].attrs.get("units") == "cosine" for dataset in found)

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


def positions_in_words(courses: Sequence[Course]) -> str:
    """How similar neighbouring and other positions are at the beginning and at the end."""
    lines = []
    for one in courses:
        found = one.ready("position-similarity")
        if len(found) < 2 or not one.has_positions:
            continue
        parts = []
        for moment in (next(iter(found)), next(reversed(found))):
            near, far = (number(value, 2) for value in position_tiles.neighbours(found[moment]["similarity"]))
            parts.append(f"{near} side by side and {far} otherwise ({one.name(moment)})")
        lines.append(f"**{one.title}**: mean cosine {', then '.join(parts)}. Its positions began as {one.start}.")
    return "  \n".join(lines)
