"""Verdicts on declared claims, on worlds whose truth is known."""

import json
from dataclasses import replace

import arm_worlds
import numpy as np
import pytest

from ray_selfloop.config.claims import Claims
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.dynamics import claims as room
from ray_selfloop.dynamics.cases import Case
from ray_selfloop.dynamics.claims import claims
from ray_selfloop.dynamics.contrasts import Effect, holm
from ray_selfloop.dynamics.decomposition import PART_METRICS
from ray_selfloop.dynamics.statements import KIN, STATEMENTS
from ray_selfloop.evaluation.names import METRICS, base

SETTINGS = Evaluation(resamples=100, permutations=40)
LOOSE = SETTINGS.model_copy(update={"claims": Claims(margin=0.05)})
FALL, NOTHING = -0.5, 0.0


def arms(steps=None, seed=0, world=None, **about):
    """Treatment and control unless ``steps`` says otherwise."""
    steps = steps or {"treatment": FALL, "no_synthetic": NOTHING}
    return arm_worlds.World(seed, **(world or {})).arms(steps, **about)


def rows(result, id_, estimand="slope"):
    """Rows of one claim by group and classifier."""
    return {
        (c.scenario_group, c.classifier): c
        for c in result.claims
        if c.id == id_ and c.estimand == estimand
    }


def row(result, id_, estimand="slope"):
    (found,) = rows(result, id_, estimand).values()
    return found


def numbers(result):
    """Values and interval ends of all claims."""
    return np.array([(c.value, c.low, c.high, c.margin) for c in result.claims])


@pytest.fixture(scope="module")
def falling():
    """Accuracy falls by the same logit in all subgroups."""
    return claims(arms(), SETTINGS)


# --- the declared statements ---------------------------------------------------------------------


def test_statements_are_declared_once_and_for_every_section():
    ids = [statement.id for statement in STATEMENTS]
    assert len(set(ids)) == len(ids)
    sections = {statement.section.split(" ")[0] for statement in STATEMENTS}
    assert sections == {"1", "4.2", "4.3", "4.4", "5", "6", "appendix"}


def test_every_testable_statement_is_about_a_known_metric():
    for statement in STATEMENTS:
        if not statement.untestable:
            assert base(statement.metric) in METRICS
            assert (statement.metric in KIN) == (statement.compare == "generator")


def test_the_papers_contradictions_stay():
    said = {(s.dataset, s.metric, s.direction) for s in STATEMENTS if s.section.startswith("4.3")}
    assert {("cifar", "md", "decreases"), ("cifar", "md", "increases")} <= said


def test_every_statement_has_a_row_in_every_sweep(falling):
    assert {c.id for c in falling.claims} == {s.id for s in STATEMENTS}
    assert {c.id for c in claims([], SETTINGS).claims} == {s.id for s in STATEMENTS}


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
    assert 0 < accuracy.mde < 0.1


def test_one_chain_gives_an_interval_and_no_verdict():
    found = claims(arms(chains=1), SETTINGS)
    accuracy = row(found, "mnist-unbiased-accuracy")
    assert (accuracy.verdict, accuracy.reason) == ("undecided", "this chain only")
    assert accuracy.high < 0
    assert np.isnan([accuracy.p, accuracy.p_holm, accuracy.mde]).all()


@pytest.mark.parametrize(
    ("about", "id_", "reason"),
    [
        ({}, "cifar-scratch-accuracy", "dataset not in this sweep: cifar"),
        ({}, "mnist-biased-accuracy", "not in this sweep: colorized_mnist, biased"),
        ({}, "mnist-trends-md", "needs biased and unbiased in one sweep"),
        ({}, "mnist-unbiased-large", "no vgg19 or resnet50 in this sweep"),
        ({}, "hard-accuracy", "dataset not in this sweep: hard_imagenet"),
        ({}, "mnist-fid", "fid was not measured in this sweep"),
        ({"dataset": "cifar20_100"}, "cifar-pretrained-accuracy", "not in this sweep: cifar, pret"),
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
    assert {c.verdict for c in found.claims} == {"not tested"}


def test_a_control_with_other_test_images_is_no_control():
    treatment, control = arms()
    other = replace(control, test=replace(control.test, units=control.test.units[::-1].copy()))
    found = row(claims([treatment, other], SETTINGS), "mnist-unbiased-accuracy")
    assert found.reason == "the arm no_synthetic has other test images"


def test_no_change_is_established_inside_the_margin_and_refuted_outside():
    world = {"images": 1200}
    nothing = dict.fromkeys(("treatment", "no_synthetic"), NOTHING)
    same = claims(arms(nothing, 2, world, chains=8, generations=1), SETTINGS)
    md = row(same, "mnist-single-md", "last_minus_first")
    assert md.verdict == "supported"
    assert -md.margin < md.low < md.high < md.margin
    wider = {"treatment": (0.0, 0.0, -0.8), "no_synthetic": NOTHING}
    apart = claims(arms(wider, 2, world, chains=8, generations=1), SETTINGS)
    md = row(apart, "mnist-single-md", "last_minus_first")
    assert md.verdict == "contradicted"
    assert md.low > md.margin


def test_a_gap_that_shrinks_with_the_errors_is_explained_and_no_contradiction():
    world = {"images": 3000, "level": 1.5, "gap": 0.6}
    found = claims(arms({"treatment": 0.6, "no_synthetic": NOTHING}, 8, world), LOOSE)
    for metric in ("md", "meo", "gap_variance"):
        explained = row(found, f"amplifies-{metric}")
        assert explained.low * explained.high > 0
        assert explained.verdict == "explained by accuracy"


def test_too_few_chains_to_separate_a_gap_from_the_accuracy_leave_it_undecided():
    world = {"images": 1500, "level": 3.0, "gap": 0.6}
    found = row(
        claims(arms({"treatment": -0.6, "no_synthetic": NOTHING}, 4, world), SETTINGS),
        "amplifies-md",
    )
    assert found.low > 0
    assert found.reason == "not separated from what the accuracy of each class does to it"


def test_a_gap_that_grows_by_itself_is_bias_amplified():
    world = {"images": 1500, "gap": 0.3}
    steps = {"treatment": (0.35, 0.0, -0.35), "no_synthetic": NOTHING}
    found = claims(arms(steps, 3, world), SETTINGS)
    assert row(found, "amplifies-md").verdict == "supported"
    assert row(found, "amplifies-meo").verdict == "supported"
    assert row(found, "amplifies-gap_variance").verdict == "supported"


def test_the_margin_is_at_least_the_setting_and_smaller_per_generation():
    loose = SETTINGS.model_copy(update={"claims": Evaluation().claims})
    found = claims(arms(), loose)
    change = row(found, "mnist-unbiased-accuracy", "last_minus_first")
    assert change.margin == loose.claims.margin
    assert row(found, "mnist-unbiased-accuracy").margin == pytest.approx(change.margin / 3)
    md = row(found, "mnist-single-md", "last_minus_first")
    assert md.margin > change.margin  # the floor's band of 300 test images is wider


def test_a_collapsed_trial_leaves_both_arms():
    treatment, control = arms(seeds=(0, 1))
    bad = replace(treatment.outcomes[-1], collapsed=True)
    collapsed = replace(treatment, outcomes=[*treatment.outcomes[:-1], bad])
    place = (bad.loop_seed, bad.generation, bad.seed)

    def without(arm):
        left = [o for o in arm.outcomes if (o.loop_seed, o.generation, o.seed) != place]
        return replace(arm, outcomes=left)

    found = numbers(claims([collapsed, control], SETTINGS))
    left_out = numbers(claims([without(treatment), without(control)], SETTINGS))
    np.testing.assert_allclose(found, left_out, rtol=1e-6, atol=1e-9)
    assert not np.allclose(found, numbers(claims([treatment, control], SETTINGS)), equal_nan=True)


def test_the_order_of_arms_and_trials_does_not_matter(falling):
    turned = [replace(arm, outcomes=arm.outcomes[::-1]) for arm in arms()[::-1]]
    assert str(claims(turned, SETTINGS).claims) == str(falling.claims)


# --- Holm and families ---------------------------------------------------------------------------


def test_holm_is_applied_within_a_family_and_estimand(falling):
    families = {}
    for claim in falling.claims:
        if not np.isnan(claim.p):
            families.setdefault((claim.family, claim.estimand), []).append(claim)
    assert {len(f) for f in families.values()} > {1}
    for members in families.values():
        expected = holm([c.p for c in members])
        assert [c.p_holm for c in members] == pytest.approx(expected)


def test_a_change_that_only_holm_undoes_says_so():
    effect = Effect(0.1, 0.01, 0.19, 0.03, 3.0, 4)
    statement = next(s for s in STATEMENTS if s.id == "mnist-accuracy")
    tested = room._Tested(Case(statement, "", "", "accuracy"), "slope", effect, 0.01)
    assert effect.p_change() < 0.05
    assert room._judged(tested, 0.06, 0.06, 0.95) == (
        "undecided",
        "beyond zero only before Holm's adjustment",
    )


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
    single = rows(found, "mnist-accuracy")
    parts = [single[f"initialization={start}", "lenet"].value for start in ("biased", "unbiased")]
    assert compared.value == pytest.approx(parts[0] - parts[1])


def test_large_networks_are_compared_with_small_ones(falling):
    names = ("alexnet", "lenet", "resnet50")
    found = claims(arms(classifiers=names), SETTINGS)
    md = {name: row_.value for (_, name), row_ in rows(found, "why-simple-md").items()}
    compared = row(found, "why-size-mnist")
    assert compared.value == pytest.approx(md["resnet50"] - (md["lenet"] + md["alexnet"]) / 2)
    assert row(falling, "why-size-mnist").reason.startswith("needs one of vgg19")


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


def test_a_generators_distance_is_tested_by_chain_and_under_its_own_name():
    falling = [[100, 80, 60], [101, 82, 60], [99, 78, 61]]
    flat = [[10, 10.1, 10], [11, 11, 11.05], [9, 9, 9.02]]
    quality = distances({"fid": falling, "frechet_distance/pixels8": flat, "recall": flat})
    treatment, control = arms(dataset="cifar20_100")
    found = claims([replace(treatment, quality=quality), control], SETTINGS)
    by_metric = {c.metric: c for c in found.claims if c.id == "cifar-fid" and c.estimand == "slope"}
    assert set(by_metric) == {"fid", "frechet_distance/pixels8"}
    assert by_metric["fid"].verdict == "supported"
    assert by_metric["fid"].value == pytest.approx(np.mean([-20, -20.5, -19]))
    assert by_metric["fid"].control == ""
    assert by_metric["frechet_distance/pixels8"].verdict == "undecided"
    same = {c.metric: c for c in found.claims if c.id == "cifar-quality" if "last" in c.estimand}
    assert same["frechet_distance/pixels8"].verdict == "supported"
    assert same["fid"].verdict == "contradicted"


def test_without_fid_its_kin_never_answers_for_it():
    quality = distances({"frechet_distance/pixels8": [[10, 9, 8]] * 3})
    treatment, control = arms()
    found = claims([replace(treatment, quality=quality), control], SETTINGS)
    verdicts = {c.metric: c.verdict for c in found.claims if c.id == "mnist-fid"}
    assert verdicts["fid"] == "not tested"
    assert verdicts["frechet_distance/pixels8"] != "not tested"


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
    members = arms(ALL_ARMS, seeds=(0, 1))
    bad = replace(members[-2].outcomes[-1], collapsed=True)  # of unfiltered
    members[-2] = replace(members[-2], outcomes=[*members[-2].outcomes[:-1], bad])
    found = claims(members, SETTINGS)
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


def test_the_total_is_the_claims_last_minus_first(falling):
    claim = row(falling, "mnist-unbiased-accuracy", "last_minus_first")
    total = parts(falling, "accuracy")["total"]
    assert (total.value, total.low, total.high) == (claim.value, claim.low, claim.high)


# --- other readings ------------------------------------------------------------------------------


def test_a_verdict_that_hangs_on_a_definition_is_shown():
    steps = {"treatment": (0.0, 0.0, -0.8), "no_synthetic": NOTHING}
    found = claims(arms(steps, 5, {"images": 1500}), SETTINGS)
    literal = {r.claim: r for r in found.readings if r.other == "literally: subgroup G left out"}
    md = literal["amplifies-md (base, lenet)"]
    assert (md.verdict_used, md.verdict_other) == ("supported", "undecided")
    assert md.changes


def test_readings_compare_tested_claims_under_each_definition(falling):
    assert {r.definition for r in falling.readings} == {
        "pairs of subgroups (eq. 2, 3)",
        "disparate impact",
        "rates of subgroups",
        "ranks (eq. 5)",
        "i, j < G (eq. 2 to 4)",
        "scale of gaps",
    }
    used = {f"{c.id} ({c.scenario_group}, {c.classifier})": c for c in falling.claims}
    for reading in falling.readings:
        assert reading.changes == (reading.verdict_used != reading.verdict_other)
        assert reading.claim in used
        assert reading.verdict_used != "not tested"
    rates = {(r.used, r.other) for r in falling.readings if r.definition == "rates of subgroups"}
    assert rates == {("pooled", "per_class")}


def test_ordered_pairs_double_the_change_of_meo():
    members = arms(generations=1)
    plain, ordered = (
        row(claims(members, SETTINGS.model_copy(update={"ordered": flag})), "amplifies-meo")
        for flag in (False, True)
    )
    assert ordered.value == pytest.approx(2 * plain.value)
    assert ordered.p == pytest.approx(plain.p)


def test_two_subgroups_leave_nothing_to_leave_out():
    found = claims(arms(world={"groups": 2}, generations=1), SETTINGS)
    assert "i, j < G (eq. 2 to 4)" not in {r.definition for r in found.readings}
    assert row(found, "amplifies-md").verdict != "not tested"


# --- the form ------------------------------------------------------------------------------------


def test_the_summary_is_json_with_null_for_what_is_not_there(falling):
    summary = json.loads(json.dumps(falling.summary(), allow_nan=False))
    assert set(summary) == {"claims", "decomposition", "readings"}
    untested = next(c for c in summary["claims"] if c["verdict"] == "not tested")
    assert untested["value"] is None
    assert untested["p_holm"] is None
    assert set(summary["claims"][0]) == {
        "id", "section", "family", "text", "scenario_group", "classifier", "metric", "subgroup",
        "estimand", "direction", "control", "margin", "value", "low", "high", "mde", "p", "p_holm",
        "verdict", "reason",
    }  # fmt: skip


def test_a_generator_that_has_not_converged_gives_no_verdict_on_bias_but_on_accuracy():
    reason, both = "label fidelity 0.40", arms()
    gated = [replace(arm, not_converged=reason * (arm.arm == "treatment")) for arm in both]
    plain, found = claims(both, SETTINGS), claims(gated, SETTINGS)
    for before, after in zip(plain.claims, found.claims, strict=True):
        assert (before.id, before.value) == (after.id, after.value) or np.isnan(before.value)
        if before.verdict == "not tested" or before.metric == "accuracy":
            assert (before.verdict, before.reason) == (after.verdict, after.reason)
        else:
            assert after.verdict == "undecided"
            assert after.reason == f"generator not converged: {reason}"


def test_generations_that_one_arm_lacks_leave_both():
    both = arms()
    control = next(arm for arm in both if arm.arm == "no_synthetic")
    for lost, verdicts in (({0}, set()), ({0, 1, 2}, {"undecided", "not tested"})):
        left = [o for o in control.outcomes if o.generation == 0 or o.loop_seed not in lost]
        short = [replace(a, outcomes=left) if a is control else a for a in both]
        found = row(claims(short, SETTINGS), "mnist-unbiased-accuracy")
        if lost == {0}:
            whole = [o for o in control.outcomes if o.loop_seed != 0]
            other = [replace(a, outcomes=whole) if a is control else a for a in both]
            assert found == row(claims(other, SETTINGS), "mnist-unbiased-accuracy")
        else:
            assert found.verdict in verdicts


def test_groups_with_other_test_images_are_not_compared():
    pair = {"treatment": NOTHING, "no_synthetic": NOTHING}
    unbiased = arms(pair, group="initialization=unbiased", generations=1)
    biased = arms(
        pair, 1, {"images": 200}, group="initialization=biased", initialization="biased",
        generations=1,
    )  # fmt: skip
    found = row(claims([*unbiased, *biased], SETTINGS), "mnist-bias-degrades")
    assert (found.verdict, found.reason) == ("not tested", "the two have different test images")
