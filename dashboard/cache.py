"""What is kept in memory because it is slow to make: bounded in bytes, shared by the whole process.

`Bounded` is the mapping, for those that keep a lock of their own; `remember` puts one behind a function. Nothing here
knows Streamlit.
"""

import sys
from collections.abc import Callable
from threading import Condition
from typing import ParamSpec, TypeVar

import numpy as np
import xarray as xr
from cachetools import LRUCache, cached
from PIL import Image

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")
P = ParamSpec("P")

ENTRY_BYTES = 1024
"""What an entry costs beside its content: key, object, bookkeeping."""


def memory(value: object) -> int:
    """Bytes that a value takes in memory; of a container its content's.

    A picture's are Pillow's: 4 a pixel for every mode of more than one band, 1 for ``L``.
    """
    if isinstance(value, Image.Image):
        wide = value.mode in ("I", "F") or len(value.getbands()) > 1
        return ENTRY_BYTES + value.width * value.height * (4 if wide else 1)
    if isinstance(value, (np.ndarray, xr.Dataset, xr.DataArray)):
        return ENTRY_BYTES + int(value.nbytes)
    if isinstance(value, (tuple, list, set, frozenset)):
        return ENTRY_BYTES + sum(map(memory, value))
    if isinstance(value, dict):
        return ENTRY_BYTES + sum(memory(k) + memory(v) for k, v in value.items())
    return ENTRY_BYTES + sys.getsizeof(value)


class Bounded(LRUCache[K, V]):
    """Values by key, least recently used out first, together at most ``most_bytes``. Not locked.

    A value that is larger than all of it is kept alone, for it would be made again and again otherwise.

    Args:
        most_bytes: what all values may take.
        size: bytes of a value.
    """

    def __init__(self, most_bytes: int, size: Callable[[V], int] = memory) -> None:
        super().__init__(most_bytes, lambda value: min(size(value), most_bytes))


def remember(most_bytes: int, size: Callable[[T], int] = memory) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Keep a function's values by its arguments, in a `Bounded`.

    Several threads that ask for the same at once wait for one of them to make it. An exception is not kept: the next
    caller tries again.

    Args:
        most_bytes: what all values may take.
        size: bytes of a value.
    """
    return cached(Bounded(most_bytes, size), condition=Condition())
