"""Small browser components: thumbnails, the button that copies the link, the history's entries, the focus."""

from collections.abc import Callable, Sequence
from pathlib import Path

import streamlit as st

from dashboard.images import gallery
from dashboard.state import link

ASSETS = Path(__file__).parent / "assets"
THUMBNAIL_SIDE = 128


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


_STRIP = st.components.v2.component(
    "thumbnails", html='<div class="strip" role="group"></div>', css=_asset("strip.css"), js=_asset("strip.js")
)
_LINK = st.components.v2.component(
    "copy_link",
    html='<button type="button" class="copy"></button><input class="manual" readonly hidden aria-label="Link">',
    css=_asset("link.css"),
    js=_asset("link.js"),
)
_HISTORY = st.components.v2.component("history", js=_asset("history.js"))
_FOCUS = st.components.v2.component("focus", js=_asset("focus.js"))


def thumbnails(
    offered: Sequence[str], chosen: Sequence[str], *, several: bool, key: str, on_pick: Callable[[str], None]
) -> None:
    """Draw pictures to choose from.

    Args:
        offered: ids in order.
        chosen: those that are chosen now.
        several: choosing adds and takes away instead of replacing.
        key: name of the component on its page.
        on_pick: called before the next run with the id that was clicked.
    """
    items = [
        {
            "id": identity,
            "src": gallery.data_uri(identity, THUMBNAIL_SIDE),
            "alt": gallery.alt(identity),
            "title": f"{gallery.title(identity)} · {gallery.credit(identity)}",
        }
        for identity in offered
    ]

    def picked() -> None:
        identity = (st.session_state.get(key) or {}).get("picked")
        if isinstance(identity, str) and gallery.missing(identity) is None:
            on_pick(identity)

    data = {"items": items, "chosen": list(chosen), "several": several}
    _STRIP(key=key, data=data, on_picked_change=picked)


def copy_link(key: str = "copy_link") -> None:
    """Draw a button that puts the address of this view on the clipboard."""
    shown = {name: list(values) for name, values in link.shown().items()}
    _LINK(key=key, data={"label": "Copy link", "shown": shown})


def one_entry_an_act() -> None:
    """Give every thing that a person does one entry in the browser's history; draw it once on every page."""
    _HISTORY(key="history")


def focus(key: str, act: int) -> None:
    """Move the keyboard's focus to a control.

    Args:
        key: of the widget or container; empty for none.
        act: a number for each time that it is to be moved.
    """
    _FOCUS(key="focus", data={"key": key, "act": act})
