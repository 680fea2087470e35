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

from dashboard.state.visitors import address, browser

State = Literal["queued", "running", "done", "failed", "cancelled"]
Sentence = Callable[[BaseException], str | None]

MOST_WAITING = 256
MOST_EACH_BROWSER = 48
MOST_EACH_ADDRESS = 128

_log = logging.getLogger(__name__)
_order = itertools.count(1)


class Cancelled(Exception):  # noqa: N818 - it is not an error
    """Raised inside a job when nobody waits for it any more."""


class QueueFull(RuntimeError):  # noqa: N818 - reads as what it says
    """More work is waiting than the queue takes; the message is one sentence for the user."""


def _nothing(job: "Job") -> None:
    pass


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
        visitor: who asked first.
        turn: jobs of an earlier turn are done first.
        work: what is done; nothing more once it has ended.
    """

    label: str
    stage: str = ""
    done: float = 0
    total: int | None = None
    state: State = "queued"
    error: str | None = None
    waiting: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    visitor: str = ""
    turn: int = 0
    work: Callable[["Job"], None] = field(default=_nothing, repr=False)
    number: int = field(default_factory=lambda: next(_order))
    finished: threading.Event = field(default_factory=threading.Event)
    _cancel: threading.Event = field(default_factory=threading.Event)
    _stage_began: float = 0.0

    def report(self, stage: str, done: float = 0, total: int | None = None) -> None:
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
    """A bounded queue of jobs and the threads that work it off in turns, one job of each browser a turn.

    A job gets the turn after the last of its browser's jobs, and the present turn if there are none: start-time fair
    queueing (Goyal, Vin and Cheng 1996) with jobs of equal length. So who asks for one thing waits for at most one
    more job of each other, however many those have.

    Args:
        workers: how many run at once.
        most_waiting: how many may wait before ``submit`` refuses.
        most_each_browser: how many of them may be of the tabs of one browser.
        most_each_address: how many of them may be of everyone behind one address.
        explain: turns an exception into a sentence for the user, or None where it has none.
    """

    def __init__(
        self,
        workers: int = 2,
        most_waiting: int = MOST_WAITING,
        most_each_browser: int = MOST_EACH_BROWSER,
        most_each_address: int = MOST_EACH_ADDRESS,
        explain: Sentence = lambda error: None,
    ) -> None:
        self.workers = workers
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="job")
        self._most_waiting = most_waiting
        self._most_each_browser = most_each_browser
        self._most_each_address = most_each_address
        self._explain = explain
        self._live: list[Job] = []
        self._turn = 0
        self._lock = threading.RLock()

    def submit(self, label: str, work: Callable[[Job], None], visitor: str) -> Job:
        """Queue work. It runs in another thread and reports through the job it is given.

        Raises:
            QueueFull: too much is waiting already, of this visitor or in all.
        """
        job = Job(label, waiting={visitor}, work=work, visitor=visitor)
        with self._lock:
            self._make_sure_of_a_place(visitor)
            job.turn = self._turn_of(visitor)
            self._live.append(job)
        self._executor.submit(self._run_next)
        return job

    def _make_sure_of_a_place(self, visitor: str) -> None:
        waiting = [other.visitor for other in self._live if other.state == "queued"]
        mine = sum(browser(other) == browser(visitor) for other in waiting)
        if mine >= self._most_each_browser:
            raise QueueFull(
                f"{mine} computations of yours are waiting already, in this or other tabs: close some, or try again "
                "when they are done."
            )
        near = sum(address(other) == address(visitor) for other in waiting)
        if len(waiting) >= self._most_waiting or near >= self._most_each_address:
            raise QueueFull("The queue is full because many computations are waiting: try again in a minute.")

    def place(self, job: Job) -> int:
        """Place in the queue: 1 is next, 0 means it is not waiting."""
        with self._lock:
            waiting = self._in_turn()
        return waiting.index(job) + 1 if job in waiting else 0

    def _in_turn(self) -> list[Job]:
        """Who waits, the next first. Needs the lock."""
        return sorted((job for job in self._live if job.state == "queued"), key=lambda job: (job.turn, job.number))

    def _turn_of(self, visitor: str) -> int:
        """When another job of this visitor's browser comes. Needs the lock."""
        mine = (job.turn + 1 for job in self._live if browser(job.visitor) == browser(visitor))
        return max((self._turn, *mine))

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
            job.turn = min(job.turn, self._turn_of(visitor))
            return True

    def visitors(self) -> int:
        """How many tabs wait for something."""
        with self._lock:
            return len({who for job in self._live for who in job.waiting})

    def live(self, visitor: str | None = None) -> list[Job]:
        """Jobs that are queued or running, all or one visitor's, oldest first."""
        with self._lock:
            return [job for job in self._live if visitor is None or visitor in job.waiting]

    def _run_next(self) -> None:
        """Run whose turn it is; the one that this call was made for may have been cancelled."""
        with self._lock:
            job = next(iter(self._in_turn()), None)
            if job is None:
                return
            job.state, job._stage_began = "running", time.monotonic()
            self._turn = max(self._turn, job.turn)
        try:
            job.work(job)
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
            job.work = _nothing  # what it was given may be large, and who asked may keep the job
            self._live = [other for other in self._live if other is not job]
        job.finished.set()
