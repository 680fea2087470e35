"""Heads switched off by hand: the link that holds them, the attention to one image without them, and the answer."""

from collections.abc import Sequence

import streamlit as st
import xarray as xr

from dashboard.compute import asking
from dashboard.compute.asking import Ask, ModelResult, Outcome
from dashboard.controls import progress
from dashboard.controls.glossary import meaning
from dashboard.draw import panels
from dashboard.draw.figures.lesion_effects import Head
from dashboard.draw.palette import number
from dashboard.draw.panels import Look, Panel, Row
from dashboard.images import gallery
from dashboard.state import link
from dashboard.state.selection import Selection
from dashboard.view import draw_rows
from model_zoo.adapter import ModelSpec
from probes.core import lesions

MOST_OFF = 24
STATES = {"intact": "Intact", "lesioned": "Without the heads that are switched off"}


def there(spec: ModelSpec | None) -> list[str]:
    """Every head that can be switched off, as the link writes it: ``LAYER.HEAD`` from 1."""
    return [f"{one.block + 1}.{one.head + 1}" for one in lesions.heads(spec)] if spec else []


def written(index: int) -> list[str]:
    """Heads of the n-th model that the link says are off."""
    return (*link.get("off"), *[""] * (index + 1))[index].split(",")[:MOST_OFF]


def off(model: ModelResult, index: int) -> list[str]:
    """Those of them that the model has."""
    return [head for head in there(model.spec) if head in written(index)]


def pairs(heads: Sequence[str]) -> list[Head]:
    """Layers and heads as numbers."""
    return [(int(layer), int(head)) for layer, head in (one.split(".") for one in heads)]


def switch(index: int, heads: Sequence[str]) -> None:
    """Put the heads of the n-th model that are off into the link."""
    linked = [*link.get("off")]
    linked += ["-"] * (index + 1 - len(linked))
    linked[index] = ",".join(heads[:MOST_OFF]) or "-"
    link.put("off", *(linked if set(linked) != {"-"} else ()))


def toggle(index: int, head: str) -> None:
    """Switch a head off, or on again."""
    now = [one for one in written(index) if one not in ("", "-")]
    switch(index, [one for one in now if one != head] if head in now else [*now, head])


def draw(outcome: Outcome, images: Sequence[str], colours: dict[str, str]) -> None:
    """Draw the choice of heads and picture, and what becomes of attention and answer."""
    st.header("Switch heads off", anchor=False)
    st.caption("Click cells of the maps above, or choose heads here. Those of one model are off together.")
    having = [(index, model) for index, model in enumerate(outcome.models) if there(model.spec)]
    with st.container(horizontal=True, vertical_alignment="bottom", key="switches"):
        picture = _picture(images)
        for index, model in having:
            _choice(index, model)
    chosen = {model.model: off(model, index) for index, model in having}
    if not any(chosen.values()):
        return
    asks = [
        Ask("heads-off", {"off": ",".join(f"{layer - 1}:{head - 1}" for layer, head in pairs(heads))}, models=(model,))
        for model, heads in chosen.items()
    ]
    one = Selection(tuple(model.model for model in outcome.models), (picture,), colours)
    found, _ = asking.ask(asks, one, models=list(chosen))
    rows = [Row(picture, [panel(model, state) for model in found.models], title=STATES[state]) for state in STATES]
    draw_rows(rows, scale=panels.shared_scale(rows, "fraction of attention", most=True), look=Look(), key="switched")
    progress.show(found, part="switched")
    for model in found.models:
        if (dataset := model.datasets.get("heads-off")) is not None:
            st.markdown(said(model.title, dataset, chosen[model.model]))


def _picture(images: Sequence[str]) -> str:
    linked = link.first("pick")
    st.session_state["lesioned_picture"] = linked if linked in images else images[0]
    shown: str = st.selectbox(
        "Picture",
        images,
        key="lesioned_picture",
        format_func=gallery.title,
        width=170,
        on_change=lambda: link.put("pick", st.session_state["lesioned_picture"]),
    )
    return shown


def _choice(index: int, model: ModelResult) -> None:
    key = f"switched-off-{index}"
    st.session_state[key] = off(model, index)
    st.multiselect(
        f"Switched off: {model.title}",
        there(model.spec),
        key=key,
        format_func=lambda head: "layer {} head {}".format(*head.split(".")),
        max_selections=MOST_OFF,
        placeholder="no head",
        width=260,
        help=meaning("lesion"),
        on_change=lambda: switch(index, st.session_state[key]),
    )


def panel(model: ModelResult, state: str) -> Panel:
    """The last layer's attention of a model, whole or without the heads."""
    dataset = model.datasets.get("heads-off")
    if dataset is None:
        return panels.pending(model)
    if "attention" not in dataset:
        return panels.pending(model, "This model has no map of its last layer; what it answers is said below.")
    return panels.of_model(model, "last layer, mean of heads", dataset["attention"].sel(state=state).values[0])


def said(name: str, dataset: xr.Dataset, heads: Sequence[str]) -> str:
    """What becomes of the embedding and of the answer."""
    if not heads:
        return f"**{name}**: nothing is switched off."
    which = ", ".join(f"layer {layer} head {head}" for layer, head in pairs(heads))
    parts = [f"**{name}** without {which}: cosine to the intact embedding {number(float(dataset['cosine'][0]))}"]
    if "probability" in dataset:
        names = dict(one.split(" ", 1) for one in dataset.attrs["class_names"])
        first, now = (names.get(str(c), f"class {c}").split(",")[0] for c in dataset["answer"].values[0].tolist())
        before, after = dataset["probability"].values[0, :, 0]
        parts.append(f"probability of *{first}* {number(float(before))} → {number(float(after))}")
        parts.append("the answer stays" if first == now else f"the answer becomes *{now}*")
    return "; ".join(parts) + "."
