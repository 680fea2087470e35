"""Progress is shown by every part of a page that waits, also while another part waits."""

import threading
from pathlib import Path

from streamlit.testing.v1 import AppTest

from dashboard.compute import results
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
