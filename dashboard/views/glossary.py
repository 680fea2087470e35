"""The words of the project, each with what it means."""

import streamlit as st

from dashboard.controls import glossary
from dashboard.draw import frame
from dashboard.view import Page

PAGE = Page("Glossary", section="Learn", order=90)


def page() -> None:
    """Draw the page."""
    frame.header("What do the words mean?")
    sought = st.text_input("Find a word", key="word", bind="query-params", max_chars=60).strip().casefold()
    shown = {word: meaning for word, meaning in glossary.words().items() if sought in f"{word} {meaning}".casefold()}
    for word, meaning in shown.items():
        st.markdown(f"**{word}** · {meaning}")
    if not shown:
        st.caption(f"No word here holds {sought!r}: try a shorter part of it.")
