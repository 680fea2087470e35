"""What is written, what is replaced, and what is never touched."""

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from probes.core import output
from probes.core.command import main


def results(value: float = 1.0) -> dict[str, dict[str, xr.Dataset]]:
    maps = xr.Dataset(
        {"attention": (("image", "layer"), np.full((2, 3), value, np.float16))},
        coords={"image": [0, 1], "image_name": ("image", ["a.png", "ä.png"])},
        attrs={"dtype": "float32"},
    )
    return {"attention-maps": {"a": maps, "b 1.2": maps}, "cka": {"a+b 1.2": xr.Dataset(attrs={"undefined": "why"})}}


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_every_group_is_read_by_itself_and_with_the_tree(tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    output.write(out, results(0.5))
    for label in ("a", "b 1.2"):
        found = xr.open_zarr(out, group=f"attention-maps/{label}").load()
        assert found.attention.dtype == np.float32
        assert (found.attention == 0.5).all()
        assert found.image_name.values.tolist() == ["a.png", "ä.png"]
        assert found.attrs["probe"] == "attention-maps"
    assert xr.open_zarr(out, group="cka/a+b 1.2").attrs["undefined"] == "why"
    assert set(xr.open_datatree(out, engine="zarr").groups) >= {"/attention-maps/a", "/cka/a+b 1.2"}
    assert output.not_ours(out) is None
    output.write(out, results(0.25))
    assert (xr.open_zarr(out, group="attention-maps/a").attention == 0.25).all()
    assert names(tmp_path) == ["out.zarr"]


def note(out: Path) -> Path:
    (out / "notes.txt").write_text("precious")
    return out / "notes.txt"


def foreign_group(out: Path) -> Path:
    zarr.open_group(str(out / "attention-maps" / "mine"), mode="w", zarr_format=2)
    return out / "attention-maps" / "mine"


def foreign_array(out: Path) -> Path:
    xr.Dataset({"x": ("i", [1.0])}).to_zarr(out, group="mine", mode="a", zarr_format=2, consolidated=False)
    return out / "mine"


def file_among_chunks(out: Path) -> Path:
    (out / "attention-maps" / "a" / "attention" / "notes").write_text("precious")
    return out / "attention-maps" / "a" / "attention" / "notes"


def link_inside(out: Path) -> Path:
    (out / "attention-maps" / "elsewhere").symlink_to(out.parent)
    return out / "attention-maps" / "elsewhere"


@pytest.mark.parametrize("add", [note, foreign_group, foreign_array, file_among_chunks, link_inside])
def test_a_result_with_something_of_a_strangers_is_kept(add: Callable[[Path], Path], tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    output.write(out, results(0.5))
    added = add(out)
    for attempt in (lambda: output.check(out), lambda: output.write(out, results(2.0))):
        with pytest.raises(output.OutputError, match="not a result of this program"):
            attempt()
    assert added.exists()
    assert (xr.open_zarr(out, group="attention-maps/a").attention == 0.5).all()
    assert names(tmp_path) == ["out.zarr"]


def test_another_programs_zarr_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "theirs.zarr"
    xr.Dataset({"x": ("i", [1.0])}).to_zarr(out, zarr_format=2)
    with pytest.raises(output.OutputError, match=r"holds x/\.zarray, which is not a result"):
        output.check(out)
    with pytest.raises(output.OutputError):
        output.write(out, results())
    assert xr.open_zarr(out).x.values.tolist() == [1.0]
    empty = tmp_path / "empty.zarr"
    zarr.open_group(str(empty), mode="w", zarr_format=2)
    with pytest.raises(output.OutputError, match="not a result"):
        output.check(empty)


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_refused_and_stays(there: bool, tmp_path: Path) -> None:
    target, out = tmp_path / "real.zarr", tmp_path / "out.zarr"
    if there:
        output.write(target, results(0.5))
    out.symlink_to(target)
    for attempt in (lambda: output.check(out), lambda: output.write(out, results(2.0))):
        with pytest.raises(output.OutputError, match=r"symbolic link to .*real\.zarr"):
            attempt()
    assert out.is_symlink()
    assert target.exists() == there


def test_what_a_killed_writer_left_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    left, living = tmp_path / ".out.zarr.0123abcd", tmp_path / ".out.zarr.89abcdef"
    others = [tmp_path / ".other.zarr.0123abcd", tmp_path / ".out.zarr.notes", tmp_path / ".outXzarr.0123abcd"]
    for folder in (left, living, *others):
        (folder / "cka").mkdir(parents=True)
        (folder / ".zgroup").write_text(json.dumps({"zarr_format": 2}))
    held = os.open(living, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    output.write(out, results())
    os.close(held)
    assert names(tmp_path) == sorted(p.name for p in (out, living, *others))
    output.write(out, results())
    assert names(tmp_path) == sorted(p.name for p in (out, *others))


def test_a_writer_that_is_killed_leaves_the_old_result(tmp_path: Path) -> None:
    """A real process, killed in the middle of writing; the next run removes what it left."""
    import signal
    import subprocess
    import sys

    out = tmp_path / "out.zarr"
    output.write(out, results(0.5))
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nimport zarr\nfrom probes.core import output\n"
        "from tests.probes.test_output import results\n"
        "zarr.consolidate_metadata = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"
        "output.write(Path(sys.argv[1]), results(2.0))\n"
    )
    root = Path(__file__).parent.parent.parent
    done = subprocess.run([sys.executable, "-c", code, str(out)], cwd=root, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 2
    assert (xr.open_zarr(out, group="attention-maps/a").attention == 0.5).all()
    output.write(out, results(0.75))
    assert names(tmp_path) == ["out.zarr"]


def test_show_heads_each_probe_on_a_line_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output.write(tmp_path / "out.zarr", results())
    assert main(["show", str(tmp_path / "out.zarr")]) == 0
    said = capsys.readouterr().out
    assert "\n\nattention-maps\n  a, n = 2\n" in said
    assert "\n\ncka\n  a+b 1.2: not defined: why\n" in said
    assert "\\" not in said
