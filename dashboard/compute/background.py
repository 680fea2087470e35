"""Slow things that are no probe: each made once in the background and kept for a while."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from dashboard.cache import Bounded
from dashboard.compute import results
from dashboard.compute.jobs import Job, Jobs, QueueFull

T = TypeVar("T")
MOST_ENDED = 256


class Stopped(str):
    """One sentence: this visitor stopped it, and it stays stopped until they ask again."""


class Failed(str):
    """One sentence: it failed while this visitor waited, and is tried again when they ask."""


class Background(Generic[T]):
    """Finished things by key, least recently used out first, and the jobs that make more.

    Args:
        most_bytes: what they may take together.
        jobs: the queue that its work waits in; that of the results unless given.
    """

    def __init__(self, most_bytes: int, jobs: Jobs | None = None) -> None:
        self._jobs = jobs
        self._kept: Bounded[object, T] = Bounded(most_bytes)
        self._live: dict[object, Job] = {}
        self._lock = threading.RLock()

    @property
    def jobs(self) -> Jobs:
        """The queue that its work waits in."""
        return self._jobs or results.store().jobs

    def kept(self, key: object) -> T | None:
        """The finished thing, None where there is none; nothing is begun."""
        with self._lock:
            return self._kept.get(key)

    def fetch(self, key: object, label: str, make: Callable[[Job], T], visitor: str) -> T | Job | str:
        """The thing, the job that makes it, or why there is none in one sentence: `Stopped`, `Failed` or a full queue.

        Args:
            key: everything that it depends on.
            label: what the job does, for a person.
            make: makes it, in another thread.
            visitor: who asks.
        """

        def work(job: Job) -> None:
            made = make(job)
            with self._lock:
                self._kept[key] = made
                self._live.pop(key, None)

        with self._lock:
            if key in self._kept:
                return self._kept[key]
            job = self._live.get(key)
            if job is not None and visitor in job.left:
                return Stopped(f"{label} was stopped.")
            if job is not None and self.jobs.join(job, visitor):
                return job
            if job is not None and job.error and visitor in job.waiting:
                return Failed(job.error)
            self._live.pop(key, None)
            while len(self._live) > MOST_ENDED and (ended := [k for k, job in self._live.items() if not job.live]):
                del self._live[ended[0]]
            try:
                self._live[key] = self.jobs.submit(label, work, visitor)
            except QueueFull as error:
                return str(error)
            return self._live[key]

    def forget(self, key: object) -> None:
        """Let it be made anew."""
        with self._lock:
            self._kept.pop(key, None)

    def again(self, visitor: str) -> None:
        """Let this visitor ask for what they stopped and what failed."""
        with self._lock:
            for job in self._live.values():
                job.left.discard(visitor)
                if not job.live:
                    job.waiting.discard(visitor)
