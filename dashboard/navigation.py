"""Finds the pages, draws the one that is open, and turns whatever goes wrong in it into a sentence."""

import gc
import logging
import pkgutil
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import get_args

import streamlit as st

from dashboard import views
from dashboard.compute import asking
from dashboard.page import Page, Section
from dashboard.state import link

_log = logging.getLogger(__name__)


@cache
def pages() -> tuple[tuple[str, Page, Callable[[], None]], ...]:
    """Every page as its address, what it says about itself and what draws it, in order."""
    found = []
    for _, name, private_parts in pkgutil.iter_modules(views.__path__):
        module = import_module(f"dashboard.views.{name}.view" if private_parts else f"dashboard.views.{name}")
        found.append((name.replace("_", "-"), module.PAGE, module.page))
    gc.collect()
    gc.freeze()  # the imports stay for good; without this every run would search them for garbage
    return tuple(sorted(found, key=lambda item: (item[1].order, item[0])))


def run() -> None:
    """Draw the navigation and the open page."""
    opened = {}
    sections: dict[str, list[st.Page]] = {section: [] for section in get_args(Section)}
    for address, page, draw in pages():
        entry = st.Page(_guarded(address, draw), title=page.title, url_path=address, default=page.default)
        sections[page.section].append(entry)
        opened[entry.url_path] = address
    current = st.navigation({name: entries for name, entries in sections.items() if entries}, position="top")
    link.begin(opened.get(current.url_path, current.url_path))
    current.run()
    asking.drop_unasked()
    link.publish()
    for sentence in link.take_notes():
        st.toast(sentence, duration="long")


def _guarded(address: str, draw: Callable[[], None]) -> Callable[[], None]:
    def page() -> None:
        try:
            draw()
        except Exception as error:
            _log.exception("The page %s failed", address)
            st.error(
                f"This page met a fault of its own ({type(error).__name__}); the server's log says more. "
                "Choose other models or another image, or reload the page."
            )

    page.__name__ = address.replace("-", "_")
    return page
