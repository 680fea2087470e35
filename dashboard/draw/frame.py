"""What every page has in common: the question as its title, its charts, and the row of explanations and downloads."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
import xarray as xr
from streamlit.delta_generator import DeltaGenerator

from dashboard.compute.asking import Outcome
from dashboard.draw import components, origin
from dashboard.state import precision
from probes.core.runs.export import cell

Maker = Callable[[], str]

PLACES = {"y": "row", "x": "column", "query_y": "query_row", "query_x": "query_column"}
"""What a CSV calls the dimensions of a map."""
COUNTED = {"layer", "layer_a", "layer_b", "head", "rank", *PLACES.values()}
"""Columns of a CSV that count from 1; below 0 there is no such place."""

CHART_CONFIG = {
    "displaylogo": False,
    "toImageButtonOptions": {"format": "svg", "scale": 2},
    "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"],
}
READABLE = 14
"""Pixels of the smallest writing in a chart."""
_STYLE = """<style>
@media (min-width: 1700px) {
  :root { font-size: 16.5px !important }
  [data-testid=stMainBlockContainer] { padding-top: 4.25rem !important }
}
[data-testid=stMainBlockContainer] h1 { padding-bottom: 0.5rem }
[data-testid=stCaptionContainer] { color: inherit; opacity: 0.8 }
[data-testid=stBaseButton-primary] { color: GROUND }
[data-testid=stMainBlockContainer] { max-width: 1560px; padding-left: 2.5rem; padding-right: 2.5rem }
@media (max-width: 640px) {
  [data-testid=stMainBlockContainer] { padding-left: 1rem; padding-right: 1rem }
  [data-testid=stButtonGroup] :has(> button) { flex-wrap: wrap }
}
</style>"""


@dataclass(frozen=True)
class Help:
    """What stands behind the three buttons under every picture, as Markdown.

    Attributes:
        how: how to read the picture.
        formula: what is computed, with ``$$`` around formulas, and its source.
        not_shown: what the picture does not show.
        formula_label: what the button of ``formula`` says.
    """

    how: str
    formula: str
    not_shown: str
    formula_label: str = "Formula"


def themed(colour: str) -> str:
    """A colour of the theme in use, as CSS: ``backgroundColor``, ``borderColor``; components have it as a variable."""
    light, dark = (st.get_option(f"theme.{scheme}.{colour}") for scheme in ("light", "dark"))
    return f"light-dark({light}, {dark})"


def header(question: str, subtitle: str = "") -> None:
    """Draw the page's question as its title."""
    st.html(_STYLE.replace("GROUND", themed("backgroundColor")))
    st.title(question, anchor=False)
    if subtitle:
        st.caption(subtitle)


def controls() -> DeltaGenerator:
    """The one row between the title and the picture; draw the page's controls into it."""
    return st.container(key="controls", horizontal=True, vertical_alignment="bottom", gap="medium")


def chart(figure: go.Figure, *, key: str, alt: str) -> None:
    """Draw a Plotly figure in the look of the dashboard; its tool bar saves it as SVG in the browser."""
    st.plotly_chart(dressed(figure), key=key, alt=alt, config=CHART_CONFIG)


def dressed(figure: go.Figure) -> go.Figure:
    """A figure in the look of the dashboard; margins and the place of a legend that it has of its own are kept."""
    own = figure.layout.to_plotly_json()
    figure.update_layout(
        margin={"l": 8, "r": 8, "t": 28, "b": 8} | own.get("margin", {}),
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0} | own.get("legend", {}),
    )
    legible(figure)
    return figure


def legible(figure: go.Figure) -> None:
    """Set all writing of a Plotly figure to one size; that of Streamlit's theme is too small on a projector."""
    size = {"size": READABLE}
    axis = {"tickfont": size, "title_font": size}
    figure.update_layout(font=size, legend_font=size, hoverlabel={"font": size, "namelength": -1})
    figure.update_xaxes(**axis).update_yaxes(**axis).update_coloraxes(colorbar_tickfont=size, colorbar_title_font=size)
    figure.update_traces(colorbar={"tickfont": size, "title": {"font": size}}, selector={"type": "heatmap"})
    figure.update_annotations(font=size)


def legend(names: Mapping[str, str]) -> None:
    """Draw names with their colours, any of CSS, beside each other."""
    square = "display:inline-block;width:0.9rem;height:0.9rem;border-radius:2px;margin-right:0.4rem"
    chips = "".join(
        '<span style="display:inline-flex;align-items:center;margin-right:1.1rem">'
        f'<span style="{square};background:{colour}"></span>{escape(name)}</span>'
        for name, colour in names.items()
    )
    st.html(f'<div style="font-size:0.85rem;line-height:1.9">{chips}</div>')


def states(outcome: Outcome, probe: str) -> None:
    """Say for which models a probe has no result, and why; for charts, as panels say it themselves."""
    for model in outcome.models:
        if model.message and probe not in model.datasets:
            st.info(f"**{model.title}**: {model.message}", icon=":material/info:")
    if outcome.jobs and not outcome.ready(probe):
        st.skeleton(height=360)


def lines(datasets: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """Datasets as one table with a column for the model, every dimension and every variable.

    Datasets count from 0; in the table layers, heads, rows, columns and ranks count from 1, as on the screen.
    """
    tables = [dataset.to_dataframe().reset_index().assign(model=name) for name, dataset in datasets.items()]
    whole = pd.concat(tables, ignore_index=True).rename(columns=PLACES)
    whole.insert(0, "model", whole.pop("model"))
    for name in COUNTED & set(whole):
        whole[name] = whole[name].where(whole[name] < 0, whole[name] + 1)
    return whole


def csv(numbers: Mapping[str, xr.Dataset] | pd.DataFrame) -> str:
    """Numbers as CSV: a table as it is, datasets as `lines` has them."""
    table = numbers if isinstance(numbers, pd.DataFrame) else lines(numbers)
    texts = {name: column.map(cell) for name, column in table.items() if not pd.api.types.is_numeric_dtype(column)}
    text: str = table.assign(**texts).rename(columns=cell).to_csv(index=False, float_format="%.8g")
    return text


def footer(
    help: Help, *, name: str, svg: Maker | None = None, csv: Maker | None = None, models: Sequence[str] = ()
) -> None:
    """Draw the row under the pictures: how to read them, the formula, what they do not show, and the downloads.

    Args:
        help: the explanations.
        name: file name of the downloads, without its ending.
        svg: makes the picture as SVG when it is asked for; PNG is made of it.
        csv: makes the numbers as CSV.
        models: MODEL strings of what is shown; files say them, with versions and the link, see `origin`.
    """
    texts = {"How to read": help.how, help.formula_label: help.formula, "What this does not show": help.not_shown}
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if said := precision.sentence(precision.seen()):
        st.caption(said)
    with st.container(horizontal=True, vertical_alignment="center", key="footer"):
        for label, text in texts.items():
            with st.popover(label):
                st.markdown(text)
        here = origin.of_page(tuple(models)) if svg or csv else origin.Origin()
        files: list[tuple[str, Callable[[], bytes | str], str]] = []
        if svg is not None:
            files.append(("PNG", lambda: origin.png(origin.signed(svg(), here), here), "image/png"))
            files.append(("SVG", lambda: origin.signed(svg(), here), "image/svg+xml"))
        if csv is not None:
            files.append(("CSV", lambda: origin.csv(csv(), here), "text/csv"))
        for kind, made, mime in files:
            st.download_button(
                kind,
                made,
                file_name=f"{stem}.{kind.lower()}",
                mime=mime,
                key=f"download-{kind}",
                on_click="ignore",
                help=f"Save the {'numbers' if kind == 'CSV' else 'picture'} as {kind}",
            )
        components.copy_link()
