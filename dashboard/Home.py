"""The dashboard: ``streamlit run dashboard/Home.py`` from the repository's root."""

import sys
from pathlib import Path

import streamlit as st

# `streamlit run` puts this folder on the path, not the repository's root.
ROOT = str(Path(__file__).resolve().parents[1])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

from dashboard import navigation  # noqa: E402 - needs the path above

st.set_page_config(
    page_title="Vision transformers side by side",
    page_icon=navigation.icon(),
    layout="wide",
    initial_sidebar_state="auto",
)
navigation.run()
