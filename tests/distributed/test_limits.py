"""Cores and memory of a process: in made-up trees of control groups, and in a real group."""

import math
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_groups import Container, half_a_core

from ray_selfloop.distributed.limits import GB, Limits, limits

CORES = len(os.sched_getaffinity(0))
UNIFIED = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw"
CPU_1 = "32 31 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
MEMORY_1 = "35 31 0:32 {top} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
NAMED_1 = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd"
BOUNDLESS_1 = "9223372036854771712"


class Tree:
    """A machine of 32 GB whose files are made up."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.file("proc/meminfo", "MemTotal:       31250000 kB\nMemFree:        1 kB\n")

    def file(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def process(self, groups: str, *mounts: str) -> None:
        self.file("proc/self/cgroup", groups)
        self.file("proc/self/mountinfo", "".join(f"{line}\n" for line in mounts))

    def cpu_1(self, group: str, quota: int, period: int = 100_000) -> None:
        folder = f"sys/fs/cgroup/cpu,cpuacct/{group}"
        self.file(f"{folder}/cpu.cfs_quota_us", f"{quota}\n")
        self.file(f"{folder}/cpu.cfs_period_us", f"{period}\n")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_without_groups_it_is_affinity_and_what_is_installed(tree: Tree) -> None:
    assert limits(tree.root) == Limits(CORES, 32 * GB)
    assert limits(tree.root / "none") == Limits(CORES, math.inf)


def test_the_closest_bound_of_all_groups_above_holds(tree: Tree) -> None:
    """A pod's group has half a core and 8 GB, the container's in it no quota and 2 GB."""
    tree.process("0::/pods/pod1/box\n", UNIFIED)
    tree.file("sys/fs/cgroup/pods/pod1/box/cpu.max", "max 100000\n")
    tree.file("sys/fs/cgroup/pods/pod1/box/memory.max", "2000000000\n")
    tree.file("sys/fs/cgroup/pods/pod1/cpu.max", "50000 100000\n")
    tree.file("sys/fs/cgroup/pods/pod1/memory.max", "8000000000\n")
    tree.file("sys/fs/cgroup/pods/memory.max", "max\n")
    tree.file("sys/fs/cgroup/pods/pod2/cpu.max", "1000 100000\n")  # of others
    found = limits(tree.root)
    assert found == Limits(0.5, 2 * GB)
    assert (found.whole_cores, found.workers) == (1, 1)
    assert str(found) == "0.5 CPU cores and 2.0 GB of memory"


@pytest.mark.parametrize("path", ["/", "/../../kubepods/box"])
def test_a_container_sees_its_own_group_as_the_top(tree: Tree, path: str) -> None:
    tree.process(f"0::{path}\n", UNIFIED)
    tree.file("sys/fs/cgroup/cpu.max", "50000 100000\n")
    tree.file("sys/fs/cgroup/memory.max", "3000000000\n")
    tree.file("sys/kubepods/box/cpu.max", "1000 100000\n")  # no group
    assert limits(tree.root) == Limits(0.5, 3 * GB)


def test_groups_of_version_1_nest_too(tree: Tree) -> None:
    groups = "4:memory:/jobs/a\n1:cpu,cpuacct:/jobs/c\n9:name=systemd:/s\n0::/u\n"
    mounts = [line.format(top="/") for line in (CPU_1, MEMORY_1, NAMED_1)]
    tree.process(groups, *mounts)
    tree.cpu_1("jobs/c", -1)
    tree.cpu_1("jobs", 30_000, 20_000)
    tree.cpu_1(".", -1)
    tree.file("sys/fs/cgroup/memory/jobs/a/memory.limit_in_bytes", f"{BOUNDLESS_1}\n")
    tree.file("sys/fs/cgroup/memory/jobs/memory.limit_in_bytes", "4000000000\n")
    for other in ("jobs/a", "s", "u"):  # groups of the same names, this process in none of them
        tree.cpu_1(other, 1_000)
    for other in ("jobs/c", "s", "u"):
        tree.file(f"sys/fs/cgroup/memory/{other}/memory.limit_in_bytes", "1000\n")
    assert limits(tree.root) == Limits(min(1.5, CORES), 4 * GB)


def test_a_container_of_version_1_is_told_its_groups_by_the_hosts_names(tree: Tree) -> None:
    tree.process(
        "4:memory:/docker/box\n1:cpu,cpuacct:/docker/box\n",
        *(line.format(top="/docker/box") for line in (CPU_1, MEMORY_1)),
    )
    tree.cpu_1(".", 25_000)
    tree.file("sys/fs/cgroup/memory/memory.limit_in_bytes", "1000000000\n")
    assert limits(tree.root) == Limits(0.25, GB)


def test_without_a_bound_of_version_1_memory_is_what_is_installed(tree: Tree) -> None:
    tree.process("4:memory:/\n", MEMORY_1.format(top="/"))
    tree.file("sys/fs/cgroup/memory/memory.limit_in_bytes", f"{BOUNDLESS_1}\n")
    assert limits(tree.root) == Limits(CORES, 32 * GB)


def test_a_mount_points_name_may_have_a_space(tree: Tree) -> None:
    """The kernel writes it, a tab, an end of line and a backslash as octal numbers."""
    tree.process("0::/a b/c\n", UNIFIED.replace("/ /sys", r"/a\040b /the\040sys\134"))
    tree.file("the sys\\/fs/cgroup/c/cpu.max", "50000 100000\n")
    assert limits(tree.root).cores == 0.5


@pytest.mark.parametrize(("high", "most"), [("2000000000", 2), ("4000000000", 3), ("max", 3)])
def test_memory_from_which_on_a_group_is_slowed_down_is_a_bound(
    tree: Tree, high: str, most: float
) -> None:
    tree.process("0::/\n", UNIFIED)
    tree.file("sys/fs/cgroup/memory.max", "3000000000\n")
    tree.file("sys/fs/cgroup/memory.high", f"{high}\n")
    assert limits(tree.root).memory == most * GB


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("proc/self/cgroup", "0::/\nnonsense\n\n1:cpu\n"),
        ("proc/self/mountinfo", f"30 23\n\n30 23 0:26 / /x rw - cgroup2\n - \n{UNIFIED}\n"),
        ("sys/fs/cgroup/cpu.max", "50000 0\n"),
        ("sys/fs/cgroup/cpu.max", "50000\n"),
        ("sys/fs/cgroup/cpu.max", "\u00b2 100000 7\n"),
        ("sys/fs/cgroup/memory.max", "much\n"),
        ("proc/meminfo", "nonsense\n\nMemTotal:       31250000 kB\n"),
    ],
)
def test_what_cannot_be_understood_is_no_bound(tree: Tree, path: str, text: str) -> None:
    tree.process("0::/\n", UNIFIED)
    tree.file(path, text)
    assert limits(tree.root) == Limits(CORES, 32 * GB)


def test_names_of_other_encodings_are_no_hindrance(tree: Tree) -> None:
    tree.process("0::/\n", UNIFIED)
    mounts = tree.root / "proc/self/mountinfo"
    mounts.write_bytes(b"29 23 0:26 / /\xff rw - ext4 x rw\n" + mounts.read_bytes())
    tree.file("sys/fs/cgroup/memory.max", "3000000000\n")
    assert limits(tree.root).memory == 3 * GB


@pytest.mark.parametrize(
    ("cores", "memory", "workers"),
    [
        (0.5, 2, 1),  # there is always one
        (0.1, 0.2, 1),
        (8, 4, 2),
        (8, 3.3, 1),
        (1.9, 64, 1),  # no more than there are
        (8, 64, 8),
        (8, math.inf, 8),
    ],
)
def test_workers_follow_cores_and_memory(cores: float, memory: float, workers: int) -> None:
    assert Limits(cores, memory * GB).workers == workers


@pytest.mark.parametrize(("workers", "enough"), [(1, 3.5), (4, 11)])
def test_memory_is_short_where_idle_processes_could_fill_it(workers: int, enough: float) -> None:
    """Of each place a stream's two, an idle trial's and one or two idle tasks' may stay."""
    assert Limits(4, (enough - 0.1) * GB).cramped(workers)
    assert not Limits(4, (enough + 0.1) * GB).cramped(workers)
    assert Limits(0.5, 2 * GB).cramped(1)
    assert not Limits(2, math.inf).cramped(2)


@pytest.fixture
def small() -> Iterator[Container]:
    yield from half_a_core()


def test_in_a_real_group_its_bounds_are_found(small: Container) -> None:
    ask = "from ray_selfloop.distributed.limits import limits; print(limits())"
    said = subprocess.check_output(small.within("-c", ask), text=True)
    assert said == "0.5 CPU cores and 2.1 GB of memory\n"
