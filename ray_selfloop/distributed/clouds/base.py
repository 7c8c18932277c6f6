"""A cloud: one object in one file, which is all that a cluster file's check knows of it.

A cloud that has a lint of its own, or none here, needs less: where `ray up` or Kubernetes says at
once what is wrong, `faults` may be nothing. `gcp.py` is the shortest one that there can be.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray_selfloop.distributed.clouds.file import Cluster

Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Machine:
    """What a node type asks its cloud for.

    name: the cloud's own, such as g6.2xlarge; empty where none is given. spot: whether the cloud
    may take it back. gpus: how many it has; None where that is not known here. disks: for people.
    """

    name: str
    spot: bool
    gpus: int | None = None
    disks: str = ""


@dataclass(frozen=True)
class Cloud:
    """What the check of a cluster file asks of a cloud.

    type: as `provider.type` has it. machine: the shape of a node, from its `node_config`.
    bucket: how addresses of its storage begin. faults: what would hang, cost or open something,
    and `ray up` does not say. watcher: the module that a spot node starts to drain itself when the
    cloud announces that it takes it; empty: a loss is noticed when it has happened.
    unchecked: what nobody has looked at.
    """

    type: str
    title: str
    bucket: str
    machine: Callable[[Tree], Machine]
    faults: Callable[["Cluster"], Iterator[str]] = field(default=lambda cluster: iter(()))
    watcher: str = ""
    unchecked: str = "prices, quotas, and whether what the file names exists"
