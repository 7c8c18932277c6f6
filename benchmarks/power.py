"""Is an effect of the printed smallest size found as often as `plan` and the page say?

    python benchmarks/power.py --repetitions 20000

A family of n statements about means over m chains, one true, the others of no effect, is judged by
Holm at 5 %. The true effect is as large as the smallest detectable one at alpha / n:
``plan``: of the true error, `detectable`. ``page``: of the error that an experiment of the same
size estimated, `detectable_from`; the experiment is then repeated. Found: Holm's p of the true
statement at most 5 %, on the side that it is on. ``unadjusted``: an effect of the size that one
test alone would find, after Holm. All in percent, with Monte-Carlo standard errors; nominal 80.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from ray_selfloop import seeding
from ray_selfloop.inference.families import holm
from ray_selfloop.inference.power import detectable, detectable_from

Floats = NDArray[np.float64]
STATEMENTS, CHAINS = (1, 4, 6, 12), (3, 5, 8, 12)
ALPHA, POWER = 0.05, 0.8
CHECKED = 50  # repetitions whose Holm p is compared with the package's


@dataclass(frozen=True)
class Row:
    """Shares found, of the repetitions."""

    statements: int
    chains: int
    plan: float
    page: float
    unadjusted: float


def studentised(draws: Floats) -> tuple[Floats, Floats]:
    """t statistics and standard errors of means over the last axis."""
    error = draws.std(axis=-1, ddof=1) / draws.shape[-1] ** 0.5
    return draws.mean(axis=-1) / error, error


def first_of_holm(p: Floats) -> Floats:
    """Holm's adjusted p of column 0, ``(S, n) -> (S,)``."""
    ordered = np.sort(p, axis=1)
    steps = ordered * np.arange(p.shape[1], 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(steps, axis=1), 1.0)
    at = (ordered < p[:, :1]).sum(axis=1)
    found: Floats = np.take_along_axis(adjusted, at[:, None], axis=1)[:, 0]
    for row in range(min(CHECKED, len(p))):
        assert abs(found[row] - holm(p[row].tolist())[0]) < 1e-12
    return found


def found_share(effects: Floats | float, draws: Floats) -> float:
    """Share of repetitions that find the effect in statement 0; draws ``(S, n, m)`` of no effect,
    standard normal."""
    shifted = draws.copy()
    shifted[:, 0] += np.reshape(effects, (-1, 1))
    t, _ = studentised(shifted)
    p = 2 * student.sf(np.abs(t), draws.shape[-1] - 1)
    return float(((first_of_holm(p) <= ALPHA) & (t[:, 0] > 0)).mean())


def simulate(statements: int, chains: int, repetitions: int, seed: int = 0) -> Row:
    """One row of the table; chains scatter by sd 1."""
    rng = seeding.rng(seed, "power benchmark", statements, chains)
    draws = rng.standard_normal((repetitions, statements, chains))
    alpha = ALPHA / statements
    known = detectable(chains**-0.5, chains, alpha, POWER)
    _, errors = studentised(rng.standard_normal((repetitions, chains)))
    once = detectable_from(1.0, chains, alpha, POWER)
    alone = detectable(chains**-0.5, chains, ALPHA, POWER)
    return Row(
        statements,
        chains,
        found_share(known, draws),
        found_share(once * errors, draws),
        found_share(alone, draws),
    )


def lines(rows: list[Row], repetitions: int) -> Iterator[str]:
    """A table in markdown."""
    yield "| statements | chains | plan | page | MDE of one test, after Holm |"
    yield "|---|---|---|---|---|"
    for row in rows:
        cells = (row.plan, row.page, row.unadjusted)
        told = " | ".join(
            f"{100 * x:.1f} ± {100 * (x * (1 - x) / repetitions) ** 0.5:.1f}" for x in cells
        )
        yield f"| {row.statements} | {row.chains} | {told} |"


def main() -> int:
    """Print the table; 1 where a power of plan or page is not 75 to 85 %."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repetitions", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sizes = itertools.product(STATEMENTS, CHAINS)
    rows = [simulate(n, m, given.repetitions, given.seed) for n, m in sizes]
    print(*lines(rows, given.repetitions), sep="\n")
    return int(not all(0.75 <= x <= 0.85 for row in rows for x in (row.plan, row.page)))


if __name__ == "__main__":
    sys.exit(main())
