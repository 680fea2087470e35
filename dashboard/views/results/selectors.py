"""The controls of the page: which run, beside which, which probe and quantity, and which place of each dimension."""

from collections.abc import Mapping, Sequence
from typing import Literal

import streamlit as st

from dashboard.controls.glossary import meaning
from dashboard.runs import drawing, quantities, run
from dashboard.runs.drawing import BY_PAGE, Source
from dashboard.runs.figures import plain, word
from dashboard.runs.quantities import MEAN, Quantity
from dashboard.runs.run import Run

ALONE = "no other"
SLIDERS = {"image": "Image", "layer": "Layer"}


def one_of(
    label: str, options: Mapping[str, str] | Sequence[str], key: str, width: int | Literal["stretch"], help: str = ""
) -> str:
    """A list to open, which forgets a choice that is no longer there."""
    if st.session_state.get(key, next(iter(options))) not in options:
        del st.session_state[key]
    named = options if isinstance(options, Mapping) else {name: name for name in options}
    chosen: str = st.selectbox(
        label, list(options), key=key, bind="query-params", format_func=lambda name: plain(named.get(name, name), 150),
        width=width, help=help or None,
    )  # fmt: skip
    return chosen


def result(names: Sequence[str]) -> str:
    """Draw the choice of the run."""
    return one_of(
        "Run", names, "result", "stretch", f"Folders in {run.folder().name} that end in {run.ENDING}, newest first."
    )


def beside(names: Sequence[str], first: str) -> str:
    """Draw the choice of the run that it is compared with; empty for none."""
    others = [ALONE, *(name for name in names if name != first)]
    chosen = one_of("Beside", others, "beside", "stretch", "The same probe of another run, in one chart.")
    return "" if chosen == ALONE else chosen


def probe(of: Run) -> str:
    """Draw the choice of the probe."""
    return one_of("Probe", {name: of.title(name) for name in of.groups}, "probe", 240)


def quantity(source: Source) -> str:
    """Draw the choice of what is drawn of a probe; empty where there is nothing."""
    named = {BY_PAGE: source.page_chart.title} if source.page_chart and source.sets else {}
    named |= {name: one.title for name, one in source.quantities.items()}
    return (
        one_of("Shown", {name: text[:1].upper() + text[1:] for name, text in named.items()}, "quantity", 290)
        if named
        else ""
    )


def places(source: Source, what: str) -> dict[str, int]:
    """Draw a control for each dimension of which one place is drawn, and return the places from 0."""
    known: Quantity | None = source.quantities.get(what)
    chart = source.page_chart
    free = known.free if known is not None else ("image",) if chart and chart.of_image else ()
    sizes = source.sizes(free)
    chosen = quantities.first_places(known, sizes) if known else dict.fromkeys(free, 0)
    for dim in free:
        if sizes[dim] > 1:
            chosen[dim] = _heads(sizes[dim]) if dim == "head" else _place(dim, sizes[dim], chosen[dim])
    return chosen


def _place(dim: str, size: int, first: int) -> int:
    """A slider from 1; the key holds a place, which a smaller result may not have."""
    key, label = f"place_{dim}", SLIDERS.get(dim, word(dim).capitalize())
    held = st.session_state.get(key)
    if isinstance(held, int) and not 1 <= held <= size:
        st.session_state[key] = size
    help = meaning("layer") if dim == "layer" else None
    return int(st.slider(label, 1, size, first + 1, key=key, bind="query-params", width=200, help=help)) - 1


def _heads(count: int) -> int:
    """The mean of the heads, or one of them."""
    named = {str(MEAN + 1): "mean of heads"} | {str(head): f"head {head}" for head in range(1, count + 1)}
    return int(one_of("Head", named, "place_head", 150, meaning("head"))) - 1


def source(runs: Sequence[Run], name: str) -> Source:
    """What the runs hold of a probe."""
    return drawing.source(runs, name)
