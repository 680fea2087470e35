"""How far the work on a page is, with a way to stop it."""

import time
from collections.abc import Sequence

import streamlit as st

from dashboard.compute import results
from dashboard.compute.asking import Outcome, visitor
from dashboard.compute.jobs import Job
from dashboard.compute.requests import Request
from dashboard.draw.palette import number

STAGES = {"": "starting", "download": "downloading weights", "build": "loading"}
POLL = 0.4
REDRAW = 0.8
EASY_CROWD = 5
"""Visitors who can wait at once before each of them is served more slowly."""


def show(outcome: Outcome, *, part: str = "") -> None:
    """Say how far the work is, with a way to stop it, or to try again what failed; nothing when all is there.

    Args:
        outcome: what was asked for.
        part: names the part of the page that asked, where another part shows its own progress.
    """
    suffix = f"-{part}" if part else ""
    if outcome.jobs:
        crowd = results.store().jobs.visitors()
        st.fragment(_live, run_every=POLL * max(1.0, crowd / EASY_CROWD))(outcome, suffix, time.monotonic())
    elif outcome.failures:
        stopped = all(failure.stopped for failure in outcome.failures)
        label = "Compute" if stopped else "Try again"
        st.button(label, on_click=_again, args=(outcome.missing,), key=f"try_again{suffix}")


def _live(outcome: Outcome, suffix: str, drawn: float) -> None:
    """The progress. The page is drawn again when all is done, before that at most once a pause.

    The pause grows with the number of those who wait, as drawing their pages takes what their results need.
    """
    ended = [job for job in outcome.jobs if job.finished.is_set()]
    pause = REDRAW * max(1.0, results.store().jobs.visitors() / EASY_CROWD)
    if len(ended) == len(outcome.jobs) or (ended and time.monotonic() - drawn >= pause):
        st.rerun()
    job = next((job for job in outcome.jobs if job.state == "running"), outcome.jobs[0])
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(job.fraction or 0.0, describe(job, len(outcome.jobs)))
        st.button("Stop", on_click=_stop, args=(outcome,), key=f"stop{suffix}", type="tertiary")


def describe(job: Job, jobs: int) -> str:
    """One line: what is being done, how far it is, and how long it will take."""
    place = results.store().jobs.place(job)
    if place:
        return f"{job.label}: waiting, place {place} in the queue"
    parts = [f"{job.label}: {STAGES.get(job.stage, job.stage)}"]
    if job.total and job.stage == "download":
        parts.append(f"{number(job.done / 1e6)} of {number(job.total / 1e6)} MB")
    elif job.total and job.total > 1:
        parts.append(f"{job.done} of {job.total}")
    if job.seconds_left is not None and job.seconds_left >= 1:
        parts.append(f"about {job.seconds_left:.0f} s left")
    if jobs > 1:
        parts.append(f"{jobs - 1} more to go")
    return " · ".join(parts)


def _stop(outcome: Outcome) -> None:
    for job in outcome.jobs:
        results.store().jobs.leave(job, visitor())
    st.session_state["stopped"] = frozenset(outcome.missing)


def _again(requests: Sequence[Request]) -> None:
    st.session_state["stopped"] = frozenset()
    results.store().forget_failures(requests)
