"""A network and a score are named where they stand and nowhere else, and have what rows promise."""

import ast
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name

import pytest

from ray_selfloop.classifiers import zoo
from ray_selfloop.config.networks import NETWORKS
from ray_selfloop.config.scores import CALLED, COMBINED, HERE, SCORES

PACKAGE = Path(__file__).parents[1] / "ray_selfloop"
OF_THE_PAPER = "claims/statements.py"  # what the paper says of its networks
OWN = {
    "networks": {"config/networks.py", "classifiers/zoo.py", OF_THE_PAPER},
    "scores": {"config/scores.py"},
}
GROUPS = {"uncertainty", "clip"}  # settings of `filter`, whose names their fields have


def texts(path: Path) -> Iterator[str]:
    """Every text that a file holds."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def naming(names: set[str]) -> set[str]:
    """The files of the package in which one of these names is a text."""
    files = PACKAGE.rglob("*.py")
    return {str(f.relative_to(PACKAGE)) for f in files if names.intersection(texts(f))}


@pytest.mark.parametrize(
    ("names", "own"),
    [
        (set(NETWORKS), OWN["networks"]),
        (set(SCORES) - GROUPS, OWN["scores"]),
    ],
    ids=OWN,
)
def test_no_file_outside_its_own_names_a_network_or_a_score(names: set[str], own: set[str]) -> None:
    found = naming(names)
    assert found <= own, sorted(found - own)
    assert found, "the test looks for what is there"


def test_every_row_has_a_builder_and_every_builder_a_row() -> None:
    built = {row.builder for row in NETWORKS.values()} | {"timm"}
    assert built == set(zoo.BUILDERS)


def test_every_score_can_be_opened_and_checked() -> None:
    for score in SCORES.values():
        assert callable(resolve_name(HERE + score.opened))
        assert not score.checked or callable(resolve_name(HERE + score.checked))
    assert set(COMBINED) <= set(CALLED)
