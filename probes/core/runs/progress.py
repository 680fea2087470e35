"""What a run says on stderr while it works."""

import sys
import time


class Progress:
    """One line on stderr: images done, rate and time left."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.shown = 0.0
        self.live = sys.stderr.isatty()
        self.open = False
        self._stage = ""

    def say(self, text: str) -> None:
        """A sentence on a line of its own."""
        self.end()
        print(text, file=sys.stderr)

    def load(self, stage: str, done: int, total: int | None) -> None:
        """How much of a model's weights is there, in bytes."""
        if self._due(done == total) and total and total > 2**20:
            self._line(f"{stage} {done / 2**20:,.0f} of {total / 2**20:,.0f} MB")

    def step(self, done: int, total: int) -> None:
        """How many images are done."""
        if done and not self.open:
            self.start = min(self.start, time.perf_counter())
        if self._due(done == total):
            seconds = time.perf_counter() - self.start
            rate = done / max(seconds, 1e-9)
            left = time.strftime("%H:%M:%S", time.gmtime((total - done) / max(rate, 1e-9)))
            self._line(f"{done}/{total} passes  {rate:.1f}/s  {left} left")

    def stage(self, stage: str, done: int, total: int | None) -> None:
        """How many frames of a stage are done."""
        if stage != self._stage:
            self._stage, self.start = stage, time.perf_counter()
        if total and done and self._due(done == total):
            left = (time.perf_counter() - self.start) / done * (total - done)
            self._line(f"{stage}: {done}/{total} frames  {time.strftime('%H:%M:%S', time.gmtime(left))} left")

    def _due(self, last: bool) -> bool:
        now = time.perf_counter()
        if not last and now - self.shown < (0.2 if self.live else 10):
            return False
        self.shown = now
        return True

    def _line(self, text: str) -> None:
        if self.live:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
            self.open = True
        else:
            print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the line that is written over."""
        if self.open:
            print(file=sys.stderr)
            self.open = False
