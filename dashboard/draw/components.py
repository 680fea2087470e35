"""Two small browser components: the strip of thumbnails and the button that copies the link."""

from collections.abc import Callable, Sequence
from pathlib import Path

import streamlit as st

from dashboard.images import gallery

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
    _LINK(key=key, data={"label": "Copy link"})
