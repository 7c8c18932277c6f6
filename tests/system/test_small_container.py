"""A sweep in a container of half a core and 2 GB: one worker at a time, and none is killed."""

import subprocess
import threading
from collections.abc import Iterator

import pytest
from control_groups import Container, half_a_core

from sweeps import LIMIT, records

pytestmark = pytest.mark.slow
BUSY = ("ray::run_stage", "ray::ImplicitFunc.train", "ray::MapBatches", "ray::Inner.train")
"""How Ray's workers call themselves while a stage, a trial or a stream runs in them."""


@pytest.fixture
def small() -> Iterator[Container]:
    yield from half_a_core()


def test_a_sweep_runs_one_worker_at_a_time(small: Container, micro: list[str]) -> None:
    words = [*micro, "loop.generations=1", "filter.score=none", "training.max_steps=20"]
    process = subprocess.Popen(
        small.within("-m", "ray_selfloop.sweep", *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    most, ended = 0, threading.Event()
    waiting = threading.Thread(target=lambda: (process.communicate(timeout=LIMIT), ended.set()))
    waiting.start()
    while not ended.wait(0.2):
        most = max(most, sum(command.startswith(BUSY) for command in small.commands()))
    waiting.join()
    assert process.returncode == 0
    assert (most, small.killed()) == (1, 0)
    assert {record.kind for record in records(words).values()} >= {"classifier", "samples", "kept"}
