"""The machines of a cluster: those that are there, and those that the autoscaler may bring.

Decides whether a request fits on a machine, and says in one line why something waits. Ray itself
waits without a word for a machine that cannot come.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import yaml
from ray._raylet import (  # type: ignore[attr-defined]  # there is no public way to ask
    GCS_AUTOSCALER_STATE_NAMESPACE,
    GCS_AUTOSCALER_V2_ENABLED_KEY,
)
from ray.exceptions import RpcError

from ray_selfloop.errors import HeadSilent, ResourceError

COUNTED = ("CPU", "GPU", "slot")  # resources that a sweep asks for, and that are shown
HEAD = "node:__internal_head__"  # a resource that every cluster's head has
GIVEN = "--autoscaling-config="  # how the autoscaler is told its cluster file
EPSILON = 1e-6
BOUNDLESS = 2**30  # machines, where a cluster file sets no bound
PATIENCE = 60.0  # s for which a head that does not answer is waited for


@dataclass(frozen=True)
class NodeType:
    """Machines of one shape. most, least: how many there can be, and how many are always there."""

    name: str
    resources: Mapping[str, float]
    most: int
    least: int = 0

    def room(self, piece: Mapping[str, float]) -> int:
        """How many times one such machine, otherwise idle, could take ``piece``."""
        shares = [self.resources.get(name, 0.0) / amount for name, amount in piece.items()]
        return int(min(shares) + EPSILON)

    def __str__(self) -> str:
        has = amounts(self.resources)
        return f"{self.name}: {has}{f', up to {self.most}' if self.most > 1 else ''}"


@dataclass(frozen=True)
class Machines:
    """The machines that a cluster can have, its head among them.

    at_all: how many there can be at once, over all types. open: whether an autoscaler may bring
    others, of shapes that are not known here.
    """

    types: tuple[NodeType, ...] = ()
    at_all: int = BOUNDLESS
    open: bool = False

    def total(self, name: str) -> float:
        """How much of one resource there can be at once."""
        return self._best(lambda kind: kind.resources.get(name, 0.0))

    def count(self) -> int:
        return int(self._best(lambda kind: 1.0))

    def most(self, piece: Mapping[str, float]) -> int:
        """How many pieces of one shape the cluster can hold at once, each on one machine."""
        return int(self._best(lambda kind: kind.room(piece)))

    def check(self, requests: Mapping[str, Mapping[str, float]]) -> None:
        """Raise ResourceError for the largest request that no single machine could ever take.

        requests: what asks (for people) -> what it asks for.
        """
        unfit = [(who, piece) for who, piece in requests.items() if not self.most(piece)]
        if unfit:
            who, piece = max(unfit, key=lambda item: (item[1].get("GPU", 0), sum(item[1].values())))
            raise ResourceError(
                f"{who} asks one machine for {amounts(piece)}, and no machine of the cluster has "
                f"that ({self})"
            )

    def _best(self, worth: Callable[[NodeType], float]) -> float:
        """What the best machines that can be there at once are worth together."""
        left = max(self.at_all - sum(kind.least for kind in self.types), 0)
        found = 0.0
        for kind in sorted(self.types, key=worth, reverse=True):
            more = min(kind.most - kind.least, left)
            left -= more
            found += worth(kind) * (kind.least + more)
        return found

    def __str__(self) -> str:
        parts = [str(kind) for kind in self.types] or ["no machines"]
        if sum(kind.most for kind in self.types) > self.at_all:
            parts.append(f"{self.at_all} at once")
        return "; ".join(parts)


def amounts(resources: Mapping[str, float]) -> str:
    """`1 CPU, 0.5 GPU`: what a sweep asks for, of ``resources``."""
    parts = [f"{resources[name]:g} {name}" for name in COUNTED if resources.get(name)]
    return ", ".join(parts) or "nothing"


def present() -> Machines:
    return Machines(_grouped(node["Resources"] for node in ray.nodes() if node["Alive"]))


def possible() -> Machines:
    """The machines that there can be in the cluster that this process has joined.

    On the machine of the cluster's autoscaler, its cluster file says which it may bring. Elsewhere
    any may come if the head says that there is one. Raises ResourceError.
    """
    there, autoscaler = present(), _autoscaler()
    if autoscaler is None:
        return replace(there, open=scaled_elsewhere())
    return with_workers(there, autoscaler) if autoscaler.name else there


def _autoscaler() -> Path | None:
    """The cluster file of the joined cluster's autoscaler, empty where it was started without one.

    None: it does not run on this machine. Every head starts it before anybody can join.
    """
    session = f"/{ray.get_runtime_context().get_session_name()}/"
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text(errors="replace").split("\0")
        except OSError:  # it has ended meanwhile
            continue
        of_ours = any(word.startswith("--logs-dir=") and session in word for word in words)
        if of_ours and any(word.endswith("/monitor.py") for word in words):
            given = [word.removeprefix(GIVEN) for word in words if word.startswith(GIVEN)]
            return process / "cwd" / os.path.expanduser(given[0]) if given else Path()
    return None


def scaled_elsewhere(patience: float = PATIENCE) -> bool:
    """Whether the joined cluster has an autoscaler (v2, not on this machine).

    The head knows that from its start. Raises HeadSilent where it does not answer for
    ``patience`` seconds.
    """
    key, space = GCS_AUTOSCALER_V2_ENABLED_KEY.encode(), GCS_AUTOSCALER_STATE_NAMESPACE.encode()
    try:
        said = ray._private.worker.global_worker.gcs_client.internal_kv_get(key, space, patience)
    except RpcError as error:
        raise HeadSilent(
            f"the cluster's head does not answer for {patience:g} s ({error}): try again, or look "
            "at its load"
        ) from error
    return bool(said == b"1")


def status() -> Any:
    """Ray's own account of the cluster: its machines, demands and launches."""
    from ray.autoscaler.v2.sdk import get_cluster_status

    return get_cluster_status(ray.get_runtime_context().gcs_address)


def with_workers(there: Machines, file: Path) -> Machines:
    """The machines that are there, and those that the autoscaler of a cluster file may bring.

    A machine that is there and has a shape of the file's is the autoscaler's, and is not counted
    twice. Raises ResourceError.
    """
    try:
        said = yaml.safe_load(file.read_text())
    except FileNotFoundError:  # the autoscaler sees another file system: a container's
        return replace(there, open=True)
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ResourceError(
            f"{file}, the autoscaler's cluster file, cannot be read: {error}"
        ) from error
    try:
        at_all, types = _workers(said)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ResourceError(f"{file} is not a cluster file: {error!r}") from error
    known = [kind for kind in types if kind.resources]
    shapes = [_shape(kind.resources) for kind in known]
    stay = [
        kind
        for kind in there.types
        if HEAD in kind.resources or _shape(kind.resources) not in shapes
    ]
    at_all += sum(kind.most for kind in stay)
    return Machines((*stay, *known), at_all, open=len(known) < len(types))


def _workers(said: Mapping[str, Any]) -> tuple[int, list[NodeType]]:
    """How many workers a cluster file allows at once, and their types."""
    at_all = int(said.get("max_workers", BOUNDLESS))
    types = []
    for name, kind in said["available_node_types"].items():
        default = 0 if name == said["head_node_type"] else at_all
        most = min(int(kind.get("max_workers", default)), at_all)
        least = min(int(kind.get("min_workers", 0)), most)
        types.append(NodeType(name, kind.get("resources") or {}, most, least))
    return at_all, [kind for kind in types if kind.most]


def _shape(resources: Mapping[str, float]) -> dict[str, float]:
    """What a sweep sees of a machine."""
    return {name: resources[name] for name in COUNTED if resources.get(name)}


def _grouped(machines: Iterable[Mapping[str, float]]) -> tuple[NodeType, ...]:
    """Machines of equal shape as one type."""
    names = (*COUNTED, HEAD)
    shapes = Counter(tuple((n, own[n]) for n in names if n in own) for own in machines)
    return tuple(NodeType("node", dict(shape), n, n) for shape, n in shapes.items())


def waiting(found: Any) -> str:
    """What of a cluster's `status` waits for what, in one sentence; empty where nothing waits."""
    demands = _demands(found)
    if not demands:
        return ""
    parts = [f"waiting for {_listed(demands)}", f"machines: {_machines(found)}"]
    coming = [f"{launch.count} {launch.ray_node_type_name}" for launch in found.pending_launches]
    coming += [f"1 {node.ray_node_type_name}" for node in found.pending_nodes]
    refused = {
        f"{launch.ray_node_type_name} ({' '.join(str(launch.details).split())[:200]})"
        for launch in found.failed_launches
    }
    if coming:
        parts.append(f"coming: {', '.join(coming)}")
    if refused:
        parts.append(f"the cloud refused: {', '.join(sorted(refused))}")
    return "; ".join(parts)


def _demands(found: Any) -> dict[str, int]:
    """Requests that Ray has not placed yet, as people read them, and how many of each."""
    summary = found.resource_demands
    counts = Counter[str]()
    for demand in (*summary.placement_group_demand, *summary.ray_task_actor_demand):
        for bundle in demand.bundles_by_count:
            if any(bundle.bundle.values()):
                counts[amounts(bundle.bundle)] += bundle.count
    return counts


def _listed(demands: Mapping[str, int]) -> str:
    return ", ".join(f"{count} x ({text})" for text, count in sorted(demands.items()))


def _machines(found: Any) -> str:
    """What each machine has, and how much of it is free."""
    said = []
    for node in (*found.active_nodes, *found.idle_nodes):
        have, free = node.total_resources(), node.available_resources()
        parts = [f"{free[name]:g} of {have[name]:g} {name}" for name in COUNTED if have.get(name)]
        said.append(f"{node.ray_node_type_name or 'node'} {', '.join(parts)} free")
    return "; ".join(sorted(said)) or "none"
