"""Where bias would come to rest: the fixed point of the affine law, with an interval by tests.

    B(t+1) = a + b B(t),    so that    B(t) = B* + b^t (B(0) - B*),    B* = a / (1 - b)

B and B* are fractions, from 0 to 1; b is a plain factor, sought in [0, 1.5]. B* is where B goes to
only where b < 1: it is given where the whole interval of b lies below 1, and else a sentence is.
Measured is Y_k(t), the unbiased estimate of B_k(t)^2 (see `amplification`). A test holds one of the
law's parameters, B* or b, fits the others to the chains' mean Y by least squares, and asks of

    U = mean over k of  sum_t w_t (Y_k(t) - B(t)^2)

whether it is 0. w is the gradient of B(t)^2 in the parameter that is held, less what the gradients
in the fitted ones explain of it (Rao's score, orthogonal to what is fitted): to first order neither
the errors of the fit nor where a chain of its own starts moves U. It is judged by the scatter of
the chains' own sums and by the test images that they share, as A is; the interval holds every value
on the way from the estimate that is not rejected (Fieller's idea). Where the estimate is itself
rejected, cut by the bounds of b or of B*, the law does not fit inside them and there is no rest
point. No root of a noisy B^2 is taken, and measured bias is not regressed on measured bias. What
chains wander by themselves adds to B^2: B* is a root mean square over chains. Measured:
benchmarks/rest_point.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar

from ray_selfloop.equation6.amplification import Ends, Images, Test
from ray_selfloop.equation6.bias import BiasSeries
from ray_selfloop.evaluation.predictions import Floats

STEEPEST = 1.5  # largest b
NEARLY = 0.999  # largest b where B* is held: at 1 the law has none
GRID = 121
FEWEST = 3  # generations: the law has three parameters
FEW = 3  # chains behind a word for where B moves
STEPS, DAMPED, LEAST, SETTLED = 40, 1e-3, 1e-12, 1e-9  # of Levenberg and Marquardt's fit
NAN = float("nan")
NOTHING: Ends = (NAN, NAN, NAN)
RISES, FALLS = "towards, from below", "towards, from above"
AWAY, UNDECIDED = "away", "undecided"
NO_BIAS = "no rest point: no measurable bias at generation 0"
TOO_FEW = "no rest point: an affine law needs three generations or more in every chain"
INFLATED = "no rest point: this B holds true gap + noise"
UNSURE = "no rest point: that b is below 1 is not sure"
ANYWHERE = "no rest point: b is below 1, but no B* from 0 to 1 is excluded"
ONE_SEED = "one classifier seed: B* holds the scatter between seeds"
LEAVES = "no rest point: b is above 1"
MISFIT = "no rest point: the affine law does not fit"
OUTSIDE = "no rest point: that of the affine law is out of reach"
FEW_CHAINS = "where B moves is not said of fewer than three chains"


@dataclass(frozen=True)
class RestPoint:
    """B* of one classifier in one scenario.

    value, low, high: B*, a fraction; NaN where it is none, and note says why. b, b_low, b_high: the
    factor by which the distance to it changes in a generation; no ends where b itself is rejected.
    start: B(0) as fitted, a fraction. moves, exploratory and no verdict: ``towards, from below``,
    ``towards, from above``, ``away`` (from a / (1 - b): b above 1 for sure), or ``undecided`` (no
    rest point, or fewer than three chains). chains: those behind it, with all generations known.
    """

    scenario: str
    classifier: str
    value: float
    low: float
    high: float
    b: float
    b_low: float
    b_high: float
    start: float
    moves: str
    chains: int
    note: str = ""

    @property
    def ends(self) -> Ends:
        """B*, low, high."""
        return self.value, self.low, self.high


@dataclass(frozen=True)
class _Paths:
    """B(t) ``(n, L)`` under n hypotheses, and its gradients: in what is held ``(n, L)``, and in the
    two parameters that are fitted ``(n, L, 2)``."""

    bias: Floats
    held: Floats
    free: Floats

    @staticmethod
    def of(bias: Floats, held: Floats, *free: Floats) -> "_Paths":
        """B is never below 0, and stays there."""
        there = bias > 0
        return _Paths(bias * there, held * there, np.stack(free, axis=2) * there[..., None])

    @property
    def squared(self) -> "_Paths":
        """The same of B^2."""
        twice = 2.0 * self.bias
        return _Paths(self.bias**2, twice * self.held, twice[..., None] * self.free)

    @property
    def weights(self) -> Floats:
        """w: what the fitted parameters do not explain of the gradient that is held, ``(n, L)``."""
        of_fit = np.linalg.qr(self.free)[0]
        return np.asarray(self.held - np.einsum("nlj,nkj,nk->nl", of_fit, of_fit, self.held))


@dataclass(frozen=True)
class _Held:
    """The law with one parameter held. paths: held values ``(n,)`` and fitted ones ``(n, 2)`` ->
    the paths over L generations. low, high: bounds of the fitted ones. guesses: starts of the fit,
    from the held values and B at both ends."""

    paths: Callable[[Floats, Floats, int], _Paths]
    low: tuple[float, float]
    high: tuple[float, float]
    guesses: Callable[[Floats, float, float], list[Floats]]


def _powers(b: Floats, length: int) -> tuple[Floats, Floats]:
    """b^t and t b^(t - 1), ``(n, L)``."""
    time = np.arange(length)
    return b[:, None] ** time, time * b[:, None] ** np.maximum(time - 1, 0)


def _before(terms: Floats) -> Floats:
    """Sums over all earlier generations, ``(n, L)``."""
    return np.asarray(np.cumsum(terms, axis=1) - terms)


def _to_rest(rest: Floats, fitted: Floats, length: int) -> _Paths:
    """B* is held; fitted are B(0) and b."""
    decay, slope = _powers(fitted[:, 1], length)
    away = (fitted[:, 0] - rest)[:, None]
    return _Paths.of(rest[:, None] + decay * away, 1.0 - decay, decay, slope * away)


def _with_b(b: Floats, fitted: Floats, length: int) -> _Paths:
    """b is held; fitted are B(0) and a."""
    (decay, slope), start, a = _powers(b, length), fitted[:, :1], fitted[:, 1:]
    added, moved = _before(decay), _before(slope)
    return _Paths.of(start * decay + a * added, start * slope + a * moved, decay, added)


def _guessed_b(rest: Floats, first: float, last: float) -> list[Floats]:
    return [np.tile([first, b], (len(rest), 1)) for b in (0.2, 0.6, 0.9)]


def _guessed_a(b: Floats, first: float, last: float) -> list[Floats]:
    return [np.stack([np.full_like(b, first), last - b * first], axis=1)]


REST = _Held(_to_rest, (0.0, 0.0), (1.0, NEARLY), _guessed_b)
FACTOR = _Held(_with_b, (0.0, -1.0), (1.0, 1.0), _guessed_a)


def _fitted(law: _Held, held: Floats, y: Floats) -> tuple[Floats, _Paths]:
    """The parameters ``(n, 2)`` whose B^2 is nearest to ``y (L,)``, and their paths of B^2."""
    first, last = np.sqrt(np.maximum(y[[0, -1]], 0.0)).tolist()
    found = [_least_squares(law, held, guess, y) for guess in law.guesses(held, first, last)]
    misfits = np.stack([((paths.bias - y) ** 2).sum(axis=1) for _, paths in found])
    best, rows = misfits.argmin(axis=0), np.arange(len(held))
    chosen = np.stack([parameters for parameters, _ in found])[best, rows]
    return chosen, law.paths(held, chosen, len(y)).squared


def _least_squares(law: _Held, held: Floats, guess: Floats, y: Floats) -> tuple[Floats, _Paths]:
    """Levenberg and Marquardt's, for all hypotheses at once."""
    at, damped = np.clip(guess, law.low, law.high), np.full(len(held), DAMPED)
    paths = law.paths(held, at, len(y)).squared
    for _ in range(STEPS):
        normal = np.einsum("nli,nlj->nij", paths.free, paths.free)
        slope = np.einsum("nli,nl->ni", paths.free, y - paths.bias)
        ridge = damped[:, None] * np.einsum("nii->ni", normal) + LEAST
        step = np.linalg.solve(normal + ridge[..., None] * np.eye(2), slope[..., None])[..., 0]
        tried = np.clip(at + step, law.low, law.high)
        if np.abs(tried - at).max(initial=0.0) < SETTLED:
            break
        other = law.paths(held, tried, len(y)).squared
        better = ((other.bias - y) ** 2).sum(axis=1) <= ((paths.bias - y) ** 2).sum(axis=1)
        at, damped = np.where(better[:, None], tried, at), damped * np.where(better, 0.25, 4.0)
        paths = law.paths(held, at, len(y)).squared
    return at, paths


def _test(law: _Held, series: BiasSeries, level: float) -> Test:
    """U of held values; the last column of y is 1, and its weight takes off what the law gives."""
    y, shape = series.squared[0].mean(axis=0), (*series.squared.shape[:2], 1)
    square = np.zeros((len(series.square), *shape[1:]))
    both = replace(
        series,
        squared=np.concatenate([series.squared, np.ones(shape)], axis=2),
        square=np.concatenate([series.square, square], axis=2),
    )
    chains = len(series.chains)
    training = series.training / np.maximum(series.seeds, 1)

    def weights(held: Floats) -> Floats:
        paths = _fitted(law, held, y)[1]
        own = paths.weights
        expected = -(own * paths.bias).sum(axis=1, keepdims=True)
        return np.repeat(np.concatenate([own, expected], axis=1)[:, None], chains, axis=1)

    return Test(
        both.squared[0],
        weights,
        Images.of(both, np.ones(chains, np.bool_)),
        np.concatenate([training, np.zeros((chains, 1))], axis=1),
        level,
    )


def _interval(test: Test, value: float, lowest: float, highest: float) -> Ends:
    """Around the estimate, cut at the range: an end that is not rejected is the range's own. No
    ends where the estimate is itself rejected, as it may be where the range cuts it."""
    if test.excess(np.array([value]))[0] > 0:
        return value, NAN, NAN
    low = test.end(value, np.linspace(value, lowest, GRID)[1:])
    high = test.end(value, np.linspace(value, highest, GRID)[1:])
    return value, low if low == low else lowest, high if high == high else highest


def _best_b(y: Floats) -> tuple[float, float, float]:
    """b, B(0) and a of the law that is nearest to ``y``."""

    def misfit(b: float) -> float:
        return float(((_fitted(FACTOR, np.array([b]), y)[1].bias - y) ** 2).sum())

    grid = np.linspace(0.0, STEEPEST, GRID)
    at = int(((_fitted(FACTOR, grid, y)[1].bias - y) ** 2).sum(axis=1).argmin())
    around = float(grid[max(at - 1, 0)]), float(grid[min(at + 1, GRID - 1)])
    b = float(minimize_scalar(misfit, bounds=around, method="bounded").x)
    start, a = _fitted(FACTOR, np.array([b]), y)[0][0].tolist()
    return b, start, a


def rest_point(series: BiasSeries, level: float) -> RestPoint:
    """B* of one classifier in one scenario; level: coverage of both intervals.

    Chains that lack a generation take no part. Without measurable bias at generation 0 there is
    none, as A is none.
    """
    known = ~np.isnan(series.squared[0]).any(axis=1)
    whole = series.of(tuple(c for c, k in zip(series.chains, known, strict=True) if k))
    bare = RestPoint(series.scenario, series.classifier, *NOTHING, *NOTHING, NAN, UNDECIDED, 0)
    if why := _refused(series, whole):
        return replace(bare, note=why)
    y = whole.squared[0].mean(axis=0)
    b, start, a = _best_b(y)
    ends = _interval(_test(FACTOR, whole, level), b, 0.0, STEEPEST)
    bare = replace(bare, b=b, b_low=ends[1], b_high=ends[2], start=start, chains=len(whole.chains))
    if why := _no_factor(ends):
        return replace(bare, moves=_word(AWAY, whole) if why == LEAVES else UNDECIDED, note=why)
    value = min(max(a / (1.0 - b), 0.0), 1.0)
    _, low, high = _interval(_test(REST, whole, level), value, 0.0, 1.0)
    if why := _nowhere(low, high):
        return replace(bare, note=why)
    moves = _word(RISES if start < value else FALLS, whole)
    return replace(bare, value=value, low=low, high=high, moves=moves, note=_note(series, whole))


def reason(moves: str, note: str) -> str:
    """Both as one, for a table of verdicts: the word where B moves is none."""
    return "; ".join(part for part in (f"where B moves: {moves}", note) if part)


def _refused(series: BiasSeries, whole: BiasSeries) -> str:
    """Why nothing is fitted, or ""."""
    if series.inflated:
        return INFLATED
    if not series.measurable[0]:
        return NO_BIAS
    return TOO_FEW if not whole.chains or series.generations < FEWEST else ""


def _no_factor(ends: Ends) -> str:
    """Why b leads to no rest point, or ""."""
    _, low, high = ends
    if low != low:
        return MISFIT
    if low > 1:
        return LEAVES
    return "" if high < 1 else UNSURE


def _nowhere(low: float, high: float) -> str:
    """Why these ends of B* leave no rest point, or ""."""
    if low != low:
        return OUTSIDE
    return ANYWHERE if (low, high) == (0.0, 1.0) else ""


def _word(moves: str, whole: BiasSeries) -> str:
    return moves if len(whole.chains) >= FEW else UNDECIDED


def _note(series: BiasSeries, whole: BiasSeries) -> str:
    """What the reader must know beside it, or ""."""
    used, of = len(whole.chains), len(series.chains)
    notes = [
        "interval of this chain only" if used == 1 else FEW_CHAINS if used < FEW else "",
        f"from {used} of {of} chains" if used < of else "",
        ONE_SEED if series.subgroups and not series.seeds_apart else "",
    ]
    return "; ".join(note for note in notes if note)
