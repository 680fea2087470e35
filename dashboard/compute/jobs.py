"""Slow work off the script thread: a queue shared by the whole process, with progress, ETA, queue place and cancel.

Nothing here knows Streamlit; a worker must never call it.
"""

import itertools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

State = Literal["queued", "running", "done", "failed", "cancelled"]
Sentence = Callable[[BaseException], str | None]

_log = logging.getLogger(__name__)
_order = itertools.count(1)


class Cancelled(Exception):  # noqa: N818 - it is not an error
    """Raised inside a job when nobody waits for it any more."""


class QueueFull(RuntimeError):  # noqa: N818 - reads as what it says
    """More work is waiting than the queue takes; the message is one sentence for the user."""


@dataclass(eq=False)
class Job:
    """One piece of slow work.

    Attributes:
        label: what it does, for a person.
        stage: what it is doing right now.
        done: units of the present stage that are finished.
        total: units of the present stage, None while unknown.
        state: where it stands.
        error: one sentence when it failed.
        waiting: who wants the result; a job that nobody waits for is cancelled.
        left: who stopped waiting by choice.
    """

    label: str
    stage: str = ""
    done: int = 0
    total: int | None = None
    state: State = "queued"
    error: str | None = None
    waiting: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    number: int = field(default_factory=lambda: next(_order))
    finished: threading.Event = field(default_factory=threading.Event)
    _cancel: threading.Event = field(default_factory=threading.Event)
    _stage_began: float = 0.0

    def report(self, stage: str, done: int = 0, total: int | None = None) -> None:
        """Called by the work: says how far it is, and stops it when it was cancelled.

        Raises:
            Cancelled: nobody waits for the result any more.
        """
        if self._cancel.is_set():
            raise Cancelled
        if stage != self.stage:
            self.stage, self._stage_began = stage, time.monotonic()
        self.done, self.total = done, total

    @property
    def live(self) -> bool:
        """Queued or running."""
        return self.state in ("queued", "running")

    @property
    def fraction(self) -> float | None:
        """Part of the present stage that is done, 0 to 1; None while its size is unknown."""
        return min(self.done / self.total, 1.0) if self.total else None

    @property
    def seconds_left(self) -> float | None:
        """What is left of the present stage at its rate so far; None before there is a rate."""
        if self.state != "running" or not self.total or not self.done:
            return None
        return (time.monotonic() - self._stage_began) / self.done * max(self.total - self.done, 0)


class Jobs:
    """A bounded queue of jobs and the threads that work it off.

    Args:
        workers: how many run at once.
        most_waiting: how many may wait before ``submit`` refuses.
        explain: turns an exception into a sentence for the user, or None where it has none.
    """

    def __init__(self, workers: int = 2, most_waiting: int = 64, explain: Sentence = lambda error: None) -> None:
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="job")
        self._most_waiting = most_waiting
        self._explain = explain
        self._live: list[Job] = []
        self._lock = threading.RLock()

    def submit(self, label: str, work: Callable[[Job], None], visitor: str) -> Job:
        """Queue work. It runs in another thread and reports through the job it is given.

        Raises:
            QueueFull: too much is waiting already.
        """
        job = Job(label, waiting={visitor})
        with self._lock:
            if sum(other.state == "queued" for other in self._live) >= self._most_waiting:
                raise QueueFull("The queue is full because many computations are waiting: try again in a minute.")
            self._live.append(job)
        self._executor.submit(self._run, job, work)
        return job

    def place(self, job: Job) -> int:
        """Place in the queue: 1 is next, 0 means it is not waiting."""
        with self._lock:
            waiting = [other for other in self._live if other.state == "queued"]
        return waiting.index(job) + 1 if job in waiting else 0

    def leave(self, job: Job, visitor: str, *, only_queued: bool = False) -> None:
        """This visitor waits for the job no longer; when nobody does it is cancelled."""
        with self._lock:
            if only_queued and job.state != "queued":
                return
            job.waiting.discard(visitor)
            if not only_queued:
                job.left.add(visitor)
            if job.live and not job.waiting:
                job._cancel.set()
                if job.state == "queued":
                    self._end(job, "cancelled")

    def join(self, job: Job, visitor: str) -> bool:
        """This visitor waits for the job, too. False when the job is already being cancelled."""
        with self._lock:
            if not job.live or job._cancel.is_set():
                return False
            job.waiting.add(visitor)
            job.left.discard(visitor)
            return True

    def live(self, visitor: str | None = None) -> list[Job]:
        """Jobs that are queued or running, all or one visitor's, oldest first."""
        with self._lock:
            return [job for job in self._live if visitor is None or visitor in job.waiting]

    def _run(self, job: Job, work: Callable[[Job], None]) -> None:
        with self._lock:
            if job.state != "queued":
                return
            job.state, job._stage_began = "running", time.monotonic()
        try:
            work(job)
        except Cancelled:
            self._end(job, "cancelled")
        except BaseException as error:  # whatever it was, the user gets a sentence and the log the rest
            sentence = self._explain(error)
            if sentence is None:
                _log.exception("%s failed", job.label)
                sentence = f"{job.label} failed ({type(error).__name__}); the server's log says more."
            job.error = sentence
            self._end(job, "failed")
        else:
            self._end(job, "done")

    def _end(self, job: Job, state: State) -> None:
        with self._lock:
            job.state = state
            self._live = [other for other in self._live if other is not job]
        job.finished.set()
