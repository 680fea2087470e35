"""Rows that are kept on disk: found again by another process, bounded, and never trusted."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from probes.core import kept_rows
from probes.core.kept_rows import KeptRows

ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(kept_rows.FOLDER, str(tmp_path))
    return tmp_path / "rows"


def filled(key: str, rows: int, count: int = 3) -> KeptRows:
    kept = KeptRows(key, count, 2)
    for row in range(rows):
        kept.add(np.array([row, row + 0.5]))
    return kept


def test_a_process_that_was_killed_leaves_what_it_had(place: Path) -> None:
    code = (
        "import os, signal, numpy as np\nfrom probes.core.kept_rows import KeptRows\nkept = KeptRows('k', 3, 2)\n"
        "kept.add(np.array([0.0, 0.5]))\nkept.add(np.array([1.0, 1.5]))\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120, check=False).returncode == -9
    found = KeptRows("k", 3, 2)
    np.testing.assert_array_equal(found.rows, [[0, 0.5], [1, 1.5]])
    with pytest.raises(ValueError, match="2 of 3 rows are there"):
        found.whole()
    found.add(np.array([2.0, np.nan]))
    np.testing.assert_array_equal(KeptRows("k", 3, 2).whole(), [[0, 0.5], [1, 1.5], [2, np.nan]])
    assert KeptRows("other", 3, 2).rows == []


def test_the_one_that_was_not_used_for_longest_goes_first(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_rows, "MOST", 2)
    for age, key in ((30, "a"), (20, "b")):
        filled(key, 1)
        newest = max(place.glob("*.npy"), key=lambda file: file.stat().st_mtime)
        os.utime(newest, (time.time() - age, time.time() - age))
    assert len(KeptRows("a", 3, 2).rows) == 1, "and is used now"
    (place / "left.unfinished").write_bytes(b"")
    os.utime(place / "left.unfinished", (0, 0))
    filled("c", 1)
    assert [len(KeptRows(key, 3, 2).rows) for key in "abc"] == [1, 0, 1]
    assert len(list(place.iterdir())) == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY\x01\x00",
        np.array(["text", "more"], dtype=object).dumps(),
        b"x" * (kept_rows.MOST_BYTES + 1),
    ],
    ids=["empty", "truncated", "pickled", "large"],
)
def test_a_file_of_something_else_is_as_none(place: Path, content: bytes) -> None:
    filled("k", 2)
    next(place.glob("*.npy")).write_bytes(content)
    assert KeptRows("k", 3, 2).rows == []


@pytest.mark.parametrize("array", [np.zeros((2, 3)), np.zeros((4, 2)), np.zeros((2, 2), np.float32), np.zeros(2)])
def test_rows_of_another_shape_are_none(place: Path, array: np.ndarray) -> None:
    filled("k", 2)
    np.save(next(place.glob("*.npy")), array)
    assert KeptRows("k", 3, 2).rows == []


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_keeping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(kept_rows.FOLDER, str(tmp_path / "file"))
    np.testing.assert_array_equal(filled("k", 3).whole()[:, 0], [0, 1, 2])
    assert KeptRows("k", 3, 2).rows == []


def test_where_it_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(kept_rows.FOLDER, "")
    assert kept_rows.folder() is None
    assert filled("k", 3).whole().shape == (3, 2)
    monkeypatch.delenv(kept_rows.FOLDER)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kept_rows.folder() == tmp_path / "vision-transformer-probes" / "rows"
