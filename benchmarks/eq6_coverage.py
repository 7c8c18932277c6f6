"""Does the interval of A hold? Eq. 6 simulated at the level of test-image outcomes.

    python benchmarks/eq6_coverage.py --simulations 1000 --chains 3 10 --out table.md

One simulation is one study: chains x generations 0..N x classifier seeds, each trial a vector of
right and wrong test images. True rate of class c, subgroup g, chain k, generation t:
    rate = base_c + B_k(t) d_cg,   B_k(t) = B_k(0) A^t,   sum_g d_cg = 0, mean_c var_g d_cg = 1
so that B is exactly `gap_rms`; where wanted each trial's cells scatter around it. Image i of the
cell is classified correctly where
    rho z_i + sqrt(1 - rho^2) e < Phi^-1(rate)
with z_i its difficulty, shared by all chains, generations and seeds, and e the trial's own. B(0) is
a multiple of the noise floor: the root of the mean upper end of the chains' mean B^2 under permuted
subgroups at generation 0, measured here for the layout, the chains and the seeds of the setting.

A setting's row: share of simulations whose interval holds the true A (open ends hold; a simulation
without an interval does not), of verdicts that are `undecided` for any reason, of false verdicts
(A > 1 or A < 1 where A = 1, else the wrong side), median width of the interval, each with its Monte
Carlo standard error. Resampling is done here with matrices, and B^2 of two or more seeds by
products of their rates; `amplification` is the package's, and the observed B^2 of the first
simulation of a setting are compared with the package's own.

Behrens and Fisher's quantile (`inference.chains`) is above what the two parts of the error, chains
and test images, need where both count: a few chains cover more than they say. That is the price of
p values that hold in the tail.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from ray_selfloop import seeding
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.equation6.amplification import Amplification, amplification
from ray_selfloop.equation6.bias import BiasSeries, bias_series
from ray_selfloop.evaluation.predictions import Outcome, TestSet

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
BLOCK = 20  # simulations that share one set of resamples
RHO = 0.7  # correlation of an image's difficulty between trials


@dataclass(frozen=True)
class Layout:
    """Test set: classes x subgroups x units; crossed: each unit is shown in every subgroup.

    accuracy: the range of the classes' base rates.
    """

    classes: int
    groups: int
    units: int
    crossed: bool
    accuracy: tuple[float, float]

    def test_set(self) -> TestSet:
        """Rows in the order class, subgroup, unit."""
        cls, group, unit = np.indices((self.classes, self.groups, self.units)).reshape(3, -1)
        units = cls * self.units + unit if self.crossed else np.arange(len(cls))
        names = tuple(map(str, range(self.classes))), tuple(map(str, range(self.groups)))
        shares = np.ones((self.classes, self.groups))
        return TestSet(cls, group, units, *names, shares, pooled=False, crossed=self.crossed)


LAYOUTS = {
    "cifar": Layout(20, 5, 100, crossed=False, accuracy=(0.4, 0.8)),
    "cifar4": Layout(4, 5, 100, crossed=False, accuracy=(0.4, 0.8)),
    "mnist": Layout(10, 3, 200, crossed=True, accuracy=(0.85, 0.95)),
}


@dataclass(frozen=True)
class Setting:
    """One row of the table; times: B(0) in noise floors; spread: sd of log B_k(0) over chains;
    scatter: sd of each trial's and cell's true rate, a fraction."""

    layout: str
    chains: int
    seeds: int
    a: float
    times: float
    generations: int
    spread: float
    scatter: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.layout}, {self.chains} chains x {self.seeds} seed(s), A = {self.a:g}, "
            f"B(0) = {self.times:g} floor"
        )


def correct(setting: Setting, start: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Right test images, ``(C, G, units, trials)``; trials in the order chain, generation, seed.

    start: median of the chains' B(0), a fraction.
    """

    def grown(rng: np.random.Generator) -> Floats:
        chains = start * np.exp(setting.spread * rng.standard_normal(setting.chains))
        return np.asarray(chains[:, None] * setting.a ** np.arange(setting.generations + 1))

    return of_bias(setting, grown, rng)


def of_bias(
    setting: Setting, drawn: Callable[[np.random.Generator], Floats], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """The same of any true bias of the chains; drawn: its B_k(t), ``(m, N + 1)``."""
    layout = LAYOUTS[setting.layout]
    c, g = layout.classes, layout.groups
    base = rng.uniform(*layout.accuracy, c)[:, None]
    pattern = rng.uniform(-1, 1, (c, g))
    pattern -= pattern.mean(axis=1, keepdims=True)
    pattern /= np.sqrt(pattern.var(axis=1, ddof=1).mean())
    rates = base + np.repeat(drawn(rng).ravel(), setting.seeds)[:, None, None] * pattern
    if setting.scatter:
        rates += setting.scatter * rng.standard_normal(rates.shape)
    return drawn_right(layout, rates, rng)


def drawn_right(layout: Layout, rates: Floats, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Right test images ``(C, G, units, T)`` of trials with true rates ``(T, C, G)``."""
    c, g, n = layout.classes, layout.groups, layout.units
    limits = ndtri(np.clip(rates, 1e-3, 1 - 1e-3)).astype(np.float32)
    shape = (c, 1, n) if layout.crossed else (c, g, n)
    difficulty = RHO * rng.standard_normal(shape, np.float32)
    own = rng.standard_normal((c, g, n, len(limits)), np.float32) * np.float32((1 - RHO**2) ** 0.5)
    own += difficulty[..., None]
    return own < np.moveaxis(limits, 0, -1)[:, :, None]


@dataclass(frozen=True)
class Draws:
    """Resamples of the units and permutations of the subgroups, shared by a block of simulations.

    weights: ``(C, G or 1, 1 + R, units)``, draw 0 ones. member: ``(C, P * G, G * units)``, the rows
    that a permutation puts into each subgroup.
    """

    weights: Singles
    member: Singles


def draws(layout: Layout, resamples: int, rng: np.random.Generator) -> Draws:
    """As `tallies.resampled` and `tallies.permuted` draw them."""
    c, g, n = layout.classes, layout.groups, layout.units
    cells = c * (1 if layout.crossed else g) * resamples
    drawn = rng.integers(n, size=(cells, n)) + n * np.arange(cells)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=cells * n).reshape(c, -1, resamples, n)
    weights = np.concatenate([np.ones_like(counts[:, :, :1]), counts], axis=2)
    if layout.crossed:
        order = np.argsort(rng.random((c, resamples, g, n)), axis=2)
    else:
        labels = np.repeat(np.arange(g), n)
        order = rng.permuted(np.broadcast_to(labels, (c, resamples, g * n)), axis=2)
    flat = order.reshape(c, resamples, 1, g * n)
    member = (flat == np.arange(g)[:, None]).reshape(c, resamples * g, g * n)
    return Draws(weights.astype(np.float32), member.astype(np.float32))


def _covariance(p: Floats, q: Floats) -> Floats:
    """Covariance over subgroups, mean over classes: ``(C, G, B, T)`` twice -> ``(B, T)``."""
    g = p.shape[1]
    joint = np.einsum("cgbt,cgbt->bt", p, q)
    apart = np.einsum("cbt,cbt->bt", p.sum(axis=1), q.sum(axis=1)) / g
    return np.asarray((joint - apart) / ((g - 1) * len(p)))


def _noise(p: Floats, q: Floats, both: Floats, layout: Layout) -> Floats:
    """What sampling adds to it, ``(B, T)``. both: mean over units of ``x y`` ``(C, G, B, T)``, or
    of its spread within the unit ``(C, B, T)`` where crossed."""
    g, n = layout.groups, layout.units
    if not layout.crossed:
        return np.asarray((both - p * q).mean(axis=(0, 1)) / (n - 1))
    return np.asarray((both.mean(axis=0) / (g - 1) - _covariance(p, q)) / (n - 1))


def _within(x: Singles, y: Singles) -> Singles:
    """Spread within units, ``(C, G, units, T) -> (C, units, T)``."""
    return (x * y).sum(axis=1) - x.sum(axis=1) * y.sum(axis=1) / np.float32(x.shape[1])


def squared(layout: Layout, x: Singles, y: Singles, drawn: Draws) -> tuple[Floats, Floats]:
    """B^2 from the right images of trials x and y (the same, or other seeds), ``(1 + R, T)``.

    Draw 0 observed, resamples moved to scatter around it; and the square part of the resampled
    error, ``(R, T)``: B^2 of the rates' resampled errors.
    """
    p, q = (np.asarray(np.matmul(drawn.weights, z) / layout.units, np.float64) for z in (x, y))
    if layout.crossed:
        both = np.matmul(drawn.weights[:, 0], _within(x, y)) / layout.units
    else:
        both = np.matmul(drawn.weights, x * y) / layout.units
    raw = _covariance(p, q)
    value = raw - _noise(p, q, np.asarray(both, np.float64), layout)
    value[1:] -= raw[:1] - value[:1]
    return value, _covariance(p[:, :, 1:] - p[:, :, :1], q[:, :, 1:] - q[:, :, :1])


def null_squared(layout: Layout, x: Singles, y: Singles, drawn: Draws) -> Floats:
    """The same B^2 under permuted subgroups, ``(P, T)``."""
    c, g, n, trials = x.shape

    def permuted(z: Singles) -> Floats:
        rows = np.matmul(drawn.member, z.reshape(c, g * n, trials)).reshape(c, -1, g, trials)
        return np.asarray(np.swapaxes(rows, 1, 2) / n, np.float64)

    p, q = permuted(x), permuted(y)
    both = _within(x, y).mean(axis=1)[:, None] if layout.crossed else permuted(x * y)
    return _covariance(p, q) - _noise(p, q, np.asarray(both, np.float64), layout)


def _over_pairs(
    x: Singles, found: Callable[[Singles, Singles], tuple[Floats, ...]]
) -> list[Floats]:
    """Mean over pairs of different seeds, or of the one seed with itself; seeds are the last axis
    of x ``(C, G, units, places, S)``."""
    seeds = range(x.shape[-1])
    pairs = list(itertools.combinations(seeds, 2)) or [(0, 0)]
    parts = [found(x[..., i], x[..., j]) for i, j in pairs]
    return [np.asarray(np.mean(column, axis=0)) for column in zip(*parts, strict=True)]


def series(setting: Setting, right: NDArray[np.bool_], drawn: Draws, level: float) -> BiasSeries:
    """What `bias_series` makes of it; the floor is measured at generation 0 alone (else inf)."""
    layout, length = LAYOUTS[setting.layout], setting.generations + 1
    shape = (setting.chains, length)
    x = right.reshape(*right.shape[:3], -1, setting.seeds).astype(np.float32)
    b2, square = _over_pairs(x, lambda a, b: squared(layout, a, b, drawn))
    first = x.reshape(*x.shape[:3], *shape, setting.seeds)[..., 0, :]
    (null,) = _over_pairs(first, lambda a, b: (null_squared(layout, a, b, drawn),))
    floor = np.full(length, np.inf)
    floor[0] = np.quantile(null.mean(axis=1), 0.5 + level / 2)
    return BiasSeries(
        "s", "a", tuple(range(setting.chains)), b2.reshape(-1, *shape), 0.0,
        np.full(shape, setting.seeds), floor, square.reshape(-1, *shape),
        seeds_apart=setting.seeds > 1,
    )  # fmt: skip


def compare(setting: Setting, start: float, level: float, resamples: int) -> tuple[float, float]:
    """Largest |difference| of observed B^2 from the package's own, and the ratio of the floors."""
    layout, rng = LAYOUTS[setting.layout], seeding.rng(0, "compare", str(setting))
    drawn, right = draws(layout, resamples, rng), correct(setting, start, rng)
    test, shape = layout.test_set(), (setting.chains, setting.generations + 1, setting.seeds)
    rows = right.reshape(-1, right.shape[-1])
    found = [
        Outcome(k, t, "a", s, np.where(rows[:, i], test.labels, -1))
        for i, (k, t, s) in enumerate(np.ndindex(shape))
    ]
    settings = Evaluation(level=level, resamples=resamples, permutations=resamples)
    (package,) = bias_series("s", found, test, settings)
    own = series(setting, right, drawn, level)
    off = float(np.abs(package.squared[0] - own.squared[0]).max())
    return off, float(own.floor[0] / package.floor[0])


def noise_floor(setting: Setting, level: float, resamples: int, times: int = 12) -> float:
    """B at the mean upper end of the floor of generation 0, from simulations without bias."""
    found, layout = [], LAYOUTS[setting.layout]
    alone = Setting(setting.layout, setting.chains, setting.seeds, 1.0, 0.0, 0, 0.0)
    for i in range(times):
        rng = seeding.rng(0, "floor", str(alone), i)
        drawn, right = draws(layout, resamples, rng), correct(alone, 0.0, rng)
        found.append(float(series(alone, right, drawn, level).floor[0]))
    return float(np.mean(found) ** 0.5)


@dataclass(frozen=True)
class Task:
    """A block of simulations of one setting. start: B(0)."""

    setting: Setting
    start: float
    block: int
    count: int
    level: float
    resamples: int
    seed: int


def simulate(task: Task) -> list[Amplification]:
    """The fits of one block; a function of the task alone."""
    rng = seeding.rng(task.seed, str(task.setting), task.block)
    drawn = draws(LAYOUTS[task.setting.layout], task.resamples, rng)
    limit = Evaluation().dynamics.growth_limit
    found = []
    for _ in range(task.count):
        right = correct(task.setting, task.start, rng)
        one = series(task.setting, right, drawn, task.level)
        found.append(amplification(one, task.level, limit))
    return found


@dataclass(frozen=True)
class Result:
    """Shares of the simulations of a setting, each with the count behind it; width: median."""

    simulations: int
    covered: float
    without: float
    undecided: float
    wrong: float
    width: float


def judge(setting: Setting, fits: list[Amplification]) -> Result:
    """Open ends hold every A on their side; a fit without an A covers nothing."""
    a, low, high = (np.array([getattr(f, name) for f in fits]) for name in ("a", "low", "high"))
    inside = ~np.isnan(a) & ~(low > setting.a) & ~(high < setting.a)
    right = {True: "A > 1", False: "A < 1"}.get(setting.a > 1) if setting.a != 1 else ""
    decided = [f.verdict for f in fits if not f.verdict.startswith("undecided")]
    return Result(
        len(fits),
        float(inside.mean()),
        float(np.isnan(a).mean()),
        1 - len(decided) / len(fits),
        sum(v != right for v in decided) / len(fits),
        float(np.nanmedian(high - low)) if (~np.isnan(high - low)).any() else float("nan"),
    )


HEADER = (
    "| layout | chains | seeds | A | B(0) / floor | covered | no interval | undecided "
    "| false verdict | median width |\n|---|---|---|---|---|---|---|---|---|---|"
)


def _percent(share: float, n: int) -> str:
    return f"{100 * share:.1f} ± {100 * (share * (1 - share) / n) ** 0.5:.1f}"


def row(setting: Setting, found: Result) -> str:
    """One line of the table; shares in percent ± Monte Carlo standard error."""
    shares = [found.covered, found.without, found.undecided, found.wrong]
    cells = [
        setting.layout, setting.chains, setting.seeds, f"{setting.a:g}", f"{setting.times:g}",
        *(_percent(share, found.simulations) for share in shares), f"{found.width:.3f}",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def _settings(given: argparse.Namespace) -> Iterator[Setting]:
    axes = (given.layout, given.seeds, given.chains, given.times, given.a)
    for layout, seeds, chains, times, a in itertools.product(*axes):
        yield Setting(layout, chains, seeds, a, times, given.generations, given.spread)


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--layout", nargs="+", choices=sorted(LAYOUTS), default=["cifar"])
    parser.add_argument("--chains", nargs="+", type=int, default=[3, 10])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1], help="classifiers on a chain")
    parser.add_argument("--a", nargs="+", type=float, default=[0.9, 0.95, 1.0, 1.05])
    parser.add_argument("--times", nargs="+", type=float, default=[0.0, 0.5, 2.0], help="B(0)")
    parser.add_argument("--generations", type=int, default=10)
    parser.add_argument("--spread", type=float, default=0.1, help="sd of log B(0) over chains")
    parser.add_argument("--level", type=float, default=0.90, help="nominal coverage")
    parser.add_argument("--resamples", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, help="file that the table is written to, row by row")
    return parser.parse_args(arguments)


def _tasks(setting: Setting, start: float, given: argparse.Namespace) -> list[Task]:
    blocks = range(0, given.simulations, BLOCK)
    return [
        Task(setting, start, i, min(BLOCK, given.simulations - first), given.level,
             given.resamples, given.seed)
        for i, first in enumerate(blocks)
    ]  # fmt: skip


def main(arguments: list[str]) -> None:
    """Print the table, and write it to ``--out`` as it grows."""
    given, lines = _arguments(arguments), [HEADER]
    print(HEADER, flush=True)
    with ProcessPoolExecutor(given.processes) as pool:
        spread = pool.map if given.processes > 1 else map
        for setting in _settings(given):
            began = time.monotonic()
            start = setting.times * noise_floor(setting, given.level, given.resamples)
            off, _ = compare(setting, start, given.level, given.resamples)
            assert off < 1e-6, f"B^2 differs from the package's by {off}"
            blocks = spread(simulate, _tasks(setting, start, given))
            lines.append(row(setting, judge(setting, [fit for block in blocks for fit in block])))
            print(lines[-1], flush=True)
            spent = 1000 * (time.monotonic() - began) / given.simulations
            print(f"{setting}: B(0) = {start:.4f}, {spent:.0f} ms each", file=sys.stderr)
            if given.out:
                given.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
