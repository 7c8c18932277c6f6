"""Does the interval of the rest point hold? The affine law at the level of test-image outcomes.

    python benchmarks/rest_point.py [--simulations 200] [--chains 3 10] [--out FILE]

One simulation is one study as in `eq6_coverage`: chains x generations 0..10 x 2 classifier seeds,
each trial a vector of right and wrong test images, with true bias
    B_k(t+1) = a + b B_k(t) + wander,   B_k(0) = B(0) exp(.1 N(0, 1)),   a = (1 - b) B*
so that B* is known: reached within the generations, far from it at the last, or none (b = 1, 1.05,
where a stands in B*'s place). Measured B and its draws are those of `eq6_coverage`, the rest point
is the package's, at nominal 90 %. A row: how often a rest point is given; how often its interval
holds B* where it is; how often one is given that does not hold it, of all studies (where none
exists: is given at all); how often the word for where B moves is right; median width. Covered must
be 85 to 95 %.
"""

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

import eq6_coverage as eq6
import numpy as np

from ray_selfloop import seeding
from ray_selfloop.equation6.rest_point import AWAY, FALLS, RISES, RestPoint, rest_point

LAYOUT = "even"
eq6.LAYOUTS[LAYOUT] = replace(eq6.LAYOUTS["cifar4"], accuracy=(0.5, 0.5))  # room for large gaps
LEVEL, GENERATIONS, SPREAD, WANDER = 0.90, 10, 0.1, 0.005


@dataclass(frozen=True)
class Case:
    """rest: B*; where b >= 1: a."""

    name: str
    start: float
    rest: float
    b: float

    @property
    def a(self) -> float:
        return (1 - self.b) * self.rest if self.b < 1 else self.rest

    @property
    def moves(self) -> str:
        """The right word."""
        if self.b >= 1:
            return AWAY
        return RISES if self.start < self.rest else FALLS


CASES = (
    Case("from below, reached", 0.06, 0.18, 0.6),
    Case("from above, reached", 0.22, 0.10, 0.6),
    Case("from above, to none", 0.22, 0.0, 0.7),
    Case("from below, far", 0.06, 0.20, 0.85),
    Case("from above, far", 0.22, 0.08, 0.85),
    Case("from below, out of reach", 0.06, 0.25, 0.95),
    Case("grows by as much each time", 0.06, 0.015, 1.0),
    Case("grows by more each time", 0.06, 0.005, 1.05),
)


def paths(case: Case, chains: int, rng: np.random.Generator) -> eq6.Floats:
    """B_k(t), ``(m, N + 1)``."""
    bias = [case.start * np.exp(SPREAD * rng.standard_normal(chains))]
    for _ in range(GENERATIONS):
        moved = case.a + case.b * bias[-1] + WANDER * rng.standard_normal(chains)
        bias.append(np.maximum(moved, 0.0))
    return np.stack(bias, axis=1)


def simulate(case: Case, chains: int, count: int, seed: int) -> list[RestPoint]:
    """A block of studies that share their resamples."""
    rng = seeding.rng(seed, "rest point", case.name, chains)
    setting = eq6.Setting(LAYOUT, chains, 2, 1.0, 0.0, GENERATIONS, SPREAD)
    drawn, found = eq6.draws(eq6.LAYOUTS[LAYOUT], 100, rng), []
    for _ in range(count):
        right = eq6.of_bias(setting, lambda r: paths(case, chains, r), rng)
        one = eq6.series(setting, right, drawn, LEVEL)
        found.append(rest_point(one, LEVEL))
    return found


@dataclass(frozen=True)
class Result:
    """Shares of the studies; covered: of those with a rest point."""

    given: float
    covered: float
    wrong: float
    moves: float
    width: float


def judged(case: Case, found: list[RestPoint]) -> Result:
    given = [r for r in found if r.value == r.value]
    holds = [case.b < 1 and r.low <= case.rest <= r.high for r in given]
    return Result(
        len(given) / len(found),
        sum(holds) / len(given) if given else float("nan"),
        holds.count(False) / len(found),
        sum(r.moves == case.moves for r in found) / len(found),
        float(np.median([r.high - r.low for r in given])) if given else float("nan"),
    )


HEADER = (
    "| B(0), B* (a), b | chains | given | covers B* | given and wrong | right word | width |\n"
    "|---|---|---|---|---|---|---|"
)


def row(case: Case, chains: int, found: list[RestPoint]) -> str:
    """A line of the table; percent ± Monte Carlo error."""
    of, n = judged(case, found), len(found)

    def percent(share: float, count: float) -> str:
        if share != share:
            return "–"
        return f"{100 * share:.1f} ± {100 * (share * (1 - share) / count) ** 0.5:.1f}"

    cells = [
        f"{case.name}: {case.start:g}, {case.rest:g}, {case.b:g}", str(chains),
        percent(of.given, n), percent(of.covered, of.given * n) if case.b < 1 else "–",
        percent(of.wrong, n), percent(of.moves, n), f"{of.width:.3f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--simulations", type=int, default=200)
    parser.add_argument("--chains", nargs="+", type=int, default=[3, 10])
    parser.add_argument("--only", default="", help="part of a case's name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file that the table is written to, row by row")
    given, lines = parser.parse_args(), [HEADER]
    print(HEADER, flush=True)
    for chains in given.chains:
        for case in (case for case in CASES if given.only in case.name):
            began, found = time.monotonic(), []
            for block in range(0, given.simulations, eq6.BLOCK):
                count = min(eq6.BLOCK, given.simulations - block)
                found += simulate(case, chains, count, given.seed + block)
            lines.append(row(case, chains, found))
            print(lines[-1], f"{time.monotonic() - began:.0f} s", flush=True)
            if given.out:
                given.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
