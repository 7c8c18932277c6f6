"""A parsed cluster file as its rules see it: node types, their images, and what a shell reads.

Knows where things stand in the file, not what is right, and of a cloud what its object says.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ray_selfloop.distributed.clouds.base import Cloud, Machine, Tree

STORAGE_OPTION = "--env=SELFLOOP_STORAGE="
READ_BY_A_SHELL = re.compile(r"_commands\[|run_options\[")


@dataclass(frozen=True)
class NodeType:
    """One entry of `available_node_types`.

    place: its path in the file, for messages. node: its `node_config`, the cloud's own keys.
    resources: what it has, by Ray's names (CPU, GPU, slot). machine: what the cloud gives.
    """

    name: str
    place: str
    entry: Tree
    node: Tree
    resources: Mapping[str, int]
    machine: Machine

    @property
    def priority(self) -> int:
        """The autoscaler prefers the higher of two types of one shape."""
        return int(self.entry.get("priority", 0))

    @property
    def gpus(self) -> int:
        return self.resources.get("GPU", 0)


@dataclass(frozen=True)
class Cluster:
    """A parsed cluster file whose schema Ray has accepted."""

    tree: Tree
    cloud: Cloud
    head: NodeType
    workers: tuple[NodeType, ...]

    @classmethod
    def of(cls, tree: Tree, cloud: Cloud) -> "Cluster":
        types = {}
        for name, entry in tree["available_node_types"].items():
            place, node = f"available_node_types.{name}", entry["node_config"]
            machine = cloud.machine(node)
            types[name] = NodeType(name, place, entry, node, entry["resources"], machine)
        head = types.pop(tree["head_node_type"])
        return cls(tree, cloud, head, tuple(types.values()))

    @property
    def types(self) -> tuple[NodeType, ...]:
        """The head's type, then the workers'."""
        return (self.head, *self.workers)

    @property
    def shell(self) -> list[tuple[str, str]]:
        """Place and text of all commands and of Docker's options."""
        return [one for one in leaves(self.tree) if READ_BY_A_SHELL.search(one[0])]

    def start(self, kind: str) -> list[tuple[str, str]]:
        """Place and text of the start commands of `head` or `worker`."""
        return [one for one in self.shell if one[0].startswith(f"{kind}_start_ray_commands[")]

    def images(self) -> dict[str, str]:
        docker = leaves(self.tree.get("docker") or {}, "docker")
        own = (leaves(w.entry.get("docker") or {}, f"{w.place}.docker") for w in self.workers)
        given = [*docker, *(one for options in own for one in options)]
        return {place: text for place, text in given if place.endswith("image")}

    def image_of(self, worker: NodeType) -> tuple[str, str]:
        """Place and name of the image that a worker runs; empty where there is none."""
        images = self.images()
        places = (f"{worker.place}.docker.worker_image", "docker.worker_image", "docker.image")
        return next(
            ((place, images[place]) for place in places if place in images), (places[2], "")
        )


def storage_of(tree: Tree) -> str | None:
    """The storage that the containers are told of, by the name SELFLOOP_STORAGE."""
    options = (str(option) for option in listed(tree, "docker", "run_options"))
    marked = [option for option in options if option.startswith(STORAGE_OPTION)]
    return marked[0].removeprefix(STORAGE_OPTION) if marked else None


def leaves(tree: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Path and text of every value below ``tree``."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from leaves(value, f"{place}.{key}" if place else str(key))
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from leaves(value, f"{place}[{number}]")
    else:
        yield place, str(tree)


def at(tree: Any, *path: str) -> Any:
    """The value at a path, None where the file has something else on the way."""
    for key in path:
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(key)
    return tree


def listed(tree: Any, *path: str) -> list[Any]:
    """The list at a path, an empty one where the file has something else there."""
    found = at(tree, *path)
    return found if isinstance(found, list) else []
