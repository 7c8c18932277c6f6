"""Which stages have lost their worker, and whether they are tried again.

A machine that goes away is nobody's fault: its stages are tried again without limit. A worker that
dies while its machine lives (out of memory, a crash) is tried again 3 times, and so is one that
could not reach the storage for long.
"""

import time
import traceback
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

import ray
from ray.core.generated.common_pb2 import NodeDeathInfo
from ray.exceptions import (
    NodeDiedError,
    RayError,
    RayTaskError,
)

from ray_selfloop.errors import MachineLost, StorageOutage, WorkerLost

RETRIES = 3
ENDED_IDLE = NodeDeathInfo.Reason.Value("AUTOSCALER_DRAIN_IDLE")
NOTICED = 20.0  # s within which Ray notices that a machine is dead


@dataclass(frozen=True)
class Outcome:
    """How a stage ended in a worker.

    error: one line; empty when the stage's record is published. detail: its traceback.
    lost: its worker is gone, or could not reach the storage. place: the machine where a lost one
    ran: "" for one that is gone, None where it is not known.
    """

    key: str
    error: str
    detail: str = ""
    lost: bool = False
    place: str | None = None


def outcome_of(key: str, error: BaseException | None) -> Outcome:
    """What an error says of the stage that ended in it; None: it ended well."""
    if error is None:
        return Outcome(key, "")
    remote = isinstance(error, RayTaskError)  # its text is the worker's traceback
    detail = str(error) if remote else "".join(traceback.format_exception(error))
    return Outcome(key, _reason(error), detail, is_loss(error), place_of(error))


def _reason(error: BaseException) -> str:
    """The cause of an error that Ray has wrapped, in one line."""
    cause = getattr(error, "cause", None) or error
    text = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {text[-1] if text else ''}"


def is_loss(error: BaseException) -> bool:
    """Whether an error tells of what was lost around the code, not of the code that ran."""
    if isinstance(error, RayTaskError):
        error = getattr(error, "cause", None) or error
    lost = isinstance(error, RayError | WorkerLost | StorageOutage)
    return lost and not isinstance(error, RayTaskError)


def place_of(error: BaseException) -> str | None:
    """The machine on which the worker of a loss ran; empty: one that is gone; None: not known."""
    cause = getattr(error, "cause", None) or error
    if isinstance(cause, NodeDiedError | MachineLost):
        return ""
    return machine_of(getattr(error, "actor_id", None) or "")


def machine_of(actor: str) -> str | None:
    """The machine on which an actor runs or ran; None where Ray does not know."""
    known = ray._private.state.actors(actor) if actor else {}
    return known.get("Address", {}).get("NodeID") or None


def alive() -> set[str]:
    """The machines that live, by their ids."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def one_died(before: Collection[str], patience: float = NOTICED) -> bool:
    """Whether a machine of those that lived ``before`` was lost; Ray may take a while to notice."""
    deadline = time.monotonic() + patience
    while not _lost(before):
        if time.monotonic() > deadline:
            return False
        time.sleep(1.0)
    return True


def _lost(machines: Collection[str]) -> set[str]:
    """Those that are gone, and not because the autoscaler found nothing running on them."""
    fine = {
        node["NodeID"] for node in ray.nodes() if node["Alive"] or node["DeathReason"] == ENDED_IDLE
    }
    return set(machines) - fine


class Losses:
    """The losses of one run of the driver."""

    def __init__(self) -> None:
        self._places: dict[str, list[str]] = defaultdict(list)

    def again(self, key: str, place: str | None, living: Collection[str]) -> bool:
        """Note a loss of stage ``key``; whether it is tried again.

        place: as `place_of` gives it. living: ids of the machines that live now. A machine that
        has died since an earlier loss excuses that loss too: Ray notices late.
        """
        self._places[key].append("here" if place is None else place)
        return self.crashes(key, living) <= RETRIES

    def crashes(self, key: str, living: Collection[str]) -> int:
        """Losses of a stage on machines that live."""
        return sum(place == "here" or place in living for place in self._places[key])
