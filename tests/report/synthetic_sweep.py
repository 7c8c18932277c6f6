"""A made-up sweep for the report's tests: shaped like a real one, and no result of anything."""

from itertools import product

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

from ray_selfloop.report.view import (
    Failure,
    FilterAudit,
    GeneratorOutcome,
    ReportView,
    Samples,
    ScenarioView,
    StageUse,
    Verdict,
)

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COLOURS = ("red", "blue", "green")
COLUMNS = [
    "scenario", "loop_seed", "generation", "classifier", "seed", "split", "class", "subgroup",
    "metric", "value", "low", "high",
]  # fmt: skip
LEVEL = {"lenet": 0.93, "mobilenet_v3_small": 0.88}


def _row(
    coordinates: tuple, cls: str, subgroup: str, metric: str, value: float, half: float
) -> list:
    scenario, loop_seed, generation, classifier, seed = coordinates
    interval = (value - half, value + half) if half == half else (np.nan, np.nan)
    split = "test" if classifier else "kept" if metric == "kept_fraction" else "generated"
    where = [scenario, loop_seed, generation, classifier, seed, split, cls, subgroup, metric]
    return [*where, value, *interval]


def _fairness(at: tuple, level: float, rng: np.random.Generator, half: float):
    gap = 0.03 + 0.01 * at[2] * (at[0] == "biased") + rng.normal(0, 0.004)
    values = {
        "accuracy": level,
        "meo": 1 - gap * 0.67,
        "di": 1 - gap * 0.7,
        "di_min_max": 1 - gap * 1.1,
        "md": gap,
        "worst_subgroup": level - 3 * gap,
        "gap_rms": gap / 2,
    }
    for metric, value in values.items():
        yield _row(at, "", "", metric, value, half * (1 if metric == "accuracy" else 0.8))
    for k, colour in enumerate(COLOURS):
        yield _row(at, "", colour, "tpr", level + gap * (k - 1) / 2, half)
        yield _row(at, "", f"rank {k + 1}", "ranked_accuracy", level + 1.5 * gap * (k - 1), half)
        yield _row(at, "", f"rank {k + 1}", "ranked_cross_fitted", level + gap * (k - 1) / 2, half)


def _floors(at: tuple):
    for metric, value, half in (
        ("meo", 0.985, 0.006), ("di", 0.984, 0.007), ("md", 0.022, 0.009),
    ):  # fmt: skip
        yield _row(at, "", "", f"{metric}_floor", value, half)
        if at[2]:
            yield _row(at, "", "", f"{metric}_change", 0.004, half)
            yield _row(at, "", "", f"{metric}_change_floor", 0.0, half)


def counted(at: tuple, chains: int, seeds: int, lost: int):
    """Chains, sound trials and all trials behind a generation's means."""
    trials = chains * seeds
    sound = {"chains": chains, "trials": trials - lost, "trials_accuracy": trials}
    for metric, value in sound.items():
        yield _row(at, "", "", metric, float(value), np.nan)
    yield _row(at, "", "", "collapsed", lost / trials, np.nan)


def _generator(at: tuple, rng: np.random.Generator):
    drift = 0.02 * at[2]
    for metric, value in {
        "frechet_distance/pixels8": 0.8 + 4 * drift + rng.normal(0, 0.02),
        "label_fidelity": 0.97 - drift,
        "u": 0.02 + drift,
        "u_signed": 0.01 + drift,
        "q": 0.82 - drift,
        "precision": 0.8 - drift,
        "recall": 0.75 - drift,
        "density": 0.9,
        "coverage": 0.78 - drift,
        "kept_fraction": 0.9,
    }.items():
        yield _row(at, "", "", metric, value, 0.02)
    for cls in CLASSES:
        yield _row(at, cls, "", "kept_fraction", 0.9 + rng.normal(0, 0.002), np.nan)
    for k, colour in enumerate(COLOURS):
        yield _row(at, "", colour, "kept_fraction", 0.9 + 0.03 * (k - 1), 0.015)


def results(
    generations: int = 4, seeds: int = 2, chains: int = 1, classifiers: tuple = tuple(LEVEL)
) -> pd.DataFrame:
    """The results table; the last classifier is collapsed in its seed 1 in the last generation."""
    rows = []
    for scenario, n in product(("unbiased", "biased"), range(generations)):
        for classifier in classifiers:
            level = LEVEL.get(classifier, 0.85) + 0.004 * n
            for chain, seed in product(range(chains), range(seeds)):
                at = (scenario, chain, n, classifier, seed)
                # a trial's numbers depend on its own coordinates alone, as in a real sweep
                rng = np.random.default_rng([n, chain, seed, *map(ord, scenario + classifier)])
                rows.extend(_fairness(at, level + rng.normal(0, 0.004), rng, 0.012))
                rows.append(_row(at, "", "", "collapsed", 0.0, np.nan))
            rng = np.random.default_rng([n, seeds, *map(ord, scenario + classifier)])
            mean = (scenario, pd.NA, n, classifier, pd.NA)
            rows.extend(_fairness(mean, level, rng, 0.01))
            rows.extend(_floors(mean))
            last = (scenario, classifier, n) == ("biased", classifiers[-1], generations - 1)
            rows.extend(counted(mean, chains, seeds, int(last)))
        for chain in range(chains):
            if n:
                at = (scenario, chain, n, "", pd.NA)
                rows.extend(_generator(at, np.random.default_rng([n, chain])))
    table = pd.DataFrame(rows, columns=COLUMNS)
    last = (table["generation"] == generations - 1) & (table["seed"] == seeds - 1)
    dead = last & (table["classifier"] == classifiers[-1]) & (table["scenario"] == "biased")
    dead &= table["loop_seed"] == 0
    table.loc[dead & (table["metric"] == "collapsed"), "value"] = 1.0
    return table.astype({"loop_seed": "Int64", "generation": "Int64", "seed": "Int64"})


def images(generation: int, per_class: int = 6) -> np.ndarray:
    """uint8 (10, per_class, 3, 8, 8): coloured scans of each digit."""
    bunch = load_digits()
    out = np.zeros((10, per_class, 3, 8, 8), np.uint8)
    for cls, k in product(range(10), range(per_class)):
        rows = np.flatnonzero(bunch.target == cls)
        scan = bunch.images[rows[generation * per_class + k]] * (255 / 16)
        out[cls, k, (0, 2, 1)[(k + generation) % 3]] = np.round(scan)
    return out


def scenario(name: str, generations: int, chains: int, classifiers: tuple) -> ScenarioView:
    ns = range(1, generations)
    return ScenarioView(
        name=name,
        title=f"Colorized digits, {name}",
        axes={"dataset.initialization": name},
        class_names=CLASSES,
        subgroup_names=COLOURS,
        classifiers=classifiers,
        loop_seeds=tuple(range(chains)),
        expert="lenet",
        samples=tuple(Samples(0, n, images(n)) for n in range(generations)),
        audits=tuple(
            FilterAudit(
                loop_seed=0,
                generation=n,
                score="combined",
                generated=528,
                kept=479,
                thresholds={cls: 0.1 for cls in CLASSES},
                share_before=dict.fromkeys(COLOURS, 1 / 3),
                share_after={"red": 0.322, "blue": 0.334, "green": 0.344},
            )
            for n in ns
        ),
        generators=tuple(
            GeneratorOutcome(0, n, "budget" if n == 3 else "converged", "step 900 of 900")
            for n in ns
        ),
    )


NOT_DEFINED = float("nan")
VERDICTS = (
    Verdict("unbiased", "lenet", 1.03, 0.88, 1.21, "undecided: no control"),
    Verdict(
        "unbiased",
        "mobilenet_v3_small",
        NOT_DEFINED,
        NOT_DEFINED,
        NOT_DEFINED,
        "undecided: no measurable bias",
        "gap_rms is under its floor at generation 0",
    ),
    Verdict(
        "biased", "lenet", 1.22, 1.05, 1.41, "A > control",
        ratio=1.18, ratio_low=1.04, ratio_high=1.33, p_holm=0.021, chains=3,
    ),
    Verdict(
        "biased",
        "mobilenet_v3_small",
        0.91,
        0.84,
        0.98,
        "A < control",
        "descriptive only: in a shared chain only lenet acts on the next generation",
        ratio=0.92,
        ratio_low=0.86,
        ratio_high=0.99,
        p_holm=0.041,
        chains=3,
    ),
)  # fmt: skip


def view(
    generations: int = 4, seeds: int = 2, chains: int = 1, classifiers: tuple = tuple(LEVEL)
) -> ReportView:
    """The report's input at quickstart size."""
    names = ("unbiased", "biased")
    return ReportView(
        name="quickstart",
        question=(
            "Does training on generated data amplify the bias of digit classifiers over "
            "generations, and does it matter whether the original data were biased?"
        ),
        results=results(generations, seeds, chains, classifiers),
        scenarios=tuple(scenario(name, generations, chains, classifiers) for name in names),
        verdicts=VERDICTS,
        failures=(
            Failure("biased", 0, 2, "trial", "mobilenet_v3_small", 1, "RuntimeError: <no> memory"),
        ),
        stages=(
            StageUse("generator", 6, 0, 0, 141.2, 25.1),
            StageUse("samples", 6, 0, 0, 48.0, 8.3),
            StageUse("kept", 6, 0, 0, 0.6, 0.1),
            StageUse("trial", 20, 11, 1, 226.4, 12.2),
            StageUse("clip scorer", 0, 2, 0, 19.4, 9.8),
        ),
        warnings=("queue short: biased, generation 1: 431 of 479 samples, nothing was topped up",),
        config_yaml="name: quickstart\ndataset: {name: colorized_digits}\n",
        finished="2026-01-02 03:04 UTC",
        version="0.1.0",
        wall_seconds=312.0,
        level=0.95,
    )
