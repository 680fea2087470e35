"""The dashboard: ``streamlit run dashboard/Home.py`` from the repository's root.

The file is read twice: once when the server starts, which takes the application from it, and then by every visit as
the script that draws the page.
"""

import sys
from pathlib import Path

import streamlit as st

# `streamlit run` puts this folder on the path, not the repository's root.
ROOT = str(Path(__file__).resolve().parents[1])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

from dashboard import serving, starting  # noqa: E402 - needs the path above

if __name__ == "__main__":
    starting.configure()
    starting.draw_until_loaded()

    from dashboard import navigation

    navigation.run()
else:
    app = st.App(__file__, lifespan=serving.lifespan, middleware=serving.middleware())
