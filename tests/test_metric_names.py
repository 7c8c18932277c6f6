"""A metric is named by its string in the file that defines it, and nowhere else in the package."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from ray_selfloop.config.claims import Claims
from ray_selfloop.config.evaluation import Dynamics
from ray_selfloop.evaluation import metrics

PACKAGE = Path(__file__).parents[1] / "ray_selfloop"
HOME = "evaluation/metrics.py"
SPEAKING = ("claims/statements.py",)  # the paper's statements are about metrics
VALUES = "config/"  # of settings: see below
OTHERS_TOO = {
    "accuracy", "accuracy_per_class", "collapsed", "ablation_undefined", "kept_fraction",
    "kept_fraction_per_class",  # in summaries of records, which no table reads
    "samples", "chains", "trials",  # a stage, counts of a plan
    "cas",  # what a seed is for
    "precision",  # in which numbers are computed
    "A", "q", "u",  # letters of eq. 6
}  # fmt: skip
"""Keys of the table that other rooms use as words of their own."""
FILES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))


@cache
def nodes(file: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse((PACKAGE / file).read_text(encoding="utf-8"))))


def strings(file: str) -> Iterator[str]:
    """Every text of a file's code, the parts of f-strings included."""
    for node in nodes(file):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def is_key(text: str) -> bool:
    """Whether a text is a key of the results table, or begins one with a kind of ablation."""
    try:
        metrics.base(text.removesuffix("/"))
    except KeyError:
        return False
    return " " not in text


def test_no_other_file_names_a_metric_by_its_string() -> None:
    """What is named is imported from the file that defines it."""
    others = [f for f in FILES if f not in (HOME, *SPEAKING) and not f.startswith(VALUES)]
    named = {f: {text for text in strings(f) if is_key(text)} - OTHERS_TOO for f in others}
    assert {file: found for file, found in named.items() if found} == {}
    assert any(map(is_key, strings(HOME)))


def test_the_table_is_asked_for_a_metric_by_no_string_even_of_those_words() -> None:
    for file in FILES:
        for node in nodes(file):
            sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            asked = any('["metric"]' in ast.unparse(side).replace("'", '"') for side in sides)
            assert not (asked and any(isinstance(side, ast.Constant) for side in sides)), file


def test_the_settings_that_name_a_metric_name_one_that_is_there() -> None:
    found = {
        name: get_args(settings.model_fields[name].annotation)
        for settings, name in ((Claims, "primary"), (Dynamics, "quality"), (Dynamics, "bias"))
    }
    made = {"one_minus_meo", "without_object"}  # readings of B that are no row of the table
    values = {value for of in found.values() for value in of} - made
    assert len(values) > 8
    assert all(map(is_key, values))


def test_the_page_of_metrics_is_fresh() -> None:
    """Renew it by: python -m ray_selfloop.evaluation.metrics > docs/metrics.md"""
    page = PACKAGE.parent / "docs" / "metrics.md"
    assert page.read_text(encoding="utf-8").splitlines() == list(metrics.page())


def test_two_metrics_of_one_name_are_refused() -> None:
    about = {"range": (0.0, 1.0), "definition": "another"}
    with pytest.raises(ValueError, match="two metrics are called 'md'; rename one"):
        metrics.declared("md", "fraction", 0.0, **about)
