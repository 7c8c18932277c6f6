"""Imports go down the list of rooms, never up; ray and mlflow stay where they belong."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ray_selfloop"
ROOMS = (
    "errors",
    "seeding",
    "graph",
    "config",
    "data",
    "generators",
    "filtering",
    "queue",
    "classifiers",
    "inference",
    "evaluation",
    "dynamics",
    "simulator",
    "blobs",
    "artifacts",
    "leases",
    "failures",
    "store",
    "stages",
    "arms",
    "identity",
    "loop",
    "idle",
    "declaration",
    "progress",
    "distributed",
    "tracking",
    "report",
    "planning",
    "running",
    "conclude",
    "sweep",
    "__main__",
)
"""From the bottom up: a room may import those before it."""
HEAVY_FREE = ("errors", "seeding", "graph", "config")
FILES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path.parent != PACKAGE or path.stem[0] != "_" or path.stem == "__main__"
)


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, top_only: bool = False) -> Iterator[str]:
    """Dotted names that a file imports; with ``top_only`` those that loading it imports."""
    tree = ast.parse(path.read_text())
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    own = ROOMS.index(room(path))
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "ray_selfloop" and parts[1] in ROOMS:
            assert ROOMS.index(parts[1]) <= own, f"{path.name} imports {name}"


@pytest.mark.parametrize(("package", "home"), [("ray", "distributed"), ("mlflow", "tracking")])
def test_ray_and_mlflow_are_imported_in_one_room_each(package: str, home: str) -> None:
    users = {room(path) for path in FILES if package in {n.split(".")[0] for n in imports(path)}}
    assert users == {home}


@pytest.mark.parametrize("name", HEAVY_FREE)
def test_settings_load_without_torch(name: str) -> None:
    heavy = {"torch", "torchvision", "open_clip", "sklearn", "pandas", "ray", "mlflow"}
    for path in FILES:
        if room(path) == name:
            assert heavy.isdisjoint(n.split(".")[0] for n in imports(path, top_only=True))
