"""Contrasts between arms over generations: what is compared with what.

The same chain, seed, generation and test image in both arms. Every estimand but `SCATTER` is linear
in the trials' values, so that differences of contrasts are contrasts. Knows no claim and no metric,
and nothing of errors: those are `inference`'s.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ray_selfloop.evaluation.predictions import Floats
from ray_selfloop.inference.chains import slope_weights

Mask = NDArray[np.bool_]
NAN = float("nan")
SLOPE, LAST_MINUS_FIRST = "slope", "last_minus_first"
LEVEL, SCATTER = "level", "scatter"
FEWEST = 4  # generations behind the scatter around a line


@dataclass(frozen=True, order=True)
class Trial:
    """Which trial of one classifier a value belongs to."""

    arm: str
    loop_seed: int
    seed: int
    generation: int


@dataclass(frozen=True)
class Contrast:
    """One contrast by chain. draws: ``(1 + R, m)``, draw 0 observed; the R image resamples are the
    same for all chains and arms."""

    chains: tuple[int, ...]
    draws: Floats

    def scaled(self, factor: float) -> "Contrast":
        return Contrast(self.chains, factor * self.draws)


def minus(a: Contrast, b: Contrast) -> Contrast:
    """a - b on the chains that both have, paired by loop seed and by image draw."""
    shared = tuple(chain for chain in a.chains if chain in b.chains)
    left, right = ([x.chains.index(chain) for chain in shared] for x in (a, b))
    return Contrast(shared, a.draws[:, left] - b.draws[:, right])


def mean_of(parts: Sequence[Contrast]) -> Contrast:
    """The mean of several contrasts on the chains that all have."""
    shared = tuple(c for c in parts[0].chains if all(c in part.chains for part in parts))
    chosen = [part.draws[:, [part.chains.index(c) for c in shared]] for part in parts]
    return Contrast(shared, np.asarray(np.mean(chosen, axis=0)))


def span(estimand: str, last: int) -> tuple[int, int] | None:
    """(a, b) of ``<b>_minus_<a>``, generation b less generation a, with ``last`` the last one; None
    for another estimand."""
    found = re.fullmatch(r"(last|\d+)_minus_(first|\d+)", estimand)
    if found is None:
        return None
    b, a = (
        int(word) if word.isdigit() else {"last": last, "first": 0}[word] for word in found.groups()
    )
    return a, b


def time_weights(times: Sequence[int], last: int, estimand: str) -> Floats | None:
    """Weights of the generations ``times`` in the estimand; None where these do not carry it.

    slope: `slope_weights`. ``b_minus_a``: -1 at generation a, +1 at b. level: the mean of the
    generations after 0, which have all to be there.
    """
    t, ends = np.asarray(times, np.float64), span(estimand, last)
    if ends is not None:
        a, b = ends
        return (t == b).astype(np.float64) - (t == a) if a < b and {a, b} <= set(times) else None
    if estimand == LEVEL:
        whole = last > 0 and set(range(1, last + 1)) <= set(times)
        return (t > 0) / last if whole else None
    return slope_weights(times, last)


def usable_in_all(trials: Sequence[Trial], usable: Mask, arms: Sequence[str]) -> Mask:
    """Without the trials whose chain, seed and generation is unusable in any of ``arms``."""
    kept = {trial for trial, good in zip(trials, usable, strict=True) if good}
    places = [(trial.loop_seed, trial.seed, trial.generation) for trial in trials]
    return np.array([all(Trial(arm, *place) in kept for arm in arms) for place in places])


def weights(
    trials: Sequence[Trial], usable: Mask, arms: Sequence[str], last: int, estimand: str
) -> dict[int, Floats]:
    """Chain -> weights ``(T,)`` of the estimand of ``arms[0]``, minus that of ``arms[1]`` if given.

    For each run (chain and classifier seed) the generations that are usable in all these arms; then
    the mean over the chain's runs. A chain without a usable run is left out.
    """
    by_run = run_weights(trials, usable, arms, last, estimand)
    chains: dict[int, list[Floats]] = {}
    for (chain, _), column in by_run.items():
        chains.setdefault(chain, []).append(column)
    return {chain: np.mean(runs, axis=0) for chain, runs in chains.items()}


def run_weights(
    trials: Sequence[Trial], usable: Mask, arms: Sequence[str], last: int, estimand: str
) -> dict[tuple[int, int], Floats]:
    """The same for each run, (chain, classifier seed) -> weights ``(T,)``."""
    at = {trial: i for i, trial in enumerate(trials) if usable[i]}
    signs = (1.0, -1.0)[: len(arms)]
    found: dict[tuple[int, int], Floats] = {}
    for chain, seed in sorted({(trial.loop_seed, trial.seed) for trial in trials}):
        sets = {t: [at.get(Trial(arm, chain, seed, t)) for arm in arms] for t in range(last + 1)}
        times = [t for t, rows in sets.items() if None not in rows]
        shape = time_weights(times, last, estimand)
        if shape is None:
            continue
        column = np.zeros(len(trials))
        for weight, t in zip(shape, times, strict=True):
            for sign, row in zip(signs, sets[t], strict=True):
                column[row] += sign * weight
        found[chain, seed] = column
    return found


def applied(by_chain: Mapping[int, Floats], values: Floats) -> Floats:
    """Weighted sums of ``values (B, T)`` by chain, ``(B, m)``; NaN only where a used trial is."""
    if not by_chain:
        return np.empty((len(values), 0))
    used = [(values[:, w != 0], w[w != 0]) for w in by_chain.values()]
    return np.column_stack([v @ w for v, w in used])


def scattered(
    trials: Sequence[Trial], usable: Mask, arms: Sequence[str], last: int, values: Floats
) -> Contrast:
    """`SCATTER`: the variance of a run's values around its own line over generations (divisor
    generations - 2) less what the test images contribute to it, mean over the chain's runs, of
    ``arms[0]``, minus ``arms[1]``. In the metric's unit squared; may be negative.

    A run needs all its generations in these arms, and at least `FEWEST`.
    """
    at = {trial: i for i, trial in enumerate(trials) if usable[i]}
    of: dict[int, list[Floats]] = {}
    for chain, seed in sorted({(trial.loop_seed, trial.seed) for trial in trials}):
        rows = [[at.get(Trial(arm, chain, seed, t)) for t in range(last + 1)] for arm in arms]
        if last + 1 < FEWEST or any(None in row for row in rows):
            continue
        parts = [_around_its_line(values[:, [i for i in row if i is not None]]) for row in rows]
        of.setdefault(chain, []).append(parts[0] - parts[1] if len(parts) > 1 else parts[0])
    draws = [np.mean(runs, axis=0) for runs in of.values()]
    return Contrast(tuple(of), np.column_stack(draws) if draws else np.empty((len(values), 0)))


def _around_its_line(values: Floats) -> Floats:
    """``(B, N + 1) -> (B,)``. A resample's rest is that of the observed values plus an error of its
    own; the mean square of these errors is what the images contribute, once to the observed
    variance and twice to a resampled one."""
    t = np.arange(values.shape[1], dtype=np.float64)
    design = np.column_stack([np.ones_like(t), t])
    rest = values - values @ (design @ np.linalg.pinv(design)).T
    freedom = len(t) - 2
    whole = (rest**2).sum(axis=1) / freedom
    error = float(np.nanmean(((rest[1:] - rest[0]) ** 2).sum(axis=1))) / freedom
    return np.asarray(whole - error * np.where(np.arange(len(whole)) == 0, 1.0, 2.0))
