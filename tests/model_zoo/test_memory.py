"""How much memory there is, in control groups of either version."""

from pathlib import Path

import pytest

from model_zoo.memory import free_bytes, machine_bytes

GB = 10**9
V2 = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 23 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
    "33 31 0:29 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)


def machine(root: Path, groups: str, mounts: str) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    (root / "proc/self/mountinfo").write_text("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n" + mounts)
    (root / "proc/meminfo").write_text(f"MemTotal: {GB} kB\nMemFree: 5 kB\nMemAvailable: {GB} kB\n")
    return root


def group(folder: Path, limit: object, used: int, files: int, *, version: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current", "inactive_file") if version == 2 else (
        "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
    )  # fmt: skip
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{names[2]} {files}\nshmem 2\n")


@pytest.mark.parametrize("limited", ["", "slurm", "slurm/job_7", "slurm/job_7/step_0"])
def test_any_group_around_this_process_bounds_it(tmp_path: Path, limited: str) -> None:
    root = machine(tmp_path, "0::/slurm/job_7/step_0\n", V2.format(root="/"))
    tree = root / "sys/fs/cgroup"
    for inside in ("slurm", "slurm/job_7", "slurm/job_7/step_0"):
        group(tree / inside, "max", 3 * GB, GB, version=2)
    group(tree / limited, 6 * GB, 3 * GB, GB, version=2)
    assert machine_bytes(root) == 6 * GB
    assert free_bytes(root) == 4 * GB, "what is taken by files that can be dropped is free"


def test_of_several_groups_the_one_that_leaves_least_counts(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/user/app\n", V2.format(root="/"))
    group(root / "sys/fs/cgroup/user", 8 * GB, 7 * GB, 0, version=2)
    group(root / "sys/fs/cgroup/user/app", 6 * GB, 3 * GB, 0, version=2)
    assert machine_bytes(root) == 6 * GB
    assert free_bytes(root) == GB


def test_version_one_has_a_tree_for_memory_alone(tmp_path: Path) -> None:
    root = machine(tmp_path, "5:cpu:/tight\n4:memory:/batch/job\n0::/\n", V1.format(root="/"))
    group(root / "sys/fs/cgroup/memory", 9223372036854771712, 50 * GB, 0, version=1)
    group(root / "sys/fs/cgroup/memory/batch", 5 * GB, 4 * GB, 3 * GB, version=1)
    group(root / "sys/fs/cgroup/memory/batch/job", 9223372036854771712, 4 * GB, 0, version=1)
    group(root / "sys/fs/cgroup/memory/tight", GB, 0, 0, version=1)  # a group of another tree's name
    assert machine_bytes(root) == 5 * GB
    assert free_bytes(root) == 4 * GB


@pytest.mark.parametrize(("mounts", "version", "tree"), [(V2, 2, "sys/fs/cgroup"), (V1, 1, "sys/fs/cgroup/memory")])
def test_a_container_sees_its_own_group_as_the_outermost(tmp_path: Path, mounts: str, version: int, tree: str) -> None:
    groups = "0::/docker/abc/inner\n" if version == 2 else "4:memory:/docker/abc/inner\n"
    root = machine(tmp_path, groups, mounts.format(root="/docker/abc"))
    group(root / tree, 7 * GB, GB, 0, version=version)
    group(root / tree / "inner", 6 * GB, GB, 0, version=version)
    assert machine_bytes(root) == 6 * GB
    assert free_bytes(root) == 5 * GB


def test_without_groups_the_machine_is_all_there_is(tmp_path: Path) -> None:
    assert machine_bytes(tmp_path) == free_bytes(tmp_path) > GB
    root = machine(tmp_path / "none", "0::/\n", V2.format(root="/"))
    assert free_bytes(root) == GB * 1024
    assert machine_bytes(root) == machine_bytes(tmp_path)
