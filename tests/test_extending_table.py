"""The table of docs/extending.md against the package: in which files a thing stands."""

import re

import pytest
from extending_page import PAGE
from test_layers import FILES, PACKAGE, imports

TABLE = PAGE.read_text("utf-8").partition("## Files that change")[2].partition("\n## ")[0]
ROWS = {
    cells[1].strip(): re.findall(r"`([\w/.]+)`", cells[2])
    for cells in (line.split("|") for line in TABLE.splitlines() if line.startswith("| a"))
}
THERE = {  # a row -> the files of one such thing
    "a dataset": ("config/datasets/folder.py", "datasets/folder.py"),
    "a generator": ("config/generators/ddpm.py", "generators/ddpm.py"),
    "a filter score": ("filtering/scores/uncertainty.py",),
    "a kind of stage": ("stages/scorer.py",),
    "a cloud": ("distributed/clouds/gcp.py",),
}
IN_ONE_FILE = {  # a row -> a word that stands in the file of one such thing alone
    "a metric": "memorised",
    "an arm": "frozen_expert",
    "a claim": "end-multiple",
}


def loaded(path: str, text: str) -> bool:
    """Whether a text names what loads an object of a file: of a score the file alone."""
    module = path.removesuffix(".py").replace("/", ".")
    return f"ray_selfloop.{module}:" in text or f'"{module.rpartition(".")[2]}:opened' in text


@pytest.mark.parametrize("thing", THERE)
def test_no_other_files_know_a_thing_that_is_there(thing: str) -> None:
    own = {*THERE[thing]}
    modules = {f"ray_selfloop.{path.removesuffix('.py').replace('/', '.')}" for path in own}
    known = {
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        if any(f"{name}.".startswith(f"{module}.") for name in imports(path) for module in modules)
        or any(loaded(file, path.read_text(encoding="utf-8")) for file in own)
    }
    told = {*ROWS[thing]}
    folders = {path for path in told if path.endswith("/")}
    assert {f"{file.rpartition('/')[0]}/" for file in own} == folders
    assert known - own == told - folders


@pytest.mark.parametrize("thing", IN_ONE_FILE)
def test_no_other_file_has_a_thing_of_one_file(thing: str) -> None:
    named = re.compile(rf'"{IN_ONE_FILE[thing]}"|id: {IN_ONE_FILE[thing]}$', re.MULTILINE)
    files = (*FILES, *PACKAGE.rglob("*.yaml"))
    found = {p.relative_to(PACKAGE).as_posix() for p in files if named.search(p.read_text("utf-8"))}
    assert found == {*ROWS[thing]}


def test_every_file_and_test_of_the_table_is_there() -> None:
    assert len(ROWS) > 9
    for path in (path for paths in ROWS.values() for path in paths if not path.startswith("timm/")):
        assert (PACKAGE / path).exists(), path
    for path in re.findall(r"`(tests/[\w/]+\.py)`", TABLE):
        assert (PACKAGE.parent / path).is_file(), path
