"""Dotted names in texts: what programs of tests import, what is loaded by name, entry points."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_layers import PACKAGE

ROOT = PACKAGE.parent
DOTTED = re.compile(r"\bray_selfloop((?:\.[a-zA-Z]\w*)+)(?::(\w+))?")
IMPORTED = re.compile(r"^\s*from (ray_selfloop[\w.]*) import (.+)$", re.M)
EXAMPLES = ("stripes", "mean", "brightness")  # files of docs/extending.md, which tests add


def texts(path: Path) -> Iterator[str]:
    """All of a file; of Python's its texts alone, f-strings without what they put in."""
    whole = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield whole
        return
    for node in ast.walk(ast.parse(whole)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def names(text: str) -> Iterator[str]:
    """Dotted names in a text, those of its imports by what they import."""
    for parts, attribute in DOTTED.findall(text):
        yield f"ray_selfloop{parts}{f'.{attribute}' if attribute else ''}"
    for module, imported in IMPORTED.findall(text):
        for name in re.findall(
            r"\b((?!\d)\w+)(?: as \w+)?(?:,|$)", imported.split("#")[0].strip("() ;")
        ):
            yield f"{module}.{name}"


def there(name: str) -> bool:
    """Whether a dotted name is a file or folder of the package, or stands in one at its top."""
    place, parts = PACKAGE, name.split(".")[1:]
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    if not parts:
        return True
    file = place / f"{parts[0]}.py"
    if file.is_file():
        return len(parts) == 1 or parts[1] in top(file)
    return parts[0] in top(place / "__init__.py")


def top(file: Path) -> set[str]:
    """The names that a file defines, or imports, at its top."""
    found: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
        else:
            found |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return found


FILES = sorted(
    path
    for folder, pattern in {
        "ray_selfloop": "*.py", "tests": "*.py", "benchmarks": "*.py", "docs": "*.md",
    }.items()
    for path in (ROOT / folder).rglob(pattern)
)  # fmt: skip
OTHERS = [ROOT / name for name in ("README.md", "pyproject.toml", "Dockerfile", "cluster.yaml")]


@pytest.mark.parametrize("folder", ["ray_selfloop", "tests", "benchmarks", "docs", ""])
def test_every_dotted_name_of_the_package_in_a_text_is_there(folder: str) -> None:
    own = [f for f in FILES if f.relative_to(ROOT).parts[0] == folder and f != Path(__file__)]
    files = own if folder else OTHERS
    found = {name for file in files for text in texts(file) for name in names(text)}
    assert found, "the test looks for what is there"
    known = {name for name in found if there(name) or set(EXAMPLES) & {*name.split(".")}}
    assert found == known, sorted(found - known)


def test_a_name_that_is_not_there_is_found() -> None:
    assert there("ray_selfloop.stages.kept.KIND")
    assert not there("ray_selfloop.stages.kept.KIN")
    assert not there("ray_selfloop.stages.keep")
    assert [*names("from ray_selfloop.stages import kept, run as r")] == [
        "ray_selfloop.stages",
        "ray_selfloop.stages.kept",
        "ray_selfloop.stages.run",
    ]
