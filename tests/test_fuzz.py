"""The command of hostile input runs, says its figures, and finds nothing foreign among a few."""

import re
import subprocess
import sys


def test_a_few_of_each():
    done = subprocess.run([sys.executable, "-m", "tests.fuzz", "48"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for name in ("archives", "images", "links"):
        line = next(line for line in lines if line.startswith(f"{name}: "))
        assert re.fullmatch(
            rf"{name}: \d+ tries, \d+ refused, 0 foreign exceptions, longest [\d.]+ s \(.*\), peak \d+ MB", line
        )


def test_a_foreign_exception_is_an_error(capsys, monkeypatch):
    from tests.fuzz import __main__, links

    monkeypatch.setattr(links, "read", lambda name, values: 1 / 0)
    assert __main__.run("links", 0, 3) == 3
    assert "ZeroDivisionError" in capsys.readouterr().err
