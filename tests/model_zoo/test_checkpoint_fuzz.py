"""A few of the fuzz cases; ``python -m tests.fuzz N`` runs as many as wanted."""

import time
from pathlib import Path

import pytest

from model_zoo.reference import ModelError
from tests.fuzz.checkpoints import EXPECTED, cases


def test_odd_checkpoints_are_loaded_or_refused_in_one_sentence(tmp_path: Path) -> None:
    refused = {}
    for name, run in cases(0, 36, tmp_path):
        try:
            run()
        except EXPECTED as error:
            refused[name] = error
    assert len(refused) > 20, "most of them are no whole checkpoints"
    for name, error in refused.items():
        assert isinstance(error, ModelError), name
        assert str(error).isprintable(), name
        assert len(str(error)) < 1000, name


def test_a_case_depends_on_seed_and_number_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    midnight = time.strptime("2000-01-01", "%Y-%m-%d")  # archives hold the time of writing, to two seconds
    monkeypatch.setattr(time, "localtime", lambda *_: midnight)

    def contents(count: int) -> list[tuple[str, bytes]]:
        return [(name, run.args[1].read_bytes()) for name, run in cases(3, count, tmp_path)]  # type: ignore[attr-defined]

    assert contents(6) == contents(12)[:6]
