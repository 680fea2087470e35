"""Finding a model by typing: the catalog first, then every model that timm knows, with or without its weights."""

from collections.abc import Callable, Sequence
from functools import cache

import huggingface_hub
import streamlit as st
import timm

from dashboard.draw import palette
from dashboard.state.models import reference
from model_zoo.catalog import CATALOG
from model_zoo.memory import weight_bytes
from model_zoo.reference import ModelError

MOST_SEED = 2**31 - 1
"""Browsers count whole numbers no farther than 2^53; a link takes larger ones."""
_FILES = ("model.safetensors", "pytorch_model.bin")


@cache
def offered() -> tuple[str, ...]:
    """MODEL strings in the order in which they are found: the catalog, published weights, then architectures alone."""
    named = {entry.timm_name for entry in CATALOG.values()}
    published = timm.list_pretrained()
    known = {name.partition(".")[0] for name in published}
    architectures = [name for name in timm.list_models() if name not in known]
    return (*CATALOG, *(f"timm:{name}" for name in (*published, *architectures) if name not in named))


@cache
def listed(model: str) -> str:
    """One line of the list: title, size and key of the catalog's, the name of timm's."""
    entry = CATALOG.get(model)
    if entry is None:
        return model.removeprefix("timm:")
    return f"{entry.title} · {palette.megabytes(entry.parameters * 4)} · {entry.key}"


def cost(model: str) -> str:
    """How large a model's weights are in memory, and whether they need a network."""
    named = reference(model)
    size = CATALOG[named.key].parameters * 4 if named.key else weight_bytes(named.timm_name)
    where = {"shipped": "comes with this project", "random": "drawn here: needs no network, knows nothing"}
    return f"{palette.megabytes(size)}, {where.get(named.weights) or _hub(named.timm_name)}."


def _hub(timm_name: str) -> str:
    config = timm.get_pretrained_cfg(timm_name)
    if config is None or not config.hf_hub_id:
        return "published elsewhere than on the Hugging Face hub: only random weights can be had here"
    files = (config.hf_hub_filename,) if config.hf_hub_filename else _FILES
    if any(isinstance(huggingface_hub.try_to_load_from_cache(config.hf_hub_id, name), str) for name in files):
        return "downloaded already"
    return "downloaded from the Hugging Face hub when first used: needs a network"


def draw(label: str, act: str, taken: Sequence[str], on_choose: Callable[[str], None]) -> None:
    """Draw the field, and below it what the found model costs and the button that takes it.

    Args:
        label: of the field.
        act: what the button does, in a word.
        taken: models that are compared already.
        on_choose: called before the next run with the MODEL string.
    """
    found: str | None = st.selectbox(
        label,
        offered(),
        index=None,
        key="add_model",
        label_visibility="collapsed",
        placeholder=f"{label} …",
        format_func=listed,
        filter_mode="contains",
    )
    if found is None:
        return
    if not _has_weights(found) or st.toggle("Random weights", key="add_random", help=_RANDOM):
        st.number_input("Seed of the random weights", 0, MOST_SEED, 0, key="add_seed")
    found = _asked(found)
    if found in taken:
        st.caption("This model is compared already.")
        return
    try:
        reference(found)
    except ModelError as error:
        st.caption(str(error))
        return
    _cost(found)

    def choose() -> None:
        chosen = _asked(st.session_state["add_model"])  # the button may be pressed before the toggle's run has come
        st.session_state["add_model"] = None
        on_choose(chosen)

    st.button(act, key="add_button", width="stretch", on_click=choose)


def _asked(model: str) -> str:
    """The MODEL string of a found model with the weights that the widgets say now."""
    if _has_weights(model) and not st.session_state.get("add_random"):
        return model
    return f"timm:{reference_name(model)}@random:{st.session_state.get('add_seed', 0)}"


_RANDOM = "The architecture as it is before any training, to compare with what was learned."


@st.fragment(parallel=True)
def _cost(model: str) -> None:
    """Counting a model of timm's takes seconds the first time; the page does not wait for it."""
    st.caption(cost(model))


def reference_name(model: str) -> str:
    """What timm calls a model that is offered."""
    return CATALOG[model].timm_name if model in CATALOG else model.removeprefix("timm:")


def _has_weights(model: str) -> bool:
    return model in CATALOG or timm.get_pretrained_cfg(reference_name(model)) is not None
