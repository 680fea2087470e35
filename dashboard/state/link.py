"""Keeps what is chosen in the link, and adopts what a link says.

Streamlit binds single widgets to the link by itself (``bind="query-params"``). This module is for what is no single
widget: the models, the images, the layer and the clicked point. ``begin`` runs before a page and ``publish`` after it.

Back and Forward open an earlier address again, on any page. What any other run is told of the address may be older than
what was chosen since, and counts for nothing.
"""

import math
import time

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

NAMES = (
    *("model", "colour", "image", "set", "layer", "head", "heads", "query", "at", "pick", "target", "of", "box"),
    *("units", "values", "flat", "run", "off", "pin"),
)
TEXTS = ("search",)
"""Widgets bound to the link that take any text; the values of all others are numbers or choices."""
MOST_CHARACTERS = 200
TOLD = 1.0
"""Seconds after which the browser knows the address that was published: another one is one it went back to. Streamlit's
own mark of that is lost where another message of the page comes at the same time. Told of another one sooner, `publish`
leaves the address alone and asks the browser again."""
_CHOSEN, _SHOWN, _NOTES, _ARRIVED, _PUBLISHED = "chosen", "shown by itself", "notes", "arrived", "published"
_UNSURE = "address unsure"


def begin() -> None:
    """Adopt what the link says when it was opened or when the browser went back; call once per run."""
    state = st.session_state
    linked = {name: tuple(values) for name in NAMES if (values := st.query_params.get_all(name))}
    context = get_script_run_ctx()
    if _CHOSEN in state and context is not None:
        page, published, at = state.get(_PUBLISHED, ("", linked, 0.0))
        elsewhere = page == context.page_script_hash and linked != published
        went_back = context.is_history_navigation or (elsewhere and time.monotonic() - at > TOLD)
        if went_back:
            state[_CHOSEN] = linked
        state[_UNSURE] = elsewhere and not went_back
    _take_out_impossible()
    if _CHOSEN not in state:
        state[_CHOSEN] = linked
        state.setdefault(_NOTES, [])
        state[_ARRIVED] = {name: st.query_params.get_all(name) for name in st.query_params if name not in NAMES}
    state[_SHOWN] = {}


def _take_out_impossible() -> None:
    """Take out what Streamlit cannot bind to any widget, and begin again with a link without it."""
    wrong = [name for name in st.query_params if not possible(name, st.query_params.get_all(name))]
    if not wrong:
        return
    st.session_state.setdefault(_NOTES, [])
    for name in wrong:
        note(
            f"The link's {name[:20]}={','.join(st.query_params.get_all(name))[:40]} was not possible and was left out."
        )
        del st.query_params[name]
    st.rerun()


def possible(name: str, values: list[str]) -> bool:
    """Whether a value of a link can be of a widget: it has a name, is no longer than a line, and is finite."""
    if name in NAMES or not values:
        return True
    if not name or max(map(len, values)) > MOST_CHARACTERS:
        return False
    return name in TEXTS or all(map(_finite, values))


def _finite(value: str) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return True  # no number at all: a choice's label, or what the widget refuses by itself


def publish() -> None:
    """Write what is chosen into the link, and note which of the link's other values were not possible."""
    state = st.session_state
    chosen: dict[str, tuple[str, ...]] = state[_CHOSEN]
    wanted = {name: list(chosen.get(name, ())) for name in NAMES}
    changed = {name: values for name, values in wanted.items() if st.query_params.get_all(name) != values}
    context = get_script_run_ctx()
    page = context.page_script_hash if context is not None else ""
    told = {name: tuple(values) for name, values in wanted.items() if values}
    if state.get(_PUBLISHED, ("", {}, 0.0))[:2] != (page, told):
        state[_PUBLISHED] = (page, told, time.monotonic())
    elif state.get(_UNSURE):  # nothing new was chosen: the browser is behind, or it went back
        _ask_again()
        changed = {}
    if changed:
        st.query_params.update(changed)  # at once, as every message is an address of its own; no value takes a name out
    for name, values in st.session_state.pop(_ARRIVED, {}).items():
        if name not in st.session_state:
            continue
        value = st.session_state[name]
        known = isinstance(value, str) and name in st.query_params  # a choice's label; an unknown one is taken out
        if not known and str(value).lower() != ",".join(values).lower():
            note(f"The link's {name[:20]}={','.join(values)[:40]} was not possible here and was reset.")


def _ask_again() -> None:
    """Run again when the browser, by then, says where it is."""
    drawn: list[bool] = []

    def look() -> None:
        if drawn:
            st.rerun()
        drawn.append(True)

    st.fragment(look, run_every=TOLD)()


def get(name: str) -> tuple[str, ...]:
    """All values of one name."""
    values: tuple[str, ...] = st.session_state[_CHOSEN].get(name, ())
    return values


def first(name: str) -> str:
    """The first value of a name, empty without one."""
    return next(iter(get(name)), "")


def put(name: str, *values: str) -> None:
    """Choose; the link follows at the end of the run."""
    st.session_state[_CHOSEN] = {**st.session_state[_CHOSEN], name: values}


def show(name: str, *values: str) -> None:
    """What the page shows by itself where nothing was chosen: no part of the address, but of a link that is copied."""
    st.session_state[_SHOWN][name] = values


def shown() -> dict[str, tuple[str, ...]]:
    """What the page shows by itself."""
    return {name: values for name, values in st.session_state.get(_SHOWN, {}).items() if not get(name)}


def note(sentence: str) -> None:
    """Tell the user something quietly at the end of this run."""
    if sentence not in st.session_state[_NOTES]:
        st.session_state[_NOTES].append(sentence)


def take_notes() -> list[str]:
    """The notes so far; each is taken once."""
    notes: list[str] = st.session_state[_NOTES]
    st.session_state[_NOTES] = []
    return notes
