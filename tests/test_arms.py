"""The arms of an experiment as stages: what they share with the treatment, and what they do not."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from conftest import TWO_STARTS
from test_loop import at, counts, graph, keys

from ray_selfloop import arms
from ray_selfloop.config import load
from ray_selfloop.config.arms import ARMS, CONTROL, SUBGROUP_MATCHED
from ray_selfloop.graph import Graph, Stage
from ray_selfloop.stages import equation6
from ray_selfloop.stages.claims import described

ONE = "axes={}"
RESERVE = "dataset.reserve=0.5"


def arm(name: str, *words: str) -> Graph:
    return graph(ONE, f"loop.arm={name}", RESERVE, *words)


def trained(found: Graph, generation: int) -> Stage:
    return at(found, "classifier", generation=generation, classifier="lenet", seed=0)


def test_every_arm_that_the_settings_take_is_one_of_the_list_and_described_there() -> None:
    field = load.load(None, ())[0].loop.__class__.model_fields["arm"]
    assert set(ARMS) == set(field.annotation.__args__)  # type: ignore[union-attr]
    assert all(f"`{arm.name}`: {arm.says}" in str(field.description) for arm in ARMS.values())


def test_the_arms_that_resample_by_subgroup_say_so_and_promise_no_more() -> None:
    said = {arm.name for arm in ARMS.values() if "uses subgroup labels" in arm.says}
    assert said == {arm.name for arm in ARMS.values() if arm.subgroups}
    assert said == {"subgroup_matched", "real_skewed", "subgroup_balanced", "majority_kept"}
    assert "as far as" in SUBGROUP_MATCHED.says
    assert "budget and schedule" in CONTROL.says


@pytest.mark.parametrize("name", list(ARMS))
def test_all_arms_share_generation_0_and_the_seeds_of_every_trial(name: str) -> None:
    expert = "filter.expert.classifier=mobilenet_v3_small"  # its weights are kept, or not
    treatment, other = arm("treatment", expert), arm(name, expert)
    for classifier in ("lenet", "mobilenet_v3_small"):
        where = {"generation": 0, "classifier": classifier, "seed": 0}
        assert at(treatment, "classifier", **where) == at(other, "classifier", **where)
    assert trained(other, 0).key == trained(treatment, 0).key
    for n in (1, 2, 3):
        assert trained(other, n).config["seed"] == trained(treatment, n).config["seed"]


@pytest.mark.parametrize("name", [arm.name for arm in ARMS.values() if not arm.generates])
def test_arms_without_generation_train_on_the_original_data_alone(name: str) -> None:
    found = arm(name)
    assert set(counts(set(found.nodes))) == {"dataset", "classifier"}
    for n in (1, 2, 3):
        assert trained(found, n).config["training_set"] == {}
        assert set(trained(found, n).inputs) == {"dataset"}


def test_the_equal_steps_control_knows_the_size_of_the_treatments_training_set() -> None:
    control, null = arm("no_synthetic", "queue.capacity=2"), arm("a_a", "queue.capacity=2")
    schedules = [trained(control, n).config["schedule"] for n in (1, 2, 3)]
    assert [s["generation"] for s in schedules] == [1, 2, 3]
    assert {s["volume"] for s in schedules} == {"D0/2"}
    assert "schedule" not in trained(null, 2).config


UNFILTERED = [a.name for a in ARMS.values() if "score" in dict(a.sets.get("filter", {}))]


@pytest.mark.parametrize("name", UNFILTERED)
def test_unfiltered_arms_score_nothing(name: str) -> None:
    found = arm(name)
    assert not counts(set(found.nodes)).get("scorer")
    samples = at(found, "samples", scenario="base", generation=2)
    assert samples.config["drop"] == 0.0
    assert not any(name.startswith("expert") for name in samples.inputs)


@pytest.mark.parametrize("name", ["random_kept", "worst_kept"])
def test_arms_that_keep_others_than_the_best_draw_and_score_the_same_first_samples(
    name: str,
) -> None:
    treatment, other = arm("treatment"), arm(name)
    first = {"scenario": "base", "generation": 1}
    assert at(other, "samples", **first) == at(treatment, "samples", **first)
    for n in (1, 2):
        best, kept = (at(found, "kept", generation=n).config for found in (treatment, other))
        assert "keep" not in best  # as before there was a choice
        added = {key: value for key, value in kept.items() if key not in best}
        assert set(added) == {"keep", "draw"} if name == "random_kept" else {"keep"}
    draws = [at(arm("random_kept"), "kept", generation=n).config["draw"] for n in (1, 2)]
    assert draws[0] != draws[1]


def test_parity_is_the_treatment_up_to_its_first_generator_and_balanced_from_then_on() -> None:
    treatment, other = arm("treatment"), arm("subgroup_balanced")
    first = {"scenario": "base", "generation": 1}
    for kind in ("generator", "samples"):
        assert at(other, kind, **first) == at(treatment, kind, **first)
    assert at(other, "kept", **first).config["labelled"]
    assert "balance" not in trained(other, 0).config["training_set"]
    drawn = [trained(other, n).config["training_set"]["balance"] for n in (1, 2, 3)]
    assert len(set(drawn)) == 3
    later = at(other, "generator", generation=3).config["training_set"]
    assert later == trained(other, 2).config["training_set"]  # what the classifiers learned
    assert "balance" not in trained(treatment, 2).config["training_set"]


def test_a_frozen_expert_is_that_of_generation_0_and_a_live_one_that_of_the_last() -> None:
    live, frozen = arm("treatment"), arm("frozen_expert")
    first = trained(live, 0).key
    assert at(live, "samples", generation=1).key == at(frozen, "samples", generation=1).key
    assert at(frozen, "samples", generation=3).inputs["expert.0"] == first
    assert at(live, "samples", generation=3).inputs["expert.0"] == trained(live, 2).key


def test_subgroup_matched_resamples_what_the_treatment_keeps() -> None:
    matched, treatment = arm("subgroup_matched"), arm("treatment")
    of = at(matched, "kept", generation=1)
    assert of.config["tilt"]["tilt"] == 0.0
    assert of.inputs == at(treatment, "kept", generation=1).inputs
    assert at(arm("treatment", "queue.tilt=0"), "kept", generation=1).key == of.key


def test_the_positive_control_keeps_the_majority_of_what_the_treatment_draws() -> None:
    checked, treatment = arm("majority_kept"), arm("treatment")
    of = at(checked, "kept", generation=1)
    assert of.config["tilt"]["tilt"] == 1.0
    assert of.inputs == at(treatment, "kept", generation=1).inputs
    assert at(checked, "generator", generation=2).inputs["kept.1"] == of.key
    assert [a.name for a in ARMS.values() if a.positive] == ["majority_kept"]
    assert "positive control" in ARMS["majority_kept"].says


def test_real_skewed_copies_the_shares_of_the_unfiltered_chain_and_trains_nothing_else() -> None:
    skewed, unfiltered = arm("real_skewed"), arm("unfiltered")
    samples = at(skewed, "samples", scenario="base", generation=3)
    shares = {n: at(unfiltered, "kept", generation=n).key for n in (1, 2, 3)}
    assert {k: v for k, v in samples.inputs.items() if k.startswith("shares")} == {
        f"shares.{n}": key for n, key in shares.items()
    }
    assert not [name for name in samples.inputs if name.startswith("generator")]
    generators = {node.stage.key for node in skewed.of_kind("generator")}
    assert generators == {node.stage.key for node in unfiltered.of_kind("generator")}
    assert len([n for n in skewed.of_kind("kept") if n.places[0].scenario == "base"]) == 3


def test_scenarios_that_differ_in_the_arm_alone_are_one_group() -> None:
    axes = {"dataset.initialization": ["unbiased", "biased"], "loop.arm": ["treatment", "a_a"]}
    _, scenarios = load.load(TWO_STARTS, [f"axes={axes}"])
    groups: Mapping[str, list[str]] = {}
    for scenario in scenarios:
        groups.setdefault(arms.group(scenario), []).append(scenario.sweep.loop.arm)  # type: ignore[attr-defined]
    assert groups == {
        "initialization=unbiased": ["treatment", "a_a"],
        "initialization=biased": ["treatment", "a_a"],
    }


def test_a_group_is_called_as_its_scenarios_are_but_for_the_arm_whatever_its_values_hold() -> None:
    axes = {"loop.classifier_seeds": [[0, 1], [0, 2]], "loop.arm": ["treatment", "a_a"]}
    _, scenarios = load.load(TWO_STARTS, [f"axes={axes}"])
    assert [arms.group(scenario) for scenario in scenarios[::2]] == [
        scenario.name.removesuffix(",arm=treatment") for scenario in scenarios[::2]
    ]


def test_an_arm_beside_the_treatment_adds_its_own_stages_alone() -> None:
    alone, both = keys(ONE), keys("axes={loop.arm: [treatment, no_synthetic]}")
    assert counts(both - alone) == {"classifier": 12}
    assert alone <= both


def test_a_network_without_imagenet_weights_is_no_evidence_on_pretrained_ones(
    tmp_path: Path,
) -> None:
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"weights")
    words = (f"training.pretrained={weights}", "training_of.lenet.pretrained=false", ONE)
    _, (scenario,) = load.load(TWO_STARTS, words)
    assert described(scenario).classifiers == ("mobilenet_v3_small",)
    assert equation6._model_labels(scenario) == {
        "lenet": "lenet",
        "mobilenet_v3_small": "mobilenet_v3_small, pretrained",
    }
