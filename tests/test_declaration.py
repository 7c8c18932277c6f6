"""What is judged is frozen before the data: what is in it, when it counts, that it stays."""

import json
from dataclasses import dataclass

import pytest
from conftest import TWO_STARTS

from ray_selfloop import declaration
from ray_selfloop.config import load
from ray_selfloop.declaration import Declaration, declared
from ray_selfloop.errors import CorruptRecord
from ray_selfloop.graph import Place
from ray_selfloop.store import blobs

CONTROLLED = ("regimes_small",)


def of(*words):
    return declared(*load.load(words[0], list(words[1:])))


def test_it_holds_statement_estimand_margin_and_networks():
    content = of(*CONTROLLED).content
    (primary,) = content["primary"]
    assert primary["metric"] == "md"
    assert primary["estimand"] == "last_minus_first"
    assert primary["of"] == "treatment minus no_synthetic"
    assert (primary["margin"], primary["networks"]) == (0.02, ["lenet"])
    assert (content["evaluation"]["level"], content["looks"]) == (0.95, None)
    assert content["chains"] == [0, 1, 2]
    assert content["A over the control's"] == [{"setting": "base", "networks": ["lenet"]}]
    assert {one["id"] for one in content["families"]["1"]} >= {"amplifies-worst_subgroup"}
    assert json.loads(json.dumps(content)) == content


def test_looks_are_declared_with_their_chains_in_order():
    """Who chose the order of chains could choose the first look that decides."""
    decided = of(*CONTROLLED, "decide={looks: [2, 3, 4]}")
    assert decided.content["looks"]["chains"] == [2, 3, 4]
    assert decided.content["chains"] == [0, 1, 2, 3]
    other = of(*CONTROLLED, "decide={looks: [2, 3, 4]}", "loop.loop_seeds=[2,1,0,3]")
    assert other.content["chains"] == [2, 1, 0, 3]
    assert other.hash != decided.hash
    assert of(*CONTROLLED, "decide={looks: [2, 3, 4], hours: 3}").hash == decided.hash
    assert decided.content["families"] == {}
    assert decided.content["A over the control's"] == []


def test_meo_may_be_the_primary_metric_with_three_subgroups():
    (primary,) = of(*CONTROLLED, "evaluation.claims.primary=meo").content["primary"]
    assert primary["metric"] == "meo"


def test_without_a_control_nothing_is_primary():
    found = of(TWO_STARTS)
    assert found.content["primary"] == []
    assert "without the arm no_synthetic" in " ".join(declaration.sentences(found))


def test_families_are_told_by_section():
    said = list(declaration.sentences(of(*CONTROLLED)))
    assert said[0].startswith("primary: ")
    assert "of section 1" in said[-1]


@pytest.mark.parametrize(
    "change",
    [
        "evaluation.claims.gap_margin=0.03", "evaluation.level=0.9", "loop.generations=3",
        "evaluation.claims.primary=meo", "classifiers=[lenet,mobilenet_v3_small]",
        "evaluation.seed=1", "evaluation.ordered=true",
        "evaluation.dynamics.least_fidelity=0.5", "loop.loop_seeds=[0,1,2,3,4]",
    ],
)  # fmt: skip
def test_what_is_judged_is_in_the_hash(change):
    assert of(*CONTROLLED, change).hash != of(*CONTROLLED).hash


@pytest.mark.parametrize(
    "change",
    [
        "evaluation.claims.chain_sd=0.5", "name=other", "evaluation.resamples=50",
        "resources.num_cpus=1", "loop.loop_seeds=[2,1,0]",
    ],
)  # fmt: skip
def test_what_is_not_judged_is_not(change):
    assert of(*CONTROLLED, change).hash == of(*CONTROLLED).hash


def test_the_rule_of_a_distances_margin_is_in_the_hash():
    """The number itself is a share of what generation 1 has, and so not known before."""
    usual, wide = (
        of("colorized_mnist", "dataset.root=/nowhere", *words)
        for words in ((), ("evaluation.claims.distance_margin=0.5",))
    )
    assert usual.hash != wide.hash
    distances = [one["margin"] for of_ in wide.content["families"].values() for one in of_
                 if one["id"] == "mnist-fid"]  # fmt: skip
    assert set(distances) == {"0.5 of its value at generation 1"}


def test_it_is_written_once(tmp_path):
    stored = blobs.at(tmp_path)
    first = declaration.freeze(Declaration({"a": 1}), "s", stored)
    assert first.declared is not None
    again = declaration.freeze(Declaration({"a": 1}), "s", stored)
    assert again == first
    assert declaration.read(Declaration({"a": 1}), "s", stored) == first
    assert declaration.read(Declaration({"a": 2}), "s", stored).declared is None
    (path,) = (tmp_path / "declarations").iterdir()
    assert json.loads(path.read_text())["content"] == {"a": 1}
    assert declaration.others(first, "s", stored) == 0
    assert declaration.others(Declaration({"a": 2}), "s", stored) == 1
    assert declaration.others(Declaration({"a": 2}), "another", stored) == 0


def test_a_sweep_of_another_name_finds_it(tmp_path):
    """A copied storage, or a renamed sweep, is declared when it was."""
    stored = blobs.at(tmp_path)
    first = declaration.freeze(Declaration({"a": 1}), "s", stored)
    assert declaration.read(Declaration({"a": 1}), "renamed", stored) == first


def test_a_damaged_one_is_named(tmp_path):
    stored = blobs.at(tmp_path)
    declaration.freeze(Declaration({"a": 1}), "s", stored)
    (path,) = (tmp_path / "declarations").iterdir()
    path.write_text("{")
    with pytest.raises(CorruptRecord, match="is damaged"):
        declaration.read(Declaration({"a": 1}), "s", stored)


@dataclass(frozen=True)
class Finished:
    """What is read of a record."""

    published: float
    seconds: float


def test_it_counts_if_nothing_of_generation_1_had_begun():
    trials = [
        (Place("s", 0, 0, "lenet", 0), Finished(10.0, 5.0)),
        (Place("s", 0, 1, "lenet", 0), Finished(30.0, 8.0)),
        (Place("s", 1, 1, "lenet", 0), Finished(40.0, 20.0)),
    ]
    begun = declaration.begun(trials)
    assert begun == 20.0
    assert Declaration({}, 15.0).before(begun)
    assert not Declaration({}, 25.0).before(begun)
    assert not Declaration({}, None).before(begun)
    assert Declaration({}, 25.0).before(declaration.begun(trials[:1]))
