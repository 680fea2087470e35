"""The first page asks once: each image is opened once, and each model runs once over all of them."""

import json
import subprocess
import sys
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from streamlit.testing.v1 import AppTest

from dashboard.images import gallery
from probes.core import runner

HOME = str(Path(__file__).parents[2] / "dashboard" / "Home.py")


def test_the_pages_import_nothing_that_is_imported_late():
    """In a fresh process, as these tests import much themselves."""
    code = (
        "import json, sys\nfrom dashboard import navigation, starting\nnavigation.pages()\n"
        "print(json.dumps([name for name in starting.LATE if name in sys.modules]))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []


def upload(seed: int) -> str:
    """A picture that nobody has seen before."""
    pixels = np.random.default_rng([20, seed]).integers(0, 255, (80 + seed, 120, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return gallery.UPLOADS.add(buffer.getvalue(), f"{seed}.png")


def test_four_images_are_opened_once_and_four_models_run_once(settle, monkeypatch):
    images = [upload(seed) for seed in range(4)]
    opened, passes = Counter(), Counter()
    open_image, forward = gallery.open_image, runner.forward

    def opening(source, *args, **kwargs):
        if isinstance(source, bytes):  # an upload, and no sample photo for the strip
            opened[source] += 1
        return open_image(source, *args, **kwargs)

    def running(adapter, inputs, *args, **kwargs):
        passes[adapter.reference.source] += len(inputs)
        passes["calls"] += 1
        return forward(adapter, inputs, *args, **kwargs)

    monkeypatch.setattr(gallery, "open_image", opening)
    monkeypatch.setattr(runner, "forward", running)
    at = AppTest.from_file(HOME, default_timeout=60)
    at.query_params["model"] = models = [f"timm:test_vit@random:{seed}" for seed in range(201, 205)]
    at.query_params["image"] = images
    settle(at)
    assert not at.exception
    assert [error.value for error in at.error] == []
    assert "n = 4 images" in " ".join(text.value for text in at.markdown)
    assert passes.pop("calls") == 4
    assert passes == dict.fromkeys(models, 4)
    assert sorted(opened.values()) == [1, 1, 1, 1]


def test_what_was_there_before_is_not_run_again_and_what_is_missing_takes_one_pass(settle, monkeypatch):
    old, new = upload(11), upload(12)

    def opened(*images):
        at = AppTest.from_file(HOME, default_timeout=60)
        at.query_params["model"], at.query_params["image"] = ["timm:test_vit@random:205"], list(images)
        return settle(at)

    opened(old)
    ran = []
    run = runner.run

    def running(models, images, probes, **kwargs):
        ran.append((len(images), sorted(type(probe).__name__ for probe in probes.values())))
        return run(models, images, probes, **kwargs)

    monkeypatch.setattr(runner, "run", running)
    opened(old)
    assert ran == []
    at = opened(new, old)
    assert not at.exception
    # One pass: the mean over both images is new, and the new image's map rides along.
    assert ran == [(2, ["AttentionMaps", "AttentionStatistics"])]
