"""Ratios of time, measured in turns in one process, and memory beyond what the floor needs."""

import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Row:
    """One line of a speed table.

    Attributes:
        name: the work.
        seconds: median of the floor's time.
        ratio: median over turns of the work's time by the floor's time of the same turn.
        low: smallest and
        high: largest such ratio.
        extra: MiB by which the peak of resident memory grew beyond the floor's peak.
    """

    name: str
    seconds: float
    ratio: float
    low: float
    high: float
    extra: float


def peak() -> float:
    """Peak resident memory of this process so far, MiB (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compare(
    name: str,
    work: Callable[[], object],
    floor: Callable[[], object],
    turns: int = 7,
    clock: Callable[[], float] = time.perf_counter,
) -> Row:
    """Time work and floor in turns, floor first; one warm-up each, in which the memory is read.

    Peak memory only grows, so measure the leanest work of a process first, or each in a process of its own. With
    ``time.process_time`` as the clock and one thread, the ratio holds on a machine that is busy with something else.
    """
    floor()
    floor()
    before = peak()
    work()
    extra = peak() - before
    times = []
    for _ in range(turns):
        start = clock()
        floor()
        middle = clock()
        work()
        times.append((middle - start, clock() - middle))
    ratios = [b / a for a, b in times]
    return Row(name, statistics.median(a for a, _ in times), statistics.median(ratios), min(ratios), max(ratios), extra)


def machine() -> str:
    """What a table was measured on."""
    processor = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), "processor")
    threads, kind = torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()
    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{processor}, {threads} threads, {kind}{device}, torch {torch.__version__}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


def show(rows: list[Row]) -> None:
    """Print a Markdown table and what it was measured on."""
    print(machine())
    print("\n| work | floor, s | ratio, median (min to max) | extra memory, MiB |\n|---|---|---|---|")
    for row in rows:
        ratio = f"{row.ratio:.2f} ({row.low:.2f} to {row.high:.2f})"
        print(f"| {row.name} | {row.seconds:.2f} | {ratio} | {row.extra:.0f} |")
