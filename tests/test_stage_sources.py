"""A kind of stage whose source has changed has its version raised, or its pin renewed on purpose.

``stage_sources.txt`` holds, for every kind, its version and a digest of all that decides its
result: the stage's function and every definition that it reaches by name, through imports.
A file of data beside a module counts with it.
Comments, docstrings, annotations, layout and the file that a definition stands in cost nothing;
settings (but `OF_RESULT`), store and graph (`NO_RESULT`) are left out. Where no result moves, renew
the pins by

    python tests/test_stage_sources.py
"""

import ast
import hashlib
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import pytest
import yaml

from ray_selfloop.config.datasets.known import KINDS
from ray_selfloop.config.scores import HERE, SCORES
from ray_selfloop.stages.kinds import ALL

PINS = Path(__file__).with_name("stage_sources.txt")
PACKAGE = Path(__file__).parents[1] / "ray_selfloop"
NO_RESULT = ("config", "errors", "graph", "store", "loop")
OF_RESULT = ("config.networks", "config.generators.")  # settings that compute: sides, budgets
REGISTRIES = ("evaluation.metrics",)  # reached by what they hold, not by name: they count whole
TRAITS = {
    ("datasets.base", "kind_of"): "config/datasets",
    ("generators.base", "worker"): "config/generators",
}
"""What loads an object that settings name, and where these stand: all of them count."""
REMEDY = (
    "what decides {kind} has changed: raise the version (and pin its numbers, see "
    "test_stage_versions.py) or, where no result moves, renew the pin, in both cases by: "
    "python tests/test_stage_sources.py"
)
UNSEEN = {"returns", "annotation", "ctx", "kind", "type_comment", "type_ignores"}


def shape(node: object) -> str:
    """A tree as text: no docstring, annotation or empty field, the same on every Python."""
    if isinstance(node, list):
        return f"[{','.join(shape(one) for one in node if not _docstring(one))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((name, value) for name, value in ast.iter_fields(node) if name not in UNSEEN)
    inside = ",".join(f"{n}={shape(v)}" for n, v in fields if v is not None and v != [])
    return f"{type(node).__name__}({inside})"


def counted(module: str) -> bool:
    """Whether what stands in a module can decide a result."""
    return module.startswith(OF_RESULT) or module.partition(".")[0] not in NO_RESULT


def _docstring(node: object) -> bool:
    """Whether it is words for people: a docstring, or a setting's description."""
    if isinstance(node, ast.keyword):
        return node.arg == "description"
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


class Module:
    """One file: its definitions by name, and where its imported names come from."""

    def __init__(self, package: Path, name: str) -> None:
        self.package, self.name, self.root = package, name, f"{package.name}."
        path = package.joinpath(*name.split("."))
        found = (
            path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
        )
        self.tree = ast.parse(found.read_text(encoding="utf-8"))

    @cached_property
    def definitions(self) -> dict[str, list[ast.stmt]]:
        found: dict[str, list[ast.stmt]] = {}
        for node in self.tree.body:
            for name in _defined(node):
                found.setdefault(name, []).append(node)
        return found

    @cached_property
    def imports(self) -> dict[str, tuple[str, str]]:
        """Name -> (module, name in it); the second is "" where a module is imported."""
        found = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                self.package.name
            ):
                room = (node.module or "").partition(".")[2]
                for alias in node.names:
                    inner = f"{room}.{alias.name}".lstrip(".")
                    place = self.package.joinpath(*inner.split("."))
                    whole = place.with_suffix(".py").is_file() or place.is_dir()
                    found[alias.asname or alias.name] = (inner, "") if whole else (room, alias.name)
        return found

    def names(self, nodes: list[ast.stmt]) -> Iterator[tuple[str, str]]:
        """(module, name) of everything that these definitions name."""
        for node in (inner for each in nodes for inner in ast.walk(each)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                module, name = self.imports.get(node.value.id, ("", ""))
                if module and not name:
                    yield module, node.attr
            elif isinstance(node, ast.Name) and node.id in self.definitions:
                yield self.name, node.id
            elif isinstance(node, ast.Name) and self.imports.get(node.id, ("", ""))[1]:
                yield self.imports[node.id]
        yield from self.lazy(nodes)

    def lazy(self, nodes: list[ast.stmt]) -> Iterator[tuple[str, str]]:
        """(module, name) of everything that a string among these definitions names."""
        for node in (inner for each in nodes for inner in ast.walk(each)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found = re.fullmatch(rf"{self.package.name}\.([\w.]+):(\w+)", node.value)
                if found:
                    yield found[1], found[2]


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]
    return []


class Sources:
    """The definitions of a package, followed by name."""

    def __init__(self, package: Path = PACKAGE) -> None:
        self.package = package
        self.modules: dict[str, Module] = {}

    def module(self, name: str) -> Module:
        if name not in self.modules:
            self.modules[name] = Module(self.package, name)
        return self.modules[name]

    def reached(self, module: str, name: str) -> dict[tuple[str, str], list[ast.stmt]]:
        """Every definition that this one needs, itself included."""
        found: dict[tuple[str, str], list[ast.stmt]] = {}
        ahead = [(module, name)]
        while ahead:
            at = ahead.pop()
            if at in found or not counted(at[0]):
                continue
            of = self.module(at[0])
            if at[1] in of.imports and at[1] not in of.definitions:  # passed on by another file
                ahead.append(of.imports[at[1]])
                continue
            found[at] = of.definitions.get(at[1], [])
            ahead += of.names(found[at])
            if at in TRAITS:
                ahead += self.workers(TRAITS[at])
            if at[0] in REGISTRIES:
                ahead += [(at[0], other) for other in of.definitions]
        return found

    def workers(self, room: str) -> list[tuple[str, str]]:
        """What the settings of a room name."""
        files = (self.package / room).glob("*.py")
        modules = [self.module(f"{room}/{file.stem}".replace("/", ".")) for file in files]
        return [at for module in modules for at in module.lazy(module.tree.body)]

    def digest(self, module: str, name: str) -> str:
        """Of all that decides what a function gives: 20 hex digits."""
        found = self.reached(module, name)
        texts = sorted(f"{name}: {shape(nodes)}" for (_, name), nodes in found.items())
        texts += [self.data(module) for module in sorted({module for module, _ in found})]
        return hashlib.sha256("\n".join(filter(None, texts)).encode()).hexdigest()[:20]

    def data(self, module: str) -> str:
        """What the file of data beside a module holds; "" where there is none."""
        file = self.package.joinpath(*module.split(".")).with_suffix(".yaml")
        return repr(yaml.safe_load(file.read_text("utf-8"))) if file.is_file() else ""


def kinds() -> Mapping[str, tuple[int, str, str]]:
    """Kind, dataset's reader or score -> its version, and the module and name of its function."""
    found = {kind.name: (kind.version, kind.run) for kind in ALL}
    version = found["dataset"][0]
    found["search/attempt"] = (found["search"][0], "ray_selfloop.stages.search:attempt")  # by Ray
    found |= {f"dataset/{name}": (version, k.traits.reader) for name, k in KINDS.items()}
    found |= {f"score/{s.name}": (s.version, HERE + s.opened) for s in SCORES.values()}
    return {
        name: (version, *run.removeprefix("ray_selfloop.").split(":"))
        for name, (version, run) in found.items()
    }


def lines() -> list[str]:
    """``<kind> <version> <digest>``, one for each kind."""
    sources = Sources()
    return [f"{kind} {v} {sources.digest(*at)}" for kind, (v, *at) in sorted(kinds().items())]


@pytest.fixture(scope="module")
def now() -> dict[str, str]:
    return {line.partition(" ")[0]: line for line in lines()}


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_a_kind_whose_source_has_changed_has_another_version_or_its_pin_renewed(
    now: dict[str, str], kind: str
) -> None:
    pinned = {line.partition(" ")[0]: line for line in PINS.read_text().splitlines()}
    assert now[kind] == pinned.get(kind), REMEDY.format(kind=kind)


def test_what_decides_a_kind_is_reached_by_name_and_nothing_else_is() -> None:
    at = kinds()
    scored = set(Sources().reached(*at["score/uncertainty"][1:]))
    assert ("filtering.scores.uncertainty", "bald") in scored
    fairness, drawn = (set(Sources().reached(*at[k][1:])) for k in ("fairness", "samples"))
    assert {("evaluation.fairness", "meo"), ("evaluation.readings", "all_readings")} <= fairness
    assert ("evaluation.fairness", "meo") not in drawn
    assert ("evaluation.frechet", "kernel_distance") not in fairness
    assert ("generators.gan.conditional_gan", "sampler") in drawn
    assert ("generators.ddpm", "GENERATOR") in drawn
    assert "mnist-unbiased-single" in Sources().data("claims.statements")
    assert ("datasets.breeds", "KIND") in Sources().reached(*at["dataset"][1:])
    assert not [m for m, _ in fairness | drawn if m.partition(".")[0] in ("report", "distributed")]


FIRST = """
from pack.room import second
from pack.room.third import Held

LIMIT = 3


def stage(x: int) -> int:
    return second.doubled(x) + LIMIT + Held(x).value


def other() -> int:
    return 0
"""
SECOND = "FACTOR = 2\n\n\ndef doubled(x):\n    return FACTOR * x\n\n\ndef unused():\n    return 1\n"
THIRD = '''
class Held:
    """What is held."""

    def __init__(self, value):
        self.value = value  # as it is
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    room = tmp_path / "pack" / "room"
    room.mkdir(parents=True)
    for name, text in {"first": FIRST, "second": SECOND, "third": THIRD}.items():
        (room / f"{name}.py").write_text(text)
    return tmp_path / "pack"


@pytest.mark.parametrize(
    ("file", "old", "new", "seen"),
    [
        ("first", "LIMIT = 3", "LIMIT = 4", True),
        ("second", "FACTOR = 2", "FACTOR = 3", True),
        ("second", "return FACTOR * x", "return x * FACTOR", True),
        ("third", "self.value = value", "self.value = -value", True),
        ("third", "What is held.", "That which is held.", False),
        ("third", "  # as it is", "", False),
        ("first", "x: int", "x: float", False),
        ("first", "return 0", "return 5", False),
        ("second", "return 1", "return 7", False),
        ("second", "\n\n\ndef doubled", "\n\ndef doubled", False),
    ],
)
def test_a_digest_moves_with_what_is_reached_and_not_with_words(
    package: Path, file: str, old: str, new: str, seen: bool
) -> None:
    before = Sources(package).digest("room.first", "stage")
    path = package / "room" / f"{file}.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert (Sources(package).digest("room.first", "stage") != before) == seen


if __name__ == "__main__":
    PINS.write_text("\n".join(lines()) + "\n", encoding="utf-8")
    sys.stdout.write(f"{PINS}: {len(kinds())} kinds\n")
