"""Two drivers on one storage: one computes a stage, and the other takes over when it is gone."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ray_selfloop.graph import Stage
from ray_selfloop.store import blobs, failures
from ray_selfloop.store.leases import Leases, clear

KEY = "classifier-abc"
HOLDER = """
import sys
from ray_selfloop.store import blobs
from ray_selfloop.store.leases import Leases

leases = Leases(blobs.at(sys.argv[1]))
print(repr(leases.take("classifier-abc")), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Leases, Leases]]:
    """Two drivers that beat ten times a second and are void after half a second."""
    store = blobs.at(tmp_path)
    with Leases(store, 0.1, 0.5) as one, Leases(store, 0.1, 0.5) as other:
        yield one, other


def holder(folder: Path) -> "subprocess.Popen[str]":
    """A process that holds the lease of `KEY`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "''"
    return process


def comes_true(condition: Callable[[], bool], limit: float = 10.0) -> bool:
    tick = threading.Event()
    for _ in range(int(limit / 0.05)):
        if condition():
            return True
        tick.wait(0.05)
    return False


def test_a_stage_has_one_holder(two: tuple[Leases, Leases]) -> None:
    one, other = two
    assert one.take(KEY) == ""
    assert other.take(KEY) == str(one.me)
    assert other.take("another") == ""
    assert one.take(KEY) == ""  # it is still ours


def test_what_is_given_back_is_free(two: tuple[Leases, Leases]) -> None:
    one, other = two
    one.take(KEY)
    one.drop(KEY)
    assert other.take(KEY) == ""
    one.drop(KEY)  # not ours any more: nothing happens
    assert one.take(KEY) == str(other.me)


def test_a_driver_that_ends_gives_all_back(tmp_path: Path) -> None:
    store = blobs.at(tmp_path)
    with Leases(store) as one:
        one.take(KEY)
    assert store.list("leases") == store.list("drivers") == {}


def test_a_beating_driver_keeps_what_it_holds(tmp_path: Path) -> None:
    store = blobs.at(tmp_path)
    with Leases(store, 0.05, 0.3) as one, Leases(store, 0.05, 0.3) as other:
        one.take(KEY)
        assert not comes_true(lambda: other.take(KEY) == "", limit=1.0)


def test_a_driver_that_no_longer_beats_loses_its_leases(tmp_path: Path) -> None:
    store = blobs.at(tmp_path)
    with Leases(store, 60.0, 0.3) as silent, Leases(store, 60.0, 0.3) as other:
        silent.take(KEY)
        assert other.take(KEY) == str(silent.me)
        assert comes_true(lambda: other.take(KEY) == "")
        assert silent.take(KEY) == str(other.me)


def test_a_dead_process_of_this_machine_is_not_waited_for(tmp_path: Path) -> None:
    process = holder(tmp_path)
    with Leases(blobs.at(tmp_path)) as mine:
        assert f"process {process.pid} on " in mine.take(KEY)
        process.kill()
        process.wait()
        assert mine.take(KEY) == ""


def test_what_a_killed_driver_left_of_published_stages_is_cleared(tmp_path: Path) -> None:
    store = blobs.at(tmp_path)
    process = holder(tmp_path)
    clear(store, [])
    assert len(store.list("leases")) == len(store.list("drivers")) == 1
    process.kill()
    process.wait()
    clear(store, [])
    assert (len(store.list("leases")), store.list("drivers")) == (1, {})
    clear(store, [KEY])
    assert store.list("leases") == {}


def test_a_silent_drivers_file_goes_away(tmp_path: Path) -> None:
    store = blobs.at(tmp_path)
    with Leases(store, 60.0, 0.3) as silent, Leases(store, 0.05, 0.3) as other:
        names = [f"drivers/{driver.me.name}.json" for driver in (silent, other)]
        assert comes_true(lambda: store.list("drivers").keys() == {names[1]})
        silent.beat()  # it was only slow
        assert store.list("drivers").keys() == set(names)


def test_of_many_who_take_at_once_one_gets_it(tmp_path: Path) -> None:
    store = blobs.at(tmp_path)
    drivers = [Leases(store) for _ in range(8)]
    start, got = threading.Barrier(8), []

    def take(driver: Leases) -> None:
        start.wait()
        got.append(driver.take(KEY))

    threads = [threading.Thread(target=take, args=(driver,)) for driver in drivers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got.count("") == 1
    for driver in drivers:
        driver.close()


@pytest.mark.parametrize("content", [b"", b"not json", b"[1]", b'{"name": 3}'])
def test_a_damaged_lease_is_nobodys(tmp_path: Path, content: bytes) -> None:
    store = blobs.at(tmp_path)
    store.write(f"leases/{KEY}/000004", content)
    with Leases(store) as mine:
        assert mine.take(KEY) == ""
        assert list(store.list("leases")) == [f"leases/{KEY}/000005"]


def test_a_failed_record_says_what_happened(tmp_path: Path) -> None:
    store, stage = blobs.at(tmp_path), Stage("generator", 1, {"lr": 0.1}, {})
    assert failures.read(store, stage.key) is None
    failures.publish(store, stage, "StageError: diverged", "Traceback ...")
    failures.publish(store, stage, "StageError: diverged again", "Traceback ...")
    found = failures.read(store, stage.key)
    assert found is not None
    assert (found.key, found.kind, found.config) == (stage.key, "generator", {"lr": 0.1})
    assert (found.error, found.detail) == ("StageError: diverged again", "Traceback ...")
    failures.forget(store, ["generator-another"])
    assert failures.read(store, stage.key) == found
    failures.forget(store, [stage.key])
    assert failures.read(store, stage.key) is None


def test_a_damaged_failed_record_is_none(tmp_path: Path) -> None:
    store, stage = blobs.at(tmp_path), Stage("generator", 1, {}, {})
    for content in (b"{", b"[]", json.dumps({"key": 1}).encode()):
        store.write(f"failures/{stage.key}.json", content)
        assert failures.read(store, stage.key) is None
