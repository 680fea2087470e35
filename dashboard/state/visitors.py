"""Who asks, as text: ``ADDRESS/BROWSER/TAB``. What identifies a person and why is in decision 0201.

``browser`` and ``address`` are pure: a visitor named by one word is its own browser at its own address.
"""

import hashlib
import uuid
from itertools import cycle

import streamlit as st

COOKIE = "_streamlit_xsrf"


def visitor() -> str:
    """The browser tab that is being drawn for."""
    name: str | None = st.session_state.get("visitor")
    if name is None:
        address = str(st.context.ip_address or "local").replace("/", "")
        token = _token(str(st.context.cookies.get(COOKIE, "")))
        name = f"{address}/{hashlib.sha256(token).hexdigest()[:16]}/{uuid.uuid4().hex}"
        st.session_state["visitor"] = name
    return name


def _token(cookie: str) -> bytes:
    """What stays the same of ``2|MASK|MASKED|TIME`` in all tabs of a browser; every answer has another mask."""
    try:
        _, mask, masked, _ = cookie.split("|")
        return bytes(a ^ b for a, b in zip(bytes.fromhex(masked), cycle(bytes.fromhex(mask)), strict=False))
    except ValueError:
        return cookie.encode()


def browser(visitor: str) -> str:
    """All tabs of one browser."""
    return visitor.rpartition("/")[0] or visitor


def address(visitor: str) -> str:
    """Everyone behind one address."""
    return visitor.partition("/")[0]
