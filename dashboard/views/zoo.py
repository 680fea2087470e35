"""The catalog: what there is to compare, what is loaded, and what that costs."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from dashboard.compute import asking, results, work
from dashboard.compute.jobs import Job, QueueFull
from dashboard.controls import model_card, model_list, model_search, progress
from dashboard.controls.glossary import meaning
from dashboard.controls.sidebar import sidebar
from dashboard.draw import frame
from dashboard.draw.palette import megabytes
from dashboard.state import link
from dashboard.state.models import MOST_MODELS, reference, title
from dashboard.state.selection import Selection
from dashboard.view import Page
from model_zoo.catalog import CATALOG, CatalogEntry

PAGE = Page("Zoo", section="Models", order=80)

HOW = """
Each row is one model with one set of weights. **Shipped** weights come with the project and need no network; **hub**
weights are fetched from the Hugging Face hub when the model is first used, and kept on this machine's disk. Loaded
models share a memory budget: the one used longest ago leaves first, one that is in use never does.
"""
STRINGS = """
Wherever a model is asked for, and in links:

| text | model |
|:--|:--|
| `dino-s16` | a key of the catalog |
| `timm:vit_small_patch16_224.dino` | any timm model, weights from the hub |
| `timm:vit_small_patch16_224@random:0` | the architecture with random weights, seed 0 |
| `trained:ID` | what *Train on digits* trained here, while this server holds it |
"""
NOT_SHOWN = """
- The licence is that of the **weights**; the training data has conditions of its own.
- Parameters say nothing about speed: tokens do, and they grow with the square of the input's side over the patch's.
"""


def rows(search: str, families: Sequence[str], objectives: Sequence[str], weights: str | None) -> list[CatalogEntry]:
    """Entries that fit: every word of ``search`` somewhere in their facts, and one of each of the other choices."""
    words = search.lower().split()
    return [
        entry
        for entry in CATALOG.values()
        if (not families or entry.family in families)
        and (not objectives or entry.objective in objectives)
        and (weights is None or entry.weights == weights)
        and all(word in _text(entry) for word in words)
    ]


def _text(entry: CatalogEntry) -> str:
    facts = (entry.key, entry.title, entry.family, entry.objective, entry.data, entry.licence, entry.timm_name)
    return " ".join(facts).lower()


def table(entries: Sequence[CatalogEntry]) -> pd.DataFrame:
    """The catalog's facts as a table, one row a model."""
    return pd.DataFrame(
        {
            "Model": [entry.title for entry in entries],
            "Key": [entry.key for entry in entries],
            "Family": [entry.family for entry in entries],
            "Objective": [entry.objective for entry in entries],
            "Weights": [entry.weights for entry in entries],
            "Parameters, millions": [entry.parameters / 1e6 for entry in entries],
            "Patch, px": [str(entry.patch or "–") for entry in entries],
            "Input, px": [f"{entry.input_size[0]} × {entry.input_size[1]}" for entry in entries],
            "Prefix tokens": [entry.prefix_tokens for entry in entries],
            "Training data": [entry.data for entry in entries],
            "Licence": [entry.licence for entry in entries],
            "Paper": [f"https://arxiv.org/abs/{entry.paper}" if entry.paper else None for entry in entries],
            "timm name": [entry.timm_name for entry in entries],
        }
    )


def page() -> None:
    """Draw the page."""
    selection = sidebar(images=False)
    frame.header("Which models can be compared?")
    chosen = _catalog()
    if chosen is not None:
        with st.container(border=True, key="card"):
            left, right = st.columns([3, 1])
            with left:
                model_card.draw(chosen.key)
            with right:
                _actions(chosen, selection)
    _job()
    _loaded()
    frame.footer(frame.Help(HOW, STRINGS, NOT_SHOWN, formula_label="Names of models"), name="catalog")


def _catalog() -> CatalogEntry | None:
    search, family, objective, weights = st.columns([2, 2, 2, 1.4])
    entries = rows(
        search.text_input("Search", key="search", bind="query-params", placeholder="dino 14") or "",
        family.multiselect("Family", sorted({e.family for e in CATALOG.values()}), key="family", bind="query-params"),
        objective.multiselect(
            "Objective",
            sorted({e.objective for e in CATALOG.values()}),
            key="objective",
            bind="query-params",
            help=meaning("objective"),
        ),
        weights.segmented_control("Weights", ["shipped", "hub"], key="weights", bind="query-params"),
    )
    if not entries:
        st.info("No model fits: take a word or a choice away.")
        return None
    picked = st.dataframe(
        table(entries),
        hide_index=True,
        key="catalog",
        on_select="rerun",
        selection_mode="single-row",
        height=min(38 + 35 * len(entries), 460),
        column_config={
            "Paper": st.column_config.LinkColumn(display_text=r"abs/(.+)$"),
            "Parameters, millions": st.column_config.NumberColumn(format="%.1f"),
        },
        alt="The models of the catalog and their facts",
    )
    st.caption(f"{len(entries)} of {len(CATALOG)} models. Choose a row for its card.")
    marked = picked.selection.rows
    return entries[marked[0]] if marked and marked[0] < len(entries) else None


def _actions(entry: CatalogEntry, selection: Selection) -> None:
    st.caption(model_search.cost(entry.key))
    if entry.key in selection.models:
        st.caption("This model is compared already.")
    elif len(selection.models) >= MOST_MODELS:
        st.caption(model_list.FULL)
    else:
        st.button(
            "Add to the comparison",
            key="compare",
            width="stretch",
            on_click=lambda: model_list.compare((*selection.models, entry.key), selection),
        )
    if any(model.key == entry.key for model in work.zoo().loaded()):
        st.caption("Loaded.")
    else:
        st.button("Load", key="load", width="stretch", on_click=_load, args=(entry.key,))


def _load(model: str) -> None:
    def load(job: Job) -> None:
        with work.zoo().lease(reference(model), on_progress=job.report):
            pass

    try:
        st.session_state["loading"] = results.store().jobs.submit(title(model), load, asking.visitor())
    except QueueFull as error:
        link.note(str(error))


def _job() -> None:
    job: Job | None = st.session_state.get("loading")
    if job is None:
        return
    if job.live:
        progress.watch(job, part="load")
    elif job.state == "failed":
        st.error(job.error or "Loading failed.")
        st.button("Dismiss", key="dismiss", on_click=lambda: st.session_state.pop("loading"))


def _loaded() -> None:
    st.header("Loaded", anchor=False)
    loaded, budget = work.zoo().loaded(), work.zoo_budget()
    size = sum(model.bytes for model in loaded)
    st.progress(min(size / budget, 1.0), f"{megabytes(size)} of {megabytes(budget)}")
    for model in loaded:
        with st.container(horizontal=True, vertical_alignment="center", key=f"loaded-{model.key}-{model.image_size}"):
            size_text = f" at {model.image_size} px" if model.image_size else ""
            use = "in use" if model.in_use else "idle"
            st.markdown(f"**{title(model.key)}**{size_text} · {megabytes(model.bytes)} · {use}")
            st.button(
                "Unload",
                key=f"unload-{model.key}-{model.image_size}",
                type="tertiary",
                disabled=bool(model.in_use),
                on_click=work.zoo().unload,
                args=(model.key,),
            )
    if not loaded:
        st.caption("Nothing is loaded yet; a model is loaded when it is first compared.")
