"""A of an arm relative to its control: r = A_treatment / A_control, by chain.

Both arms of a chain share generation 0, hence B_k(0), so that for the true r
    E[ Y_T,k(t) - r^2t Y_C,k(t) ] = 0    for every t >= 1
whatever B_k(0) and A_control are; Y is the unbiased estimate of B^2. Tested is
    U(r) = mean over k of  sum_t w_t (Y_T,k(t) - r^2t Y_C,k(t)),    w_t = t / (1 + r^2t)
by the scatter of the chains' own contrasts and what the test images, the same in both arms, give to
all chains (`inference.chains`); the interval holds every r that is not rejected (Fieller), as
in `amplification`. The expectation is 0 for any w_t. The denominator keeps both weights bounded,
turns r into 1/r where the arms are exchanged, and makes U fall in r wherever ``Y_T + Y_C > 0``: one
root. The factor t is how well a generation tells r from another. Of 1, t^.5, t, t .9^t and the last
generation alone, 100 simulations each of five worlds as in benchmarks/seed_scatter.py (A_control
.85 to 1, calm and wandering), t had the least scatter of r in three, next to it in the others, and
power within .04 of the best; the last alone lost up to half of the power.
What both arms share cancels: a drift with accuracy that both have (one that the treatment alone has
does not: see `fit`), and at r = 1 the scatter of a single seed,
which elsewhere draws r towards 1. Knows no q, no u and nothing of other cases.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ray_selfloop.equation6.amplification import (
    INFLATED,
    NO_BIAS,
    ONE_CHAIN,
    Ends,
    Images,
    Test,
    solved,
)
from ray_selfloop.equation6.bias import BiasSeries
from ray_selfloop.evaluation.predictions import Floats
from ray_selfloop.inference.chains import Effect

NAN = float("nan")
NO_CONTROL = "undecided: no control"
UNLIKE = "undecided: classifier seeds differ between the arms"
NO_PAIR = "undecided: no chain in both arms"
NO_RATIO = "undecided: no ratio fits"


@dataclass(frozen=True)
class Relative:
    """r with its interval at the level asked for; NaN ends are open, all NaN where no r fits.

    refused: why there is no verdict whatever the interval is, or "". above, below: twice the
    one-sided p against r <= 1 and r >= 1, at most 1; NaN without a test. chains: in both arms.
    """

    value: float
    low: float
    high: float
    refused: str
    above: float
    below: float
    chains: int

    @property
    def ends(self) -> Ends:
        """r, low, high."""
        return self.value, self.low, self.high

    @property
    def p(self) -> float:
        """Two-sided p of r = 1."""
        return min(self.above, self.below)


NOTHING = Relative(NAN, NAN, NAN, NO_CONTROL, NAN, NAN, 0)


def relative(treated: BiasSeries, control: BiasSeries, level: float, limit: float) -> Relative:
    """r of one classifier in two scenarios that differ in arm alone, sought in [1/limit, limit].

    treated, control: with the same test images and resamples. Of chains in both arms, and of their
    generations from 1 on, those that are known in both arms count.
    """
    first, second = _paired(treated, control)
    known = ~np.isnan(first.squared[0]) & ~np.isnan(second.squared[0])
    used = known.any(axis=1)
    if not used.any():
        return replace(NOTHING, refused=NO_PAIR)
    test = _test(first, second, known, level)
    found = solved(test, lambda x: _misfit(test, x), limit)
    above, below = _p_values(test)
    why = _refused(treated, control, test.chains)
    if found is None or not _measurable(treated, control):
        return Relative(NAN, NAN, NAN, why or NO_RATIO, above, below, test.chains)
    return Relative(*found, why, above, below, test.chains)


def _measurable(treated: BiasSeries, control: BiasSeries) -> bool:
    return bool(treated.measurable[0] and control.measurable[0])


def _refused(treated: BiasSeries, control: BiasSeries, chains: int) -> str:
    if not _measurable(treated, control):
        return NO_BIAS
    if treated.inflated or control.inflated:
        return INFLATED
    if treated.seeds_apart != control.seeds_apart:
        return UNLIKE
    return ONE_CHAIN if chains < 2 else ""


def _paired(treated: BiasSeries, control: BiasSeries) -> tuple[BiasSeries, BiasSeries]:
    """The shared chains of both, in one order, from generation 1 to the last of both."""
    shared = tuple(chain for chain in treated.chains if chain in control.chains)
    stop = min(treated.generations, control.generations)
    return treated.of(shared).between(1, stop), control.of(shared).between(1, stop)


def contrast(x: Floats, known: Floats) -> Floats:
    """Weights of Y_T and of Y_C: log r ``(n,)``, known ``(m, N)`` -> ``(n, m, 2 N)``."""
    time = np.arange(1, known.shape[1] + 1)
    growth = 2.0 * x[:, None, None] * time  # log r^2t
    of_control = known * time / (1.0 + np.exp(-growth))
    return np.concatenate([known * time - of_control, -of_control], axis=2)


def _test(first: BiasSeries, second: BiasSeries, known: NDArray[np.bool_], level: float) -> Test:
    used = np.asarray(known.any(axis=1))
    here = known[used].astype(np.float64)
    both = replace(
        first,
        squared=np.concatenate([first.squared, second.squared], axis=2),
        square=np.concatenate([first.square, second.square], axis=2),
    )
    training = [one.training / np.maximum(one.seeds[used], 1) for one in (first, second)]
    return Test(
        np.nan_to_num(both.squared[0, used]),
        lambda x: contrast(x, here),
        Images.of(both, used),
        np.concatenate(training, axis=1),
        level,
    )


def _misfit(test: Test, x: float) -> float:
    """Squared mean contrasts of the single generations, to choose between roots."""
    parts = (test.weights(np.array([x]))[0] * test.y).mean(axis=0)
    return float((parts.reshape(2, -1).sum(axis=0) ** 2).sum())


def _p_values(test: Test) -> tuple[float, float]:
    """Against r <= 1 and against r >= 1; NaN with one chain."""
    if test.chains < 2:
        return NAN, NAN
    value, between, shared = (float(part[0]) for part in test.parts(np.zeros(1)))
    effect = Effect(value, NAN, NAN, between, shared, test.chains)
    return effect.p_above(0.0), effect.p_below(0.0)
