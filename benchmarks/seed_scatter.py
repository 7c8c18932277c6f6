"""Do A and A_treatment / A_control hold where classifiers of different seeds scatter?

    python benchmarks/seed_scatter.py a --simulations 300
    python benchmarks/seed_scatter.py ratio --simulations 300

The simulation of eq6_coverage.py; each trial's true rate of each class and subgroup scatters anew
around the law's (sd ``--scatter``, a fraction). Measured in a quickstart, image noise removed: .016
for LeNet, .051 for MobileNet. With one seed B^2 holds the scatter in every generation alike; with
two it is the mean over pairs of seeds.

``a``: A of eq. 6 at CIFAR's counts, all 20 classes and 4 of them.
``ratio``: two arms that share generation 0, chains and images; B of each arm wanders on its own
(sd ``--wander`` of log B per generation). r = A_treatment / A_control. False: above 1 or below 1 at
that level where r = 1, else on the wrong side.
Shares in percent with their Monte-Carlo standard errors.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from eq6_coverage import (
    BLOCK,
    LAYOUTS,
    Setting,
    compare,
    correct,
    drawn_right,
    draws,
    noise_floor,
    series,
)
from numpy.typing import NDArray

from ray_selfloop import seeding
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.equation6.amplification import amplification
from ray_selfloop.equation6.relative import relative

LIMIT = Evaluation().dynamics.growth_limit
Interval = tuple[float, float, float]


@dataclass(frozen=True)
class Task:
    """A block of simulations. setting: of the control where there is a ratio; start: B(0)."""

    setting: Setting
    start: float
    block: int
    count: int
    given: argparse.Namespace
    ratio: float | None = None


def arms(task: Task, rng: np.random.Generator) -> list[NDArray[np.bool_]]:
    """Right images ``(C, G, units, trials)`` of treatment and control, generation 0 in common."""
    s, layout = task.setting, LAYOUTS[task.setting.layout]
    c, g, length = layout.classes, layout.groups, s.generations + 1
    base = rng.uniform(*layout.accuracy, c)[:, None]
    pattern = rng.uniform(-1, 1, (c, g))
    pattern -= pattern.mean(axis=1, keepdims=True)
    pattern /= np.sqrt(pattern.var(axis=1, ddof=1).mean())
    chains = task.start * np.exp(s.spread * rng.standard_normal(s.chains))
    walk = task.given.wander * rng.standard_normal((2, s.chains, length))
    walk[:, :, 0] = 0.0
    growth = np.array([s.a * (task.ratio or 1.0), s.a])[:, None, None] ** np.arange(length)
    bias = chains[:, None] * growth * np.exp(np.cumsum(walk, axis=2))  # (2, m, N + 1)
    rates = base + np.repeat(bias.ravel(), s.seeds)[:, None, None] * pattern
    rates += s.scatter * rng.standard_normal(rates.shape)
    right = drawn_right(layout, rates, rng).reshape(c, g, layout.units, 2, s.chains, length, -1)
    right[:, :, :, 1, :, 0] = right[:, :, :, 0, :, 0]
    return [right[:, :, :, arm].reshape(c, g, layout.units, -1) for arm in (0, 1)]


def simulate(task: Task) -> list[Interval]:
    """Estimate and interval of each simulation of a block; a function of the task alone."""
    s, level = task.setting, task.given.level
    rng = seeding.rng(task.given.seed, str(s), s.scatter, str(task.ratio), task.block)
    drawn, found = draws(LAYOUTS[s.layout], task.given.resamples, rng), []
    for _ in range(task.count):
        if task.ratio is None:
            one = series(s, correct(s, task.start, rng), drawn, level)
            fit = amplification(one, level, LIMIT)
            found.append((fit.a, fit.low, fit.high))
        else:
            pair = [series(s, right, drawn, level) for right in arms(task, rng)]
            r = relative(pair[0], pair[1], level, LIMIT)
            found.append((r.value, r.low, r.high))
    return found


def judged(intervals: list[Interval], truth: float) -> str:
    """Cells of the table: covered, none, false, decided, median estimate, median width."""
    value, low, high = np.array(intervals).T
    none = np.isnan(value)
    covered = ~none & ~(low > truth) & ~(high < truth)
    above, below = low > 1, high < 1
    false = (above & (truth <= 1)) | (below & (truth >= 1))
    right = (above & (truth > 1)) | (below & (truth < 1))
    shares = [_percent(part) for part in (covered, none, false, right)]
    width = np.where(np.isnan(high - low), np.inf, high - low)
    return " | ".join([*shares, f"{np.nanmedian(value):.3f}", f"{np.median(width):.3f}"])


def _percent(part: NDArray[np.bool_]) -> str:
    share, n = float(part.mean()), len(part)
    return f"{100 * share:.1f} ± {100 * (share * (1 - share) / n) ** 0.5:.1f}"


def result(setting: Setting, ratio: float | None, given: argparse.Namespace) -> list[Interval]:
    """All simulations of a setting."""
    start = setting.times * noise_floor(setting, given.level, given.resamples)
    off, _ = compare(setting, start, given.level, given.resamples)
    assert off < 1e-6, f"B^2 differs from the package's by {off}"
    tasks = [
        Task(setting, start, i, min(BLOCK, given.simulations - first), given, ratio)
        for i, first in enumerate(range(0, given.simulations, BLOCK))
    ]
    with ProcessPoolExecutor(given.processes) as pool:
        spread: Callable[..., Iterator[list[Interval]]]
        spread = pool.map if given.processes > 1 else map  # type: ignore[assignment]
        return [found for block in spread(simulate, tasks) for found in block]


def settings(given: argparse.Namespace) -> Iterator[tuple[Setting, float | None]]:
    """The rows of the table."""
    ratios: list[float | None] = [*given.ratio] if given.what == "ratio" else [None]
    axes = (given.layout, given.seeds, given.chains, given.a, ratios)
    for layout, seeds, chains, a, ratio in itertools.product(*axes):
        size = (given.times, given.generations, given.spread, given.scatter)
        yield Setting(layout, chains, seeds, a, *size), ratio


def arguments(given: list[str]) -> argparse.Namespace:
    """The command line; the defaults of ``ratio`` are another table's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("a", "ratio"))
    of_ratio = given[:1] == ["ratio"]
    parser.add_argument("--simulations", type=int, default=300)
    parser.add_argument("--layout", nargs="+", choices=sorted(LAYOUTS),
                        default=["cifar4"] if of_ratio else ["cifar", "cifar4"])  # fmt: skip
    parser.add_argument("--seeds", nargs="+", type=int, default=[2] if of_ratio else [1, 2])
    parser.add_argument("--chains", nargs="+", type=int, default=[3, 5, 8] if of_ratio else [3])
    parser.add_argument("--a", nargs="+", type=float,
                        default=[0.95, 1.0] if of_ratio else [0.9, 0.95, 1.0, 1.05])  # fmt: skip
    parser.add_argument("--ratio", nargs="+", type=float, default=[0.9, 1.0, 1.1])
    parser.add_argument("--times", type=float, default=2.0, help="B(0) in noise floors")
    parser.add_argument("--generations", type=int, default=6 if of_ratio else 10)
    parser.add_argument("--spread", type=float, default=0.1, help="sd of log B(0) over chains")
    parser.add_argument("--scatter", type=float, default=0.03, help="between seeds, a fraction")
    parser.add_argument("--wander", type=float, default=0.05, help="of log B, per generation")
    parser.add_argument("--level", type=float, default=0.95, help="nominal coverage")
    parser.add_argument("--resamples", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    return parser.parse_args(given)


HEADER = (
    "| layout | chains | seeds | A | r | covered | no interval | false | decided rightly "
    "| median estimate | median width |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def main(given: argparse.Namespace) -> None:
    """Print the table, row by row."""
    print(HEADER, flush=True)
    for s, ratio in settings(given):
        cells = judged(result(s, ratio, given), s.a if ratio is None else ratio)
        r = "" if ratio is None else f"{ratio:g}"
        print(f"| {s.layout} | {s.chains} | {s.seeds} | {s.a:g} | {r} | {cells} |", flush=True)


if __name__ == "__main__":
    main(arguments(sys.argv[1:]))
