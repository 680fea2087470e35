"""One chart of one probe's stored results, of one run or of two, as the page and the report show it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from dashboard.cache import remember
from dashboard.draw.panels import Scale
from dashboard.runs import charts, compared, figures, quantities
from dashboard.runs.quantities import Quantity, Values
from dashboard.runs.run import MOST_MODELS, Run
from dashboard.state import models
from dashboard.state.selection import Depth
from model_zoo.reference import ModelError
from probes.core.output import OutputError
from probes.core.runs import summary

BY_PAGE = "as its page"
"""What stands for a page's own chart among the quantities of a probe."""
SAMPLED = 16
"""Images, spread over a run, that the scale of its maps is of."""
SAMPLED_VALUES = 4096
"""Of each of them."""
MORE = "or more"


@dataclass(frozen=True)
class Drawing:
    """A chart, and what it is made of.

    Attributes:
        title: what it shows.
        figures: by model; under no name the one that all share.
        scale: what the colours of pictures mean.
        numbers: by model, what is drawn, to save it.
        said: over how many images, and which place of each dimension.
        values: by run and label, to compare them.
        left_out: why a model has none, or why there are fewer than in the run.
    """

    title: str
    figures: Mapping[str, go.Figure]
    scale: Scale | None = None
    numbers: Mapping[str, xr.Dataset] = field(default_factory=dict)
    said: str = ""
    values: Mapping[str, Mapping[str, Values]] = field(default_factory=dict)
    left_out: Sequence[str] = ()


@dataclass(frozen=True)
class Source:
    """What one probe left in one or two runs.

    Attributes:
        runs: the run, and the one it is compared with.
        probe: its name.
        sets: (run, label) to what is stored, of those in which it is defined.
        names: (run, label) to what figures call it.
        colours: that name to a colour; a label has the same in both runs.
        left_out: a sentence for each label in which it is not defined, or that is one too many.
    """

    runs: tuple[Run, ...]
    probe: str
    sets: Mapping[tuple[str, str], xr.Dataset]
    names: Mapping[tuple[str, str], str]
    colours: Mapping[str, str]
    left_out: tuple[str, ...]

    @property
    def by_name(self) -> dict[str, xr.Dataset]:
        """What figures call a model, to what is stored of it."""
        return {self.names[key]: dataset for key, dataset in self.sets.items()}

    @property
    def quantities(self) -> dict[str, Quantity]:
        """What can be drawn, by the name of its variable."""
        shown = self.page_chart.instead if self.page_chart else ()
        return {name: one for name, one in quantities.found(self.by_name).items() if name not in shown}

    @property
    def page_chart(self) -> charts.Stored | None:
        """The chart that a page of the dashboard offers."""
        return charts.OF_PROBE.get(self.probe)

    def sizes(self, dims: Sequence[str]) -> dict[str, int]:
        """Places of each dimension, in the model that has most."""
        return {dim: max((d.sizes[dim] for d in self.sets.values() if dim in d.sizes), default=1) for dim in dims}


def source(runs: Sequence[Run], probe: str) -> Source:
    """What one or two runs hold of a probe; nothing is read yet but what is not defined.

    Raises:
        OutputError: a result is damaged.
    """
    sets: dict[tuple[str, str], xr.Dataset] = {}
    left_out = []
    for run in runs:
        for label, dataset in run.datasets(probe).items():
            if "undefined" in dataset.attrs:
                left_out.append(f"{figures.plain(label)}: {figures.plain(str(dataset.attrs['undefined']), 300)}.")
            else:
                sets[run.name, label] = dataset
    if len(sets) > MOST_MODELS * len(runs):
        left_out.append(f"The first {MOST_MODELS * len(runs)} of {len(sets)} models are drawn.")
        sets = dict(list(sets.items())[: MOST_MODELS * len(runs)])
    sets = dict(sorted(sets.items(), key=lambda item: _place(runs[0], item[0][1])))
    held = {run.name: [label for name, label in sets if name == run.name] for run in runs}
    names = compared.names(held)
    given = _colours(runs[0], dict.fromkeys(label for _, label in sets))
    return Source(
        tuple(runs), probe, sets, names, {names[key]: given[key[1]] for key in sets}, tuple(dict.fromkeys(left_out))
    )


def _place(run: Run, label: str) -> tuple[int, ...]:
    """Models in the order of the run, a pair after its first, each beside the same of the other run."""
    order = {name: place for place, name in enumerate(run.facts.models)}
    return tuple(order.get(name, len(order)) for name in label.split("+"))


def _colours(run: Run, labels: Mapping[str, None]) -> dict[str, str]:
    """Label to its model's own colour, or the first that is free; a pair's is that of its first model."""
    given: dict[str, str] = {}
    alone = dict.fromkeys(label if label in run.facts.models else label.partition("+")[0] for label in labels)
    for number, label in enumerate(alone):
        model = run.facts.models.get(label)
        try:
            own = models.own_colour(model.source) if model else ""
        except ModelError:
            own = ""
        free = [colour for colour in models.COLOURS if colour not in given.values()]
        given[label] = own if own in free else next(iter(free), models.COLOURS[number % len(models.COLOURS)])
    return {label: given.get(label) or given[label.partition("+")[0]] for label in labels}


def draw(source: Source, what: str, places: Mapping[str, int]) -> Drawing:
    """Draw a quantity, or the page's own chart.

    Args:
        source: what there is.
        what: name of a quantity of ``source``, or `BY_PAGE`.
        places: of the dimensions of which one place is drawn, from 0.

    Raises:
        OutputError: it is too large, or damaged.
    """
    second = {name for (run, _), name in source.names.items() if run != source.runs[0].name}
    drawing = _of_page(source, places.get("image", 0)) if what == BY_PAGE else _quantity(source, what, places)
    for figure in drawing.figures.values():
        compared.second_dashed(figure, second)
    return drawing


def _of_page(source: Source, image: int) -> Drawing:
    chart = source.page_chart
    assert chart is not None
    try:
        found = dict(chart.draw(source.by_name, source.colours, image))
        chosen = {
            name: d.isel(image=[min(image, d.sizes["image"] - 1)]) if chart.of_image and "image" in d.dims else d
            for name, d in source.by_name.items()
        }
    except Exception as error:  # what is stored is not what the page's probe makes today
        said = f"What is stored cannot be drawn as on the probe's own page ({type(error).__name__}); choose a quantity."
        raise OutputError(said) from None
    of = f"image {image + 1}" if chart.of_image else _images(source)
    return Drawing(chart.title, found, _shared(found, chart.units), chosen, of, left_out=source.left_out)


def _shared(found: Mapping[str, go.Figure], units: str) -> Scale | None:
    """The scale of a page's pictures where all have the same and none a bar of its own."""
    maps = [trace for figure in found.values() for trace in figure.data if trace.type == "heatmap"]
    ends = {(float(trace.zmin), float(trace.zmax)) for trace in maps if trace.showscale is False}
    if len(ends) != 1 or any(trace.showscale is not False for trace in maps):
        return None
    low, high = ends.pop()
    return Scale(low, high, units, signed=low < 0)


def _quantity(source: Source, what: str, places: Mapping[str, int]) -> Drawing:
    quantity = source.quantities[what]
    sizes = source.sizes(quantity.free)
    chosen = {dim: min(places[dim], sizes[dim] - 1) for dim in quantity.free if dim in places}
    at = {key: _own(d, chosen, sizes) for key, d in source.sets.items() if what in d}
    every = {key: quantities.values(source.sets[key], quantity, own) for key, own in at.items()}
    values = {key: one for key, one in every.items() if np.isfinite(one.mean.values).any()}
    none = [f"{source.names[key]}: no value of {quantity.title}." for key in every if key not in values]
    read = {source.names[key]: one for key, one in values.items()}
    scale = _scale(source, quantity, at, values)
    numbers = {
        name: xr.Dataset({what: one.mean} | ({f"{what}_sem": one.error} if one.error is not None else {}))
        for name, one in read.items()
    }
    by_run = {run.name: {label: one for (of, label), one in values.items() if of == run.name} for run in source.runs}
    said = _said(quantity, chosen, sizes, source, read) if read else ""
    found = figures.drawn(quantity, read, source.colours, scale)
    return Drawing(quantity.title, found, scale, numbers, said, by_run, (*source.left_out, *none))


def _own(dataset: xr.Dataset, places: Mapping[str, int], sizes: Mapping[str, int]) -> dict[str, int]:
    """The places in one model: the layer at the same relative depth, of all else the same place, or the last."""
    own = dict(places)
    if "layer" in own and "layer" in dataset.sizes:
        own["layer"] = Depth(own["layer"] + 1, sizes["layer"]).index(dataset.sizes["layer"])
    return own


def _scale(
    source: Source,
    quantity: Quantity,
    places: Mapping[tuple[str, str], Mapping[str, int]],
    values: Mapping[tuple[str, str], Values],
) -> Scale | None:
    """One scale for all models and runs, and where images are browsed for all images, as far as a sample tells."""
    arrays = [one.mean.values for one in values.values()]
    most = source.sizes(["image"])["image"]
    browsed = "image" in quantity.free and most > 1
    if browsed and not quantity.paint:
        runs = {run.name: run for run in source.runs}
        for run, label in values:
            rest = tuple((dim, at) for dim, at in places[run, label].items() if dim != "image")
            group = f"{source.probe}/{label}"
            arrays.append(_sample(runs[run].path, runs[run].written, group, quantity, rest))
    scale = figures.scale_of(quantity, arrays)
    if scale is None or not browsed or most <= SAMPLED or scale.units.endswith(MORE):
        return scale
    return Scale(scale.low, scale.high, f"{scale.units} {MORE}".strip(), scale.signed)


@remember(2**25)
def _sample(
    path: Path, written: int, group: str, quantity: Quantity, places: tuple[tuple[str, int], ...]
) -> np.ndarray:
    """Values of maps of at most `SAMPLED` images spread over a run, read one after the other, of large ones a part."""
    dataset = summary.dataset(path, group)
    count = dataset.sizes.get("image", 1)
    found = []
    for image in np.unique(np.linspace(0, count - 1, min(count, SAMPLED)).astype(int)):
        shown = quantities.values(dataset, quantity, {**dict(places), "image": int(image)}).mean.values
        known = shown[np.isfinite(shown)]
        step = max(known.size // SAMPLED_VALUES, 1)
        found += [known[::step], known.max(initial=0, keepdims=True), known.min(initial=0, keepdims=True)]
    return np.concatenate(found)


def _said(
    quantity: Quantity, places: Mapping[str, int], sizes: Mapping[str, int], source: Source, read: Mapping[str, Values]
) -> str:
    """What a drawing is of: the places, and of a mean how many images and what the bars are."""
    parts = []
    for dim, at in places.items():
        if sizes[dim] == 1:
            known = {d[dim].item() for d in source.sets.values() if dim in d.coords and d[dim].dtype.kind == "i"}
            parts += [f"{figures.word(dim)} {one + 1}" for one in known if len(known) == 1]
            continue
        of = f"{figures.word(dim)} {at + 1} of {sizes[dim]:,}"
        parts.append(f"mean of {figures.word(dim)}s" if at == quantities.MEAN else of)
        if dim == "layer" and len({d.sizes[dim] for d in source.sets.values() if dim in d.sizes}) > 1:
            parts[-1] += " (in a model of another depth the layer at the same relative depth)"
    if "image" not in places:
        counts = sorted({one.n for one in read.values()})
        n = " and ".join(f"{count:,}" for count in counts)
        parts.append(f"n = {n} image{'s' * (counts != [1])}")
        if quantity.plane is None and any(
            one.error is not None and np.isfinite(one.error.values).any() for one in read.values()
        ):
            parts.append("bars are standard errors over the images")
    return ", ".join(parts)


def _images(source: Source) -> str:
    counts = sorted(
        {int(d.attrs["n"]) for d in source.sets.values() if isinstance(d.attrs.get("n"), (int, np.integer))}
    )
    return f"n = {' and '.join(f'{count:,}' for count in counts)} images" if counts else ""
