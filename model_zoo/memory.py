"""What weights take and what a machine has, in bytes, and how running out of it looks."""

import os
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import timm
import torch

from model_zoo.reference import ModelError

FILES = {
    "cgroup2": ("memory.max", "memory.current", "inactive_file"),
    "cgroup": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Of a control group of either version: its limit, what it takes, and what of that is files that can be dropped."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that no memory is left; for the host's, torch raises a plain ``RuntimeError``."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def machine_bytes(root: Path = Path("/")) -> int:
    """Memory of this machine, bytes, or the least limit of the control groups that this process is in."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([installed, *(limit for limit, _ in _limits(root))])


def free_bytes(root: Path = Path("/")) -> int:
    """Memory that this process can still have, bytes: what is free, and within the limits of its control groups."""
    lines = _lines(root / "proc/meminfo")
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), machine_bytes(root))
    return max(min([free, *(limit - used for limit, used in _limits(root))]), 1)


def _limits(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of every control group that this process is in, up to the outermost that can be seen."""
    for folder, kind in _groups(root):
        limit, used, droppable = FILES[kind]
        with suppress(OSError, ValueError):  # there is no limit
            stat = dict(line.split() for line in _lines(folder / "memory.stat"))
            files = int(stat.get(droppable, 0))
            yield int((folder / limit).read_text()), int((folder / used).read_text()) - files


def _groups(root: Path) -> Iterator[tuple[Path, str]]:
    """Folders of the control groups of this process that bound memory, and the kind of their file system."""
    entries = [line.split(":", 2) for line in _lines(root / "proc/self/cgroup")]
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        shown, mount = before.split(" ")[3:5]
        if kind not in FILES or (kind == "cgroup" and "memory" not in options.split(",")):
            continue
        for _, controllers, path in entries:
            if "memory" in controllers.split(",") if kind == "cgroup" else not controllers:
                inside = Path(path.removeprefix(shown.rstrip("/")).strip("/"))
                folder = root / mount.strip("/")
                yield from ((folder / part, kind) for part in (inside, *inside.parents))


def _lines(path: Path) -> list[str]:
    with suppress(OSError):
        return path.read_text().splitlines()
    return []


@lru_cache(maxsize=1024)
def weight_bytes(timm_name: str) -> int:
    """Memory of a timm model's weights in float32, counted on a model that has none."""
    with torch.device("meta"):
        return 4 * sum(value.numel() for value in timm.create_model(timm_name).parameters())


def refuse_too_large(label: str, needed: int, most: int) -> None:
    """Refuse weights that the memory for them cannot hold.

    Raises:
        ModelError: ``needed`` bytes are more than ``most``.
    """
    if needed > most:
        raise ModelError(
            f"{label} has {needed / 4e6:,.0f} million parameters, which take {needed / 1e9:.1f} GB, and there are "
            f"{most / 1e9:.1f} GB for models: choose a smaller one."
        )
