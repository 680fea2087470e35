import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from model_zoo.__main__ import main
from model_zoo.catalog import CATALOG

ROOT = Path(__file__).parents[2]
FACTS = [
    "key",
    "family",
    "objective",
    "weights",
    "parameters",
    "patch",
    "input_size",
    "prefix_tokens",
    "licence",
    "paper",
]


def test_the_catalog_as_json_keeps_its_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    models = json.loads(capsys.readouterr().out)
    assert [model["key"] for model in models] == list(CATALOG)
    assert all(list(model) == FACTS for model in models)
    dino = next(model for model in models if model["key"] == "dino-s8")
    assert dino["input_size"] == [224, 224]
    assert dino["patch"] == 8


def test_the_catalog_as_a_table_has_a_line_for_every_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(CATALOG) + 1


@pytest.mark.parametrize("arguments", [[], ["lst"], ["list", "--yaml"]])
def test_bad_arguments_are_told_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    assert leaving.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_listing_imports_neither_torch_nor_timm() -> None:
    code = "import sys; from model_zoo.__main__ import main; main(['list']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_the_other_commands_are_reached(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main([command, "--help"])
    assert leaving.value.code == 0
    assert "--" in capsys.readouterr().out


WORK = """
import sys
from pathlib import Path
from model_zoo.command_line import leave
from probes.core.runs.progress import Progress

def main():
    progress = Progress()
    for step in range(20_000):
        progress.say("on stderr " * 9)
        print("on stdout " * 9, flush=step % 100 == 0)
    Path(sys.argv[1]).write_text("whole")
    return 3

leave(main)
"""


def worked(done: Path, **streams: int) -> int:
    """Exit code of a command that writes much to both streams and then its result."""
    return subprocess.run([sys.executable, "-c", WORK, done], cwd=ROOT, timeout=60, check=False, **streams).returncode


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_work_goes_on_when_nobody_reads_what_it_says(closed: str, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | {closed: write}
        assert worked(tmp_path / "result", **streams) == 3
    finally:
        os.close(write)
    assert (tmp_path / "result").read_text() == "whole"


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-"])
def test_work_goes_on_without_streams(closed: str, tmp_path: Path) -> None:
    command = f'exec "$0" -c "$1" "$2" {closed}'
    words = ["sh", "-c", command, sys.executable, WORK, str(tmp_path / "result")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert (tmp_path / "result").read_text() == "whole"
    assert "on stderr" not in done.stdout


def test_a_list_that_is_not_read_to_its_end_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "model_zoo", "list"]
    done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
