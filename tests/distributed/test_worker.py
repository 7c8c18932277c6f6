"""What a worker's process keeps between two tasks, and what it need not load."""

import subprocess
import sys
from collections.abc import Iterator
from typing import ClassVar

import pytest
import torch

from ray_selfloop.distributed import worker
from ray_selfloop.distributed.worker import Row, pooled
from ray_selfloop.graph import Stage

SAMPLES = Stage("samples", 1, {"threads": 1}, {})


class Pool:
    """Counts how often one is opened."""

    opened: ClassVar[list[str]] = []

    def __init__(self, stage: Stage, root: str, attempt: str) -> None:
        self.opened.append(attempt)

    def __call__(self, row: Row) -> Row:
        return {**row, "by": id(self)}


class Other(Pool):
    """What scores where `Pool` draws."""


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    threads = torch.get_num_threads()
    Pool.opened.clear()
    yield
    worker.release()
    torch.set_num_threads(threads)


def test_a_process_opens_each_pool_of_an_attempt_once() -> None:
    rows = [pooled({"first": n}, p, SAMPLES, "r", "a") for n in range(3) for p in (Pool, Other)]
    assert Pool.opened == ["a", "a"]
    assert [row["first"] for row in rows] == [0, 0, 1, 1, 2, 2]
    assert len({row["by"] for row in rows}) == 2


def test_a_process_keeps_the_pools_of_two_attempts_whose_batches_come_in_turn() -> None:
    for attempt in ("a", "b", "a", "b", "c", "b", "a"):
        pooled({}, Pool, SAMPLES, "r", attempt)
    assert Pool.opened == ["a", "b", "c", "a"]


def test_a_pool_that_was_forgotten_is_opened_anew() -> None:
    pooled({}, Pool, SAMPLES, "r", "a")
    worker.release()
    pooled({}, Pool, SAMPLES, "r", "a")
    assert Pool.opened == ["a", "a"]


def test_each_batch_is_computed_with_its_stages_threads_whatever_ran_before() -> None:
    pooled({}, Pool, SAMPLES, "r", "a")
    torch.set_num_threads(3)
    pooled({}, Pool, SAMPLES, "r", "a")
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("module", "spared"),
    [
        ("worker", {"torch", "pandas", "ray.data", "ray.tune", "ray.train.torch"}),
        ("driver", {"torch", "scipy", "ray.train.torch"}),
    ],
)
def test_a_process_loads_no_more_than_it_needs(module: str, spared: set[str]) -> None:
    loaded = f"import sys, ray_selfloop.distributed.{module}; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", loaded], capture_output=True, check=True)
    assert not spared & {*ended.stdout.decode().split()}
