"""The machines of a cluster: those that are there, and those that the autoscaler may bring.

Decides whether a request fits on a machine, and says in one line why something waits. Ray itself
waits without a word for a machine that cannot come.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import yaml

from ray_selfloop.errors import ResourceError

CLUSTER_FILE = "~/ray_bootstrap_config.yaml"
"""Where `ray up` leaves the cluster file on the head, and the autoscaler reads it."""
COUNTED = ("CPU", "GPU", "slot")  # resources that a sweep asks for, and that are shown
HEAD = "node:__internal_head__"  # a resource that every cluster's head has
EPSILON = 1e-6


@dataclass(frozen=True)
class NodeType:
    """Machines of one shape. most: how many there can be."""

    name: str
    resources: Mapping[str, float]
    most: int

    def room(self, piece: Mapping[str, float]) -> int:
        """How many times one such machine, otherwise idle, could take ``piece``."""
        shares = [self.resources.get(name, 0.0) / amount for name, amount in piece.items()]
        return int(min(shares) + EPSILON)

    def __str__(self) -> str:
        has = amounts(self.resources)
        return f"{self.name}: {has}{f', up to {self.most}' if self.most > 1 else ''}"


def amounts(resources: Mapping[str, float]) -> str:
    """`1 CPU, 0.5 GPU`: what a sweep asks for, of ``resources``."""
    parts = [f"{resources[name]:g} {name}" for name in COUNTED if resources.get(name)]
    return ", ".join(parts) or "nothing"


def total(types: Iterable[NodeType], name: str) -> float:
    """How much of one resource there can be at once."""
    return sum(kind.resources.get(name, 0.0) * kind.most for kind in types)


def count(types: Iterable[NodeType]) -> int:
    """How many machines there can be."""
    return sum(kind.most for kind in types)


def present() -> tuple[NodeType, ...]:
    """The shapes of the machines that are there now."""
    return _grouped(node["Resources"] for node in ray.nodes() if node["Alive"])


def possible() -> tuple[NodeType, ...]:
    """The shapes of the machines that there can be in the cluster that this process has joined.

    Where the autoscaler's cluster file is at hand, the head and the workers that it may bring,
    otherwise the machines that are there now.
    """
    scaled, there = scaled_types(), present()
    return (*(kind for kind in there if HEAD in kind.resources), *scaled) if scaled else there


def more_may_come() -> bool:
    """Whether an autoscaler looks after the cluster whose machines are not known here."""
    autoscaler = status().stats.autoscaler_version not in (None, "", "0")
    return autoscaler and not scaled_types()


def status() -> Any:
    """Ray's own account of the cluster: its machines, demands and launches."""
    from ray.autoscaler.v2.sdk import get_cluster_status

    return get_cluster_status(ray.get_runtime_context().gcs_address)


def scaled_types(path: str | Path = CLUSTER_FILE) -> tuple[NodeType, ...]:
    """Worker types of a cluster file; none where there is no file. Raises ResourceError."""
    file = Path(os.path.expanduser(path))
    try:
        said = yaml.safe_load(file.read_text())
    except FileNotFoundError:
        return ()
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ResourceError(
            f"{file}, the autoscaler's cluster file, cannot be read: {error}"
        ) from error
    try:
        at_all = int(said.get("max_workers", 2**30))
        return tuple(
            NodeType(name, kind["resources"], min(int(kind.get("max_workers", at_all)), at_all))
            for name, kind in said["available_node_types"].items()
            if name != said["head_node_type"] and kind.get("resources")
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ResourceError(f"{file} is not a cluster file: {error!r}") from error


def _grouped(machines: Iterable[Mapping[str, float]]) -> tuple[NodeType, ...]:
    """Machines of equal shape as one type."""
    shapes: dict[tuple[tuple[str, float], ...], int] = {}
    for machine in machines:
        shape = tuple((name, machine[name]) for name in (*COUNTED, HEAD) if name in machine)
        shapes[shape] = shapes.get(shape, 0) + 1
    return tuple(NodeType("node", dict(shape), count) for shape, count in shapes.items())


def most(piece: Mapping[str, float], there: Sequence[NodeType]) -> int:
    """How many pieces of one shape the cluster can hold at once, each on one machine."""
    return sum(kind.most * kind.room(piece) for kind in there)


def listed(there: Sequence[NodeType]) -> str:
    """The machines, for people."""
    return "; ".join(str(kind) for kind in there) or "no machines"


def check(requests: Mapping[str, Mapping[str, float]], there: Sequence[NodeType]) -> None:
    """Raise ResourceError for the largest request that no single machine could ever take.

    requests: what asks (for people) -> what it asks for.
    """
    unfit = [(who, piece) for who, piece in requests.items() if not most(piece, there)]
    if unfit:
        who, piece = max(unfit, key=lambda item: (item[1].get("GPU", 0), sum(item[1].values())))
        raise ResourceError(
            f"{who} asks one machine for {amounts(piece)}, and no machine of the cluster has that "
            f"({listed(there)})"
        )


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
    counts: dict[str, int] = {}
    for demand in (*summary.placement_group_demand, *summary.ray_task_actor_demand):
        for bundle in demand.bundles_by_count:
            if any(bundle.bundle.values()):
                text = amounts(bundle.bundle)
                counts[text] = counts.get(text, 0) + bundle.count
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
