"""Which numbers a statement is judged on, by hand: margins, sides, counts, and why there is no
verdict."""

from dataclasses import replace

import numpy as np
import pytest

from ray_selfloop.claims.cases import Case, Member, groups_of
from ray_selfloop.claims.contrasts import LAST_MINUS_FIRST, LEVEL, SCATTER, SLOPE
from ray_selfloop.claims.judged import _word, judge
from ray_selfloop.claims.measured import Sweep
from ray_selfloop.claims.statements import BALANCE, POORNESS, RANK_GAP, STATEMENTS, primary
from ray_selfloop.claims.tested import Tested as Found
from ray_selfloop.claims.tested import (
    _is_of_accuracy,
    _margin,
    _more,
    _steeper,
    margin_of,
)
from ray_selfloop.config.claims import Claims
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.inference.chains import Effect
from ray_selfloop.inference.verdicts import (
    CONTRADICTED,
    EXPLORATORY,
    NOT_TESTED,
    NOTHING,
    RULED_OUT,
    SAME,
    SUPPORTED,
    UNDECIDED,
    UP,
    Accuracy,
    Evidence,
    evidence,
)

MARGINS = Claims(gap_margin=0.01, accuracy_margin=0.02, share_margin=0.03, distance_margin=0.04)
SWEEP = Sweep(groups_of([]), Evaluation())
NAN = float("nan")


def of(value, error=0.002, chains=6):
    """An effect whose p values are nearly those of the normal law."""
    plain = Effect(value, 0, 0, error**2, 0.0, chains)
    low, high = plain.interval(0.95)
    return replace(plain, low=low, high=high)


def case(metric="md", **about):
    statement = replace(primary("md"), metric=metric, **about)
    return Case(statement, "base", metric, (Member("a", (("base", "a"),)),), last=4)


# --- margins -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "subgroup", "margin"),
    [
        ("md", "", 0.01), ("meo", "", 0.01), ("di", "", 0.01), ("gap_variance", "", 0.01),
        ("ablation_drop/object_gray", "", 0.01), ("accuracy", "", 0.02),
        ("worst_subgroup", "", 0.02), ("ranked_accuracy", "worst", 0.02),
        ("ranked_cross_fitted", "best", 0.02), ("ranked_cross_fitted", RANK_GAP, 0.01),
        (BALANCE, "", 0.03), (POORNESS, "", 0.04),
    ],
)  # fmt: skip
def test_every_metric_has_the_margin_of_its_unit(metric, subgroup, margin):
    assert margin_of(metric, subgroup, MARGINS) == margin


@pytest.mark.parametrize(
    ("estimand", "key", "margin"),
    [
        (LAST_MINUS_FIRST, "md_pooled", 0.01), (LEVEL, "md_pooled", 0.01),
        (SLOPE, "md_pooled", 0.01 / 4), (SCATTER, "md_pooled", 0.01**2),
        (LAST_MINUS_FIRST, "log_odds_gap_pooled", 0.04),
        (LAST_MINUS_FIRST, "ranked_cross_fitted_log_odds", 0.04),
        (SLOPE, "log_odds_gap_pooled", 0.01), (SCATTER, "log_odds_gap_pooled", 0.04**2),
    ],
)  # fmt: skip
def test_a_margin_is_in_the_unit_of_estimand_and_reading(estimand, key, margin):
    """Per generation for a slope over 4, squared for a variance, 4 times on the logit scale."""
    assert _margin(case(estimand=estimand), key, MARGINS) == pytest.approx(margin)


def test_without_generations_a_slope_is_per_one():
    assert _margin(replace(case(estimand=SLOPE), last=0), "md", MARGINS) == 0.01


# --- evidence ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "holds"),
    [(-1, 1, True), (0.0, 1, True), (-1, 0.0, True), (0.1, 1, False), (-1, -0.1, False)],
)
def test_an_interval_that_touches_zero_holds_it(low, high, holds):
    found = Found(case(), whole=Effect(0.5, low, high, 0.1, 0.0, 3))
    assert found.whole_holds_zero == holds
    assert Found(case()).whole_holds_zero


def test_a_slope_is_steeper_where_both_signs_are_known():
    """Gap and mean: both falling, a growing gap is the worst's doing; rising, a shrinking one."""
    for gap, mean, steeper in [(0.03, -0.03, True), (-0.03, 0.03, True), (0.03, 0.03, False),
                               (-0.03, -0.03, False)]:  # fmt: skip
        found = _steeper(of(gap), of(mean))
        p = max(of(gap).p_change(), of(mean).p_change())
        assert (found.holds, found.opposite) == ((p, 1.0) if steeper else (1.0, p))
        assert np.isnan(found.small)
    assert _steeper(of(0.03), of(0.0)).opposite == pytest.approx(1.0)
    assert _steeper(of(0.03), of(0.0)).holds == 1.0


def test_more_networks_of_the_first_side_by_counts():
    """Harmed here: two of the first side, none of the second; with margin 0.01 and K = 2."""
    harmed, spared = of(0.05), of(-0.05)
    found = _more([harmed, harmed], [spared, spared], 0.01)
    assert found.holds < 1e-3
    assert _more([harmed, harmed], [harmed, harmed], 0.01).holds == 1.0
    assert _more([harmed, spared], [spared, spared], 0.01).holds < 0.01
    assert _more([spared, spared], [harmed, harmed], 0.01).holds == 1.0
    mirrored = _more([spared, spared], [harmed, harmed], -0.01)
    assert mirrored.holds == pytest.approx(found.holds)
    assert np.isnan([found.opposite, found.small]).all()
    assert np.isnan(_more([harmed, of(0.05, chains=1)], [spared, spared], 0.01).holds)


def test_more_networks_pays_for_the_number_of_counts():
    """Of one network each: the larger of both p, once; of two, the better of two ways, twice."""
    a, b = of(0.015), of(0.004)
    only = _more([a], [b], 0.01)
    assert only.holds == pytest.approx(max(a.p_above(0.01), b.p_below(0.01)))
    two = _more([a, a], [b, b], 0.01)
    p, q = a.p_above(0.01), b.p_below(0.01)
    ways = [max(min(1, 2 * p), q), max(p, min(1, 2 * q))]
    assert two.holds == pytest.approx(min(1.0, 2 * min(ways)))


@pytest.mark.parametrize(
    ("metric", "about", "key", "no_rival"),
    [
        ("accuracy", {}, "accuracy", True), ("md", {}, "md_pooled", False),
        ("md", {"estimand": SLOPE}, "md_pooled", False),
        ("md", {"estimand": LEVEL}, "md_pooled", True),
        ("md", {"estimand": SCATTER}, "md_pooled", True),
        ("worst_subgroup", {}, "worst_subgroup", True),
        ("ranked_accuracy", {}, "ranked_accuracy", True), ("md", {"steeper": True}, "md", True),
        ("ablation_drop/x", {}, "ablation_drop/x", False),
        ("ablation_drop/x", {}, "ablation_drop_relative/x", True),
    ],
)  # fmt: skip
def test_accuracy_is_a_rival_of_a_change_of_a_gap(metric, about, key, no_rival):
    assert _is_of_accuracy(case(metric, **about), key) == no_rival


# --- words ---------------------------------------------------------------------------------------


def at(value, error=0.002, direction=UP, networks=1, **more):
    each = (of(value, error),) * networks
    held = evidence(each[0], direction, 0.02)
    about = replace(case(), statement=replace(case().statement, direction=direction))
    return Found(more.pop("case", about), 0.02, each, each[0], held, **more)


def word_of(one, together=1):
    return _word(one, one.evidence, SWEEP, together)


def test_what_stands_in_the_way_comes_before_the_evidence():
    sure = at(0.05)
    assert word_of(sure)[0] == SUPPORTED
    lacking, exploring = (
        replace(sure.case, **c) for c in ({"lacks": "no arm"}, {"exploratory": True})
    )
    assert word_of(replace(sure, case=lacking)) == (NOT_TESTED, "no arm")
    assert word_of(replace(sure, case=exploring))[0] == EXPLORATORY
    assert word_of(replace(sure, gate="too poor")) == (UNDECIDED, "too poor")
    lost = word_of(replace(sure, uneven=True))
    assert lost == (UNDECIDED, "the arms lost different trials: survivors prove nothing")


@pytest.mark.parametrize(
    ("chains", "error", "reason"),
    [(0, 0.1, "no run has all"), (1, 0.1, "one chain only"), (3, NAN, "not defined in most")],
)
def test_effects_without_an_error_have_no_verdict_on_either_side(chains, error, reason):
    bad = Effect(0.05, 0, 0, error, 0.0, chains)
    for each, others in (((bad,), ()), ((of(0.05), bad), ()), ((of(0.05),), (bad,))):
        word, why = word_of(replace(at(0.05), each=each, others=others))
        assert word == UNDECIDED
        assert why.startswith(reason) or reason in why


@pytest.mark.parametrize(
    ("value", "word", "reason"),
    [
        (0.05, SUPPORTED, "the interval lies where the statement says"),
        (-0.05, CONTRADICTED, "the interval lies wholly on the other side"),
        (0.0, RULED_OUT, "the interval ends before the margin of 0.02"),
        (0.018, UNDECIDED, "the interval holds zero and the margin"),
    ],
)
def test_a_reason_says_where_the_interval_lies(value, word, reason):
    assert word_of(at(value, 0.05 if word == UNDECIDED else 0.002)) == (word, reason)


def test_several_networks_and_statements_are_in_the_reason():
    several = word_of(at(0.05, networks=3), 4)[1]
    assert several.startswith("the interval, widened for 4 statements judged together, lies")
    assert several.endswith("on average over the networks")
    assert ", widened for 2 statements judged together," in word_of(at(0.05), 2)[1]
    assert word_of(at(-0.05, networks=3))[1].endswith("on the other side in too many networks")
    undecided = word_of(at(0.018, 0.05, SAME, networks=2))[1]
    assert undecided == "the interval of too many networks holds the margin's end"


def test_a_claimed_size_is_held_against_the_interval():
    one = at(0.05)
    for size, holds in ((0.05, "it holds"), (0.2, "it does not hold"), (0.01, "it does not hold")):
        claimed = replace(one.case, statement=replace(one.case.statement, size=size))
        reason = word_of(replace(one, case=claimed))[1]
        assert f"{holds} the claimed size of {size:g}" in reason
    claimed = replace(one.case, statement=replace(one.case.statement, size=0.05))
    falling = replace(at(-0.05), case=claimed)
    assert "it holds the claimed size" in word_of(falling)[1]


def test_what_only_multiplicity_leaves_open_is_said_so():
    weak = at(0.007)
    assert word_of(weak)[0] == SUPPORTED
    nothing = Evidence(0.2, 1.0, 0.5)
    assert _word(weak, nothing, SWEEP, 7)[1] == (
        "the interval decides it alone, but not widened for 7 statements"
    )
    assert "not widened for 2 statements" in _word(weak, nothing, SWEEP, 2)[1]
    assert "alone" not in _word(weak, nothing, SWEEP, 1)[1]
    assert "alone" not in _word(replace(weak, evidence=nothing), nothing, SWEEP, 7)[1]
    with_rival = replace(weak, evidence=nothing, accuracy=Accuracy(of(0.0), 0.01))
    assert "what accuracy alone does" in _word(with_rival, nothing, SWEEP, 1)[1]
    flat = replace(with_rival, whole=of(0.0))
    assert "what accuracy alone does" not in _word(flat, nothing, SWEEP, 1)[1]


def test_a_family_counts_what_was_declared_and_not_what_cannot_be():
    """Two of one section, one that lacks an arm, one exploratory: two are judged together."""
    statement = next(s for s in STATEMENTS if not s.untestable)
    plain = Case(statement, "base", "md", (Member("a", (("base", "a"),)),))
    cases = [plain, replace(plain, group="other"), replace(plain, lacks="no arm"),
             replace(plain, exploratory=True), replace(plain, primary=True)]  # fmt: skip
    p = Evidence(0.03, 1.0, 1.0)
    tests = [Found(c, 0.02, (of(0.01),), of(0.01), NOTHING if c.lacks else p) for c in cases]
    found = judge(SWEEP, cases, tests)
    assert [one.together for one in found] == [2, 2, 1, 1, 1]
    assert [one.verdict for one in found] == [UNDECIDED] * 2 + [NOT_TESTED, EXPLORATORY, SUPPORTED]
    assert found[0].adjusted.holds == pytest.approx(0.06)
