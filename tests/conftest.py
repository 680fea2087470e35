"""What holds for every test."""

import os
import sys

# Before torch is imported: the workers of pytest-xdist share the cores, and threads of several processes that wait for
# one another cost far more than they give (the tests of loading: 175 s against 48 s on two busy cores).
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The page of results shows none of the runs that lie about on this machine.
os.environ["DASHBOARD_RUNS"] = os.devnull
# Nothing that a test computes is found by the next one.
os.environ["PROBES_CACHE"] = ""

import pytest
from hypothesis import settings

# Time limits of single examples fail on a busy machine for no fault of the code.
settings.register_profile("project", deadline=None)
settings.load_profile("project")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Whatever a test before has set: sums differ by rounding with the number of threads."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
