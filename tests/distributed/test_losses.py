"""A lost machine is tried again without limit, a worker that dies on a living one 3 times."""

import os
from pathlib import Path

import pytest
import ray
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    ObjectReconstructionFailedError,
    RayTaskError,
    WorkerCrashedError,
)

from ray_selfloop.distributed.losses import (
    RETRIES,
    Losses,
    alive,
    is_loss,
    one_died,
    outcome_of,
)
from ray_selfloop.distributed.worker_errors import Notes
from ray_selfloop.errors import MachineLost, StageError, StorageError, StorageOutage, WorkerLost
from ray_selfloop.graph import Stage
from ray_selfloop.store.records import Store


@pytest.mark.slow
def test_a_worker_that_dies_on_a_living_machine_is_tried_again_three_times() -> None:
    losses = Losses()
    assert [losses.again("a", "here", {"here"}) for _ in range(5)] == [True] * 3 + [False] * 2
    assert losses.again("b", "here", {"here"})  # each stage has its own count


def test_a_lost_machine_is_no_loss_of_the_stages() -> None:
    losses = Losses()
    assert all(losses.again("a", "", {"other"}) for _ in range(100))
    assert all(losses.again("a", f"gone-{n}", {"other"}) for n in range(100))


def test_a_machine_that_is_found_dead_later_excuses_what_was_lost_on_it() -> None:
    losses = Losses()
    assert all(losses.again("a", "spot", {"spot", "head"}) for _ in range(RETRIES))
    assert losses.again("a", "head", {"head"})  # by now spot is known to be dead
    assert losses.crashes("a", {"head"}) == 1


def test_where_it_ran_is_not_known_counts() -> None:
    losses = Losses()
    assert [losses.again("a", None, set()) for _ in range(4)] == [True, True, True, False]


@pytest.fixture(scope="module", autouse=True)
def one_cpu() -> None:
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@ray.remote(max_retries=0)
def fails() -> None:
    raise StageError("the loss is not a number")


@ray.remote(max_retries=0)
def loses() -> None:
    raise WorkerLost("a peer is gone")


@ray.remote(max_retries=0)
def dies() -> None:
    os.kill(os.getpid(), 9)


@ray.remote(max_restarts=0)
class Dying:
    def die(self) -> None:
        os.kill(os.getpid(), 9)


def ended(ref: ray.ObjectRef) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011  (whatever Ray makes of it)
        ray.get(ref)
    return caught.value


def test_an_error_of_the_code_is_no_loss() -> None:
    found = outcome_of("a", ended(fails.remote()))
    assert not found.lost
    assert found.error == "StageError: the loss is not a number"
    assert "raise StageError" in found.detail


def test_a_process_that_is_gone_is_a_loss() -> None:
    error = ended(dies.remote())
    assert isinstance(error, WorkerCrashedError)
    assert outcome_of("a", error).lost
    assert outcome_of("a", error).place is None
    found = outcome_of("a", ended(loses.remote()))
    assert found.lost
    assert found.place is None


def test_an_actor_that_is_gone_is_a_loss_on_its_machine() -> None:
    found = outcome_of("a", ended(Dying.remote().die.remote()))
    assert found.lost
    assert {found.place} == alive()


def test_a_machine_that_is_gone_is_known_as_such() -> None:
    found = outcome_of("a", NodeDiedError("spot"))
    assert found.lost
    assert found.place == ""


@ray.remote(max_retries=0)
def loses_its_machine() -> None:
    raise MachineLost("a peer's machine is gone")


def test_a_peers_machine_that_is_gone_is_known_as_such() -> None:
    found = outcome_of("a", ended(loses_its_machine.remote()))
    assert (found.lost, found.place) == (True, "")


def test_machines_that_live_have_not_died() -> None:
    assert not one_died(alive(), patience=0.0)
    assert one_died({*alive(), "spot"}, patience=0.0)


@pytest.mark.parametrize(
    "cause",
    [
        NodeDiedError("spot"),
        WorkerCrashedError(),
        ObjectLostError("00" * 28, None, ""),
        ObjectReconstructionFailedError("00" * 28, "", "", None, ""),
        MachineLost("gone"),
    ],
    ids=lambda cause: type(cause).__name__,
)
def test_a_loss_inside_a_task_is_a_loss(cause: Exception) -> None:
    assert is_loss(RayTaskError("stream", "traceback", cause))
    assert not is_loss(RayTaskError("stream", "traceback", StageError("a bug")))


def test_a_storage_that_did_not_answer_is_a_loss() -> None:
    assert is_loss(StorageOutage("s3://bucket does not answer"))
    assert not is_loss(StorageError("s3://bucket is not ours"))


def test_an_error_of_the_code_leaves_a_note_and_a_loss_leaves_none(tmp_path: Path) -> None:
    store, stage = Store(tmp_path), Stage("samples", 1, {}, {})
    notes, others = Notes(store, stage, "one"), Notes(store, stage, "two")
    with pytest.raises(WorkerLost), notes.errors():
        raise WorkerLost("gone")
    notes.check()
    with pytest.raises(ValueError, match="odd"), notes.errors():
        raise ValueError("odd\nnumber")
    others.check()
    with pytest.raises(StageError, match="ValueError: odd number") as caught:
        notes.check()
    outcome = outcome_of(stage.key, caught.value)
    assert outcome.error.startswith("StageError: ValueError: odd number")
    assert not outcome.lost
    assert "raise ValueError" in outcome.detail  # where it was raised
