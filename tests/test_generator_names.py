"""A generator is named in its own file alone, and what its traits name is there."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from pkgutil import resolve_name

import pytest

from ray_selfloop.config.arms import ARMS
from ray_selfloop.config.datasets.known import KINDS as DATASETS
from ray_selfloop.config.generators.known import KINDS
from ray_selfloop.generators.base import Generator, worker

PACKAGE = Path(__file__).parents[1] / "ray_selfloop"
USERS = {"config/arms.py", "config/sweep.py", "config/generators/known.py"}
"""Who builds settings: what arms change, the default, the list itself."""
FILES = {str(path.relative_to(PACKAGE)): path for path in PACKAGE.rglob("*.py")}


def own(name: str, file: str) -> bool:
    """Whether a file is that of a generator's settings, or of the room that its worker has."""
    settings, worker_ = KINDS[name].__module__, KINDS[name].traits.worker.partition(":")[0]
    room, _, _ = worker_.rpartition(".")
    module = "ray_selfloop." + file.removesuffix(".py").replace("/", ".")
    alone = room == "ray_selfloop.generators"
    return module in (settings, worker_) or (not alone and module.startswith(f"{room}."))


@cache
def nodes(file: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(FILES[file].read_text())))


def named(file: str) -> set[str]:
    """Generators' settings that a file names; in generators' rooms: in an `isinstance`.

    Those rooms say in the types of their functions what they are given.
    """
    found: Iterator[ast.AST] = (n for n in nodes(file) if isinstance(n, ast.Name))
    if file.startswith(("config/generators/", "generators/")):
        calls = (n for n in nodes(file) if isinstance(n, ast.Call))
        found = (n.args[1] for n in calls if getattr(n.func, "id", "") == "isinstance")
    classes = {kind.__name__ for kind in KINDS.values()}
    return classes & {p.id for n in found for p in ast.walk(n) if isinstance(p, ast.Name)}


def dataset(name: str, file: str) -> bool:
    """Whether a dataset of the same name is meant."""
    return name in DATASETS and file.startswith(("config/datasets/", "datasets/"))


def test_no_file_but_its_own_names_a_generator() -> None:
    """Arms bear the names of two; what a control arm is called is the arms' business."""
    for file in FILES:
        constants = (n.value for n in nodes(file) if isinstance(n, ast.Constant))
        said = {value for value in constants if isinstance(value, str) and value in KINDS}
        others = {
            name
            for name in said
            if name not in ARMS and not own(name, file) and not dataset(name, file)
        }
        assert not others, f"{file} names {others}"


def test_no_file_asks_which_class_a_generators_settings_are_of() -> None:
    found = {file: named(file) for file in FILES.keys() - USERS if named(file)}
    assert not found


@pytest.mark.parametrize("name", KINDS)
def test_what_a_generators_traits_name_is_there(name: str) -> None:
    traits = KINDS[name].traits
    found = resolve_name(traits.worker)
    assert isinstance(found, Generator)
    assert traits.trained == (found.train is not None)
    assert all(callable(resolve_name(path)) for path in (traits.check, traits.content) if path)


@pytest.mark.parametrize("name", KINDS)
def test_fields_that_a_result_does_not_depend_on_are_fields(name: str) -> None:
    kind = KINDS[name]
    for of in (kind.SAMPLING, kind.TRAINING, kind.CACHED, kind.PLACES):
        assert of <= kind.model_fields.keys()
    assert "name" not in kind.SAMPLING | kind.TRAINING | kind.PLACES
    assert bool(kind.traits.content) or not kind.PLACES
    assert worker(kind.model_construct(name=name)) is resolve_name(kind.traits.worker)
