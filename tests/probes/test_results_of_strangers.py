"""A result that someone else made is opened without running anything in it and without reading outside of it."""

import json
import pickle
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from probes.core import output
from probes.core.command import main
from probes.core.output import OutputError
from probes.core.runs import under_way
from probes.core.runs.summary import opened

ARRAY = Path("token-norm") / "a" / "norm"


class Harm:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.fixture
def out(tmp_path):
    path = tmp_path / "given.zarr"
    output.write(path, {"token-norm": {"a": xr.Dataset({"norm": (("layer",), np.arange(4.0), {"units": "1"})})}})
    assert dict(opened(path))["token-norm/a"]["norm"].values.tolist() == [0, 1, 2, 3]
    return path


def described(out, **changes):
    file = out / ARRAY / ".zarray"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_pickle_is_not_opened(out, tmp_path, capsys):
    touched = tmp_path / "touched"
    described(out, dtype="|O", filters=[{"id": "pickle", "protocol": 5}], compressor=None)
    (out / ARRAY / "0").write_bytes(pickle.dumps([Harm(touched), (4,)]))
    for metadata in out.rglob(".zmetadata"):
        metadata.unlink()
    with pytest.raises(OutputError, match="something else than numbers and text"):
        dict(opened(out))
    assert main(["show", str(out)]) == 2
    assert "something else than numbers" in capsys.readouterr().err
    assert not touched.exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"filters": [{"id": "pickle"}]}, "a filter that this program does not use"),
        ({"compressor": {"id": "zlib", "level": 1}}, "a filter that this program does not use"),
        ({"compressor": "blosc"}, "a filter that this program does not use"),
        ({"dtype": [["x", "|O"]]}, "something else than numbers and text"),
        ({"chunks": [2**40]}, "chunks that this program would not write"),
        ({"chunks": [0]}, "chunks that this program would not write"),
        ({"shape": "all"}, "has no shape"),
        ({"zarr_format": 3}, "not described as an array of zarr 2"),
    ],
)
def test_what_this_program_does_not_write_is_not_opened(out, changes, told):
    described(out, **changes)
    with pytest.raises(OutputError, match=told):
        dict(opened(out))


def test_a_chunk_that_unfolds_to_more_than_its_array_is_not_read(out):
    chunk = out / ARRAY / "0"
    head = bytearray(chunk.read_bytes())
    head[4:8] = struct.pack("<I", 2**31 - 1)
    chunk.write_bytes(head)
    with pytest.raises(OutputError, match="is damaged"):
        dict(opened(out))


def test_links_are_not_followed(out, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"x" * 32)
    described(out, compressor=None)
    (out / ARRAY / "0").unlink()
    (out / ARRAY / "0").symlink_to(secret)
    with pytest.raises(OutputError, match="is a link"):
        dict(opened(out))


def test_the_summary_of_the_arrays_is_not_believed(out):
    """A `.zmetadata` that describes other arrays than those that were looked at changes nothing."""
    for file in out.rglob(".zmetadata"):
        file.write_text(file.read_text().replace('"<f8"', '"|O"'))
    assert dict(opened(out))["token-norm/a"]["norm"].values.tolist() == [0, 1, 2, 3]


def test_a_shard_of_a_run_under_way_makes_no_object(tmp_path):
    folder = tmp_path / ".late.zarr.run"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"asked": {}, "names": ["a"] * 9}))
    sys.modules.pop("probes.__main__", None)
    about = {"dict": [["shard", {"class": "probes.__main__:Run", "fields": {"stop": 3}}]]}
    np.savez(folder / "0-000000.npz", **{"about.json": np.frombuffer(json.dumps(about).encode(), np.uint8)})
    found = under_way.find(tmp_path / "late.zarr")
    assert (found.done, found.images) == (3, 9)
    assert "probes.__main__" not in sys.modules
    for nonsense in (b"", b"PK nothing", json.dumps(about).encode()):
        (folder / "0-000001.npz").write_bytes(nonsense)
        assert under_way.find(tmp_path / "late.zarr").done == 0
