import threading
import weakref

import pytest

from dashboard.compute.background import Background, Failed
from dashboard.compute.jobs import Jobs, QueueFull


def blocked(jobs, visitor="a"):
    """A job that runs until the event is set, and reports all the while."""
    go, began = threading.Event(), threading.Event()

    def work(job):
        began.set()
        while not go.wait(0.01):
            job.report("waiting", 1, 4)

    job = jobs.submit("blocked", work, visitor)
    assert began.wait(5)
    return job, go


def test_a_job_reports_and_ends():
    jobs = Jobs(workers=1)
    seen = []

    def work(job):
        job.report("adding", 1, 2)
        seen.append((job.fraction, job.state))

    job = jobs.submit("sum", work, "a")
    assert job.finished.wait(5)
    assert (job.state, job.error, seen) == ("done", None, [(0.5, "running")])
    assert jobs.live() == []


def test_places_in_the_queue_count_from_one():
    jobs = Jobs(workers=1)
    first, go = blocked(jobs)
    second, third = (jobs.submit(name, lambda job: None, "a") for name in "xy")
    assert [jobs.place(job) for job in (first, second, third)] == [0, 1, 2]
    go.set()
    assert third.finished.wait(5)
    assert jobs.place(third) == 0


def test_a_running_job_stops_when_nobody_waits():
    jobs = Jobs(workers=1)
    job, _ = blocked(jobs)
    assert jobs.join(job, "b")
    jobs.leave(job, "a")
    assert job.state == "running"
    jobs.leave(job, "b")
    assert job.finished.wait(5)
    assert job.state == "cancelled"
    assert not jobs.join(job, "c")


def test_a_queued_job_is_cancelled_without_running():
    jobs = Jobs(workers=1)
    _, go = blocked(jobs)
    ran = []
    queued = jobs.submit("queued", lambda job: ran.append(1), "a")
    jobs.leave(queued, "a", only_queued=True)
    after = jobs.submit("after", lambda job: None, "a")
    go.set()
    assert after.finished.wait(5)
    assert (queued.state, ran) == ("cancelled", [])


def test_only_queued_leaves_a_running_job_alone():
    jobs = Jobs(workers=1)
    job, go = blocked(jobs)
    jobs.leave(job, "a", only_queued=True)
    go.set()
    assert job.finished.wait(5)
    assert job.state == "done"


def test_the_queue_is_bounded():
    jobs = Jobs(workers=1, most_waiting=1)
    _, go = blocked(jobs)
    jobs.submit("fits", lambda job: None, "a")
    with pytest.raises(QueueFull, match="try again"):
        jobs.submit("too many", lambda job: None, "a")
    go.set()


def test_a_failure_is_a_sentence_and_what_is_unexplained_names_its_kind(caplog):
    jobs = Jobs(workers=1, explain=lambda error: "No such model." if isinstance(error, KeyError) else None)

    def fail(error):
        def work(job):
            raise error

        return work

    known, unknown = jobs.submit("known", fail(KeyError("x")), "a"), jobs.submit("strange", fail(OSError("x")), "a")
    assert known.finished.wait(5)
    assert unknown.finished.wait(5)
    assert (known.state, known.error) == ("failed", "No such model.")
    assert unknown.error == "strange failed (OSError); the server's log says more."
    assert "strange failed" in caplog.text


def test_who_asks_for_one_thing_waits_for_one_job_of_each_other():
    jobs = Jobs(workers=1)
    order = []
    _, go = blocked(jobs, "here/greedy/0")
    many = [jobs.submit("many", lambda job, i=i: order.append(f"many {i}"), f"here/greedy/{i}") for i in range(20)]
    one = jobs.submit("one", lambda job: order.append("one"), "here/modest/0")
    assert jobs.place(one) == 1
    assert [jobs.place(job) for job in many[:2]] == [2, 3]
    go.set()
    assert many[-1].finished.wait(5)
    assert order == ["one", *(f"many {i}" for i in range(20))]


def test_a_job_that_two_wait_for_has_the_better_of_their_places():
    jobs = Jobs(workers=1)
    _, go = blocked(jobs, "a")
    first, shared = jobs.submit("first", lambda job: None, "a"), jobs.submit("shared", lambda job: None, "a")
    assert [jobs.place(job) for job in (first, shared)] == [1, 2]
    assert jobs.join(shared, "b")
    assert [jobs.place(job) for job in (first, shared)] == [2, 1]
    go.set()
    assert first.finished.wait(5)


def test_all_tabs_of_a_browser_have_one_share_and_leave_room_for_others():
    jobs = Jobs(workers=1, most_waiting=8, most_each_browser=3, most_each_address=5)
    _, go = blocked(jobs, "here/greedy/0")
    waiting = [jobs.submit("x", lambda job: None, f"here/greedy/{tab}") for tab in range(3)]
    with pytest.raises(QueueFull, match="3 computations of yours are waiting already"):
        jobs.submit("x", lambda job: None, "here/greedy/50")
    waiting += [jobs.submit("x", lambda job: None, f"here/forged-{i}/0") for i in range(2)]
    with pytest.raises(QueueFull, match="The queue is full"):
        jobs.submit("x", lambda job: None, "here/forged-9/0")
    waiting.append(jobs.submit("x", lambda job: None, "elsewhere/modest/0"))
    go.set()
    assert all(job.finished.wait(5) for job in waiting)
    assert {job.state for job in waiting} == {"done"}


class Upload:
    """Stands for what is large."""

    def read(self, job):
        raise ValueError("no image")


def test_what_a_failed_job_was_given_is_let_go():
    jobs = Jobs(workers=1, explain=str)
    kept, upload = Background(2**20, jobs), Upload()
    job = kept.fetch("key", "Images", upload.read, "a")
    assert job.finished.wait(5)
    held = weakref.ref(upload)
    del upload
    jobs.submit("next", lambda job: None, "a").finished.wait(5)  # the thread has left the first
    assert isinstance(kept.fetch("key", "Images", lambda job: None, "a"), Failed)
    assert held() is None


def test_what_a_stopped_job_was_given_is_let_go():
    jobs = Jobs(workers=1)
    _, go = blocked(jobs)
    upload = Upload()
    job = jobs.submit("Images", upload.read, "a")
    jobs.leave(job, "a")
    held = weakref.ref(upload)
    del upload
    go.set()
    assert job.state == "cancelled"
    assert held() is None
