"""Files of weights: where they may lie, and how much of them is read."""

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from model_zoo import mae, weight_files
from model_zoo.reference import ModelError

STATE = {"norm.weight": torch.arange(64.0), "head.weight": torch.ones(5000).half()}


@pytest.fixture
def latin(tmp_path: Path) -> Path:
    """A folder whose name is no UTF-8."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    return folder


def assert_read(path: Path) -> None:
    found = weight_files.read(path)
    assert found.keys() == STATE.keys()
    for name, value in STATE.items():
        assert torch.equal(found[name], value.float())


def repacked(source: Path, path: Path, compression: int, old: bytes = b"", new: bytes = b"") -> None:
    """A PyTorch file in a zip of another kind, something in its pickle exchanged."""
    with zipfile.ZipFile(source) as given, zipfile.ZipFile(path, "w", compression) as made:
        for member in given.infolist():
            content = given.read(member)
            made.writestr(member.filename, content.replace(old, new, 1) if old in content else content)


def test_a_folder_whose_name_is_no_utf8(latin: Path) -> None:
    save_file(STATE, latin.parent / "w.safetensors")
    (latin.parent / "w.safetensors").rename(latin / "w.safetensors")
    torch.save(STATE, latin.parent / "w.pth")
    (latin.parent / "w.pth").rename(latin / "w.pth")
    assert_read(latin / "w.safetensors")
    assert_read(latin / "w.pth")


def test_a_decoder_in_such_a_folder(latin: Path) -> None:
    decoder = mae.Decoder(16, 4, (2, 2), width=32)
    mae.save_decoder(decoder, latin.parent / "d.safetensors")
    (latin.parent / "d.safetensors").rename(latin / "d.safetensors")
    assert mae.load_decoder(latin / "d.safetensors").made == decoder.made


def test_files_of_every_form_are_read(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "zip.pth")
    torch.save(STATE, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    repacked(tmp_path / "zip.pth", tmp_path / "stored.pth", zipfile.ZIP_STORED)
    for form in ("zip", "legacy", "stored"):
        assert_read(tmp_path / f"{form}.pth")
    noise = {"head.weight": torch.randint(256, (50_000,), dtype=torch.uint8)}  # else it would unpack to more
    torch.save(noise, tmp_path / "noise.pth")
    repacked(tmp_path / "noise.pth", tmp_path / "packed.pth", zipfile.ZIP_DEFLATED)
    assert torch.equal(weight_files.read(tmp_path / "packed.pth")["head.weight"], noise["head.weight"])


def test_the_state_of_an_optimizer_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = {"state": {0: {"exp_avg": torch.ones(40_000_000)}}}
    torch.save({"model": STATE, "optimizer": moments}, tmp_path / "w.pth")
    del moments
    taken: list[int] = []

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def tensors(checkpoint: Any, path: Path) -> weight_files.State:
        taken.append(resident() - before)
        return original(checkpoint, path)

    original = weight_files._tensors
    monkeypatch.setattr(weight_files, "_tensors", tensors)
    before = resident()
    assert_read(tmp_path / "w.pth")
    assert taken[0] < 80e6  # of 160


@pytest.mark.parametrize("claim", [65, 63, 1000])
def test_a_part_that_is_smaller_or_larger_than_its_weights_is_refused(tmp_path: Path, claim: int) -> None:
    torch.save(STATE, tmp_path / "source.pth")
    claimed = b"M" + claim.to_bytes(2, "little") + b"t"
    repacked(tmp_path / "source.pth", tmp_path / "w.pth", zipfile.ZIP_STORED, b"K\x40t", claimed)
    with pytest.raises(ModelError, match=r"w\.pth is not a whole PyTorch file of plain tensors: save it again\.$"):
        weight_files.read(tmp_path / "w.pth")
