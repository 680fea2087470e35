import json
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
