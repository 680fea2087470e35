"""The seconds after a start: everything heavy is loaded once in the background, and visitors see the frame meanwhile.

A visit that comes too early sleeps until all is there: it neither runs its script again nor imports anything itself.
"""

import gc
import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from importlib import import_module

import streamlit as st

from dashboard.draw.icon import icon

TITLE = "Vision transformers side by side"
PATIENCE = 20.0
"""Seconds in which the first page's results are waited for; whoever comes later sees how far they are."""

LATE = ("scipy.stats", "scipy.cluster.hierarchy", "sklearn.decomposition", "sklearn.manifold")
"""A third of the seconds that all imports take, and not needed by the first page."""

_log = logging.getLogger(__name__)
_lock = threading.Lock()
_loading: Future[None] | None = None


def load(*, first_page: bool = False) -> Future[None]:
    """Start to import all pages in the background, once a process.

    Args:
        first_page: compute what the first page shows, too, as nearly every visit begins there.
    """
    global _loading
    with _lock:
        if _loading is None:
            executor = ThreadPoolExecutor(1, thread_name_prefix="start")
            _loading = executor.submit(_load, first_page)
            executor.submit(_load_late)
            executor.shutdown(wait=False)
        return _loading


def _load(first_page: bool) -> None:
    from dashboard import navigation

    navigation.pages()
    if first_page:
        try:
            from dashboard.views.compare import first_visit

            first_visit.prepare(PATIENCE)
        except Exception:  # the page itself will say what is wrong
            _log.exception("The first page could not be prepared")


def _load_late() -> None:
    """Import what only some pages call, once visitors can be served."""
    for name in LATE:
        import_module(name)
    gc.freeze()  # else every run would search them for garbage


def configure() -> None:
    """Set title and icon of the browser's tab."""
    st.set_page_config(page_title=TITLE, page_icon=icon(), layout="wide")


def draw_until_loaded() -> None:
    """Draw the empty frame until every page can be drawn; nothing when that is so already.

    Raises:
        Exception: what went wrong while loading.
    """
    loading = load()
    side, main = st.sidebar.empty(), st.empty()
    if not loading.done():
        with side.container():
            st.header("Models", anchor=False)
            st.skeleton(height=220)
            st.header("Images", anchor=False)
            st.skeleton(height=220)
        with main.container():
            st.title(TITLE, anchor=False)
            st.caption("Starting: this takes a few seconds the first time.")
            st.skeleton(height=64)
            st.skeleton(height=420)
        wait([loading])
        side.empty()
        main.empty()
    loading.result()
