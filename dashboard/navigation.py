"""Finds the pages, draws the one that is open, and turns whatever goes wrong in it into a sentence."""

import gc
import logging
import pkgutil
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from typing import get_args

import streamlit as st

from dashboard import view, views
from dashboard.compute import asking
from dashboard.draw import components
from dashboard.runs import charts
from dashboard.state import link, precision
from dashboard.view import Page, Section

_log = logging.getLogger(__name__)


@cache
def pages() -> tuple[tuple[str, Page, Callable[[], None]], ...]:
    """Every page as its address, what it says about itself and what draws it, in order."""
    found = []
    for _, name, private_parts in pkgutil.iter_modules(views.__path__):
        module = import_module(f"dashboard.views.{name}.view" if private_parts else f"dashboard.views.{name}")
        if hasattr(module, "VIEW"):
            page, draw = module.VIEW.page, partial(view.draw, module.VIEW)
            charts.OF_PROBE.update(module.VIEW.stored)
        else:
            page, draw = module.PAGE, module.page
        found.append((name.replace("_", "-"), page, draw))
    gc.collect()
    gc.freeze()  # the imports stay for good; without this every run would search them for garbage
    return tuple(sorted(found, key=lambda item: (item[1].order, item[0])))


def run() -> None:
    """Draw the navigation and the open page."""
    sections: dict[str, list[st.Page]] = {section: [] for section in get_args(Section)}
    for address, page, draw in pages():
        entry = st.Page(_guarded(address, draw), title=page.title, url_path=address, default=page.default)
        sections[page.section].append(entry)
    current = st.navigation({name: entries for name, entries in sections.items() if entries}, position="top")
    if _told("link", link.begin):
        current.run()
        _told("link", _end)


def _end() -> None:
    """What comes after every page: the queue and the link follow what it asked for, and its notes are shown."""
    asking.drop_unasked()
    precision.forget()
    components.one_entry_an_act()
    link.publish()
    for sentence in link.take_notes():
        st.toast(sentence, duration="long")


def _guarded(address: str, draw: Callable[[], None]) -> Callable[[], None]:
    def page() -> None:
        _told(address, draw)

    page.__name__ = address.replace("-", "_")
    return page


def _told(name: str, do: Callable[[], None]) -> bool:
    """Do it; a fault becomes a sentence on the page and a line of the log. Returns whether there was none."""
    try:
        do()
    except Exception as error:
        _log.exception("The part %s failed", name)
        st.error(
            f"This page met a fault of its own ({type(error).__name__}); the server's log says more. "
            "Choose other models or another image, or reload the page."
        )
        return False
    return True
