"""Views of results that a person keeps: in the link, and as a line of buttons that open them again."""

from collections.abc import Mapping
from functools import partial
from urllib.parse import parse_qsl, urlencode

import streamlit as st

from dashboard.draw.sentences import literal
from dashboard.state import link

MOST, MOST_CHARACTERS = 8, 600


def held() -> dict[str, dict[str, str]]:
    """Pinned views as the link holds them: control to value; what is none is passed over."""
    found = {}
    for text in link.get("pin")[:MOST]:
        if len(text) <= MOST_CHARACTERS and (view := dict(parse_qsl(text, max_num_fields=12))):
            found[text] = view
    return found


def draw(now: Mapping[str, str], names: Mapping[str, str]) -> None:
    """Draw the pinned views, and the button that pins what is shown.

    Args:
        now: controls and values of what is shown.
        names: what its button says: the parts, in order.
    """
    pinned, this = held(), urlencode({**now, "said": " · ".join(names.values())[:120]})
    with st.sidebar:
        st.header("Pinned", anchor=False)
        for number, (text, view) in enumerate(pinned.items()):
            st.button(
                literal(view.get("said") or view.get("result", "")),
                key=f"pin-{number}",
                on_click=partial(_open, view),
                disabled=text == this,
                icon=":material/keep:",
                width="stretch",
            )
        if this in pinned:
            others = [text for text in pinned if text != this]
            st.button("Unpin", key="unpin", type="tertiary", on_click=lambda: link.put("pin", *others))
        elif now:
            full = len(pinned) == MOST
            st.button(
                "Pin this view",
                key="pin-this",
                type="tertiary",
                disabled=full,
                on_click=lambda: link.put("pin", *pinned, this),
                help=f"{MOST} are pinned: unpin one first." if full else "Keep it in the link and in this line.",
            )


def _open(view: Mapping[str, str]) -> None:
    """Set the controls as they were; each checks for itself what it is given."""
    for name, value in view.items():
        if name in ("result", "beside", "probe", "quantity"):
            st.session_state[name] = value
        elif name.startswith("place_") and value.isascii() and value.isdigit():
            st.session_state[name] = int(value[:7])
