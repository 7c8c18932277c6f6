"""A of an arm over A of its control: found again, covered, and exchanged with the arms."""

from dataclasses import replace

import laws
import numpy as np
import pytest

from ray_selfloop.equation6.amplification import INFLATED, NO_BIAS, ONE_CHAIN
from ray_selfloop.equation6.relative import NO_PAIR, NO_RATIO, UNLIKE, contrast, relative

LIMIT = 4.0


def arms(ratio, control, seed, *, chains=5, steps=6, noise=4e-4, start=0.1):
    """Two arms that share B(0), which differs between chains, and part of the images' noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(steps + 1)
    levels = start * np.exp(0.2 * rng.standard_normal((chains, 1)))
    walk = np.cumsum(0.03 * rng.standard_normal((2, chains, steps + 1)), axis=2)
    walk -= walk[:, :, :1]
    bias = levels * np.array([ratio * control, control])[:, None, None] ** time * np.exp(walk)
    both = laws.series("s", "a", np.concatenate(bias, axis=1), seed, noise=noise)
    split = both.between(0, steps + 1), both.between(steps + 1, 2 * steps + 2)
    return split[0], replace(split[1], scenario="c", floor=split[0].floor)


@pytest.mark.parametrize("control", [0.9, 1.1])
@pytest.mark.parametrize("ratio", [0.9, 1.0, 1.1])
def test_the_ratio_is_found_whatever_the_control_does(ratio, control):
    found = [relative(*arms(ratio, control, seed), 0.95, LIMIT) for seed in range(40)]
    assert np.median([r.value for r in found]) == pytest.approx(ratio, abs=0.01)
    assert sum(not (r.low > ratio or r.high < ratio) for r in found) >= 34  # 38 expected
    wrong = [r.above if ratio <= 1 else r.below for r in found]
    assert sum(p <= 0.05 for p in wrong) <= 3
    right = [r.below if ratio < 1 else r.above for r in found]
    assert ratio == 1 or sum(p <= 0.05 for p in right) >= 30


def test_the_contrast_of_the_true_ratio_is_zero():
    known = np.array([[1.0, 0.0, 1.0, 1.0]])
    time = np.arange(1, 5)
    for r in (0.5, 1.0, 1.7):
        weights = contrast(np.log([r]), known)[0, 0]
        curve = np.concatenate([(0.9 * r) ** (2 * time), 0.9 ** (2 * time)])
        assert weights @ curve == pytest.approx(0.0, abs=1e-12)
        assert weights[1] == weights[5] == 0


def test_exchanged_arms_have_the_reciprocal_ratio():
    treated, control = arms(1.1, 0.95, 1)
    one, other = (relative(*pair, 0.9, LIMIT) for pair in ((treated, control), (control, treated)))
    assert other.value == pytest.approx(1 / one.value, rel=1e-6)
    assert (other.low, other.high) == pytest.approx((1 / one.high, 1 / one.low), rel=1e-4)
    assert (other.above, other.below) == pytest.approx((one.below, one.above))


@pytest.mark.parametrize("seed", range(6))
def test_the_interval_excludes_1_just_where_the_p_value_says_so(seed):
    treated, control = arms(1.03, 1.0, seed)
    p = relative(treated, control, 0.95, LIMIT).above
    inside, outside = (relative(treated, control, 1 - p * f, LIMIT) for f in (0.95, 1.05))
    assert inside.low < 1 < outside.low


def test_arms_are_paired_by_chain_not_by_place():
    treated, control = arms(1.1, 0.95, 2)
    other = replace(control, chains=(9, 4, 3, 2, 1))
    mixed = replace(
        other,
        squared=control.squared[:, [0, 4, 3, 2, 1]],
        square=control.square[:, [0, 4, 3, 2, 1]],
    )
    found = relative(treated, mixed, 0.95, LIMIT)
    assert found.chains == 4
    alone = [series.of((1, 2, 3, 4)) for series in (treated, control)]
    assert found.value == pytest.approx(relative(*alone, 0.95, LIMIT).value)
    nobody = relative(treated, replace(control, chains=(5, 6, 7, 8, 9)), 0.95, LIMIT)
    assert (nobody.refused, nobody.chains) == (NO_PAIR, 0)


def test_generations_that_one_arm_lacks_do_not_count():
    treated, control = arms(1.1, 0.95, 3)
    gap = treated.squared.copy()
    gap[:, 1, 4:] = np.nan
    found = relative(replace(treated, squared=gap), control, 0.95, LIMIT)
    assert found.low < 1.1 < found.high
    assert found.chains == 5
    short = relative(treated, control.between(0, 4), 0.95, LIMIT)
    assert short.value == pytest.approx(
        relative(treated.between(0, 4), control.between(0, 4), 0.95, LIMIT).value
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda s: replace(s, floor=np.full(7, np.inf)), NO_BIAS),
        (lambda s: replace(s, inflated=True), INFLATED),
        (lambda s: replace(s, seeds_apart=True), UNLIKE),
        (lambda s: s.of((0,)), ONE_CHAIN),
    ],
)
def test_why_there_is_no_verdict(change, why):
    treated, control = arms(1.2, 1.0, 0)
    assert relative(treated, control, 0.95, LIMIT).refused == ""
    found = relative(change(treated), control, 0.95, LIMIT)
    assert found.refused == why
    assert np.isnan(found.value) == (why == NO_BIAS)
    assert np.isnan(found.p) == (why == ONE_CHAIN)


def test_bias_that_the_treatment_takes_away_has_no_ratio_in_the_limits():
    _, control = arms(1.0, 1.0, 0, noise=1e-6)
    gone = control.squared.copy()
    gone[:, :, 1:] *= 1e-8
    treated = replace(control, squared=gone)
    found = relative(treated, control, 0.95, LIMIT)
    assert (found.refused, np.isnan(found.value)) == (NO_RATIO, True)
    assert found.below < 0.05
