"""Every setting as it is told: complete, and docs/settings.md as the fields say."""

from pathlib import Path

import pytest
from schema_cases import FIELDS

from ray_selfloop.config import reference

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_docs_settings_is_fresh() -> None:
    fresh = PAGE.read_text("utf-8") == reference.page()
    assert fresh, "write it anew: python -m ray_selfloop settings --markdown > docs/settings.md"


def test_every_field_of_the_schema_is_told() -> None:
    for field in FIELDS:
        if field.path[0] not in ("axes", "training_of"):
            assert reference.asked(field.dotted), field.dotted


def test_every_setting_says_its_type_and_default() -> None:
    for one in reference.settings():
        assert one.type
        assert one.group or one.default, one.key


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (
            "loop.generations",
            [
                "loop.generations: whole number",
                "  N: generations after generation 0.",
                "  bounds: >= 0",
                "  default: 3",
            ],
        ),
        ("training_of.lenet.max_steps", ["training_of.lenet.max_steps: whole number or null"]),
        ("queue.volume", ["queue.volume: whole number (>= 1) or text (form ^D0(/[1-9][0-9]*)?$) "]),
        (
            "queue",
            ["queue: group", "  The first-in-first-out queue", "    capacity: whole "],
        ),
        ("storage_shared", ["storage_shared: true or false"]),
        ("no.setting", []),
    ],
)
def test_a_setting_is_told_in_a_few_lines(key: str, said: list[str]) -> None:
    lines = list(reference.sentences(key))
    assert len(lines) >= len(said)
    for line, start in zip(lines, said, strict=False):
        assert line.startswith(start)


def test_a_setting_of_several_kinds_says_of_which() -> None:
    heads = [line for line in reference.sentences("dataset.limit_train") if line[0] != " "]
    assert heads[0].startswith("dataset.limit_train (name: colorized_mnist): whole number or null")
    assert any("hard_imagenet, name: breeds" in head for head in heads), "told once where the same"
