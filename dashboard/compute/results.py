"""What was computed: a bounded cache shared by the whole process, filled by jobs, each request computed once.

Nothing here knows Streamlit. A page asks with ``fetch`` and gets, for every request, the result, why there is none, or
the job that is working on it.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import cache

from dashboard.cache import Bounded, memory
from dashboard.compute.jobs import Cancelled, Job, Jobs, QueueFull
from dashboard.compute.requests import Failure, Request, Result
from dashboard.compute.work import JOBS, compute, explain
from dashboard.state.models import reference
from model_zoo.adapter import ModelSpec

CACHE_BYTES = 512 * 2**20
FAILURE_BYTES = 16 * 2**20
FAILURE_SECONDS = 120.0
MOST_SPECS = 256


class Results:
    """Computed results, least recently used out first, and the jobs that make more.

    Args:
        jobs: where the work runs.
        compute: makes the results of requests that share models and input size.
        most_bytes: what the results together may take.
    """

    def __init__(
        self, jobs: Jobs, compute: Callable[[Sequence[Request], Job], list[Result]], most_bytes: int = CACHE_BYTES
    ) -> None:
        self.jobs = jobs
        self._compute = compute
        self._kept: Bounded[Request, Result] = Bounded(most_bytes, lambda result: result.bytes)
        self._failed: Bounded[Request, tuple[Failure, Request]] = Bounded(FAILURE_BYTES, _failure_bytes)
        self._live: dict[Request, Job] = {}
        self._specs: OrderedDict[str, ModelSpec] = OrderedDict()
        self._lock = threading.RLock()

    def fetch(
        self, requests: Iterable[Request], visitor: str, patience: float = 0.0
    ) -> dict[Request, Result | Failure | Job]:
        """Results where there are any, else the failure or the job; what is missing is started.

        Args:
            requests: what is wanted now.
            visitor: who asks.
            patience: wait at most this many seconds, so that quick work shows without a loading state.
        """
        wanted = list(dict.fromkeys(requests))
        with self._lock:
            groups: dict[tuple[object, ...], list[Request]] = {}
            for request in wanted:
                if self._look(request, visitor) is None:
                    groups.setdefault(_together(request), []).append(request)
            refused: dict[Request, Failure] = {}
            for group in groups.values():
                try:
                    self._start(group, visitor)
                except QueueFull as error:  # true for this visitor now: never kept, never told to anyone else
                    refused.update(dict.fromkeys(group, Failure(str(error))))
            found = {request: self._look(request, visitor) for request in wanted}
        deadline = time.monotonic() + patience
        for job in [value for value in found.values() if isinstance(value, Job)]:
            job.finished.wait(max(deadline - time.monotonic(), 0.0))
        with self._lock:
            again = {request: self._look(request, visitor) for request in wanted}
        stopped = Failure("The computation was stopped.", stopped=True)
        return {request: value or refused.get(request, stopped) for request, value in again.items()}

    def keep_only(self, requests: Iterable[Request], visitor: str) -> None:
        """Drop what this visitor wanted before, wants no longer, and has not started."""
        with self._lock:
            wanted = {self._live.get(request) for request in requests}
            for job in set(self._live.values()) - wanted:
                self.jobs.leave(job, visitor, only_queued=True)

    def forget_failures(self, requests: Iterable[Request]) -> None:
        """Let these be tried again."""
        with self._lock:
            for request in requests:
                self._failed.pop(request, None)

    def spec(self, model: str) -> ModelSpec | None:
        """A model's layout at its own image size, None until something was computed with it."""
        with self._lock:
            return self._specs.get(model)

    @property
    def bytes(self) -> int:
        """Memory of all kept results, bytes."""
        with self._lock:
            return int(self._kept.currsize)

    def _look(self, request: Request, visitor: str) -> Result | Failure | Job | None:
        if request in self._kept:
            return self._kept[request]
        job = self._live.get(request)
        if job is not None and self.jobs.join(job, visitor):
            return job
        failed = self._failed.get(request)
        if failed is not None and time.monotonic() - failed[0].at < FAILURE_SECONDS:
            return failed[0]
        return None

    def _start(self, group: list[Request], visitor: str) -> None:
        def work(job: Job) -> None:
            for request, result in zip(group, self._compute(group, job), strict=True):
                self._keep(request, result)

        label = " and ".join(reference(model).label for model in group[0].models)
        job = self.jobs.submit(label, self._settling(group, work), visitor)
        for request in group:
            self._live[request] = job

    def _settling(self, group: list[Request], work: Callable[[Job], None]) -> Callable[[Job], None]:
        """The work, noting for its requests how it ended before the job says that it has."""

        def run(job: Job) -> None:
            try:
                work(job)
            except BaseException as error:
                sentence = explain(error) or f"{job.label} failed ({type(error).__name__}); the server's log says more."
                if not isinstance(error, Cancelled):
                    with self._lock:
                        self._failed.update((r, (Failure(sentence, at=time.monotonic()), r)) for r in group)
                raise
            finally:
                with self._lock:
                    for request in group:
                        if self._live.get(request) is job:
                            del self._live[request]

        return run

    def _keep(self, request: Request, result: Result) -> None:
        with self._lock:
            self._kept[request] = result
            if request.size == "native":
                self._specs |= result.specs
            while len(self._specs) > MOST_SPECS:
                self._specs.popitem(last=False)


def _together(request: Request) -> tuple[object, ...]:
    """What requests of one job share: models and input size, which depends on the image where it is uncropped."""
    return request.models, request.size, request.images if request.size == "uncropped" else None


def _failure_bytes(failed: tuple[Failure, Request]) -> int:
    """What a failure takes: its sentence, and the request, which may name thousands of images."""
    failure, request = failed
    return memory((failure.sentence, request.models, request.images))


@cache
def store() -> Results:
    """The results of this process."""
    return Results(Jobs(workers=JOBS, explain=explain), compute)
