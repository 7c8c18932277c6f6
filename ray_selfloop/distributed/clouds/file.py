"""A parsed cluster file as its rules see it: node types, their images, and what a shell reads.

Knows where things stand in the file, not what is right.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Tree = Mapping[str, Any]

STORAGE_OPTION = "--env=SELFLOOP_STORAGE="
XLARGE = re.compile(r"\.(\d*)xlarge$")
ROOTS = ("/dev/sda1", "/dev/xvda")  # the system's disk: Ubuntu's AMIs, Amazon Linux's
READ_BY_A_SHELL = re.compile(r"_commands\[|run_options\[")
COMMENT = re.compile(r"""('[^']*'|"(?:\\.|[^"\\])*")|(?<![^\s;&|()])#[^\n]*""")
"""Quoted text, which is kept, or a comment."""
ONE_COMMAND = re.compile(r"[;|()\n]|(?<![<>])&(?!>)")
"""What parts a line into single commands; `2>&1` and `&>` do not."""


@dataclass(frozen=True)
class NodeType:
    """One entry of `available_node_types`.

    place: its path in the file, for messages. node: its `node_config`, AWS's own keys.
    resources: what it has, by Ray's names (CPU, GPU, slot).
    """

    name: str
    place: str
    entry: Tree
    node: Tree
    resources: Mapping[str, int]

    @property
    def instance(self) -> str:
        """AWS's name of the machine, such as g6.2xlarge; empty where none is given."""
        return str(self.node.get("InstanceType") or "")

    @property
    def spot(self) -> bool:
        """Whether AWS may take the node back."""
        return at(self.node, "InstanceMarketOptions", "MarketType") == "spot"

    @property
    def priority(self) -> int:
        """The autoscaler prefers the higher of two types of one shape."""
        return int(self.entry.get("priority", 0))

    @property
    def cores(self) -> int | None:
        """vCPUs by AWS's naming of sizes: 4 for each `x` of an xlarge; None for other sizes."""
        size = XLARGE.search(self.instance)
        return 4 * int(size[1] or 1) if size else None

    @property
    def gpus(self) -> int:
        """How many it says it has."""
        return self.resources.get("GPU", 0)

    @property
    def disks(self) -> list[Tree]:
        """The EBS settings of its disks."""
        given = (at(mapping, "Ebs") for mapping in _list(self.node, "BlockDeviceMappings"))
        return [disk for disk in given if isinstance(disk, Mapping)]

    @property
    def root_gb(self) -> int:
        """Size of the system's disk; 0 where the file leaves it to the AMI."""
        disks = _list(self.node, "BlockDeviceMappings")
        sizes = [at(d, "Ebs", "VolumeSize") for d in disks if at(d, "DeviceName") in ROOTS]
        return max((size for size in sizes if isinstance(size, int)), default=0)


@dataclass(frozen=True)
class Cluster:
    """A parsed cluster file whose schema Ray has accepted."""

    tree: Tree
    head: NodeType
    workers: tuple[NodeType, ...]

    @classmethod
    def of(cls, tree: Tree) -> "Cluster":
        """The view of a tree that has a head type."""
        types = {
            name: _node_type(name, entry) for name, entry in tree["available_node_types"].items()
        }
        head = types.pop(tree["head_node_type"])
        return cls(tree, head, tuple(types.values()))

    @property
    def types(self) -> tuple[NodeType, ...]:
        """The head's type, then the workers'."""
        return (self.head, *self.workers)

    @property
    def shell(self) -> list[tuple[str, str]]:
        """Place and text, without comments, of all commands and of Docker's options."""
        return [
            (place, COMMENT.sub(r"\1", text).replace("\\\n", " "))
            for place, text in leaves(self.tree)
            if READ_BY_A_SHELL.search(place)
        ]

    def start(self, kind: str) -> list[tuple[str, str]]:
        """Place and text of the start commands of `head` or `worker`."""
        return [one for one in self.shell if one[0].startswith(f"{kind}_start_ray_commands[")]

    def images(self) -> dict[str, str]:
        """Docker images by their place in the file."""
        docker = leaves(self.tree.get("docker") or {}, "docker")
        own = (leaves(w.entry.get("docker") or {}, f"{w.place}.docker") for w in self.workers)
        given = [*docker, *(one for options in own for one in options)]
        return {place: text for place, text in given if place.endswith("image")}

    def image_of(self, kind: NodeType) -> tuple[str, str]:
        """Place and name of the image that a node of a type runs; empty where there is none."""
        images = self.images()
        role = "head_image" if kind is self.head else "worker_image"
        places = (f"{kind.place}.docker.worker_image", f"docker.{role}", "docker.image")
        return next(
            ((place, images[place]) for place in places if place in images), (places[2], "")
        )


def single_commands(text: str) -> list[str]:
    """The commands of a line, without what joins them."""
    return ONE_COMMAND.split(text)


def storage_of(tree: Tree) -> str | None:
    """The storage that the containers are told of, by the name SELFLOOP_STORAGE."""
    options = (str(option) for option in _list(tree, "docker", "run_options"))
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


def _list(tree: Any, *path: str) -> list[Any]:
    found = at(tree, *path)
    return found if isinstance(found, list) else []


def _node_type(name: str, entry: Tree) -> NodeType:
    place = f"available_node_types.{name}"
    return NodeType(name, place, entry, entry["node_config"], entry["resources"])
