"""Verdicts on declared statements, on worlds whose truth is known."""

import json
from collections import defaultdict
from dataclasses import fields, replace

import arm_worlds
import numpy as np
import pytest

from ray_selfloop.claims.cases import cases_of, groups_of
from ray_selfloop.claims.decomposition import PART_METRICS
from ray_selfloop.claims.measured import Sweep
from ray_selfloop.claims.other_readings import Choice
from ray_selfloop.claims.statements import BALANCE, HYPOTHESIS, KIN, POORNESS, STATEMENTS
from ray_selfloop.claims.tested import margin_of, read
from ray_selfloop.claims.verdicts import Verdict, claims
from ray_selfloop.config.claims import Claims
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.evaluation.metrics import METRICS, base
from ray_selfloop.inference.families import holm
from ray_selfloop.inference.verdicts import WORDS
from ray_selfloop.simulator import Layout, Step, World

SETTINGS = Evaluation(resamples=60, permutations=20)
FALL, NOTHING = -0.5, 0.0
STILL = {"treatment": Step(), "no_synthetic": Step()}
DIGITS = World(Layout.crossed_digits(300), gap=(0.6, -0.1, -0.5), chain=0.03, seed=0.03, slope=0.01)


def arms(steps=None, seed=0, world=None, **about):
    """Treatment and control of LeNet on unbiased MNIST unless told otherwise."""
    steps = steps or {"treatment": FALL, "no_synthetic": NOTHING}
    return arm_worlds.World(seed, **(world or {})).arms(steps, **about)


def rows(result, id_):
    """Rows of one statement by setting."""
    return {c.scenario_group: c for c in result.claims if c.id == id_}


def row(result, id_):
    (found,) = rows(result, id_).values()
    return found


@pytest.fixture(scope="module")
def falling():
    """Accuracy falls by the same logit in all subgroups."""
    return claims(arms(), SETTINGS)


# --- the declared statements ---------------------------------------------------------------------


def test_statements_are_declared_once_and_for_every_section():
    ids = [statement.id for statement in STATEMENTS]
    assert len(set(ids)) == len(ids)
    sections = {statement.section.split(" ")[0] for statement in STATEMENTS}
    assert sections == {"1", "3.1", "4.2", "4.3", "4.4", "5", "6", "appendix"}


def test_every_testable_statement_is_about_a_known_metric():
    for statement in STATEMENTS:
        if not (statement.untestable or statement.elsewhere or statement.compare == "generator"):
            assert base(statement.metric) in METRICS
        generators = statement.metric in (*KIN, BALANCE, POORNESS)
        assert generators == (statement.compare == "generator")


def test_what_is_judged_elsewhere_is_judged():
    ids = {statement.id for statement in STATEMENTS}
    named = {statement.elsewhere for statement in STATEMENTS} - {""}
    assert named
    assert named <= ids


def test_no_number_is_tested_twice_in_a_family():
    """Not even under two names: with three subgroups 1 - MEO is 2/3 of MD."""
    networks = ("lenet", "alexnet", "vgg19", "resnet50", "mobilenet_v3_small")
    both = [
        *arms(group="initialization=unbiased", classifiers=networks, generations=1),
        *arms(group="initialization=biased", initialization="biased", classifiers=networks,
              generations=1),
    ]  # fmt: skip
    seen = defaultdict(list)
    for case in cases_of(groups_of(both)):
        if not case.lacks:
            statement = case.statement
            metric = "md" if case.metric == "meo" else case.metric
            number = (metric, statement.subgroup, statement.estimand, case.members, case.others)
            seen[case.family].append((number, statement.direction, statement.networks))
    assert len(seen) > 4
    for found in seen.values():
        assert len(set(map(str, found))) == len(found)


def test_the_papers_contradictions_stay():
    said = {(s.dataset, s.metric, s.direction) for s in STATEMENTS if s.section.startswith("4.3")}
    assert {("cifar", "md", "decreases"), ("cifar", "md", "increases")} <= said


def test_every_statement_has_a_row_in_every_sweep(falling):
    assert {c.id for c in falling.claims} == {s.id for s in STATEMENTS} | {HYPOTHESIS}
    assert {c.id for c in claims([], SETTINGS).claims} == {s.id for s in STATEMENTS}
    assert {c.verdict for c in falling.claims} <= set(WORDS)


# --- verdicts ------------------------------------------------------------------------------------


def test_an_established_change_is_supported_or_contradicted(falling):
    against = row(falling, "mnist-unbiased-accuracy")
    assert against.verdict == "contradicted"
    assert against.low < against.value < against.high < 0
    risen = claims(arms({"treatment": 0.5, "no_synthetic": NOTHING}), SETTINGS)
    assert row(risen, "mnist-unbiased-accuracy").verdict == "supported"


def test_what_the_control_does_as_well_is_no_effect():
    found = claims(arms({"treatment": FALL, "no_synthetic": FALL}), SETTINGS)
    accuracy = row(found, "mnist-unbiased-accuracy")
    assert accuracy.verdict == "undecided"
    assert accuracy.low < 0 < accuracy.high
    assert 0 < accuracy.mde < 0.5


def test_one_chain_gives_an_interval_and_no_verdict():
    found = claims(arms(chains=1), SETTINGS)
    accuracy = row(found, "mnist-unbiased-accuracy")
    assert accuracy.verdict == "undecided"
    assert accuracy.reason.startswith("one chain only")
    assert accuracy.high < 0
    assert np.isnan([accuracy.p, accuracy.p_holm, accuracy.mde]).all()


@pytest.mark.parametrize(
    ("about", "id_", "reason"),
    [
        ({}, "cifar-scratch-accuracy", "dataset not in this sweep: cifar"),
        ({}, "mnist-biased-accuracy", "not in this sweep: colorized_mnist, biased"),
        ({}, "mnist-trends-md", "needs biased and unbiased in one sweep"),
        ({}, "mnist-unbiased-large", "no vgg19 or resnet50 in this sweep"),
        ({}, "mnist-architectures", "needs two networks"),
        ({}, "hard-accuracy", "dataset not in this sweep: hard_imagenet"),
        ({}, "mnist-fid", "fid was not measured in this sweep"),
        ({}, "replace-fails", "not in this sweep: any, regime replace"),
        ({}, "why-simple-md", "says again what mnist-biased-single-md says: judged there"),
        ({}, "mnist-unbiased-single-meo", "one number with MD here"),
        ({"dataset": "cifar20_100"}, "cifar-pretrained-more-di", "needs pretrained and scratch"),
        ({}, "mnist-subgroup-variation", "needs 3 generations or more"),
        ({"dataset": "cifar20_100"}, "cifar-faster", "needs pretrained and scratch in one sweep"),
    ],
)
def test_what_a_sweep_cannot_test_is_named(about, id_, reason):
    found = row(claims(arms(**about, generations=1), SETTINGS), id_)
    assert found.verdict == "not tested"
    assert found.reason.startswith(reason)


def test_without_the_equal_steps_control_nothing_is_tested():
    found = claims(arms({"treatment": FALL, "unfiltered": NOTHING}), SETTINGS)
    accuracy = row(found, "mnist-unbiased-accuracy")
    assert (accuracy.verdict, accuracy.reason) == ("not tested", "needs the arm no_synthetic")
    assert row(found, HYPOTHESIS).verdict == "not tested"
    tested = {c.id for c in found.claims if c.verdict != "not tested"}
    assert tested == {"filter-quality"}  # treatment against unfiltered


def test_a_control_with_other_test_images_is_no_control():
    treatment, control = arms()
    other = replace(control, test=replace(control.test, units=control.test.units[::-1].copy()))
    found = row(claims([treatment, other], SETTINGS), "mnist-unbiased-accuracy")
    assert found.reason == "the arm no_synthetic has other test images"


def test_no_change_is_established_inside_the_margin_and_refuted_outside():
    same = row(claims(DIGITS.arms(STILL, chains=8, generations=1), SETTINGS), "mnist-single-md")
    assert same.verdict == "supported"
    assert -same.margin < same.low < same.high < same.margin
    wider = {**STILL, "treatment": Step(gap=0.5)}
    md = row(claims(DIGITS.arms(wider, chains=8, generations=1), SETTINGS), "mnist-single-md")
    assert md.verdict == "contradicted"
    assert md.low > md.margin


def test_an_improvement_does_not_contradict_a_denial_of_harm():
    """'Does not amplify', 'does not degrade', 'no significant drop' are one-sided."""
    better = {"treatment": Step(level=0.4, gap=-0.3), "no_synthetic": Step()}
    about = {"initialization": "unbiased", "group": "initialization=unbiased"}
    unbiased = replace(DIGITS, gap=0.0, about=about)
    biased = replace(DIGITS, about={"group": "initialization=biased"})
    both = [
        *biased.arms(better, chains=6, images=1),
        *unbiased.arms(STILL, chains=6, seed=1, images=1),
    ]
    found = claims(both, SETTINGS)
    amplified, degraded = (row(found, f"mnist-bias-{x}") for x in ("amplified", "degrades"))
    assert amplified.high < 0 < degraded.low
    assert (amplified.verdict, degraded.verdict) == ("supported", "supported")
    cifar = World(
        Layout.cifar(4),
        gap=0.5 * np.random.default_rng(0).standard_normal((4, 5)),
        slope=0.01,
        chain=0.03,
        about={"dataset": "cifar20_100", "initialization": ""},
    )
    found = claims(cifar.arms(better, chains=6, networks=("resnet50",)), SETTINGS)
    drop = row(found, "cifar-scratch-resnet50")
    assert drop.low > 0
    assert drop.verdict == "supported"


def test_can_and_most_are_counted_over_the_networks():
    networks = ("lenet", "alexnet", "resnet50")
    steps = {**STILL, "treatment": Step(level=0.5, networks=("lenet",))}
    found = claims(DIGITS.arms(steps, chains=6, networks=networks), SETTINGS)
    assert row(found, "mnist-accuracy").verdict == "supported"  # 'can be improved': some
    assert row(found, "mnist-biased-accuracy").verdict == "ruled out"  # every network
    steps = {**STILL, "treatment": Step(level=0.5, networks=("lenet", "alexnet"))}
    unbiased = replace(DIGITS, about={"initialization": "unbiased"})
    found = claims(unbiased.arms(steps, chains=6, networks=networks), SETTINGS)
    most = row(found, "mnist-unbiased-accuracy")
    assert most.verdict == "supported"
    assert most.quantifier == "in more than half of the networks"
    assert [network.name for network in most.networks] == sorted(networks)


# --- accuracy as an explanation ------------------------------------------------------------------


def test_a_gap_that_grows_by_itself_is_bias_amplified():
    found = claims(DIGITS.arms({**STILL, "treatment": Step(gap=0.2)}, chains=6), SETTINGS)
    claim = row(found, HYPOTHESIS)
    assert claim.verdict == "supported"
    assert claim.primary
    assert claim.rest_low > 0


def test_a_gap_that_grows_because_accuracy_falls_is_no_amplification():
    """The level part is shown and the rest is inside the margin, or it is not separated."""
    found = claims(DIGITS.arms({**STILL, "treatment": Step(level=-0.3)}, chains=6), SETTINGS)
    claim = row(found, HYPOTHESIS)
    assert claim.low > 0
    assert claim.level_low > 0
    assert claim.verdict == "explained by accuracy"


def test_lack_of_power_for_the_level_part_proves_nothing():
    noisy = replace(DIGITS, layout=Layout.crossed_digits(60), slope=0.1)
    verdicts = {
        row(claims(noisy.arms({**STILL, "treatment": Step(level=-0.5)}, chains=3, seed=s),
                   SETTINGS), HYPOTHESIS).verdict
        for s in range(4)
    }  # fmt: skip
    assert verdicts <= {"undecided", "explained by accuracy"}


def test_statements_on_a_subgroups_accuracy_are_not_excused_by_accuracy():
    up = {**STILL, "treatment": Step(level=0.4)}
    found = claims(DIGITS.arms(up, chains=6, networks=("alexnet",)), SETTINGS)
    assert row(found, "mnist-biased-alexnet").verdict == "supported"


def test_a_metric_without_a_split_is_no_amplification_while_accuracy_moves():
    """DI falls in 10 of 10 sweeps where every logit falls alike."""
    found = claims(DIGITS.arms({**STILL, "treatment": Step(level=-0.3)}, chains=6), SETTINGS)
    di = row(found, "amplifies-di")
    assert di.high < 0
    assert di.verdict == "undecided"
    assert di.reason == "it changed, but is not separated from what accuracy alone does to it"


def test_each_network_has_its_own_excuse():
    """One network's gap grows, two only lose accuracy: that is not more than half of them."""
    networks = ("alexnet", "lenet", "vgg19")
    made = {"dataset": "cifar20_100", "initialization": ""}
    cifar = World(Layout.cifar(6, images=300), gap=(0.5, 0.2, 0.0, -0.2, -0.5), level=1.5,
                  slope=0.01, chain=0.03, about=made)  # fmt: skip
    grows = cifar.arms({**STILL, "treatment": Step(gap=0.3)}, 6, networks=("lenet",), images=1)
    falls = cifar.arms(
        {**STILL, "treatment": Step(level=-0.3)}, 6, networks=("alexnet", "vgg19"), images=1
    )
    both = [
        replace(a, outcomes=[*a.outcomes, *b.outcomes], classifiers=networks)
        for a, b in zip(grows, falls, strict=True)
    ]
    claim = row(claims(both, SETTINGS), "cifar-decline-md")
    assert claim.quantifier == "in more than half of the networks"
    assert claim.low > 0
    assert claim.verdict != "supported"


def test_that_nothing_gets_worse_needs_no_excuse():
    about = {"initialization": "unbiased", "group": "initialization=unbiased"}
    better = {**STILL, "treatment": Step(level=0.4)}
    both = [
        *replace(DIGITS, about={"group": "initialization=biased"}).arms(better, 6, images=1),
        *replace(DIGITS, gap=0.0, about=about).arms(STILL, 6, seed=1, images=1),
    ]
    claim = row(claims(both, SETTINGS), "mnist-bias-amplified")
    assert claim.high < 0
    assert claim.verdict == "supported"


# --- what was lost -------------------------------------------------------------------------------


def test_accuracy_is_by_intention_to_treat_and_fairness_names_the_lost():
    """Two of five chains collapse in the treatment from generation 2 on."""
    steps = {**STILL, "treatment": Step(level=0.1, collapse=(1, 3))}
    found = claims(DIGITS.arms(steps, chains=5, generations=3), SETTINGS)
    accuracy = row(found, "mnist-accuracy")
    assert accuracy.value < -0.03  # per generation; the survivors alone rise
    assert accuracy.verdict in ("undecided", "contradicted")
    assert accuracy.chains == 5
    assert "survivors" not in accuracy.reason
    claim = row(found, HYPOTHESIS)
    assert claim.verdict == "undecided"
    assert claim.lost == "collapsed: treatment 4 of 15, no_synthetic 0 of 15"
    assert claim.reason.startswith("the arms lost different trials")
    assert claim.chains == 3


def test_as_many_lost_trials_of_other_chains_are_not_the_same():
    steps = {"treatment": Step(collapse=(0, 1)), "no_synthetic": Step(collapse=(2, 3))}
    claim = row(claims(DIGITS.arms(steps, chains=6), SETTINGS), HYPOTHESIS)
    assert claim.lost == "collapsed: treatment 4 of 18, no_synthetic 4 of 18"
    assert claim.reason.startswith("the arms lost different")


def test_an_unfinished_sweep_has_no_last_generation_yet():
    both = [replace(arm, generations=10) for arm in DIGITS.arms(STILL, chains=6)]
    claim = row(claims(both, SETTINGS), HYPOTHESIS)
    assert claim.verdict == "undecided"
    assert claim.reason.startswith("no run has all the generations")


def test_di_without_a_subgroup_has_no_verdict_and_min_max_has():
    """In half of the classes one subgroup is never right any more."""
    lost = np.zeros((6, 5), bool)
    lost[:3, 0] = True
    cifar = World(Layout.cifar(6), gap=0.3 * np.random.default_rng(0).standard_normal((6, 5)),
                  level=1.2, about={"dataset": "cifar20_100", "initialization": ""})  # fmt: skip
    steps = {**STILL, "treatment": Step(lost=lost)}
    found = claims(cifar.arms(steps, chains=5, networks=("resnet50",)), SETTINGS)
    di = row(found, "cifar-scratch-di")
    assert di.verdict == "not tested"
    assert "3 of 6 classes in treatment, 0 of 6 classes in no_synthetic" in di.reason
    assert row(found, HYPOTHESIS).verdict == "supported"


def test_a_generator_too_poor_to_ask_gives_no_verdict_on_bias_but_on_accuracy():
    reason, both = "label fidelity 0.40", arms()
    gated = [replace(arm, not_converged=reason * (arm.arm == "treatment")) for arm in both]
    plain, found = claims(both, SETTINGS), claims(gated, SETTINGS)
    for before, after in zip(plain.claims, found.claims, strict=True):
        if before.verdict == "not tested" or before.metric == "accuracy":
            assert (before.verdict, before.reason) == (after.verdict, after.reason)
        else:
            assert after.verdict == "undecided"
            assert after.reason.startswith(f"generator too poor to ask: {reason}")


def test_generations_that_one_arm_lacks_leave_both():
    both = arms()
    control = next(arm for arm in both if arm.arm == "no_synthetic")
    whole = [o for o in control.outcomes if o.loop_seed != 0]
    left = [o for o in control.outcomes if o.generation == 0 or o.loop_seed != 0]
    found, other = (
        row(claims([replace(a, outcomes=kept) if a is control else a for a in both], SETTINGS),
            "mnist-unbiased-accuracy")
        for kept in (whole, left)
    )  # fmt: skip
    assert (found.value, found.low, found.chains) == (other.value, other.low, 2)


def test_the_order_of_arms_and_trials_does_not_matter(falling):
    turned = [replace(arm, outcomes=arm.outcomes[::-1]) for arm in arms()[::-1]]
    assert str(claims(turned, SETTINGS).claims) == str(falling.claims)


# --- margins, families, what is exploratory ------------------------------------------------------


def test_margins_are_settings_and_no_noise_of_a_run(falling):
    made = SETTINGS.claims
    assert row(falling, HYPOTHESIS).margin == made.gap_margin == 0.02
    assert row(falling, "mnist-unbiased-accuracy").margin == pytest.approx(0.01 / 3)  # a slope
    assert margin_of("ranked_cross_fitted", "rank 1", made) == made.accuracy_margin == 0.01
    assert margin_of("ranked_cross_fitted", "best minus worst", made) == made.gap_margin
    tiny = claims(arms(world={"images": 40}), SETTINGS)
    assert row(tiny, HYPOTHESIS).margin == 0.02


def test_the_verdict_under_half_and_twice_the_margin_stands_beside():
    found = row(claims(DIGITS.arms(STILL, chains=8), SETTINGS), HYPOTHESIS)
    assert found.verdict == "ruled out"
    assert found.twice == "ruled out"
    assert found.half in ("ruled out", "undecided")


def test_holm_is_applied_within_a_section_and_not_across(falling):
    families = {}
    for claim in falling.claims:
        if not np.isnan(claim.p):
            families.setdefault("primary" if claim.primary else claim.section, []).append(claim)
    assert max(len(members) for members in families.values()) > 2
    for members in families.values():
        assert {c.together for c in members} == {len(members)}
    undecided = [c for c in falling.claims if c.verdict == "supported" and c.together == 1]
    assert all(c.p_holm == c.p for c in undecided)
    assert holm([0.01, 0.02]) == pytest.approx([0.02, 0.02])


def test_at_most_four_settings_are_primary():
    settings = [
        replace(DIGITS, about={"group": f"drop={n}", "dataset": "colorized_digits"})
        for n in range(6)
    ]
    every = [a for w in settings for a in w.arms(STILL, chains=3, generations=1)]
    found = claims(every, SETTINGS)
    hypotheses = rows(found, HYPOTHESIS)
    assert [c.primary for c in hypotheses.values()] == [True] * 4 + [False] * 2
    assert {c.verdict for c in hypotheses.values() if not c.primary} == {"exploratory"}
    assert {c.together for c in hypotheses.values() if c.primary} == {4}


def test_what_is_declared_after_the_data_has_intervals_and_no_verdict():
    late = claims(arms(), SETTINGS, declared=False)
    assert {c.verdict for c in late.claims} == {"exploratory", "not tested"}
    claim = row(late, HYPOTHESIS)
    assert claim.reason == "declared after the data that it is judged on"
    assert np.isfinite([claim.value, claim.low, claim.high]).all()


def test_a_dataset_without_subgroups_asks_about_cues():
    still = replace(arms()[0], subgroups=0, test=None, outcomes=())
    control = replace(still, arm="no_synthetic")
    (case,) = (c for c in cases_of(groups_of([still, control])) if c.statement.id == HYPOTHESIS)
    assert (case.metric, case.statement.direction) == ("ablation_drop/object_gray", "decreases")


# --- comparisons ---------------------------------------------------------------------------------


def test_two_initialisations_are_compared_on_the_same_images():
    pair = {"treatment": NOTHING, "no_synthetic": NOTHING}
    world = arm_worlds.World(4)
    unbiased = world.arms(pair, group="initialization=unbiased")
    steps = {"treatment": FALL, "no_synthetic": NOTHING}
    biased = world.arms(steps, group="initialization=biased", initialization="biased")
    found = claims([*unbiased, *biased], SETTINGS)
    compared = row(found, "mnist-bias-degrades")
    assert compared.scenario_group == "initialization=biased - initialization=unbiased"
    assert compared.verdict == "contradicted"
    single = {g: c.value for g, c in rows(found, "mnist-accuracy").items()}
    parts = [single[f"initialization={start}"] for start in ("biased", "unbiased")]
    assert compared.value == pytest.approx(parts[0] - parts[1])


def test_groups_with_other_test_images_are_not_compared():
    pair = {"treatment": NOTHING, "no_synthetic": NOTHING}
    unbiased = arms(pair, group="initialization=unbiased", generations=1)
    biased = arms(
        pair, 1, {"images": 200}, group="initialization=biased", initialization="biased",
        generations=1,
    )  # fmt: skip
    found = row(claims([*unbiased, *biased], SETTINGS), "mnist-bias-degrades")
    assert (found.verdict, found.reason) == ("not tested", "the two have different test images")


def test_large_networks_are_compared_with_small_ones(falling):
    networks = ("alexnet", "lenet", "resnet50")
    steps = {**STILL, "treatment": Step(gap=-0.2, networks=("resnet50",))}
    found = claims(DIGITS.arms(steps, chains=6, networks=networks), SETTINGS)
    compared = row(found, "why-size-mnist")
    assert compared.verdict == "supported"
    each = {n.name: n.value for n in row(found, "mnist-biased-single-md").networks}
    expected = each["resnet50"] - (each["lenet"] + each["alexnet"]) / 2
    assert compared.value == pytest.approx(expected)
    assert row(falling, "why-size-mnist").reason.startswith("needs one of vgg19")


def test_networks_that_differ_are_found_and_alike_ones_are_not():
    networks = ("alexnet", "lenet", "resnet50")
    steps = {**STILL, "treatment": Step(gap=0.3, networks=("lenet",))}
    found = claims(DIGITS.arms(steps, chains=6, networks=networks), SETTINGS)
    assert row(found, "end-factors").verdict == "supported"
    alike = claims(DIGITS.arms(STILL, chains=6, networks=networks), SETTINGS)
    assert row(alike, "end-factors").verdict in ("ruled out", "undecided")


@pytest.mark.slow
def test_scatter_over_generations_is_tested_against_the_control():
    wild = replace(DIGITS, wobble=0.0)
    both = wild.arms(STILL, chains=10, generations=10, networks=("alexnet", "vgg19"))
    loud = replace(wild, wobble=0.8).arms(
        STILL, chains=10, generations=10, networks=("alexnet", "vgg19"), images=0
    )
    found = claims([loud[0], both[1]], SETTINGS)
    claim = row(found, "mnist-biased-variation")
    assert claim.estimand == "scatter"
    assert claim.verdict == "supported"
    assert row(claims(both, SETTINGS), "mnist-biased-variation").verdict != "supported"


def test_more_networks_decline_pretrained_than_from_scratch():
    networks = ("alexnet", "resnet50", "vgg19")
    made = {"dataset": "cifar20_100", "initialization": ""}
    cifar = World(Layout.cifar(4, images=600), level=1.5, slope=0.01, chain=0.03, wobble=0.0)
    scratch, pretrained = (
        replace(cifar, about={**made, "pretrained": p, "group": f"pretrained={p}"})
        for p in (False, True)
    )
    fall = {**STILL, "treatment": Step(level=-0.3)}
    both = [
        *scratch.arms(STILL, chains=6, networks=networks, images=1),
        *pretrained.arms(fall, chains=6, networks=networks, seed=1, images=1),
    ]
    found = claims(both, SETTINGS)
    assert row(found, "cifar-pretrained-more-accuracy").verdict == "supported"
    assert row(found, "cifar-faster").verdict == "supported"
    level = row(found, "cifar-level")
    assert (level.estimand, level.control) == ("level", "")
    assert level.verdict == "contradicted"


def test_one_chain_on_one_side_decides_no_count():
    networks = ("alexnet", "resnet50", "vgg19")
    made = {"dataset": "cifar20_100", "initialization": ""}
    cifar = World(Layout.cifar(4, images=600), level=1.5, slope=0.01, chain=0.03, wobble=0.0)
    scratch, pretrained = (
        replace(cifar, about={**made, "pretrained": p, "group": f"pretrained={p}"})
        for p in (False, True)
    )
    fall = {**STILL, "treatment": Step(level=-0.3)}
    both = [
        *scratch.arms(STILL, chains=1, networks=networks, images=1),
        *pretrained.arms(fall, chains=6, networks=networks, seed=1, images=1),
    ]
    claim = row(claims(both, SETTINGS), "cifar-pretrained-more-accuracy")
    assert (claim.verdict, claim.p == claim.p) == ("undecided", False)
    assert claim.reason.startswith("one chain only")


# --- generators ----------------------------------------------------------------------------------


def distances(series):
    """metric -> chain -> values of generations 1, 2, 3."""
    return {
        metric: {
            ("", chain, t): float(value)
            for chain, values in enumerate(chains)
            for t, value in enumerate(values, start=1)
        }
        for metric, chains in series.items()
    }


def test_a_generators_distance_is_tested_by_chain():
    falling = [[100, 80, 60], [101, 82, 60], [99, 78, 61]]
    quality = distances({"fid": falling, "recall": falling})
    treatment, control = arms(dataset="cifar20_100")
    found = claims([replace(treatment, quality=quality), control], SETTINGS)
    fid = row(found, "cifar-fid")
    assert (fid.metric, fid.verdict, fid.control) == ("fid", "supported", "")
    assert fid.value == pytest.approx(np.mean([-20, -20.5, -19]))
    assert row(found, "cifar-images").verdict == "contradicted"  # 'does not change a lot'


def test_without_fid_its_kin_is_named():
    quality = distances({"frechet_distance/pixels8": [[10, 9, 8]] * 3})
    treatment, control = arms()
    found = claims([replace(treatment, quality=quality), control], SETTINGS)
    assert row(found, "mnist-fid").metric == "frechet_distance/pixels8"


def test_balance_and_quality_of_generated_data_are_statements():
    quality = distances(
        {BALANCE: [[0.1, 0.12, 0.11]] * 2 + [[0.09, 0.11, 0.1]], POORNESS: [[0.02, 0.03, 0.02]] * 3}
    )
    treatment, control = arms(initialization="biased")
    found = claims([replace(treatment, quality=quality), control], SETTINGS)
    assert row(found, "why-unbalanced").verdict == "supported"
    assert row(found, "mnist-quality").verdict == "supported"
    equal, other = arms()
    without = claims([replace(equal, quality=quality), other], SETTINGS)
    assert row(without, "why-unbalanced").reason == "the original data have no majority"


# --- arm a_a -------------------------------------------------------------------------------------


def test_nothing_but_new_seeds_looks_like_no_effect_and_a_drift_does_not():
    steps = {**STILL, "a_a": Step()}
    found = claims(DIGITS.arms(steps, chains=6), SETTINGS)
    assert {n.verdict for n in found.null} == {"as no effect"}
    assert {n.metric for n in found.null} == {"accuracy", "md", "worst_subgroup"}
    drifting = claims(DIGITS.arms({**steps, "a_a": Step(level=-0.5)}, chains=6), SETTINGS)
    assert any(n.verdict.startswith("not as no effect") for n in drifting.null)


def test_scatter_for_planning_splits_chains_and_seeds():
    world = replace(DIGITS, slope=0.0, common=0.1, wobble=0.02)
    arms_ = world.arms({**STILL, "a_a": Step()}, chains=20, seeds=2, generations=1)
    found = {(s.metric, s.source): s for s in claims(arms_, SETTINGS).scatter}
    accuracy = found["accuracy", "treatment - no_synthetic"]
    slope = 0.1 * 2**0.5 * 0.1  # two arms; d p / d logit of about .1 at accuracy .87
    assert accuracy.chain_sd == pytest.approx(slope, rel=0.6)
    assert accuracy.seed_sd < accuracy.chain_sd
    assert (accuracy.chains, accuracy.seeds, accuracy.networks) == (20, 2, 1)
    assert ("md", "a_a") in found


# --- decomposition -------------------------------------------------------------------------------

ALL_ARMS = {
    "treatment": -0.4,
    "no_synthetic": 0.0,
    "held_out_real": 0.1,
    "real_skewed": -0.1,
    "unfiltered": -0.5,
    "a_a": 0.0,
}


def parts(result, metric):
    return {p.part: p for p in result.decomposition if p.metric == metric}


def test_the_parts_add_up_to_the_total():
    found = claims(arms(ALL_ARMS, seeds=(0, 1)), SETTINGS)
    for metric in PART_METRICS:
        each = parts(found, metric)
        assert set(each) == {"total", "volume", "imbalance", "artefact", "filter"}
        rest = sum(part.value for name, part in each.items() if name != "total")
        assert rest == pytest.approx(each["total"].value, abs=1e-12)
        assert all(p.low <= p.value <= p.high and not p.note for p in each.values())
    accuracy = {name: part.value for name, part in parts(found, "accuracy").items()}
    assert accuracy["volume"] > 0 > max(accuracy["imbalance"], accuracy["artefact"])
    assert accuracy["filter"] > 0 > accuracy["total"]


def test_a_part_whose_arm_is_missing_names_it():
    steps = {name: step for name, step in ALL_ARMS.items() if name != "real_skewed"}
    each = parts(claims(arms(steps), SETTINGS), "md")
    assert {name: part.note for name, part in each.items()} == {
        "total": "",
        "volume": "",
        "imbalance": "needs the arm real_skewed",
        "artefact": "needs the arm real_skewed",
        "filter": "",
    }
    assert np.isnan([each["imbalance"].value, each["artefact"].high]).all()


# --- other readings ------------------------------------------------------------------------------


def test_a_verdict_that_hangs_on_a_definition_is_shown():
    step = Step(cells=(0.0, 0.0, -0.4))
    found = claims(DIGITS.arms({**STILL, "treatment": step}, chains=6), SETTINGS)
    literal = {r.claim: r for r in found.readings if r.other == "literally: subgroup G left out"}
    md = literal["hypothesis (base)"]
    assert md.verdict_used == "supported"
    assert md.verdict_other != "supported"
    assert md.changes


def test_readings_compare_tested_claims_under_each_definition(falling):
    assert {r.definition for r in falling.readings} >= {
        "disparate impact",
        "rates of subgroups",
        "i, j < G (eq. 2 to 4)",
        "scale of gaps",
    }
    for reading in falling.readings:
        assert reading.changes == (reading.verdict_used != reading.verdict_other)
        assert reading.verdict_used != "not tested"
    rates = {(r.used, r.other) for r in falling.readings if r.definition == "rates of subgroups"}
    assert rates == {("pooled", "per_class")}


# --- the form ------------------------------------------------------------------------------------


def read_of(members, id_, scale=1.0, settings=SETTINGS):
    """What one statement is judged on, its margins taken by ``scale``."""
    sweep = Sweep(groups_of(members), settings)
    (case,) = (c for c in cases_of(groups_of(members)) if c.statement.id == id_ and not c.lacks)
    return read(sweep, case, Choice(settings.ordered), scale)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_half_and_twice_the_margin_are_those_of_everything_that_has_one(scale):
    members = arms(generations=1)
    one, other = (read_of(members, "amplifies-worst_subgroup", s) for s in (1.0, scale))
    assert other.margin == pytest.approx(scale * one.margin)
    one, other = (read_of(members, HYPOTHESIS, s) for s in (1.0, scale))
    assert other.margin == pytest.approx(scale * one.margin)
    assert other.accuracy.margin == pytest.approx(scale * one.accuracy.margin)
    assert one.accuracy.margin == SETTINGS.claims.accuracy_margin


def test_ordered_pairs_double_the_change_of_meo():
    """Eq. 2 as printed counts each pair twice: another unit, and the same p of a change."""
    narrows = {"treatment": (-0.3, -0.1, 0.1, 0.3), "no_synthetic": NOTHING}
    members = arms(narrows, world={"groups": 4, "gap": 0.3}, generations=1)
    plain, ordered = (
        row(claims(members, SETTINGS.model_copy(update={"ordered": flag})),
            "mnist-unbiased-single-meo")
        for flag in (False, True)
    )  # fmt: skip
    assert plain.value > 0.02
    assert ordered.value == pytest.approx(2 * plain.value)
    assert ordered.p == pytest.approx(plain.p)
    assert plain.p < 0.5


@pytest.mark.parametrize("stored", [False, True])
def test_another_unit_is_no_other_verdict(stored):
    """The other reading of eq. 2 doubles (or halves) effect and margin alike."""
    settings = SETTINGS.model_copy(update={"ordered": stored})
    members = arms({"treatment": (-0.3, -0.1, 0.1, 0.3), "no_synthetic": NOTHING},
                   world={"groups": 4, "gap": 0.3}, generations=1)  # fmt: skip
    sweep = Sweep(groups_of(members), settings)
    (case,) = (
        c for c in cases_of(groups_of(members)) if c.statement.id == "mnist-unbiased-single-meo"
    )
    one, other = (read(sweep, case, Choice(flag), 1.0) for flag in (stored, not stored))
    times = 0.5 if stored else 2.0
    assert other.margin == pytest.approx(times * one.margin)
    assert other.whole.value == pytest.approx(times * one.whole.value)
    assert other.evidence == one.evidence


@pytest.mark.parametrize(("groups", "there"), [(2, False), (3, True)])
def test_two_subgroups_leave_nothing_to_leave_out(groups, there):
    """Eq. 2 to 4 read literally leave subgroup G out; of two, no gap would be left."""
    found = claims(arms(world={"groups": groups}, generations=1), SETTINGS)
    literally = "i, j < G (eq. 2 to 4)"
    assert (literally in {reading.definition for reading in found.readings}) == there
    assert row(found, HYPOTHESIS).verdict != "not tested"


def test_the_summary_is_json_with_null_for_what_is_not_there(falling):
    summary = json.loads(json.dumps(falling.summary(), allow_nan=False))
    assert set(summary) == {"claims", "decomposition", "readings", "null", "scatter"}
    untested = next(c for c in summary["claims"] if c["verdict"] == "not tested")
    assert untested["value"] is None
    assert untested["p_holm"] is None
    assert set(summary["claims"][0]) == {field.name for field in fields(Verdict)}


def test_a_setting_that_changes_a_margin_changes_what_is_ruled_out():
    loose = SETTINGS.model_copy(update={"claims": Claims(gap_margin=0.2)})
    both = arms({"treatment": NOTHING, "no_synthetic": NOTHING}, chains=3)
    assert row(claims(both, SETTINGS), HYPOTHESIS).verdict == "undecided"
    assert row(claims(both, loose), HYPOTHESIS).verdict == "ruled out"
