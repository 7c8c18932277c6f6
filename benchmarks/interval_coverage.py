"""How often the intervals of the results table hold the truth, metric by metric.

Sweeps are simulated (`ray_selfloop.simulator`) whose true metrics are known: of a mean over chains
the metric's mean over infinitely many chains and images, of one trial its own over infinitely many
images. The share of studies whose nominal 95 % interval holds it should be 90 to 98 %, or the
interval is not printed. Designs are small and uneven: 3 to 15 images a cell, shares 70/20/10,
digits, CIFAR, chains of unequal scale, 2 to 5 chains. A share over 98 % is the price of t with
m - 1 freedom (`inference.chains`) where the test images are most of the error.

    python benchmarks/interval_coverage.py --studies 300
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_selfloop.claims.paired import Arm
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.evaluation import fairness
from ray_selfloop.evaluation.classifier_rows import fairness_rows
from ray_selfloop.simulator import Layout, Step, World

Floats = NDArray[np.float64]
Inside = dict[str, list[float]]
LEVEL, TRUTHS = 0.95, 20000
STEP = Step(level=-0.5, gap=0.5)


@dataclass(frozen=True)
class Design:
    """A world and how many chains are run in it."""

    world: World
    chains: int = 3


def _cells(low: int, high: int) -> Layout:
    """6 classes x 3 subgroups of ``low`` to ``high`` images, each shown once."""
    counts = np.random.default_rng(0).integers(low, high + 1, (6, 3))
    return Layout(counts, crossed=False, pooled=False)


GAP = (0.6, 0.1, -0.7)
SMALL = World(_cells(3, 15), level=1.5, gap=GAP)
SHARES = World(Layout.uneven(60), level=1.5, gap=GAP)
DIGITS = World(Layout.crossed_digits(36), level=2.0, gap=GAP)
CIFAR = World(Layout.cifar(20, 5, 50), level=0.8, gap=(0.8, 0.4, 0.0, -0.4, -0.8))
UNEQUAL = World(Layout.crossed_digits(36), level=2.0, gap=GAP, tails="unequal")
APART = World(Layout.crossed_digits(36), level=2.0, gap=GAP, chain=0.4, slope=0.15, tails="unequal")
DESIGNS: Mapping[str, Design] = {
    "6 x 3, 3-15 a cell": Design(SMALL),
    "6 x 3, 5-15 a cell": Design(World(_cells(5, 15), level=1.5, gap=GAP)),
    "the same, equal subgroups": Design(World(_cells(5, 15), level=1.5)),
    "10 x 60, 70/20/10": Design(SHARES),
    "digits, 10 x 3 x 36": Design(DIGITS),
    "CIFAR, 20 x 5 x 50": Design(CIFAR),
    "digits, chains of unequal scale": Design(UNEQUAL),
    "digits, far apart and of unequal scale": Design(APART),
    "digits, 2 chains": Design(DIGITS, 2),
    "digits, 5 chains": Design(DIGITS, 5),
}


def metrics(rates: Floats, counts: Floats) -> dict[str, Floats]:
    """The table's metrics of true rates ``(..., C, G)``, each ``(...)``; counts ``(C, G)``."""
    weight = counts / counts.sum(axis=0)
    pooled = (weight * rates).sum(axis=-2)
    found = {"accuracy": (counts * rates).sum(axis=(-2, -1)) / counts.sum()}
    for reading, r in (("pooled", pooled), ("per_class", rates)):
        logits = np.log(r / (1.0 - r))
        gaps = {
            "md": fairness.md(r),
            "meo": fairness.meo(r, False),
            "di": fairness.di(r, False),
            "di_min_max": fairness.di_min_max(r),
            "log_odds_gap": fairness.md(logits),
            "log_odds_gap_mean": fairness.mean_gap(logits),
            "gap_variance": r.var(axis=-1, ddof=1),
        }
        for name, value in gaps.items():
            found[f"{name}_{reading}"] = value if reading == "pooled" else value.mean(axis=-1)
    found["worst_subgroup_pooled"] = pooled.min(axis=-1)
    found["worst_subgroup_per_class"] = rates.min(axis=(-2, -1))
    ranks = np.sort(rates, axis=-1).mean(axis=-2)
    for k in range(rates.shape[-1]):
        found[f"ranked_accuracy|rank {k + 1}"] = ranks[..., k]
        found[f"tpr|group {k}"] = pooled[..., k]
    return found


def _of_ranks(rates: Floats) -> dict[str, Floats]:
    """Rates ``(m, 2, C, G)`` of generations 0 and 1 at the true ranks of generation 0."""
    values = fairness.ranked_by(rates[:, :1], rates)
    return {f"ranked_cross_fitted|rank {k + 1}": values[..., k] for k in range(rates.shape[-1])}


def truths(world: World, logits: Floats) -> dict[str, Floats]:
    """Metric and its change -> the truth of each chain's trial at generation 1, ``(m,)``; logits
    ``(m, 2, C, G)``."""
    counts = world.layout.counts.astype(np.float64)
    rates = np.clip(world.rates(logits), 1e-9, 1.0 - 1e-9)  # rounding, where chains lie far apart
    found = metrics(rates, counts) | _of_ranks(rates)
    levels = {name: value[:, 1] for name, value in found.items()}
    changes = {changed(name): value[:, 1] - value[:, 0] for name, value in found.items()}
    return levels | changes


def changed(name: str) -> str:
    """The name of a metric's change."""
    metric, bar, subgroup = name.partition("|")
    return f"{metric}_change{bar}{subgroup}"


def expected(world: World) -> dict[str, float]:
    """Truth of a mean over infinitely many chains, and of gap_rms the root of the mean variance."""
    rng, parts = np.random.default_rng(1), []
    for _ in range(TRUTHS // 500):
        found = world.logits(rng, {"treatment": STEP}, (500, 1, 1))["treatment"]
        parts.append({k: v.mean() for k, v in truths(world, found[:, 0]).items()})
    mean = {k: float(np.mean([part[k] for part in parts])) for k in parts[0]}
    return mean | {"gap_rms_per_class": mean["gap_variance_per_class"] ** 0.5}


def swept(design: Design, seed: int) -> tuple[Arm, Floats]:
    """One simulated sweep of two generations, and its trials' logits ``(m, 2, C, G)``."""
    steps = {"treatment": STEP}
    (arm,) = design.world.arms(steps, design.chains, 1, seed=seed, images=10**6 + seed)
    size = (design.chains, 1, 1)
    logits = design.world.logits(np.random.default_rng(seed), steps, size)["treatment"]
    return arm, logits[:, 0]


def study(design: Design, truth: Mapping[str, float], resamples: int, seed: int) -> Inside:
    """One sweep: whether each printed interval of generation 1 holds its truth; NaN where it is not
    printed. ``trial: `` stands before the names of single trials' intervals."""
    arm, logits = swept(design, seed)
    settings = Evaluation(resamples=resamples, permutations=20, seed=seed)
    table = fairness_rows("", list(arm.outcomes), arm.test, settings)
    own = truths(design.world, logits)
    own["gap_rms_per_class"] = own["gap_variance_per_class"] ** 0.5
    found: Inside = {}
    for row in table[(table["generation"] == 1) & (table["class"] == "")].to_dict("records"):
        name = row["metric"] + (f"|{row['subgroup']}" if row["subgroup"] else "")
        if name not in truth:
            continue
        mean = pd.isna(row["seed"])
        wanted = truth[name] if mean else own[name][int(row["loop_seed"])]
        inside = float(row["low"] <= wanted <= row["high"])
        place = name if mean else f"trial: {name}"
        found.setdefault(place, []).append(np.nan if np.isnan(row["low"]) else inside)
    return found


def coverage(design: Design, studies: int, resamples: int = 150) -> dict[str, tuple[float, float]]:
    """Name -> share of intervals that hold the truth and its Monte-Carlo error, by study; NaN where
    under half are printed."""
    truth = expected(design.world)
    runs = [study(design, truth, resamples, seed) for seed in range(studies)]
    found = {}
    for name in runs[0]:
        shares = np.array([np.mean(run[name]) for run in runs])
        known = shares[~np.isnan(shares)]
        few = len(known) < studies / 2
        found[name] = (np.nan, np.nan) if few else (known.mean(), known.std() / len(known) ** 0.5)
    return found


def main() -> None:
    """Print a table for each design."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--resamples", type=int, default=150)
    parser.add_argument("--designs", nargs="*", default=list(DESIGNS))
    asked, started = parser.parse_args(), time.monotonic()
    print(f"{asked.studies} studies a design, nominal {LEVEL:.0%}, percent +- error")
    for name in asked.designs:
        found = coverage(DESIGNS[name], asked.studies, asked.resamples)
        print(f"\n{name} ({time.monotonic() - started:.0f} s)\n", flush=True)
        print("| metric | mean over chains | change | one trial | change |\n|---|---|---|---|---|")
        for metric in (m for m in found if "_change" not in m and not m.startswith("trial: ")):
            places = [metric, changed(metric), f"trial: {metric}", f"trial: {changed(metric)}"]
            cells = [_cell(*found[place]) if place in found else "" for place in places]
            print(f"| {metric} | " + " | ".join(cells) + " |", flush=True)


def _cell(share: float, error: float) -> str:
    return "not printed" if np.isnan(share) else f"{100 * share:.1f} ± {100 * error:.1f}"


if __name__ == "__main__":
    main()
