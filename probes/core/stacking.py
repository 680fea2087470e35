"""Arrays that were kept one by one, side by side in one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def stack(
    parts: Mapping[tuple[Any, ...], np.ndarray],
    axes: tuple[Sequence[Any], ...],
    room: tuple[int, ...],
    *,
    fill: float = np.nan,
    dtype: type = np.float32,
) -> np.ndarray:
    """Put every part at its place, padded at the end where it is smaller than the room for one.

    Args:
        parts: what was kept, by e.g. (image, layer).
        axes: the names along every leading axis, in order: a part's key holds one of each.
        room: shape of the largest part.
        fill: what stands where there is nothing.
        dtype: of the result.

    Returns:
        one axis for each of ``axes``, then those of ``room``.
    """
    places = [{name: place for place, name in enumerate(axis)} for axis in axes]
    stacked: np.ndarray = np.full((*map(len, axes), *room), fill, dtype)
    for key, part in parts.items():
        index: list[int | slice] = [where[name] for where, name in zip(places, key, strict=True)]
        stacked[(*index, *(slice(side) for side in part.shape))] = part
    return stacked
