"""What is kept is bounded in bytes."""

import sys
import threading

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from dashboard.cache import ENTRY_BYTES, Bounded, memory, remember


@pytest.mark.parametrize(
    ("value", "content"),
    [
        (Image.new("RGB", (100, 50)), 20_000),
        (Image.new("L", (100, 50)), 5_000),
        (Image.new("F", (100, 50)), 20_000),
        (np.zeros((10, 20)), 1_600),
        (xr.Dataset({"a": ("x", np.zeros(100))}), 800),
        (b"x" * 5_000, sys.getsizeof(b"x" * 5_000)),
        ((np.zeros(100, np.uint8), np.zeros(50, np.uint8)), 150 + 2 * ENTRY_BYTES),
        ({"a": np.zeros(100, np.uint8)}, 100 + sys.getsizeof("a") + 2 * ENTRY_BYTES),
    ],
)
def test_what_a_value_takes(value, content):
    assert memory(value) == ENTRY_BYTES + content


def test_the_least_recently_used_goes_first_once_the_bytes_are_used_up():
    kept = Bounded(100, len)
    kept["a"], kept["b"] = b"x" * 40, b"x" * 40
    assert kept["a"]
    kept["c"] = b"x" * 60
    assert sorted(kept) == ["a", "c"]
    assert kept.currsize == 100


def test_what_is_larger_than_all_of_it_is_kept_alone():
    kept = Bounded(100, len)
    kept["a"] = b"x" * 40
    kept["huge"] = b"x" * 1000
    assert list(kept) == ["huge"]
    kept["b"] = b"x"
    assert list(kept) == ["b"]


def test_a_function_remembers_within_its_bytes():
    made = []

    @remember(100, len)
    def make(name, size=40):
        made.append(name)
        return name * size

    assert make("a") == make("a") == "a" * 40
    make("b")
    make("c")  # there is no room for three
    make("a")
    assert made == ["a", "b", "c", "a"]


def test_many_threads_that_ask_at_once_make_it_once():
    made, start = [], threading.Barrier(8)
    go_on = threading.Event()

    @remember(100, len)
    def make(name):
        made.append(name)
        go_on.wait(10)
        return name

    def ask():
        start.wait(10)
        make("a")

    threads = [threading.Thread(target=ask) for _ in range(7)]
    for thread in threads:
        thread.start()
    start.wait(10)
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert made == ["a"]


def test_a_failure_is_not_kept():
    tries = []

    @remember(100, len)
    def make(name):
        tries.append(name)
        if len(tries) == 1:
            raise ValueError(name)
        return name

    with pytest.raises(ValueError, match="a"):
        make("a")
    assert make("a") == "a"
