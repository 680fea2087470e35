"""The guides are true: their code runs, every probe is shown somewhere, and the picture of the imports is today's."""

import ast
import importlib
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import dashboard.views
import probes
from model_zoo.images import ImageSource
from probes.core.runner import run
from tests.probes.families import noise, peaked

ROOT = Path(__file__).parents[2]
UNSHOWN: dict[str, str] = {}
"""Probes without a view, and why."""


def code(guide: str) -> str:
    """The first Python block of a guide."""
    return re.search(r"```python\n(.*?)```", (ROOT / "docs" / guide).read_text(encoding="utf-8"), re.DOTALL)[1]


@pytest.fixture
def guided(tmp_path, monkeypatch):
    """The probe and the view of the guides, where the finders look."""
    for package, guide in ((probes, "adding-a-probe.md"), (dashboard.views, "adding-a-view.md")):
        folder = tmp_path / package.__name__
        folder.mkdir()
        (folder / "central_mass.py").write_text(code(guide), encoding="utf-8")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    importlib.invalidate_caches()
    yield
    for name in ("probes.central_mass", "dashboard.views.central_mass"):
        sys.modules.pop(name, None)


def test_the_guides_probe_is_found_and_measures_what_its_formula_says(guided):
    assert "central-mass" in probes.available()
    adapter = peaked("vit_tiny_patch16_224")
    adapter.module.float()
    images = [ImageSource(f"{i}", partial(noise(3).__getitem__, i)) for i in range(3)]
    chosen = {"central-mass": probes.load("central-mass")(), "maps": probes.load("attention-maps")()}
    result = run({"a": adapter}, images, chosen, batch_size=2)
    maps = result["maps"]["a"]["attention"].values.astype(np.float64)
    rows, columns = maps.shape[-2:]
    middle = maps[
        ...,
        [r for r in range(rows) if abs(r - (rows - 1) / 2) < rows / 4],
        :,
    ][..., [c for c in range(columns) if abs(c - (columns - 1) / 2) < columns / 4]]
    expected = middle.sum((-1, -2))
    found = result["central-mass"]["a"]
    np.testing.assert_allclose(found["mass"], expected.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found["mass_sem"], expected.std(0, ddof=1) / 3**0.5, rtol=1e-4)
    assert found.attrs["n"] == 3


def test_the_guides_probe_refuses_a_share_that_makes_no_sense(guided):
    with pytest.raises(ValueError, match="must be above 0"):
        probes.load("central-mass")(share=0.0)


def test_the_guides_view_is_drawn(guided, settle):
    def script():
        import streamlit as st

        from dashboard import view
        from dashboard.state import link
        from dashboard.views import central_mass

        link.begin()
        view.draw(central_mass.VIEW)
        link.publish()
        st.session_state["drawn"] = True

    at = AppTest.from_function(script, default_timeout=60)
    at.query_params["model"] = ["timm:test_vit@random:0", "timm:test_vit2@random:0"]
    at.query_params["image"] = ["photo:coffee"]
    at = settle(at)
    assert not at.exception
    assert [error.value for error in at.error] == []
    assert at.title[0].value == "Does attention go to the middle?"
    assert at.get("plotly_chart"), "the chart of the guide's probe is drawn"
    assert any("n = 1 image" in text.value for text in at.markdown)


def test_every_probe_is_shown_by_a_page_or_says_why_not():
    shown = set()
    for path in (ROOT / "dashboard" / "views").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        shown |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    unshown = [name for name in probes.available() if name not in shown]
    assert unshown == sorted(UNSHOWN)


def test_the_picture_of_the_imports_is_todays():
    done = subprocess.run(
        [sys.executable, "-m", "scripts.architecture", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_links_between_the_documents_lead_somewhere():
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name} points to {target}"
