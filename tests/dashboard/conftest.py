import pytest

from dashboard.compute import results
from dashboard.views.video import filming

TINY = ("timm:test_vit@random:0", "timm:test_vit@random:1")


@pytest.fixture
def settle():
    """Run an AppTest until no job of the process is left, as a browser would by polling."""

    def run(at):
        at.run()
        for _ in range(20):
            live = [*results.store().jobs.live(), *filming.films().jobs.live()]
            for job in live:
                assert job.finished.wait(60), f"{job.label} did not end"
            at.run()
            if not live:  # else a job may have ended after the page was drawn and before it was asked for
                break
        return at

    return run
