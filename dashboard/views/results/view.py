"""Results of `python -m probes run`, browsed, compared and saved."""

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from dashboard.draw import frame, model_columns, palette
from dashboard.draw.frame import Help
from dashboard.draw.sentences import literal
from dashboard.runs import compared, drawing, explained, files, report, run
from dashboard.runs.drawing import Drawing, Source
from dashboard.runs.files import MOST_NETCDF_BYTES
from dashboard.runs.run import Run
from dashboard.view import Page
from dashboard.views.results import facts_table, pins, selectors
from probes.core.output import OutputError

PAGE = Page("Results of runs", section="Experiments", order=90)

QUESTION, MEASURED = "What did a run measure?", "Results of `python -m probes run` on many images"
HOW = """
A **point is a head**, a line joins the means of the layers; thin bars are standard errors over the images. Maps are of
one image at a time, all models on one scale, which is that of up to 16 images spread over the run. Of a second run the
lines are **dashed** and the marks open. An axis begins at 0 unless all values lie in its upper half.
"""
EMPTY = """
There is no finished run in the folder `{folder}` yet. One is made on the command line:

```text
python -m probes run --model KEY --model OTHER-KEY --images scenes:100 \\
    --probe attention-distance --probe cka --out {folder}/first.zarr
```

KEY is a model's key on the page *Zoo*.
"""


def page() -> None:
    """Draw the page."""
    frame.header(QUESTION, MEASURED)
    for sentence in run.unfinished()[:5]:
        st.info(literal(sentence))
    names = run.names()
    if not names:
        st.markdown(EMPTY.format(folder=run.folder().name))
        return
    with st.sidebar:
        st.header("Runs", anchor=False)
        name = selectors.result(names)
        other = selectors.beside(names, name)
    runs = _opened([name, *([other] if other else [])])
    if runs:
        st.markdown(" beside ".join(map(_summary, runs)))
    with frame.controls():
        source = _source(runs) if runs else None
        what = selectors.quantity(source) if source else ""
        places = selectors.places(source, what) if source else {}
    if source is not None:
        _drawn(source, what, places)
    for one in runs:
        facts_table.draw(one)


def _summary(of: Run) -> str:
    """What a run is of, in a few words."""
    facts = of.facts
    many = [f"{len(facts.images):,} image{'s' * (len(facts.images) != 1)}"] if facts.models else []
    many += [f"{len(facts.models)} model{'s' * (len(facts.models) != 1)}"] if facts.models else []
    many += [f"{len(facts.skipped):,} could not be read"] if facts.skipped else []
    return f"**{literal(of.name)}**" + (f" ({', '.join(many)})" if many else "")


def _opened(names: Sequence[str]) -> list[Run]:
    found = []
    for name in names:
        try:
            found.append(run.of_folder(name))
        except OutputError as error:
            st.warning(literal(str(error)))
            break
    return found


def _source(runs: Sequence[Run]) -> Source | None:
    try:
        return selectors.source(runs, selectors.probe(runs[0]))
    except OutputError as error:
        st.warning(literal(str(error)))
        return None


def _drawn(source: Source, what: str, places: Mapping[str, int]) -> None:
    first = source.runs[0]
    found = None
    if what:
        try:
            found = drawing.draw(source, what, places)
        except OutputError as error:
            st.warning(literal(str(error)))
    for sentence in found.left_out if found else source.left_out:
        st.caption(literal(sentence))
    if found is not None and found.figures:
        _figures(found, source)
        images = first.facts.images
        of = f" ({images[places['image']][0]})" if "image" in places and places["image"] < len(images) else ""
        st.markdown(literal(f"{found.said}{of}."))
        if len(source.runs) > 1:
            _compared(found, source)
    _footer(found, source)
    shown = {"result": first.name, "beside": source.runs[1].name if len(source.runs) > 1 else "", "probe": source.probe}
    at = {f"place_{dim}": str(place + 1) for dim, place in places.items() if dim != "head"}
    now = {name: value for name, value in {**shown, "quantity": what, **at}.items() if value}
    pins.draw(now, {"run": first.name, "probe": first.title(source.probe), "what": found.title if found else ""})


def _figures(found: Drawing, source: Source) -> None:
    """The chart that all models share, or a picture for each beside the others with the one bar of their colours."""
    alt = f"{found.title} of {_title(source)}"
    if "" in found.figures:
        frame.chart(found.figures[""], key="stored", alt=alt)
        return
    notes = dict.fromkeys(found.figures, "")
    places = model_columns.columns(notes, source.colours, most=4)
    for number, (name, place) in enumerate(places.items()):
        with place:
            frame.chart(found.figures[name], key=f"stored-{number}", alt=f"{alt}, {name}")
    if found.scale:
        ends = palette.number(found.scale.low), f"{palette.number(found.scale.high)} {found.scale.units}".rstrip()
        model_columns.bar(ends[0], f"{ends[1]}; one scale for all", signed=found.scale.signed)


def _title(source: Source) -> str:
    """What people call the probe."""
    return source.runs[0].title(source.probe)


def _compared(found: Drawing, source: Source) -> None:
    """What the two runs do not share, and how far their numbers are apart."""
    first, second = source.runs
    st.markdown(literal(compared.difference(first.facts, second.facts, source.probe)))
    if found.values:
        rows: pd.DataFrame = compared.table(found.values[first.name], found.values[second.name])
        if len(rows):
            digits = {name: st.column_config.NumberColumn(format="%.4g") for name in rows.select_dtypes("float")}
            st.dataframe(rows, hide_index=True, column_config=digits, placeholder="–", key="differences")
        else:
            st.caption("The runs have no model of the same label, so there is nothing to subtract.")


def _footer(found: Drawing | None, source: Source) -> None:
    """Explanations, the files of what is shown, and those of the whole run."""
    first = source.runs[0]
    ready = found if found is not None and found.figures else None
    frame.footer(
        _help(source.probe),
        name=f"{first.name} {source.probe} {ready.title if ready else ''}",
        svg=(lambda: files.svg(ready, source.runs, source.colours)) if ready else None,
        csv=(lambda: files.csv(ready, source.runs)) if ready else None,
    )
    with st.container(horizontal=True, vertical_alignment="center", key="whole"):
        st.download_button(
            "Report of the run", lambda: report.html(first), file_name=f"{first.name}.html", mime="text/html",
            key="download-report", on_click="ignore", help="All probes of the run as one page of HTML, about 5 MB.",
        )  # fmt: skip
        large = files.netcdf_bytes(source) > MOST_NETCDF_BYTES
        how = "Too large for a browser: `python -m probes export` writes it." if large else "A group for each model."
        st.download_button(
            "NetCDF of the probe", lambda: files.netcdf(source), file_name=f"{first.name}-{source.probe}.nc",
            mime="application/x-netcdf", key="download-netcdf", on_click="ignore", disabled=large or not source.sets,
            help=how,
        )  # fmt: skip


def _help(probe: str) -> Help:
    """What the probe says of itself: what is stored, formula and convention, and what it does not show."""
    said = explained.explained(probe)
    if said is None:
        unknown = "This probe is none of today's, so nothing more is known of it here."
        return Help(HOW, unknown, unknown)
    parts = {name: f"\n\n**{name}**\n\n{explained.markdown(text)}" for name, text in said.parts.items()}
    formulas = [f"$${one}$$" for one in said.formulas]
    about = "\n\n".join([*formulas, explained.markdown(said.text)])
    about += parts.get("Parameters", "") + parts.get("Source", "")
    return Help(
        HOW + parts.get("What is stored", ""), about, explained.markdown(said.parts.get(explained.NOT_SHOWN, ""))
    )
