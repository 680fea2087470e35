"""Jobs whose passes run on a Ray cluster, as the server's PROBES_ENGINE says."""

import pickle
from collections.abc import Iterator

import numpy as np
import pytest
import xarray as xr

from dashboard.compute import work
from dashboard.compute.jobs import Cancelled, Job
from dashboard.compute.requests import Request
from dashboard.images import gallery
from probes.core import cluster
from probes.core.remote import held

MODELS = ("timm:test_vit@random:0", "timm:test_vit@random:1")
IMAGES = ("photo:coffee", *(f"scene:{number}" for number in range(3, 10)))
"""Of four of them unbiased CKA turns a change of the inputs in the last bit into one of 7e-5; of eight, into 1e-8."""
ASKED = [
    Request(MODELS, IMAGES, "cka", (("minibatch", 8),)),
    Request(MODELS, IMAGES, "attention-relevance", (("of", "scene:6"), ("target", "similarity"))),
]


@pytest.fixture(scope="module", autouse=True)
def _on_a_cluster() -> Iterator[None]:
    with cluster.connected(2, "cpu"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROBES_ENGINE", "ray")
        yield
    work.on_a_cluster.cache_clear()


class Stages(Job):
    """A job that notes what it is told."""

    def report(self, stage: str, done: int = 0, total: int | None = None) -> None:
        super().report(stage, done, total)
        self.__dict__.setdefault("told", []).append((stage, done, total))


def test_a_job_has_the_results_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Stages("models")
    found = work.compute(ASKED, job)
    assert ("computing", 0, 16) in job.__dict__["told"]
    monkeypatch.setenv("PROBES_ENGINE", "local")
    for there, here in zip(found, work.compute(ASKED, Job("models")), strict=True):
        assert there.specs == here.specs
        assert there.datasets.keys() == here.datasets.keys()
        assert len(there.datasets) > 1
        for label, dataset in here.datasets.items():
            xr.testing.assert_allclose(there.datasets[label], dataset, rtol=1e-5, atol=1e-6)
            assert there.datasets[label].attrs == dataset.attrs


def test_a_job_that_nobody_waits_for_stops_and_the_worker_takes_the_next() -> None:
    job = Job("models")
    asked = Request(MODELS[:1], tuple(f"scene:{number}" for number in range(200)), "attention-statistics")
    report = job.report

    def report_once(stage: str, done: int = 0, total: int | None = None) -> None:
        report(stage, done, total)
        if stage == "computing":
            job._cancel.set()

    job.report = report_once  # type: ignore[method-assign]
    with pytest.raises(Cancelled):
        work.compute([asked], job)
    assert job.done < 200
    assert work.compute([ASKED[1]], Job("models"))[0].datasets


def test_a_setting_that_is_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBES_ENGINE", "dask")
    with pytest.raises(ValueError, match="must be local or ray") as caught:
        work.compute(ASKED, Job("models"))
    assert work.explain(caught.value)


def test_an_image_takes_its_mask_and_its_class_along() -> None:
    scene = gallery.source("scene:1")
    there = pickle.loads(pickle.dumps(held(scene)))
    assert there.label() == scene.label()
    np.testing.assert_array_equal(there.mask(), scene.mask())
    np.testing.assert_array_equal(np.asarray(there.open()), np.asarray(scene.open()))
    assert held(gallery.source("photo:coffee")).label is None
