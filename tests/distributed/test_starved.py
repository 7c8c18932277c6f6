"""Whether other programs starve a sweep, by what the kernel says of its threads."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ray_selfloop.distributed import starved
from ray_selfloop.distributed.starved import Starved, share, times

HERE = os.getpid()


def thread(root: Path, pid: int, parent: int, ran: float, waited: float) -> None:
    """A process of one thread, as the kernel tells of it."""
    task = root / str(pid) / "task" / str(pid)
    task.mkdir(parents=True, exist_ok=True)
    (root / str(pid) / "stat").write_text(f"{pid} (a ) name) S {parent} 0 0")
    (task / "schedstat").write_text(f"{ran * 1e9:.0f} {waited * 1e9:.0f} 7\n")


def test_what_this_process_has_started_counts_and_nothing_else(tmp_path: Path) -> None:
    thread(tmp_path, HERE, 1, 50, 50)
    thread(tmp_path, 900001, HERE, 3, 1)
    thread(tmp_path, 900002, 900001, 2, 0)
    thread(tmp_path, 900003, 1, 70, 70)
    assert times(tmp_path) == {"900001": (3, 1), "900002": (2, 0)}
    assert times(tmp_path / "nothing") == {}


def test_the_kernel_says_how_long_a_process_below_has_run() -> None:
    if not Path("/proc/self/schedstat").exists():
        pytest.skip("this system keeps no such times")
    burn = "import time\nwhile time.process_time() < .3: pass\nprint(flush=True)\ninput()"
    command = [sys.executable, "-c", burn]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        ran, _ = times()[str(child.pid)]
        child.communicate(b"\n")
    assert 0.2 < ran < 10


def test_threads_that_came_or_went_between_two_looks_are_counted_right() -> None:
    before = {"a": (100.0, 10.0), "gone": (50.0, 50.0)}
    assert share(before, {"a": (110.0, 20.0), "new": (10.0, 30.0)}) == pytest.approx(40 / 60)
    assert share(before, {"a": (101.0, 12.0)}) == 0  # too little to say anything


def test_it_is_said_once_in_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    thread(tmp_path, 900001, HERE, 5, 0)
    watch = Starved(tmp_path)
    thread(tmp_path, 900001, HERE, 35, 30)
    assert watch.sentence() == ""  # not looked at yet
    monkeypatch.setattr(starved, "LOOK", 0.0)
    assert "waited 50% of the time" in watch.sentence()
    thread(tmp_path, 900001, HERE, 65, 60)
    assert watch.sentence() == ""
    monkeypatch.setattr(starved, "AGAIN", 0.0)
    thread(tmp_path, 900001, HERE, 95, 70)
    assert watch.sentence() == ""  # 10 s of 40
