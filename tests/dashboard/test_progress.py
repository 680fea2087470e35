"""Progress is shown by every part of a page that waits, also while another part waits."""

import threading
from dataclasses import replace
from pathlib import Path

from streamlit.testing.v1 import AppTest

from dashboard.compute import asking, results
from dashboard.compute.asking import ModelResult
from dashboard.compute.jobs import Job
from dashboard.draw import panels
from tests.dashboard.turning import turn_to

HOME = str(Path(__file__).parents[2] / "dashboard" / "Home.py")
READY, COMING = "timm:test_vit@random:0", "timm:test_vit@random:77"


def opened(models):
    at = AppTest.from_file(HOME, default_timeout=60)
    at.query_params["model"] = models
    at.query_params["image"] = ["photo:coffee"]
    turn_to(at, "distance")
    return at


def test_distance_waits_for_another_model_and_for_the_map_of_a_head_at_once(settle):
    settle(opened([READY]))
    go, began = threading.Event(), threading.Barrier(3)

    def work(job):
        began.wait(30)
        assert go.wait(60)

    jobs = results.store().jobs
    blocked = [jobs.submit("blocked", work, f"blocker-{i}") for i in range(2)]  # as many as there are workers
    began.wait(30)
    try:
        at = opened([READY, COMING])
        at.query_params["at"] = ["0.9,0.9"]  # a map that nobody has asked for yet
        at.run()
        assert not at.exception
        assert [error.value for error in at.error] == []
        stops = {button.key for button in at.button if button.label == "Stop"}
        assert stops == {"stop", "stop-head"}
    finally:
        go.set()
    assert all(job.finished.wait(30) for job in blocked)


def test_a_model_that_must_be_loaded_is_waited_for_by_nobody_and_says_what_it_is_at(settle, monkeypatch):
    settle(opened([READY]))
    patience = {}
    fetch = results.Results.fetch

    def fetching(self, requests, visitor, seconds=0.0):
        for model in {model for request in requests for model in request.models}:
            patience.setdefault(model, seconds)  # the first time: it may be loaded by the second
        return fetch(self, requests, visitor, seconds)

    monkeypatch.setattr(results.Results, "fetch", fetching)
    settle(opened([READY]))
    assert patience == {READY: asking.PATIENCE}
    new = "timm:test_vit@random:78"
    opened([READY, new]).run()
    assert patience[new] == 0


def test_a_panel_says_what_its_model_is_at():
    job = Job("DINO", state="running", stage="build")
    model = ModelResult("dino-s16", "DINO", "#0072B2", None, (), {}, waiting=True, job=job)
    assert panels.pending(model).message == "loading 22 M parameters …"
    assert panels.pending(replace(model, model=READY)).message == "loading …"
    job.report("computing", 1, 4)
    assert panels.pending(model).message == "computing …"
    assert panels.pending(model).waiting
