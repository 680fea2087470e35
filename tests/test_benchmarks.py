"""The benchmark against other libraries compares what is the same, and says in a sentence what is not there."""

import pytest
import timm
import torch

from benchmarks import peers
from benchmarks.__main__ import lines, table
from model_zoo.adapter import Adapter


@pytest.fixture(scope="module")
def adapter() -> Adapter:
    torch.manual_seed(0)
    return Adapter(timm.create_model("vit_tiny_patch16_224", img_size=64, depth=3), image_size=64)


@pytest.mark.parametrize("work", ["maps", "distance", "rollout"])
def test_timms_extraction_answers_the_same_question(adapter: Adapter, work: str) -> None:
    x = torch.randn(2, 3, 64, 64)
    ours, theirs = (make(adapter, work)(x) for make in (peers.ours, peers.extract))
    assert float(peers.apart(ours, theirs, work)) < 1e-5
    assert float(peers.apart(ours, theirs * 1.1, work)) > 0.01


def test_captum_answers_the_same_question(adapter: Adapter) -> None:
    x = torch.randn(2, 3, 64, 64)
    ours, theirs = (make(adapter, "integrated-gradients")(x) for make in (peers.ours, peers.captum))
    assert float(peers.apart(ours, theirs, "integrated-gradients")) < 1e-5


def test_a_missing_peer_is_a_sentence_below_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "NEEDS", dict.fromkeys(peers.PEERS, ("no_such_module",)))
    found, notes = lines(["S/16"], ["maps"], 1)
    assert not found
    assert "captum is not installed: pip install -r requirements-benchmarks.txt." not in notes, "it has no maps"
    assert "timm AttentionExtract is not installed: pip install -r requirements-benchmarks.txt." in notes


def test_the_table_has_the_fastest_first() -> None:
    row = {"model": "S/16", "work": "maps", "low": 1.0, "high": 9.0, "images": 10.0, "extra": 5.0, "apart": "1e-07"}
    slow = {**row, "name": "slow", "ratio": 3.0, "images": 0.0456}
    shown = table([slow, {**row, "name": "fast", "ratio": 1.1}]).splitlines()
    assert [line.split(" | ")[2] for line in shown[2:]] == ["fast", "slow"]
    assert shown[2].startswith("| S/16 | CLS maps of all layers | fast | 1.10 (1.00 to 9.00) | 10.0 | 5 | 1e-07")
    assert " | 0.0456 | " in shown[3]
