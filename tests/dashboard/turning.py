"""Turning pages under AppTest, which by itself knows pages that are files, and no others."""

from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash


def turn_to(at: AppTest, address: str) -> AppTest:
    """Open another page at the next run, as the navigation does."""
    at._page_hash = calc_hash(address)
    return at
