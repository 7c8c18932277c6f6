"""Does u of eq. 6 hold, and d_U that is fitted to it? Samples of generators whose shares are known.

    python benchmarks/u_coverage.py --studies 400
    python benchmarks/u_coverage.py --only d_U --studies 100  # of d_U a fourth as many

u: 10 classes, 3 subgroups, n images a class of a generator whose within-class shares differ from
the original data's by a known total variation (TV), in favour of the first subgroup; a part of the
images shows no clear subgroup. `mixed`: half of the classes are off by twice the TV, half by
nothing. `probe`: subgroups are read by a probe that errs, with 50 real images of each subgroup
behind its confusion matrix. Columns: mean error and scatter of u (the package's `share_change`),
share of studies whose nominal 95 % interval holds the true TV, whose low end lies above 0, and the
interval's own standard error (half the width / 1.96, root mean square).

d_U: eq. 6 with known parameters, 2 models x 2 datasets x 3 chains x 10 steps; u of each step is
uniform over 0 to .3 and read from n images a class. Columns: median and coverage of
d_U / (1 + d_D), nominal 95 %, with u taken as known and with its error (`equation.parameters`), and
the share of studies in which it is refused. Every rate with its Monte-Carlo standard error.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ray_selfloop.equation6.bias import BiasSeries, Labels
from ray_selfloop.equation6.parameters import parameters
from ray_selfloop.equation6.steps import Step
from ray_selfloop.evaluation.fidelity import ShareChange, share_change, share_counts
from ray_selfloop.evaluation.probe_correction import probed_change

Floats = NDArray[np.float64]
CLASSES, LEVEL, WIDTH = 10, 0.95, 3.92
EQUAL, UNEVEN = (1 / 3, 1 / 3, 1 / 3), (0.7, 0.2, 0.1)
PROBE = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.15, 0.15, 0.7]])
REAL = 50  # real images of each subgroup behind the probe's confusion matrix
ROUNDING = 1e-9
G, D, DQ, DU = {"a": 0.25, "b": 0.33}, {"d1": 0.1, "d2": 0.2}, 0.6, 0.8


@dataclass(frozen=True)
class World:
    """A generator: ``images`` a class, original shares, true TV (a fraction), unreadable share."""

    images: int
    original: tuple[float, ...]
    variation: float
    unreadable: float = 0.0
    mixed: bool = False
    probe: bool = False

    @property
    def shares(self) -> Floats:
        """Original shares, ``(C, G)``."""
        return np.tile(self.original, (CLASSES, 1))

    @property
    def true(self) -> Floats:
        """The generator's own among readable images, ``(C, G)``."""
        lean = np.full(CLASSES, self.variation)
        if self.mixed:
            lean = np.where(np.arange(CLASSES) % 2, 2.0 * self.variation, 0.0)
        found = self.shares
        found[:, 1:] *= 1.0 - (lean / found[:, 1:].sum(axis=1))[:, None]
        found[:, 0] += lean
        return np.maximum(found, 0.0)

    def change(self, rng: np.random.Generator, resamples: int) -> ShareChange:
        """What is measured of one sample."""
        if self.probe:
            read = rng.multinomial(self.images, self.true @ PROBE).astype(np.float64)
            errors = rng.multinomial(REAL, PROBE, size=(CLASSES, 3)).astype(np.float64)
            return probed_change(read, self.shares, errors, resamples, LEVEL, rng).change
        every = np.column_stack(
            [self.true * (1 - self.unreadable), np.full(CLASSES, self.unreadable)]
        )
        labels = np.repeat(np.arange(CLASSES), self.images)
        drawn = np.concatenate([rng.choice(4, self.images, p=p / p.sum()) for p in every])
        counts = share_counts(labels, drawn, CLASSES, 3)[:, :3]
        return share_change(counts, self.shares, resamples, LEVEL, rng)

    def __str__(self) -> str:
        kind = "probe" if self.probe else ("mixed" if self.mixed else "")
        name = "1/3" if self.original == EQUAL else "70/20/10"
        return f"{self.images:4d} {name:8s} {self.variation:4.2f} {self.unreadable:4.2f} {kind:5s}"


def ends(world: World, studies: int, resamples: int, seed: int = 0) -> Floats:
    """``(studies, 3)``: u, low, high."""
    rng = np.random.default_rng(seed)
    return np.array([world.change(rng, resamples).u.mean for _ in range(studies)])


def rate(hits: NDArray[np.bool_]) -> str:
    """A share in per cent with its Monte-Carlo standard error."""
    p = float(hits.mean())
    return f"{100 * p:5.1f} ± {100 * (p * (1 - p) / len(hits)) ** 0.5:3.1f}"


def held(found: Floats, truth: float) -> NDArray[np.bool_]:
    """Whether each interval ``(studies, 3)`` holds the truth."""
    return (found[:, 1] <= truth + ROUNDING) & (truth <= found[:, 2] + ROUNDING)


def described(world: World, found: Floats) -> str:
    """One row of the first table."""
    value, error = found[:, 0], np.sqrt(np.mean(((found[:, 2] - found[:, 1]) / WIDTH) ** 2))
    bias, se = value.mean() - world.variation, value.std() / len(value) ** 0.5
    return (
        f"{world}  {bias:+.4f} ± {se:.4f}  {value.std():.4f}  {rate(held(found, world.variation))}"
        f"  {rate(found[:, 1] > ROUNDING)}  {error:.4f}"
    )


def worlds() -> Iterator[World]:
    """The settings of the first table."""
    for images in (43, 150, 500):
        for original in (EQUAL, UNEVEN):
            for variation in (0.0, 0.05, 0.15, 0.3):
                yield World(images, original, variation)
            for variation in (0.0, 0.15):
                yield World(images, original, variation, unreadable=0.02)
            for variation in (0.05, 0.15):
                yield World(images, original, variation, mixed=True)
    for images in (150, 750):
        for variation in (0.0, 0.05, 0.15, 0.3):
            yield World(images, EQUAL, variation, probe=True)


@dataclass(frozen=True)
class Study:
    """One sweep that follows eq. 6, its factors as they truly are and as they were read."""

    series: list[BiasSeries]
    true: dict[tuple[str, str, int, int], Step]
    read: dict[tuple[str, str, int, int], Step]


def study(images: int, original: tuple[float, ...], resamples: int, seed: int) -> Study:
    """2 models, 2 datasets, 3 chains, 10 steps; u read from ``images`` a class."""
    rng, true, read, series = np.random.default_rng(seed), {}, {}, []
    shape = (3, 10)
    for name, d in D.items():
        x, u = rng.uniform(0, 0.4, shape), rng.uniform(0, 0.3, shape)
        for k, t in np.ndindex(shape):
            found = World(images, original, float(u[k, t])).change(rng, resamples).u.mean
            true[name, "", k, t] = Step(1.0 - float(x[k, t]), float(u[k, t]))
            error = (found[2] - found[1]) / WIDTH
            read[name, "", k, t] = replace(true[name, "", k, t], u=found[0], u_error=error)
        for model, g in G.items():
            a = (1 - g) * (1 + d + DQ * x + DU * u)
            bias = 0.1 * np.concatenate([np.ones((3, 1)), np.cumprod(a, axis=1)], axis=1)
            series.append(_series(name, model, bias, rng))
    return Study(series, true, read)


def _series(name: str, model: str, bias: Floats, rng: np.random.Generator) -> BiasSeries:
    """B ``(m, N + 1)`` with normal noise of B^2, half of it shared by all."""
    noise, (m, length) = 2e-4, bias.shape

    def error(n: int) -> Floats:
        return noise * (rng.standard_normal((n, m, length)) + rng.standard_normal((n, 1, 1)))

    observed = bias[None] ** 2 + error(1)
    return BiasSeries(
        scenario=name,
        classifier=model,
        chains=tuple(range(m)),
        squared=np.concatenate([observed, observed + error(200)]),
        training=0.0,
        seeds=np.ones((m, length), np.int64),
        floor=np.full(length, 3 * noise),
        square=np.zeros((200, m, length)),
    )


def ratios(found: Study, steps: dict[tuple[str, str, int, int], Step]) -> Floats:
    """``(2, 3)``: d_U / (1 + d_D) of each dataset over its truth, with its interval."""
    numbers = {
        n.scope: (n.value, n.low, n.high)
        for n in parameters(found.series, steps, LEVEL, Labels())
        if n.quantity == "d_U/(1+d_D)"
    }
    return np.array([np.array(numbers[name]) * (1 + d) / DU for name, d in D.items()])


def as_known(steps: dict[tuple[str, str, int, int], Step]) -> dict[tuple[str, str, int, int], Step]:
    """The same factors, their errors not told."""
    return {key: replace(step, u_error=0.0) for key, step in steps.items()}


def _print_u(studies: int, resamples: int) -> None:
    print(
        "n    shares   TV  unread kind   error of u        scatter  covers      low > 0    own se"
    )
    for world in worlds():
        few = max(studies // 4, 20) if world.probe else studies
        print(described(world, ends(world, few, resamples)), flush=True)


def _print_d_u(studies: int, resamples: int) -> None:
    print("\nn    shares    u read as      median  covers       refused (d_U / (1 + d_D), truth 1)")
    for images in (43, 150):
        for original in (EQUAL, UNEVEN):
            made = [study(images, original, resamples, seed) for seed in range(studies)]
            readings = {
                "true": [ratios(one, one.true) for one in made],
                "known": [ratios(one, as_known(one.read)) for one in made],
                "with error": [ratios(one, one.read) for one in made],
            }
            for reading, values in readings.items():
                every = np.concatenate(values)
                lost = np.isnan(every[:, 0])
                known = every[~lost]
                name = "1/3" if original == EQUAL else "70/20/10"
                print(
                    f"{images:4d} {name:9s} {reading:13s} {np.median(known[:, 0]):6.3f}  "
                    f"{rate(held(known, 1.0))}  {rate(lost)}",
                    flush=True,
                )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--only", choices=("u", "d_U"))
    asked = parser.parse_args()
    start = time.monotonic()
    if asked.only != "d_U":
        _print_u(asked.studies, asked.resamples)
    if asked.only != "u":
        _print_d_u(max(asked.studies // 4, 2), asked.resamples)
    print(f"{time.monotonic() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
