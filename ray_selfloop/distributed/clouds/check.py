"""A cluster file before it costs money: placeholders, Ray's own checks, this project's rules.

Everything is answered on this machine, at once; no cloud is asked. What this project wants of a
cluster stands in `rules.py`, what is a cloud's own in the cloud's file. A new cloud is a file with
its object, and its name in ``CLOUDS``.
"""

import contextlib
import copy
import io
import itertools
import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from ray_selfloop.config import plain
from ray_selfloop.distributed.clouds.aws import AWS
from ray_selfloop.distributed.clouds.base import Tree
from ray_selfloop.distributed.clouds.file import Cluster, NodeType, at, leaves, storage_of
from ray_selfloop.distributed.clouds.gcp import GCP
from ray_selfloop.distributed.clouds.rules import RULES
from ray_selfloop.errors import ConfigError

CLOUDS = {cloud.type: cloud for cloud in (AWS, GCP)}
PLACEHOLDER = "FILL-IN"
LARGEST = 2**63 - 1  # of integers, in either direction: `memory` is in bytes
LONGEST = 10_000  # characters of one text: the rules read every one by patterns
MARKS = frozenset({"cluster_name", "provider", "available_node_types", "head_node_type"})
"""Top-level keys that a cluster file has and a sweep file has not."""

REQUIRED = (
    "provider.region",
    "auth.ssh_user",
    "available_node_types",
    "head_node_type",
    "max_workers",
)


def read(path: str) -> Tree | None:
    """The file's tree if it is a cluster file; None for a sweep file or what is no YAML file."""
    try:
        text = plain.read(Path(path))
        if not any(mark in text for mark in MARKS):
            return None
        tree = plain.parsed(text, plain.Yaml11)
        _bounded(tree, itertools.count())
    except (OSError, ConfigError, UnicodeDecodeError, ValueError, yaml.YAMLError):
        return None  # the reader of sweep files says what is wrong
    return tree if isinstance(tree, dict) and MARKS & tree.keys() else None


def _bounded(value: Any, count: Iterator[int], depth: int = 0) -> None:
    """Raises ConfigError for what no cluster file holds: values without end, keys of no text."""
    if depth > plain.MOST_DEPTH or next(count) > plain.MOST_VALUES:
        raise ConfigError("too deep, or too many values, with every alias written out")
    if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        raise ConfigError("a key must be a text")
    if isinstance(value, str) and len(value) > LONGEST:
        raise ConfigError("a text is too long")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ConfigError("a number is too large")
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for inner in below:
        _bounded(inner, count, depth + 1)


def check(tree: Tree, path: str) -> Iterator[str]:
    """Lines that describe a good cluster file; raises ConfigError with all faults of another."""
    faults = list(dict.fromkeys(_faults(tree)))
    if faults:
        count = f"{len(faults)} faults" if len(faults) > 1 else "1 fault"
        raise ConfigError("\n  ".join([f"{path}: {count}", *faults]))
    provider = tree["provider"]
    cluster = Cluster.of(tree, CLOUDS[provider["type"]])
    yield (
        f"valid: cluster {tree['cluster_name']}, {cluster.cloud.title} {provider['region']}, Ray "
        f"{version('ray')}, at most {tree['max_workers']} workers, idle ones end after "
        f"{tree.get('idle_timeout_minutes', 5):g} minutes"
    )
    yield from _table(cluster)
    yield f"not checked: {cluster.cloud.unchecked}"
    yield from _next_commands(tree, path)


def _faults(tree: Tree) -> Iterator[str]:
    missing = _placeholders(tree)
    if missing:
        yield f"still to fill in: {', '.join(missing)}"
    of_ray = list(_ray_faults(tree))
    yield from of_ray
    if not of_ray:
        cluster = Cluster.of(tree, CLOUDS[tree["provider"]["type"]])
        for rule in (*RULES, cluster.cloud.faults):
            yield from (fault for fault in rule(cluster) if PLACEHOLDER not in fault)  # said above


def _placeholders(tree: Tree) -> list[str]:
    """Places of what is not filled in; of a value that `metadata` names, that place alone."""
    open_ = [(place, text) for place, text in leaves(tree) if PLACEHOLDER in text]
    named = {text for place, text in open_ if place.startswith("metadata.")}
    return [p for p, text in open_ if p.startswith("metadata.") or text not in named]


def _ray_faults(tree: Tree) -> Iterator[str]:
    """What `ray up` would refuse, and what it would fill in with defaults of its own."""
    named = at(tree, "provider", "type")
    if not isinstance(named, str) or named not in CLOUDS:
        yield f"provider.type: {named!r}; known here: {', '.join(CLOUDS)}"
        return
    faults = [
        *_schema_faults(tree),
        *(
            f"{path}: missing; Ray's default is not meant for this project"
            for path in REQUIRED
            if at(tree, *path.split(".")) is None
        ),
    ]
    yield from faults or _semantic_faults(tree)


def _schema_faults(tree: Tree) -> Iterator[str]:
    from jsonschema import Draft7Validator  # type: ignore[import-untyped]
    from ray import autoscaler

    schema = json.loads((Path(autoscaler.__file__).parent / "ray-schema.json").read_text())
    for fault in sorted(Draft7Validator(schema).iter_errors(tree), key=lambda one: str(one.path)):
        place = ".".join(str(part) for part in fault.absolute_path)
        yield f"{place}: {fault.message}" if place else fault.message


def _semantic_faults(tree: Tree) -> Iterator[str]:
    from ray.autoscaler._private import util  # there is no public function

    try:
        with contextlib.redirect_stdout(io.StringIO()):  # Ray's advice, which `ray up` repeats
            util.validate_config(util.prepare_config(copy.deepcopy(dict(tree))))
    except (ValueError, KeyError, TypeError, AssertionError, OSError) as error:
        yield f"Ray refuses it: {error}"


def _table(cluster: Cluster) -> Iterator[str]:
    columns = "{:16}{:14}{:12}{:>8}  {:8}{:26}{}"
    yield columns.format("type", "instance", "market", "priority", "nodes", "resources", "disk")
    for kind in cluster.types:
        yield columns.format(*_row(kind, kind is cluster.head)).rstrip()


def _row(kind: NodeType, is_head: bool) -> tuple[str, ...]:
    resources = ", ".join(f"{name} {amount}" for name, amount in kind.resources.items())
    return (
        kind.name,
        kind.machine.name,
        "spot" if kind.machine.spot else "on-demand",
        "" if is_head else str(kind.priority),
        "1" if is_head else f"0..{kind.entry.get('max_workers', '')}",
        resources,
        kind.machine.disks,
    )


def _next_commands(tree: Tree, path: str) -> Iterator[str]:
    yield "next:"
    yield f"  ray up {path}"
    yield f"  ray dashboard {path}                             # the tunnel to Ray: port 8265"
    yield f"  ray dashboard {path} -p 5000 --remote-port 5000  # the tunnel to MLflow"
    yield "  export RAY_AUTH_MODE=token"
    yield f"  python -m ray_selfloop submit CONFIG storage={storage_of(tree)}"
    yield f"  ray down {path}                                  # the bucket stays"
