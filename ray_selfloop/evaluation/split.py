"""The change of a gap since generation 0 in two parts: the level's, and the rest.

Decides what of a change is mechanical. Gaps of rates move when accuracy moves, with no change in
how subgroups stand to each other. The level part is the change that is expected, of an estimate
from these test images, when every image's logit within a class has moved by one amount
(`difficulty`) to the class accuracies that are observed; the distribution part is the observed
change less that. Both ends are taken with the noise of their test images, around rates of
generation 0 without the noise's share (`noise`): so the split has no floor of its own, and a purely
mechanical change has a distribution part of 0 (benchmarks/level_split.py). Knows no rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ray_selfloop.evaluation import fairness, noise
from ray_selfloop.evaluation.difficulty import Link
from ray_selfloop.evaluation.predictions import Floats, Ids
from ray_selfloop.evaluation.tallies import Tally

Gap = Callable[[Floats], Floats]  # (..., C, G) -> (...)


ENOUGH = 200  # draws behind an expectation
PAD = 0.01  # differences between rates that show the scale's slope where there are no others


@dataclass(frozen=True)
class Ends:
    """Rates without differences by noise, ``(..., T, C, G)``: of each trial's generation 0, and
    these moved to the trial's class accuracies."""

    before: Floats
    after: Floats


@dataclass(frozen=True)
class Mechanical:
    """T trials of a world in which the level alone has moved.

    plain: as observed, ``(T, C, G)``. levels: the same with the noise of the class accuracies once
    more, ``(R', T, C, G)``; what it changes in the mean is what the noise there is has changed.
    drawn: from each draw, ``(B, T, C, G)``. noise ``(R', T, C, G)``: deviations of the test images,
    of each trial; base ``(T,)``. drawn_scale ``(B, T)``: what the level does to the variance within
    classes. mirrored: plain, for gaps of pooled rates (True) or within classes, see
    `noise.Shrinkage.of`.
    """

    plain: Ends
    levels: Ends
    drawn: Ends
    mirrored: Mapping[bool, Ends]
    noise: Floats
    base: Ids
    drawn_scale: Floats

    def expected(self, gap: Gap, pooled: bool) -> Floats:
        """``(T,)``: mean change of the plug-in gap, noise at both ends included.

        What the class accuracies' noise has changed is taken off; and where true differences are
        estimated as less than none, what they would change if they were there, so that equal
        subgroups are right in the mean though half of the estimates are cut at 0.
        """
        if not len(self.noise):
            return gap(self.plain.after) - gap(self.plain.before)
        once, twice = self._means(gap, self.plain), self._means(gap, self.levels)
        after, before = (fairness.ratio(x**2, y) for x, y in zip(once, twice, strict=True))
        last, first = self._means(gap, self.mirrored[pooled])
        return np.nan_to_num(after + once[0] - last) - np.nan_to_num(before + once[1] - first)

    def _means(self, gap: Gap, ends: Ends) -> tuple[Floats, Floats]:
        """``(T,)``: mean gap over the noise, after and before."""
        after, before = ends.after + self.noise, ends.before + self.noise[:, self.base]
        return gap(after).mean(axis=0), gap(before).mean(axis=0)

    def changes(self, gap: Gap) -> Floats:
        """``(B, T)``: how the change of the gap without noise differs between draws."""
        return gap(self.drawn.after) - gap(self.drawn.before)


def _accuracies(rates: Floats, support: Floats) -> Floats:
    """Accuracy of each class, ``(..., C, G) -> (..., C)``."""
    rows = np.where(support > 0, support * rates, 0.0).sum(axis=-1)
    return fairness.ratio(rows, support.sum(axis=-1))


def _moved(link: Link, before: Floats, step: Floats, support: Floats) -> Ends:
    """Rates ``(..., C, G)`` whose class accuracies have changed by ``step (..., C)``."""
    target = _inside((_accuracies(before, support) + step)[..., None], support)[..., 0]
    return Ends(before, link.moved(before, target, support))


def _inside(rates: Floats, support: Floats) -> Floats:
    bound = 0.5 / (support.sum(axis=-1, keepdims=True) + 1.0)
    return np.clip(rates, bound, 1.0 - bound)


def _scale(link: Link, ends: Ends) -> Floats:
    """Mean variance of a class's rates after the move over that before: ``(..., C, G) -> (...)``.

    `PAD` is the size of differences below which the link's slopes at the rates count for more than
    the differences themselves: where there are none, the ratio is that of the squared slopes.
    """
    known = ~np.isnan(ends.before)
    logits = (link.logit(np.where(known, x, 0.5)) for x in (ends.before, ends.after))
    first, last = (link.rate_and_slope(z)[1] for z in logits)
    slopes = np.where(known, fairness.ratio(last, first), np.nan)
    end = fairness.mean_defined(_apart(ends.after) ** 2 + PAD**2 * slopes**2)
    start = fairness.mean_defined(_apart(ends.before) ** 2) + PAD**2
    return fairness.ratio(fairness.mean_defined(end), fairness.mean_defined(start))


def _inflation(drawn: Floats, observed: Floats) -> Floats:
    """By what factor noise raises the mean of a ratio, from draws ``(R, ...)`` around the observed
    one: of a log normal ratio, by quantiles (a class that is nearly all right has long tails)."""
    low, middle, high = np.quantile(np.log(drawn), [0.16, 0.5, 0.84], axis=0)
    return np.asarray(np.exp(middle + 0.125 * (high - low) ** 2) / observed)


def _apart(rates: Floats) -> Floats:
    return rates - fairness.mean_defined(rates)[..., None]


def mechanical(
    tally: Tally, shrunk: noise.Shrinkage, base: Ids, pool: Ids, sd: float
) -> Mechanical:
    """From an observed tally and its resamples; sd: of `difficulty`."""
    n, link = tally.support, Link.of(sd)
    rates = fairness.ratio(tally.hits, n)
    accuracies = _accuracies(rates, n)
    steps = accuracies - accuracies[:, base]
    drawn = _moved(link, shrunk(rates)[:, base], steps, n)
    plain = Ends(drawn.before[0], drawn.after[0])
    few = slice(1, 1 + ENOUGH)
    again = (accuracies[few] - accuracies[:1])[:, base, :, None]
    levels = _moved(link, _inside(plain.before + again, n), steps[few], n)
    scale = _scale(link, plain)
    of_noise = _inflation(_scale(link, levels), scale) if len(levels.before) else 1.0
    return Mechanical(
        plain=plain,
        levels=levels,
        drawn=drawn,
        mirrored={
            name == "pooled": _moved(
                link, noise.shrinkage(tally, pool, name)(rates[0])[base], steps[0], n
            )
            for name in ("pooled", "within")
        },
        noise=noise.deviations(tally)[:ENOUGH],
        base=base,
        drawn_scale=_scale(link, drawn) / of_noise,
    )


def permuted_mechanical(tally: Tally, base: Ids, pool: Ids, sd: float) -> Mechanical:
    """From permuted subgroups: the truth has none, and every draw is a test set of its own."""
    n, rates, link = tally.support, fairness.ratio(tally.hits, tally.support), Link.of(sd)
    accuracies = _accuracies(rates[0], n)
    equal = np.where(n > 0, accuracies[..., None], np.nan)
    before = noise.Shrinkage.of(rates, rates - equal, n, pool)(rates)[:, base]
    steps = np.broadcast_to(accuracies - accuracies[base], before.shape[:-1])
    plain = Ends(_inside(equal[base], n), _inside(equal, n))
    scale = _scale(link, plain)
    return Mechanical(
        plain=plain,
        levels=plain,
        drawn=_moved(link, before, steps, n),
        mirrored={True: plain, False: plain},
        noise=(rates - equal)[:ENOUGH],
        base=base,
        drawn_scale=np.broadcast_to(scale, (len(before), *scale.shape)),
    )
