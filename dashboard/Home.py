"""The dashboard: ``streamlit run dashboard/Home.py`` from the repository's root."""

import sys
from pathlib import Path

import streamlit as st

# `streamlit run` puts this folder on the path, not the repository's root.
ROOT = str(Path(__file__).resolve().parents[1])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

from dashboard.draw.icon import icon  # noqa: E402 - needs the path above

st.set_page_config(page_title="Vision transformers side by side", page_icon=icon(), layout="wide")

starting = st.empty()
if "dashboard.navigation" not in sys.modules:  # the first visit after a start imports everything, which takes seconds
    with starting.container():
        st.caption("Starting: this takes a few seconds the first time.")
        st.skeleton(height=420)

from dashboard import navigation  # noqa: E402

starting.empty()
navigation.run()
