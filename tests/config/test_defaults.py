"""Defaults hold together: a file that says little is valid, or one message says what to write."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from schema_cases import BASES, FIELDS, Field, members, merged, text, with_value

from ray_selfloop.config import load
from ray_selfloop.config.arms import ArmName
from ray_selfloop.config.datasets import known
from ray_selfloop.config.networks import NETWORKS
from ray_selfloop.config.sweep import Sweep
from ray_selfloop.errors import ConfigError
from ray_selfloop.planning import prepare

REMEDY = r"; (?:write|set) (?P<word>[\w.]+=(?:\[[^\]]*\]|[^\s,;]+))"
MOST_REMEDIES = 3
KINDS = {
    "dataset": list(known.KINDS),
    "generator": ["conditional_gan", "stable_diffusion", "duplicate_real", "held_out_real", "ddpm"],
}
SCORES = ["none", "clip", "uncertainty", "combined"]


def fault(file: Path, words: list[str]) -> str:
    """What is said of a sweep; empty of a valid one."""
    try:
        load.load(str(file), words)
    except ConfigError as error:
        return re.sub(rf"^{re.escape(str(file))}:\d+: ", "", str(error))
    return ""


def cured(tree: dict[str, Any], folder: Path) -> list[str]:
    """The remedies that make a sweep file valid, one after another as its messages say."""
    file, words = folder / "sweep.yaml", list[str]()
    file.write_text(text({"name": "a", **tree}))
    while (said := fault(file, words)) and len(words) < MOST_REMEDIES:
        found = re.search(REMEDY, said)
        assert found, f"{tree} after {words}: {said}"
        group = "" if "." in found["word"] else f"{said.partition(':')[0]}."
        words.append(group + found["word"])
    assert not said, f"{tree} after {words}"
    return words


def test_a_file_of_one_line_is_planned(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("name: a\n")
    plan = prepare([str(file), f"storage={tmp_path / 'store'}"])
    assert plan.sweep == Sweep(name="a", storage=str(tmp_path / "store"))
    assert len(plan.graph) > 20


@pytest.mark.parametrize("classifiers", [["lenet", "resnet50"], ["resnet50", "alexnet"], ["lenet"]])
def test_the_expert_is_the_papers_where_it_is_trained(classifiers: list[str]) -> None:
    sweep = Sweep.model_validate(
        {"classifiers": classifiers, "evaluation": {"judge": {"classifier": classifiers[0]}}}
    )
    assert sweep.expert.classifier == ("resnet50" if "resnet50" in classifiers else "lenet")
    named = Sweep.model_validate(
        {**sweep.model_dump(), "filter": {"expert": {"classifier": classifiers[0]}}}
    )
    assert named.expert.classifier == classifiers[0]


def values() -> Iterator[tuple[Field, Any]]:
    """Each value of a setting of few values."""
    for field in FIELDS:
        for member in members(field.schema):
            truth = (False, True) if member.get("type") == "boolean" else ()
            only = (member["const"],) if "const" in member else ()
            yield from ((field, value) for value in (*member.get("enum", ()), *truth, *only))


def test_every_value_alone_is_valid_or_told_what_to_write(tmp_path: Path) -> None:
    every = list(values())
    assert len(every) > 150
    for field, value in every:
        base = BASES[field.base] if field.path[0] in KINDS else {}
        kinds = {group: {"name": base[group]["name"]} for group in KINDS if group in base}
        if value == "folder" or kinds.get("generator") == {"name": "folder"}:
            kinds["generator"] = BASES["images"]["generator"]  # has a setting without a default
        cured(with_value(kinds, field.path, value), tmp_path)


@pytest.mark.parametrize("dataset", KINDS["dataset"])
def test_every_combination_of_kinds_is_valid_or_told_what_to_write(
    dataset: str, tmp_path: Path
) -> None:
    kinds = KINDS["generator"], SCORES, ArmName.__args__  # type: ignore[attr-defined]
    for generator, score, arm in itertools.product(*kinds):
        tree = {
            "dataset": {"name": dataset},
            "generator": {"name": generator},
            "filter": {"score": score},
            "loop": {"arm": arm},
        }
        cured(tree, tmp_path)


@pytest.mark.parametrize("network", NETWORKS)
def test_any_one_network_needs_a_word_or_two(network: str, tmp_path: Path) -> None:
    roles = ["evaluation.judge.classifier", "filter.expert.classifier"]
    wanted = [] if network == "lenet" else [f"{role}={network}" for role in roles]
    wanted = wanted[:1] if network == "resnet50" else wanted
    assert cured({"classifiers": [network]}, tmp_path) == wanted


def test_seeds_that_leave_out_the_default_are_told_what_to_write(tmp_path: Path) -> None:
    assert cured({"loop": {"classifier_seeds": [5, 6]}}, tmp_path) == [
        "evaluation.judge.seeds=[5]",
        "filter.expert.seeds=[5]",
    ]
    ensemble = {"filter": {"uncertainty": {"method": "ensemble"}}}
    assert cured(ensemble, tmp_path) == ["filter.expert.seeds=[0, 1]"]
    one = merged(ensemble, {"loop": {"classifier_seeds": [3]}})
    assert cured(one, tmp_path)[-1] == "filter.uncertainty.method=mc_dropout"
