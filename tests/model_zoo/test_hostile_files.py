"""Files that are made to cost: each is refused in one sentence, in little time and memory."""

import io
import json
import pickle
import resource
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from model_zoo import checkpoints, pickles, weight_files
from model_zoo.reference import ModelError

SECONDS = 60  # on a busy machine; most take well under one
MEBIBYTES = 1500


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """Every test here ends in time, and with little more memory at its peak than the process had before."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    yield
    assert time.process_time() - start < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEBIBYTES * 1024


def refusal(path: Path, name: str = "test_vit") -> str:
    with pytest.raises(ModelError) as refused:
        checkpoints.create(name, path)
    said = str(refused.value)
    assert path.name in said
    assert "\n" not in said
    assert len(said) < 600
    return said


def zipped(
    path: Path, source: Path, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED
) -> None:
    """A copy of a PyTorch file with other content in its parts."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", compression) as new:
        for member in old.infolist():
            new.writestr(member.filename, change(member.filename, old.read(member)))


def test_a_pickle_that_refers_to_itself(tmp_path: Path) -> None:
    checkpoint: dict[str, object] = {"epoch": 1}
    checkpoint["model"] = checkpoint
    torch.save(checkpoint, tmp_path / "loop.pth")
    assert "holds no weights by name" in refusal(tmp_path / "loop.pth")
    checkpoint["model"] = {"state_dict": checkpoint}
    torch.save(checkpoint, tmp_path / "ring.pth")
    assert "holds no weights by name" in refusal(tmp_path / "ring.pth")


@pytest.mark.parametrize("kept", [torch.float32, torch.float16])
def test_a_tensor_that_claims_petabytes_of_a_few_bytes(tmp_path: Path, kept: torch.dtype) -> None:
    torch.save({"norm.weight": torch.zeros(1, dtype=kept).expand(10**15)}, tmp_path / "w.pth")
    assert (tmp_path / "w.pth").stat().st_size < 10_000
    assert "holds 3,725,290.30 GiB, more than 8.00" in refusal(tmp_path / "w.pth")


@pytest.mark.parametrize("claim", [10**15, 10**9, 1000])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_storage_that_claims_more_than_the_file(tmp_path: Path, claim: int, legacy: bool) -> None:
    path, source = tmp_path / "w.pth", tmp_path / "source.pth"
    torch.save({"norm.weight": torch.zeros(64)}, source, _use_new_zipfile_serialization=not legacy)
    counted = b"K\x40t"  # 64 as the last of the storage's tuple, where legacy files have None behind it
    claimed = b"\x8a\x08" + struct.pack("<q", claim)
    if legacy:
        content = source.read_bytes()
        assert content.count(b"K\x40N") == 1
        path.write_bytes(content.replace(b"K\x40N", claimed + b"N"))
    else:
        zipped(path, source, lambda _, content: content.replace(counted, claimed + b"t", 1))
    refusal(path)


def test_a_million_empty_tensors(tmp_path: Path) -> None:
    names = json.dumps({str(i): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(1_000_000)})
    header = names.encode()
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    assert "has a header of" in refusal(tmp_path / "w.safetensors")

    # One tensor made in the memo, and a million names for it.
    out = io.BytesIO()
    torch.save({"a": torch.zeros(0)}, tmp_path / "one.pth")
    with zipfile.ZipFile(tmp_path / "one.pth") as archive:
        one = archive.read("one/data.pkl")
    end = one.index(b"s.", len(one) - 2)
    out.write(one[:end] + b"s")
    for i in range(1_000_000):
        out.write(b"X\x08\x00\x00\x00%08dh\x0ds" % i)
    many = out.getvalue() + b"."
    zipped(tmp_path / "w.pth", tmp_path / "one.pth", lambda name, old: many if name.endswith("data.pkl") else old)
    assert "more than 1,000,000 steps" in refusal(tmp_path / "w.pth")


def test_more_tensors_than_any_model_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_files, "MOST_TENSORS", 100)
    torch.save({str(i): torch.zeros(0) for i in range(101)}, tmp_path / "w.pth")
    assert "holds 101 tensors, more than 100" in refusal(tmp_path / "w.pth")
    np.savez(tmp_path / "w.npz", **{str(i): np.zeros(0) for i in range(101)})
    assert "holds 101 tensors, more than 100" in refusal(tmp_path / "w.npz")


def nested_key(depth: int) -> bytes:
    """A pickle of a dictionary whose key is a pair of the same pair of the same pair and so on."""
    pairs = b"".join(b"h%c\x86q%c" % (i, i + 1) for i in range(depth))
    return b"\x80\x02}N\x85q\x00" + pairs + b"Ns."


def test_a_key_whose_hash_takes_years(tmp_path: Path) -> None:
    shallow = nested_key(8)
    assert len(pickle.loads(shallow)) == 1
    (tmp_path / "w.pth").write_bytes(nested_key(60))
    assert "nests more than 1,000 values in a tuple" in refusal(tmp_path / "w.pth")
    (tmp_path / "deep.pth").write_bytes(b"\x80\x02}N" + b"\x85" * 1_000_000 + b"Ns.")
    assert "nests more than 1,000 values in a tuple" in refusal(tmp_path / "deep.pth")


def test_memory_that_a_pickle_asks_for(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(
        b"\x80\x02cbuiltins\nbytearray\n\x8a\x06" + (10**12).to_bytes(6, "little") + b"\x85R."
    )
    assert "holds a bytearray" in refusal(tmp_path / "w.pth")


@pytest.mark.parametrize("depth", [10, 100_000])
def test_what_is_nested_deeply(tmp_path: Path, depth: int) -> None:
    (tmp_path / "w.pth").write_bytes(b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b".")
    refusal(tmp_path / "w.pth")


def test_a_zip_that_unpacks_to_more(tmp_path: Path) -> None:
    torch.save({"norm.weight": torch.zeros(2**24)}, tmp_path / "source.pth")
    zipped(tmp_path / "w.pth", tmp_path / "source.pth", lambda _, content: content, zipfile.ZIP_DEFLATED)
    assert (tmp_path / "w.pth").stat().st_size < 10**6
    assert "unpacks to more than its size" in refusal(tmp_path / "w.pth")


def archive(path: Path, header: dict[str, object], size: int) -> None:
    """A compressed .npz of one array with any header, and so many zeros behind it."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, header)  # type: ignore[arg-type]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("embedding/kernel.npy", "w") as member:
        member.write(content.getvalue())
        for _ in range(0, size, 2**20):
            member.write(bytes(min(size, 2**20)))


def test_an_archive_that_unpacks_to_more_than_the_model_can_take(tmp_path: Path) -> None:
    archive(tmp_path / "w.npz", {"descr": "<f4", "fortran_order": False, "shape": (2**27,)}, 2**29)
    assert (tmp_path / "w.npz").stat().st_size < 2**20
    assert "holds 0.50 GiB, more than 0.34" in refusal(tmp_path / "w.npz", "vit_tiny_patch16_224")


@pytest.mark.parametrize("shape", [(10**15,), (2**31, 2**31, 2**31), (3,), (-1,), ()])
def test_an_array_that_claims_another_size_than_it_has(tmp_path: Path, shape: tuple[int, ...]) -> None:
    archive(tmp_path / "w.npz", {"descr": "<f4", "fortran_order": False, "shape": shape}, 64)
    assert "not a whole .npz archive of plain arrays" in refusal(tmp_path / "w.npz", "vit_tiny_patch16_224")


def test_a_classifier_that_would_need_more_than_the_file_holds(tmp_path: Path) -> None:
    torch.save({"norm.weight": torch.zeros(64), "head.weight": torch.zeros(10**8, 0)}, tmp_path / "w.pth")
    assert "head.weight is 100000000x0 instead of 1000x64" in refusal(tmp_path / "w.pth")


def test_positions_of_another_model_are_not_interpolated(tmp_path: Path) -> None:
    wide = {"blocks.0.attn.relative_position_bias_table": torch.zeros(4, 10**6)}
    torch.save(wide, tmp_path / "w.pth")
    assert "is 4x1000000 instead of 732x12" in refusal(tmp_path / "w.pth", "beit_base_patch16_224")


def test_names_reach_no_terminal_as_they_are(tmp_path: Path) -> None:
    torch.save({"\x1b[31mred\n" + "x" * 1000: torch.zeros(1)}, tmp_path / "w.pth")
    said = refusal(tmp_path / "w.pth")
    assert "?[31mred?" in said
    assert "\x1b" not in said


def test_the_largest_checkpoints_of_training_stay_within_the_bounds(tmp_path: Path) -> None:
    """A state, its average and two moments of an optimizer, as many as the deepest models have."""
    weights = {f"blocks.{i}.attn.qkv.weight": torch.zeros(1) for i in range(3000)}
    moments = {
        i: {"step": torch.zeros(()), "exp_avg": torch.zeros(1), "exp_avg_sq": torch.zeros(1)} for i in range(3000)
    }
    groups = [{"lr": 1e-3, "betas": (0.9, 0.999), "params": list(range(3000))}]
    torch.save(
        {"model": weights, "model_ema": weights, "optimizer": {"state": moments, "param_groups": groups}},
        tmp_path / "w.pth",
    )
    assert len(weight_files.read(tmp_path / "w.pth")) == 3000


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x02", b"\x80\x02}h\x05.", b"\x80\x02ss.", b"\x80\x02t.", b"\x80\x02\x85."]
)
def test_damaged_pickles(content: bytes) -> None:
    with pytest.raises(pickles.PickleError, match="damaged"):
        pickles.check(io.BytesIO(content))
