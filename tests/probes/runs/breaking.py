"""Breaks a run off."""

import pytest

from probes.core.command import main
from probes.core.runs import folder

COUNT = 80
"""Images of a run."""


def stop_after(shards: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt a run once so many shards are on disk."""
    written = folder.RunFolder.write

    def write(self, name: str, how) -> None:
        if len(list(self.path.glob("*.npz"))) == shards:
            raise KeyboardInterrupt
        written(self, name, how)

    monkeypatch.setattr(folder.RunFolder, "write", write)


def broken_off(words: list[str], monkeypatch: pytest.MonkeyPatch, shards: int = 1) -> None:
    with monkeypatch.context() as patch:
        stop_after(shards, patch)
        assert main(words) == 130
