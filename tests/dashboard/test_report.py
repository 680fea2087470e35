"""The report of a run as text: all that a file says is escaped, and the page forbids itself what is not its own."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import xarray as xr

from dashboard import report as command
from dashboard.runs import report, run
from probes.core import output

HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)"


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.handlers = [], []

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def manifest():
    return {
        "format": 1,
        "asked": {"images": [HOSTILE], "limit": None, "parameters": [HOSTILE], "dtype": "auto", "device": "auto",
                  "image_size": None, "versions": {HOSTILE: HOSTILE}},
        "models": {"a": {"model": HOSTILE, "architecture": HOSTILE, "weights_sha256": HOSTILE, "input_size": [8, 8],
                         "dtype": HOSTILE}},
        "probes": {"token-norm": {"title": HOSTILE, "parameters": {HOSTILE: HOSTILE}}},
        "images": [{"name": HOSTILE, "file": None}, {"name": HOSTILE, "file": None, "skipped": HOSTILE}],
        "device": HOSTILE, "finished": "2026-01-01T00:00:00", "seconds": 1, "resumed_after": 0,
    }  # fmt: skip


@pytest.fixture
def hostile(tmp_path):
    attrs = {"units": HOSTILE, "long_name": HOSTILE}
    dataset = xr.Dataset(
        {"norm": (("layer",), np.arange(3.0), attrs), "one": ((), 1.0, attrs), "map": (("y", "x"), np.eye(3), attrs)}
        | {"none": (("y", "x"), np.full((3, 3), np.nan), attrs)},
        attrs={"n": 1},
    )
    none = xr.Dataset(attrs={"undefined": HOSTILE})
    output.write(
        tmp_path / "h.zarr", {"token-norm": {"a": dataset, "<img onerror=alert(3)>": dataset, "c": none}}, manifest()
    )
    return tmp_path / "h.zarr"


def test_nothing_of_a_file_becomes_markup(hostile):
    page = report.html(run.opened(hostile))
    tags = Tags()
    body = page[page.index("<body>") : page.index("<script>", page.index("</main>"))]
    tags.feed(body)
    assert tags.handlers == []
    assert not {"img", "iframe", "object", "a href"} & set(tags.found)
    data = re.findall(r"<script type=\"application/json\"[^>]*>(.*?)</script>", body, re.DOTALL)
    assert len(data) == tags.found.count("script") == 3
    for figure in data:
        assert "<" not in figure
        json.loads(figure)
        assert "<img" not in json.loads(figure)["layout"]["yaxis"]["title"]["text"], "Plotly reads some tags, too"
    assert "&lt;img src=x" in body
    assert "no value of" in body, "a picture of which nothing is known is said to be left out"
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "'unsafe-inline'" not in policy.split(";")[1]


def test_a_report_says_what_it_leaves_out_and_stays_small(tmp_path):
    values = np.random.default_rng(0).random((40, 2, 6, 6)).astype(np.float32)
    dims = ("image", "layer", "y", "x")
    many = xr.Dataset({"norm": (dims, values, {"units": "1"}), "high": (dims, values > 0.5, {"units": "yes or no"})})
    output.write(tmp_path / "many.zarr", {"attention-maps": {"a": many.assign_attrs(n=40)}})
    page = report.html(run.opened(tmp_path / "many.zarr"))
    assert page.count('data-of="figure-') == 6, "three examples of each of the two"
    assert "all but 3 of 40 images" in page
    assert "every layer but the last" in page
    assert len(page) < 6_000_000


def test_the_command_writes_the_page_and_meets_nonsense_with_a_line(hostile, tmp_path, capsys):
    assert command.main([str(hostile), "--out", str(tmp_path / "r.html")]) == 0
    assert (tmp_path / "r.html").read_text().startswith("<!DOCTYPE html>")
    assert command.main([str(tmp_path), "--out", str(tmp_path / "s.html")]) == 2
    assert command.main([str(hostile), "--out", str(tmp_path / "no" / "s.html")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert "is not a result of" in told[1]
    assert "cannot be written" in told[2]
