"""How far the work on a page is, with a way to stop it."""

import time
from collections.abc import Callable, Sequence

import streamlit as st

from dashboard.compute import asking, results
from dashboard.compute.asking import Outcome, visitor
from dashboard.compute.jobs import Job
from dashboard.compute.requests import Request
from dashboard.draw.frame import themed
from dashboard.draw.palette import number

STAGES = {"": "starting", "download": "downloading weights", "build": "loading"}
POLL = 0.4
REDRAW = 0.8
_STYLE = """<style>
.st-key-progress { position: fixed; top: 3.6rem; right: 2.5rem; width: min(40rem, 55vw); z-index: 99; gap: 0;
  padding: 0 0.9rem 0.4rem; border: 1px solid BORDER; border-radius: 0.375rem;
  background: GROUND; box-shadow: 0 2px 8px rgb(0 0 0 / 12%) }
.st-key-progress:not(:has([data-testid=stProgress])) { display: none }
@media (min-width: 641px) {
  .st-key-progress [data-testid=stProgress] p { white-space: nowrap; overflow: hidden; text-overflow: ellipsis }
}
@media (max-width: 640px) { .st-key-progress { top: auto; bottom: 0.75rem; right: 1rem; width: calc(100vw - 2rem) } }
</style>"""
EASY_CROWD = 5
"""Visitors who can wait at once before each of them is served more slowly."""


def show(outcome: Outcome, *, part: str = "") -> None:
    """Say how far the work is, with a way to stop it, or to try again what failed; nothing when all is there.

    It lies over the corner above the title, so that it is seen wherever one has scrolled and nothing moves when it
    goes; a part's progress stands in the part.

    Args:
        outcome: what was asked for.
        part: names the part of the page that asked, where another part shows its own progress.
    """
    suffix = f"-{part}" if part else ""
    if outcome.jobs:
        crowd = results.store().jobs.visitors()
        phases = [asking.phase(job) for job in outcome.jobs]
        with st.container(key=f"progress{suffix}"):
            st.html(_STYLE.replace("GROUND", themed("backgroundColor")).replace("BORDER", themed("borderColor")))
            polled = st.fragment(_live, run_every=POLL * max(1.0, crowd / EASY_CROWD))
            polled(outcome, suffix, phases, time.monotonic())
    elif outcome.failures:
        stopped = all(failure.stopped for failure in outcome.failures)
        label = "Compute" if stopped else "Try again"
        st.button(label, on_click=_again, args=(outcome.missing,), key=f"try_again{suffix}")


def _live(outcome: Outcome, suffix: str, phases: Sequence[str], drawn: float) -> None:
    """The progress. The page is drawn again when all is done, before that at most once a pause when there is news.

    The pause grows with the number of those who wait, as drawing their pages takes what their results need.
    """
    ended = [job for job in outcome.jobs if job.finished.is_set()]
    pause = REDRAW * max(1.0, results.store().jobs.visitors() / EASY_CROWD)
    news = bool(ended) or [asking.phase(job) for job in outcome.jobs] != phases
    if len(ended) == len(outcome.jobs) or (news and time.monotonic() - drawn >= pause):
        st.rerun()
    job = next((job for job in outcome.jobs if job.state == "running"), outcome.jobs[0])
    _line(job, len(outcome.jobs), f"stop{suffix}", lambda: _stop(outcome))


def watch(job: Job, *, part: str) -> None:
    """Say how far one job is, with a way to stop it, until it has ended; then the page is drawn again.

    Args:
        job: what is waited for.
        part: names the part of the page that waits.
    """
    st.fragment(_watched, run_every=POLL)(job, part)


def _watched(job: Job, part: str) -> None:
    if job.finished.is_set():
        st.rerun()
    _line(job, 1, f"stop-{part}", lambda: results.store().jobs.leave(job, visitor()))


def _line(job: Job, jobs: int, key: str, stop: Callable[[], None]) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(job.fraction or 0.0, describe(job, jobs))
        st.button("Stop", on_click=stop, key=key, type="tertiary")


def describe(job: Job, jobs: int) -> str:
    """One line: what is being done, how far it is, and how long it will take."""
    place = results.store().jobs.place(job)
    if place:
        return f"{job.label}: waiting, place {place} in the queue"
    parts = [f"{job.label}: {STAGES.get(job.stage, job.stage)}"]
    if job.total and job.stage == "download":
        parts.append(f"{number(job.done / 1e6)} of {number(job.total / 1e6)} MB")
    elif job.total and job.total > 1:
        parts.append(f"{int(job.done)} of {job.total}")
    if job.seconds_left is not None and job.seconds_left >= 1:
        parts.append(f"about {job.seconds_left:.0f} s left")
    if jobs > 1:
        parts.append(f"{jobs - 1} more to go")
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """What something will take, as roughly as it is known."""
    if seconds < 5:
        return "a few seconds"
    return f"about {seconds:.0f} s" if seconds < 90 else f"about {seconds / 60:.0f} min"


def _stop(outcome: Outcome) -> None:
    for job in outcome.jobs:
        results.store().jobs.leave(job, visitor())
    st.session_state["stopped"] = frozenset(outcome.missing)


def _again(requests: Sequence[Request]) -> None:
    st.session_state["stopped"] = frozenset()
    results.store().forget_failures(requests)
