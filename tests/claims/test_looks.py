"""Primary statements at several looks: when they are decided, on which chains and interval."""

from dataclasses import replace

import pytest

from ray_selfloop.claims.measured import Looks
from ray_selfloop.claims.verdicts import claims
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.inference.sequential import levels
from ray_selfloop.inference.verdicts import (
    EXPLORATORY,
    NOT_TESTED,
    RULED_OUT,
    SUPPORTED,
    UNDECIDED,
)
from ray_selfloop.simulator import Layout, Step, World

SETTINGS = Evaluation(resamples=40, permutations=20)
WORLD = World(Layout.crossed_digits(300), gap=(0.6, -0.1, -0.5), chain=0.03, seed=0.03, slope=0.01)
DECLARED = (3, 5, 8)
LARGE, SMALL, NONE = 0.6, 0.09, 0.0


def swept(growth, chains=8):
    return WORLD.arms({"treatment": Step(gap=growth), "no_synthetic": Step()}, chains, 1, seed=3)


def looked(arms, chains=8, settled=True):
    return claims(arms, SETTINGS, looks=Looks(DECLARED, tuple(range(chains)), settled))


def primary(result):
    (found,) = (c for c in result.claims if c.primary)
    return found


@pytest.fixture(scope="module")
def growing():
    return looked(swept(LARGE))


@pytest.fixture(scope="module")
def still():
    return swept(NONE)


def test_the_first_look_that_decides_does_so_for_good(growing):
    found = primary(growing)
    assert [look.verdict for look in found.looks] == [UNDECIDED, SUPPORTED, SUPPORTED]
    assert (found.verdict, found.decided, found.chains) == (SUPPORTED, 5, 5)
    assert found.value == found.looks[1].value


def test_a_look_sees_what_a_sweep_of_so_many_chains_sees(growing):
    """Value for value: what has come since changes nothing of an earlier look."""
    alone = primary(looked(first_chains(swept(LARGE), 5), chains=5))
    assert alone.looks == primary(growing).looks[:2]


def first_chains(arms, chains):
    return [arm.of(range(chains)) for arm in arms]


def test_intervals_over_all_looks_hold_those_of_the_fixed_design(growing):
    for look, alpha in zip(primary(growing).looks, levels(DECLARED, 0.05), strict=True):
        assert look.level == pytest.approx(1 - alpha)
        assert look.low < look.fixed_low < look.value < look.fixed_high < look.high


def test_an_interval_decides_what_its_word_says(still):
    for look in primary(looked(still)).looks:
        if look.verdict == RULED_OUT:
            assert look.high < 0.02
        if look.verdict == UNDECIDED:
            assert look.low <= 0 <= look.high
            assert look.open
    assert primary(looked(still)).verdict == RULED_OUT


def test_a_look_that_is_not_complete_decides_nothing():
    found = primary(looked(swept(LARGE, 3), chains=3, settled=False))
    assert (found.verdict, found.decided) == (UNDECIDED, 0)
    assert "not complete" in found.reason


def test_all_but_the_primary_statements_is_exploratory(growing):
    others = {c.verdict for c in growing.claims if not c.primary}
    assert others == {EXPLORATORY, NOT_TESTED}
    assert not any(c.looks for c in growing.claims if not c.primary)


def test_the_reason_names_the_looks(growing):
    assert "widened for 3 looks," in primary(growing).reason


def test_without_looks_nothing_is_said_of_them(still):
    found = primary(claims(still, SETTINGS))
    assert (found.looks, found.decided) == ((), 0)


def test_lost_trials_are_not_waited_for():
    """More chains do not make the arms lose the same ones."""
    arms = WORLD.arms(
        {"treatment": Step(gap=SMALL, collapse=(0,), since=1), "no_synthetic": Step()}, 3, 1, seed=3
    )
    found = primary(looked(arms, chains=3))
    assert found.verdict == UNDECIDED
    assert not found.looks[-1].open


def lost(arms, chains):
    """These chains collapse in both arms after generation 0."""
    return [
        replace(
            arm,
            outcomes=[
                replace(o, collapsed=True) if o.loop_seed in chains and o.generation else o
                for o in arm.outcomes
            ],
        )
        for arm in arms
    ]


def test_a_chain_that_is_lost_moves_no_look():
    """A look is named by the chains that were declared for it, whatever is left of them."""
    found = primary(looked(lost(swept(LARGE), [3])))
    assert [look.chains for look in found.looks] == [3, 5, 8]
    assert (found.decided, found.chains) == (5, 4)
    assert (found.low, found.high) == (found.looks[1].low, found.looks[1].high)
    few = primary(looked(lost(swept(LARGE), [1, 2])))
    assert few.looks[0].verdict == UNDECIDED
    assert (few.decided, few.chains) == (5, 3)
    assert few.low == few.looks[1].low


def test_a_look_has_the_gate_of_its_own_chains():
    """Later chains whose generator is poor do not take back what was decided before them."""
    poor = [
        replace(arm, not_converged="poor", gates={3: "", 5: "", 8: "poor"}) for arm in swept(LARGE)
    ]
    found = primary(looked(poor))
    assert (found.verdict, found.decided) == (SUPPORTED, 5)
    assert found.looks[2].verdict == UNDECIDED
    assert not found.looks[2].open


def test_what_is_declared_late_decides_nothing_and_waits_for_nothing():
    late = claims(swept(LARGE), SETTINGS, declared=False, looks=Looks(DECLARED, tuple(range(8))))
    found = primary(late)
    assert (found.verdict, found.decided) == (EXPLORATORY, 0)
    assert not any(look.open for look in found.looks)
