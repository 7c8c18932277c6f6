"""What the split of a change calls 'distribution' when the level alone has changed.

Sweeps of 3 chains and two generations are simulated (`ray_selfloop.simulator`): every image's
logit moves by the same amount and nothing else happens. The distribution part of the change of MD,
MEO and gap variance is then 0 in truth. Equal and unequal subgroups, images alike and of different
difficulty, digits and CIFAR, accuracy falling and rising. Printed: its mean over studies with the
Monte-Carlo error, and its share of the level part.

    python benchmarks/level_split.py --studies 140
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from ray_selfloop.evaluation.difficulty import estimated
from ray_selfloop.evaluation.readings import Plan, subgroup_readings
from ray_selfloop.evaluation.tallies import resampled
from ray_selfloop.simulator import Layout, Step, World

CHAINS = 3
LAYOUTS: Mapping[str, Layout] = {
    "digits 36": Layout.crossed_digits(36),
    "CIFAR 4 x 5 x 100": Layout.cifar(4, 5, 100),
    "digits 300": Layout.crossed_digits(300),
}
METRICS = ("md_pooled", "md_per_class", "meo_per_class", "gap_variance_per_class")
PARTS = ("level", "distribution")
START = {"digits 36": 2.2, "CIFAR 4 x 5 x 100": 0.8, "digits 300": 2.2}
FALL = {"digits 36": 1.2, "CIFAR 4 x 5 x 100": 0.7, "digits 300": 1.2}


@dataclass(frozen=True)
class Cell:
    """gap: half the range of the subgroups' logits. falling: accuracy falls by `FALL`, else it
    rises back from there."""

    layout: str
    difficulty: float
    gap: float
    falling: bool

    @property
    def stretch(self) -> float:
        """Logits are stretched so that accuracies are about those of images that are all alike."""
        return float((1.0 + 0.3 * self.difficulty**2) ** 0.5)

    def world(self) -> World:
        """Chains and seeds differ from the start and keep their difference."""
        layout = LAYOUTS[self.layout]
        groups = layout.counts.shape[1]
        level = START[self.layout] - (0.0 if self.falling else FALL[self.layout])
        return World(
            layout,
            level=self.stretch * level,
            gap=np.linspace(self.gap, -self.gap, groups),
            difficulty=self.difficulty,
            slope=0.0,
            wobble=0.0,
        )

    def step(self, harm: float) -> Step:
        """The mechanical change; harm: added to the last subgroup's logit."""
        cells = np.zeros(LAYOUTS[self.layout].counts.shape[1])
        cells[-1] = harm
        by = -FALL[self.layout] if self.falling else FALL[self.layout]
        return Step(level=self.stretch * by, cells=cells)


@dataclass(frozen=True)
class Mean:
    """Over studies, with its Monte-Carlo error."""

    mean: float
    error: float


def study(cell: Cell, resamples: int, seed: int, harm: float) -> dict[tuple[str, str], float]:
    """(metric, part) -> mean over the chains' changes; and the estimated difficulty."""
    (arm,) = cell.world().arms({"treatment": cell.step(harm)}, CHAINS, 1, seed=seed)
    outcomes = sorted(arm.outcomes, key=lambda o: (o.loop_seed, o.generation))
    correct = np.stack([o.predictions == arm.test.labels for o in outcomes])
    tally = resampled(correct, arm.test, resamples, seed)
    generation = np.array([o.generation for o in outcomes])
    base = np.arange(len(outcomes)) - generation
    everywhere = np.ones((len(outcomes), arm.test.classes), np.bool_)
    plan = Plan(arm.test, False, base, everywhere, generation)
    values = {r.metric: r.values[0] for r in subgroup_readings(tally, plan, True) if not r.cls}
    found = {
        (metric, part): float(values[f"{metric}_change_{part}"][generation == 1].mean())
        for metric, part in product(METRICS, PARTS)
    }
    return found | {("difficulty", ""): estimated(tally, base)}


def measured(
    cell: Cell, studies: int, resamples: int = 60, seed: int = 0, harm: float = 0.0
) -> dict[tuple[str, str], Mean]:
    """(metric, part) -> its mean over ``studies`` sweeps."""
    runs = [study(cell, resamples, seed * studies + k, harm) for k in range(studies)]
    found = {}
    for key in runs[0]:
        values = np.array([run[key] for run in runs])
        found[key] = Mean(float(values.mean()), float(values.std() / studies**0.5))
    return found


def line(cell: Cell, found: Mapping[tuple[str, str], Mean]) -> str:
    """A line of the table."""
    direction = "falls" if cell.falling else "rises"
    shown = [cell.layout, f"{cell.difficulty:g}", f"{cell.gap:g}", direction]
    shown.append(f"{found['difficulty', ''].mean:.2f}")
    for metric in METRICS:
        level, rest = (found[metric, part] for part in PARTS)
        digits = 5 if metric.startswith("gap") else 4
        share = 100 * rest.mean / abs(level.mean)
        parts = f"{level.mean:+.{digits}f}; {rest.mean:+.{digits}f} ± {rest.error:.{digits}f}"
        shown.append(f"{parts} ({share:+.0f} %)")
    return "| " + " | ".join(shown) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=140)
    parser.add_argument("--resamples", type=int, default=60)
    parser.add_argument("--layouts", nargs="*", default=list(LAYOUTS))
    asked, started = parser.parse_args(), time.monotonic()
    print(f"{asked.studies} studies of {CHAINS} pairs each; level; distribution (true 0) ± error\n")
    head = ["test set", "difficulty", "gap", "accuracy", "estimated", *METRICS]
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    grid = product(asked.layouts, (0.0, 1.5, 3.0), (0.0, 0.6), (True, False))
    for cell in (Cell(*place) for place in grid):
        print(line(cell, measured(cell, asked.studies, asked.resamples)), flush=True)
    print(f"\n{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
