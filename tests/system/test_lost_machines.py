"""Machines come for a sweep, are lost in the middle of it, and go: the table stays the same."""

import contextlib
import json
import os
import random
import signal
import subprocess
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
from conftest import MICRO
from fake_cluster import FakeCluster, comes_true

from ray_selfloop.planning import prepare
from sweeps import LIMIT, results, run_alone, start

pytestmark = pytest.mark.slow
LONG = ("generator.max_steps=300", "training.max_steps=200")  # so that a kill hits them
WORDS = (*MICRO, "loop.generations=1", *LONG)
GPUS = ("resources.gpus_per_trial=0.5", "resources.gpus_per_generator=1", "storage_shared=true")
LOST_IN = {
    "generator": "ray::run_stage",
    "samples": "ray::MapWorker",
    "classifier": "ray::ImplicitFunc",
}
"""Kind of stage -> how Ray calls the process in which it runs."""
TITLES = {"worker": ("ray::run_stage",), "actor": ("ray::MapWorker", "ray::ImplicitFunc")}


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    found = FakeCluster()
    yield found
    found.close()


def begin(cluster: FakeCluster, words: list[str]) -> "subprocess.Popen[str]":
    """Start a sweep whose driver runs on the cluster's head."""
    return start(words, {**cluster.environment, "RAY_ADDRESS": cluster.address})


def finished(driver: "subprocess.Popen[str]") -> tuple[int, str]:
    """Exit code and output of a sweep that comes to its end."""
    output, _ = driver.communicate(timeout=LIMIT)
    return driver.returncode, output


class Victims:
    """What can be killed of a sweep on a cluster, by kind."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster

    def of(self, kind: str, driver: int) -> list[psutil.Process]:
        """Those that live now, by their process ids."""
        if kind == "driver":
            return [psutil.Process(driver)]
        if kind == "machine":
            return sorted(self.cluster.machines().values(), key=lambda process: process.pid)
        return self.titled(*TITLES[kind])

    def titled(self, *titles: str) -> list[psutil.Process]:
        """Workers whose process titles start so."""
        found = []
        for process in self.cluster.processes():
            try:
                if " ".join(process.cmdline()).startswith(titles):
                    found.append(process)
            except psutil.Error:  # gone meanwhile
                continue
        return found


def kill(process: psutil.Process) -> None:
    """SIGKILL for it and all that it has started, unless it is gone already."""
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for one in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGKILL)


def published(root: Path) -> dict[str, set[str]]:
    """Stage -> what was ever published of it, in records that stand and in those set aside."""
    found = defaultdict(set)
    for path in root.glob("stages/*/*/record*.json"):
        record = json.loads(path.read_text())
        found[record["key"]].add(json.dumps([record["files"], record["summary"]], sort_keys=True))
    return found


def lose_machines(cluster: FakeCluster, driver: "subprocess.Popen[str]", storage: Path) -> None:
    """Take away the machine that is at a stage of each kind; the driver lives through it."""
    for kind, title in LOST_IN.items():

        def working(kind: str = kind, title: str = title) -> str:
            assert driver.poll() is None, f"it ended before a machine was lost in {kind}"
            under_way = any(storage.glob(f"leases/{kind}-*/*"))
            return cluster.working(title) if under_way else ""

        cluster.kill(comes_true(working, LIMIT))


def test_9_kills_change_nothing(cluster: FakeCluster, tmp_path: Path) -> None:
    """Three machines at a certain kind of work, then of each kind something at any time."""
    assert cluster.machines() == {}
    storage = tmp_path / "cluster"
    words = [*WORDS, *GPUS, f"storage={storage}"]
    chance, victims, tick = random.Random(20261125), Victims(cluster), threading.Event()
    kinds = ["driver", *("worker",) * 2, *("actor",) * 2, "machine"]
    assert len(LOST_IN) + len(kinds) == 9
    chance.shuffle(kinds)
    driver = begin(cluster, words)
    lose_machines(cluster, driver, storage)
    for kind in kinds:

        def there(kind: str = kind) -> list[psutil.Process]:
            nonlocal driver
            if driver.poll() is not None:
                assert driver.returncode in (0, -signal.SIGKILL), driver.communicate()[0]
                if driver.returncode == 0:  # on a fast machine: half is lost, and on it goes
                    plan = prepare(words)
                    for key in chance.sample(sorted(plan.records), len(plan.records) // 2):
                        plan.store.discard(key)
                driver = begin(cluster, words)
            return victims.of(kind, driver.pid)

        comes_true(there, 120)
        tick.wait(chance.uniform(0, 2))
        kill(chance.choice(comes_true(there, 120)))
    comes_true(lambda: driver.poll() is not None, LIMIT)
    code, output = finished(begin(cluster, words))
    assert code == 0, output
    here = [*WORDS, *GPUS, f"storage={tmp_path / 'here'}"]  # a GPU is in keys
    run_alone(here)
    pd.testing.assert_frame_equal(results(words), results(here))
    mine, theirs = published(storage), published(tmp_path / "here")
    assert {len(contents) for contents in mine.values()} == {1}  # however often it was published
    assert mine == theirs
    comes_true(lambda: victims.titled(*sum(TITLES.values(), ())) == [], 60)
    comes_true(lambda: cluster.machines() == {}, 60)  # idle ones go away
    left = [path for folder in ("leases", "drivers") for path in (storage / folder).rglob("*")]
    assert not [path for path in left if path.is_file()]
