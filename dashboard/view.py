"""The one form of a page: what it asks, and how the answers become pictures, charts, a sentence and a table.

A view is data and plain functions; ``draw`` runs them in the order that every page has: title, one row of controls, the
pictures under one scale, the sentence, the charts, and the row of explanations and downloads. A page that needs another
order has a ``page()`` of its own instead, made of the same parts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, Literal, TypeVar

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
import xarray as xr

from dashboard.compute import asking
from dashboard.compute.asking import Ask, Outcome
from dashboard.compute.requests import Size
from dashboard.controls import choices, image_sets, map_options, progress
from dashboard.controls.sidebar import sidebar
from dashboard.draw import chart_files, export, frame, panels
from dashboard.draw.frame import Help
from dashboard.draw.panels import Look, Row, Scale
from dashboard.runs.charts import Stored
from dashboard.state.selection import MOST_IMAGES, Selection

Section = Literal["Compare", "Attention", "Representation", "Experiments", "Models", "Learn"]
C = TypeVar("C")


@dataclass(frozen=True)
class Page:
    """What a page says about itself, so that the navigation finds it without a list to edit.

    Attributes:
        title: a few words for the navigation.
        section: heading it stands under.
        order: place in its section, low first.
        default: the page that opens at the root.
    """

    title: str
    section: Section
    order: int = 50
    default: bool = False


@dataclass(frozen=True)
class Images:
    """Which images a page takes; by itself one, chosen in the sidebar.

    Attributes:
        several: it takes several.
        default: what it shows when the link names none.
        most: how many can be chosen in the sidebar.
        set_default: the set that it opens with, for a page that takes sets of many images, or what makes it of the
            selection; empty for all others.
        set_most: images of a set that it can take.
    """

    several: bool = False
    default: Sequence[str] | Callable[[], Sequence[str]] = ()
    most: int = MOST_IMAGES
    set_default: image_sets.Default = ""
    set_most: int = 2000


@dataclass(frozen=True)
class Answer(Generic[C]):
    """What a view has to draw.

    Attributes:
        chosen: what its controls say.
        selection: models and images.
        outcome: what was asked of all images together.
        each: what was asked of each image alone, in the order of the images.
    """

    chosen: C
    selection: Selection
    outcome: Outcome
    each: Sequence[Outcome] = ()


@dataclass(frozen=True)
class Chart:
    """A chart: the figure, its name on the page, what it shows for those who do not see it, and a heading."""

    figure: go.Figure
    key: str
    alt: str
    title: str = ""


@dataclass(frozen=True)
class Shown:
    """What a view shows.

    Attributes:
        title: heading of the saved picture.
        rows: one under the other, each an image under all models.
        scale: what the colours mean in panels and rows without a scale of their own.
        look: how maps are drawn.
        legend: what colours stand for that no scale explains, drawn under the pictures: name to any CSS colour.
        notes: said under the pictures in small print.
        said: what the numbers say, with n and the convention; Markdown.
        charts: one under the other, or side by side where there are two; first where there are no rows.
        table: the numbers to save: datasets by name, or what makes a table; None while there is nothing.
        document: makes the SVG to save where that is no picture of the rows; None while there is nothing.
        overview: makes an SVG that stands over the rows in the saved picture.
        charts_saved: the charts, of scatters and bars, stand under the rows in the saved picture.
    """

    title: str
    rows: Sequence[Row] = ()
    scale: Scale | None = None
    look: Look = field(default_factory=Look)
    legend: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    said: str = ""
    charts: Sequence[Chart] = ()
    table: Mapping[str, xr.Dataset] | Callable[[], pd.DataFrame] | None = None
    document: Callable[[], str] | None = None
    overview: Callable[[], str] | None = None
    charts_saved: bool = False

    @property
    def ready(self) -> bool:
        """Whether there is a picture to save."""
        whole = self.document is not None or self.overview is not None
        return whole or any(panel.drawable for row in self.rows for panel in row.panels)

    @property
    def flat(self) -> "Shown":
        """The same with maps as colours alone, no image under them."""
        rows = [replace(row, look=replace(row.look, flat=True)) if row.look else row for row in self.rows]
        return replace(self, rows=rows, look=replace(self.look, flat=True))

    def svg(self) -> str:
        """What is shown as one picture for a slide."""
        if self.document is not None:
            return self.document()
        parts = [self.overview()] if self.overview else []
        if self.rows:
            maps: dict[str, Any] = {"scale": self.scale, "look": self.look, "legend": self.legend}
            parts.append(export.rows_svg(self.rows, title=self.title, caption=self.said, **maps))
        if self.charts_saved:
            caption = "" if self.rows else self.said
            parts += [chart_files.svg(one.figure, one.title or one.alt, caption) for one in self.charts]
        return export.stacked(parts) if len(parts) > 1 else parts[0]


@dataclass(frozen=True)
class View(Generic[C]):
    """A page in the common form.

    Attributes:
        page: what the navigation needs to know.
        question: the title, one question.
        help: how to read it, the formula, and what it does not show.
        controls: draws the page's own controls into the row and returns what they say.
        shown: makes pictures, sentence, charts and table of the answer; no widgets, so that a test can call it.
        asks: what is asked of all images together.
        asks_each: what is asked of each image alone; such a result is kept for the image and found again with others.
        models: which models are asked, where these are not the selected ones.
        images: which images the page takes; None for a page that is about the models alone.
        size: the models' own image size, or the whole image; ``linked`` where the page has the popover that chooses.
        overlays: its maps lie over the image, so there is a switch to colours alone.
        above: draws what comes between the controls and the pictures: overviews in which one picks what they show.
        below: draws what comes under the downloads: charts with controls of their own, tabs, an example.
        subtitle: what is measured, in small print under the question.
        stored: probe to the chart that the page offers of its results in a run, see `dashboard.runs.charts`.
    """

    page: Page
    question: str
    help: Help
    controls: Callable[[Selection], C]
    shown: Callable[[Answer[C]], Shown]
    asks: Callable[[C], Sequence[Ask]] = lambda _: ()
    asks_each: Callable[[C], Sequence[Ask]] = lambda _: ()
    models: Callable[[C, Selection], Sequence[str]] = lambda _, selection: selection.models
    images: Images | None = field(default_factory=Images)
    size: Size | Literal["linked"] = "native"
    overlays: bool = False
    above: Callable[[Answer[C], Shown], None] | None = None
    below: Callable[[Answer[C], Shown], None] | None = None
    subtitle: str = ""
    stored: Mapping[str, Stored] = field(default_factory=dict)


def draw(view: View[C]) -> None:
    """Draw the page of a view."""
    takes = view.images or Images()
    default = takes.default() if callable(takes.default) else takes.default
    of_set: dict[str, Any] = {"default": takes.set_default, "most": takes.set_most}
    selection = sidebar(
        images=view.images is not None,
        several=takes.several,
        default_images=default,
        most=takes.most,
        set_in_use=partial(image_sets.in_use, **of_set) if takes.set_default else lambda _: "",
    )
    frame.header(view.question, view.subtitle)
    with frame.controls():
        if takes.set_default:
            selection, _ = image_sets.control(selection, **of_set)
        chosen = view.controls(selection)
        flat = view.overlays and map_options.flat()
    cut = ""
    if not takes.set_default and len(selection.images) > takes.most:
        cut = f"The first {takes.most} of the {len(selection.images)} chosen images are shown."
        selection = replace(selection, images=selection.images[: takes.most])
    size = map_options.linked_size() if view.size == "linked" else view.size
    asks, models = view.asks(chosen), view.models(chosen, selection)
    outcome, each = asking.ask(asks, selection, each=view.asks_each(chosen), models=models, size=size)
    answer = Answer(chosen, selection, outcome, each)
    shown = view.shown(answer).flat if flat else view.shown(answer)
    if view.above:
        view.above(answer, shown)
    draw_rows(shown.rows, scale=shown.scale, look=shown.look)
    if shown.legend:
        frame.legend(shown.legend)
    for note in filter(None, [cut, *shown.notes]):
        st.caption(note)
    if not shown.rows:
        _charts(shown.charts)
        for ask in asks:
            frame.states(outcome, ask.key)
    progress.show(outcome)
    if shown.said:
        st.markdown(shown.said)
    if shown.rows:
        _charts(shown.charts)
    table = shown.table
    frame.footer(
        view.help,
        name="-".join([view.page.title.lower(), *(row.picture for row in shown.rows[:1])]),
        svg=shown.svg if shown.ready else None,
        csv=(lambda: frame.csv(table() if callable(table) else table)) if table else None,
        models=[one.model for one in (outcome, *each)[-1].models] if asks or each else (),
    )
    if view.below:
        view.below(answer, shown)


def draw_rows(rows: Sequence[Row], *, scale: Scale | None, look: Look, key: str = "panels") -> None:
    """Draw rows one under the other, the shared scale's bar under the last that it is of.

    Args:
        rows: from the top.
        scale: what the colours mean in panels and rows without a scale of their own.
        look: how maps are drawn.
        key: name of the rows on the page.
    """
    alone = [index for index, row in enumerate(rows) if row.scale is None]
    with st.container(gap="xsmall", key=f"rows-{key}"):
        for index, row in enumerate(rows):
            if row.title:
                st.markdown(f"**{row.title}**")
            panels.patch_panels(
                row.picture,
                row.panels,
                scale=row.scale or scale,
                look=row.look or look,
                key=f"{key}-{index}",
                point=row.point,
                on_pick=choices.pick if row.clickable else None,
                outline=row.outline,
                outline_of=row.outline_of,
                bar=row.scale is not None or index == alone[-1],
            )
            if row.note:
                st.markdown(row.note)


def _charts(charts: Sequence[Chart]) -> None:
    places = st.columns([3, 2], gap="large") if len(charts) == 2 else [st.container() for _ in charts]
    for place, chart in zip(places, charts, strict=True):
        with place:
            if chart.title:
                st.header(chart.title, anchor=False)
            frame.chart(chart.figure, key=chart.key, alt=chart.alt)
