"""Imports go down the list of rooms, never up; ray and mlflow stay where they belong."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ray_selfloop"
BENCHMARKS = sorted((PACKAGE.parent / "benchmarks").glob("*.py"))
ROOMS = (
    "errors",
    "seeding",
    "graph",
    "config",
    "command",
    "published",
    "images",
    "datasets",
    "generators",
    "filtering",
    "queue",
    "classifiers",
    "inference",
    "evaluation",
    "equation6",
    "claims",
    "outside",
    "simulator",
    "store",
    "arms",
    "told",
    "stages",
    "loop",
    "measurements",
    "idle",
    "declaration",
    "progress",
    "estimates",
    "distributed",
    "tracking",
    "report",
    "planning",
    "earlier",
    "running",
    "deciding",
    "conclusion",
    "verbs",
    "cli",
    "sweep",
    "api",
    "__main__",
)
"""From the bottom up: a room may import those before it."""
HEAVY_FREE = ("errors", "seeding", "graph", "config", "command", "cli", "sweep", "__main__")
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


def test_conclusion_alone_turns_what_is_stored_into_what_is_shown() -> None:
    users = {
        room(path)
        for path in FILES
        if any(name.startswith("ray_selfloop.report.view.") for name in imports(path))
    }
    assert users == {"report", "conclusion"}
    shown = [name for path in FILES if room(path) == "report" for name in imports(path)]
    assert not [name for name in shown if name.startswith("ray_selfloop.store")]


@pytest.mark.parametrize("name", HEAVY_FREE)
def test_settings_load_without_torch(name: str) -> None:
    heavy = {"torch", "torchvision", "open_clip", "sklearn", "pandas", "ray", "mlflow"}
    for path in FILES:
        if room(path) == name:
            assert heavy.isdisjoint(n.split(".")[0] for n in imports(path, top_only=True))


CALLED_BY_OTHERS = {  # hooks of torch, pickle, Ray Tune and click, and the program of pyproject
    "list_commands", "script",
    "forward", "find_class", "suggest", "on_trial_complete", "on_trial_start", "on_trial_error",
}  # fmt: skip
FOR_TESTS = {"run_here"}  # a whole graph without Ray


def test_every_function_has_a_user() -> None:
    """A function or property that nothing names but its own definition is dead, tests or not."""
    trees = [ast.parse(path.read_text()) for path in (*FILES, *BENCHMARKS)]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    defined = {
        node.name
        for node in nodes
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("__")
        and all(isinstance(d, ast.Name) for d in node.decorator_list)  # no pydantic validator
    }
    used = {n.id for n in nodes if isinstance(n, ast.Name)}
    used |= {n.attr for n in nodes if isinstance(n, ast.Attribute)}
    used |= {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    templates = " ".join(path.read_text() for path in PACKAGE.rglob("*.jinja"))
    used |= {name.rpartition(":")[2] for name in used if ":" in name}  # "module:function"
    dead = defined - used - set(re.findall(r"\w+", templates)) - CALLED_BY_OTHERS - FOR_TESTS
    assert not dead
