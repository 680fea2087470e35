"""Maps of all frames of one model, on disk, and the scale that holds for them."""

import io
import tempfile
from collections.abc import Iterable, Iterator
from types import TracebackType

import numpy as np

TOWERS, TOWERING = 99, 0.7
"""Where this percentile is below this share of the largest value, a few values tower, and the scale ends at it."""
LOOKED_AT = 128
"""Maps of each model, spread over the clip, that a scale is found on."""


class Tape:
    """Arrays of one shape written one after the other and read in the same order, in a nameless temporary file."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the tape
        self._shape: tuple[int, ...] = ()
        self._largest: list[float] = []

    def __enter__(self) -> "Tape":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._largest)

    def append(self, maps: np.ndarray) -> None:
        """Add maps (frames, ...)."""
        maps = np.ascontiguousarray(maps, np.float32)
        self._shape = maps.shape[1:]
        self._largest += [float(values.max()) for values in maps]
        self._file.write(maps.tobytes())

    def __iter__(self) -> Iterator[np.ndarray]:
        """The maps in order, one in memory at a time."""
        self._file.seek(0)
        size = 4 * int(np.prod(self._shape))
        for _ in self._largest:
            yield np.frombuffer(self._file.read(size), np.float32).reshape(self._shape)

    @property
    def largest(self) -> list[float]:
        """The largest value of every map."""
        return self._largest

    def sample(self, count: int) -> np.ndarray:
        """Values of at most ``count`` maps spread over the tape, in one row."""
        size = 4 * int(np.prod(self._shape))
        places = np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(int))
        read = []
        for place in places:
            self._file.seek(int(place) * size)
            read.append(np.frombuffer(self._file.read(size), np.float32))
        self._file.seek(0, io.SEEK_END)
        return np.concatenate(read) if read else np.zeros(0, np.float32)


def clip_scale(tapes: Iterable[Tape]) -> tuple[float, bool]:
    """The value of the last colour for all maps of a clip, and whether some values lie beyond it.

    It is the largest value of all frames and models; where a few tower above the rest, the 99th percentile.
    """
    tapes = list(tapes)
    highest = max((value for tape in tapes for value in tape.largest), default=0.0)
    if highest <= 0:
        return 1.0, False
    most = float(np.percentile(np.concatenate([tape.sample(LOOKED_AT) for tape in tapes]), TOWERS))
    return (most, True) if 0 < most < TOWERING * highest else (highest, False)


def smoothed(maps: Iterator[np.ndarray], keep: float) -> Iterator[np.ndarray]:
    r"""Exponential smoothing over frames.

    .. math:: s_0 = m_0, \qquad s_t = \alpha s_{t-1} + (1 - \alpha) m_t

    Args:
        maps: the maps in order.
        keep: :math:`\alpha`, the share of what was, at least 0 and below 1.
    """
    before: np.ndarray | None = None
    for values in maps:
        before = values if before is None or not keep else keep * before + (1 - keep) * values
        yield before
