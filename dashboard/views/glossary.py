"""The words of the project, each with what it means."""

import re
from pathlib import Path

import streamlit as st

from dashboard.draw import frame
from dashboard.view import Page

PAGE = Page("Glossary", section="Learn", order=90)
SOURCE = Path(__file__).parents[2] / "docs" / "glossary.md"


def entries(text: str) -> dict[str, str]:
    """Word to meaning, in the order of the document: paragraphs that begin with a word in bold."""
    found = re.findall(r"^\*\*(.+?)\*\* (.+?)(?=\n\n|\Z)", text.strip(), flags=re.DOTALL | re.MULTILINE)
    return {word: " ".join(meaning.split()) for word, meaning in found}


def page() -> None:
    """Draw the page."""
    frame.header("What do the words mean?")
    words = entries(SOURCE.read_text(encoding="utf-8"))
    sought = st.text_input("Find a word", key="word", bind="query-params", max_chars=60).strip().casefold()
    shown = {word: meaning for word, meaning in words.items() if sought in f"{word} {meaning}".casefold()}
    for word, meaning in shown.items():
        st.markdown(f"**{word}** · {meaning}")
    if not shown:
        st.caption(f"No word here holds {sought!r}: try a shorter part of it.")
