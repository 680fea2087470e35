"""Images, some of them broken, and what an unbroken run makes of them, one shard after the other."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.core.command import main
from probes.core.runs import measure
from tests.fuzz import kills
from tests.probes.runs.breaking import COUNT


@pytest.fixture(scope="module", autouse=True)
def _small_shards() -> Iterator[None]:
    """Of 32 images, CKA's minibatch, so that few images make several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "SMALLEST", 16)
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kills.pictures(tmp_path_factory.mktemp("many") / "images", COUNT, broken=0.1)


@pytest.fixture(scope="module")
def unbroken(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "out.zarr"
    assert main([*kills.arguments(images, out), "--workers", "0"]) == 0
    return out
