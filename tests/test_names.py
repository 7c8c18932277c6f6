"""A thing of the science is named in its own file: elsewhere it is asked, never compared."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from ray_selfloop.config.datasets.known import KINDS

PACKAGE = Path(__file__).parents[1] / "ray_selfloop"


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Line and value of every text in a file that is no docstring."""
    if path.suffix != ".py":
        yield from enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.lineno, node.value


def files(*but: str) -> Iterator[Path]:
    """Every module and template of the package, but for those in these rooms."""
    for path in sorted(p for p in PACKAGE.rglob("*") if p.suffix in (".py", ".jinja")):
        if not path.relative_to(PACKAGE).as_posix().startswith(but):
            yield path


def test_dataset_names() -> None:
    """No file outside the datasets' own writes the name of one: where it is a plain word, alone."""
    distinct = re.compile(rf"\b({'|'.join(name for name in KINDS if '_' in name)})\b")
    named = [
        f"{path.relative_to(PACKAGE)}:{line}: {text:.60}"
        for path in files("config/datasets/", "datasets/")
        for line, text in texts(path)
        if distinct.search(text) or (text in KINDS and text != path.stem)
    ]
    assert not named


def test_no_other_file_imports_a_dataset() -> None:
    """The paper's statements, which are data, speak of particular ones; code is for all of them."""
    own = {kind.__module__.rpartition(".")[2] for kind in KINDS.values()}
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in files("config/datasets/", "datasets/")
        for node in ast.walk(ast.parse(path.read_text()) if path.suffix == ".py" else ast.Module())
        if isinstance(node, ast.ImportFrom) and node.module
        and re.match(r"ray_selfloop\.(config\.)?datasets\b", node.module)
        and ({*node.module.split(".")} | {alias.name for alias in node.names}) & own
    }  # fmt: skip
    assert not found
