"""Made-up sweeps of Hard ImageNet and Breeds: no result of anything, see synthetic_sweep."""

from itertools import product

import numpy as np
import pandas as pd
import synthetic_sweep
from synthetic_sweep import COLUMNS, counted

from ray_selfloop.report.view import (
    FilterAudit,
    GeneratorOutcome,
    ReportView,
    Samples,
    ScenarioView,
    StageUse,
    Verdict,
)

NAN = float("nan")
CLASSES = (
    "dog sled", "howler monkey", "seat belt", "ski", "sunglasses", "swimming cap", "balance beam",
    "horizontal bar", "patio", "hockey puck", "miniskirt", "keyboard space bar", "volleyball",
    "baseball player", "snorkel",
)  # fmt: skip
LIVING = (
    "salamander", "turtle", "lizard", "snake", "spider", "grouse", "parrot", "crab", "dog", "wolf",
    "fox", "domestic cat", "bear", "beetle", "butterfly", "ape", "monkey",
)  # fmt: skip
SUBCLASSES = tuple(f"subclass {k}" for k in range(1, 5))
CLEAN = {
    "alexnet": 0.74, "mobilenet_v3_small": 0.86, "vgg19": 0.89, "resnet50": 0.93, "deit_s": 0.95,
}  # fmt: skip
DROP = {"object_gray": 0.12, "box_gray": 0.22, "box_neighbour": 0.27}


def photographs(classes: int, generation: int, k: int, side: int) -> np.ndarray:
    """uint8 (classes, k, 3, side, side): fields with the spectrum of photographs."""
    rng = np.random.default_rng([generation, classes])
    waves = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    waves[0, 0] = 1.0
    noise = rng.normal(size=(classes, k, 3, side, side))
    fields = np.fft.ifft2(np.fft.fft2(noise) / waves**1.1).real
    fields -= fields.mean(axis=(-1, -2), keepdims=True)
    fields *= 52 / fields.std(axis=(-1, -2), keepdims=True)
    return np.clip(fields + rng.uniform(70, 180, (classes, k, 1, 1, 1)), 0, 255).astype(np.uint8)


def _row(at: tuple, cls: str, subgroup: str, metric: str, value: float, half: float) -> list:
    """As in synthetic_sweep; a number of the test images has no classifier."""
    row = synthetic_sweep._row(at, cls, subgroup, metric, value, half)
    row[5] = "test" if metric.startswith("ablation_undefined") else row[5]
    return row


def _ablations(at: tuple, clean: float, half: float):
    """Levels, and of means of later generations the changes."""
    n, later = at[2], at[4] is pd.NA and at[2] > 0
    for kind, drop in DROP.items():
        fell = drop * clean + 0.008 * n * (1 if kind == "object_gray" else 0.4)
        for stem, value, change in (
            ("ablation_accuracy", clean - fell, -0.012 * n),
            ("ablation_drop", fell, 0.008 * n),
            ("ablation_drop_relative", fell / (clean - 1 / 15), 0.011 * n),
        ):
            yield _row(at, "", "", f"{stem}/{kind}", value, half)
            if later:
                yield _row(at, "", "", f"{stem}_change/{kind}", change, half)
    yield _row(at, "", "", "relative_foreground_sensitivity", 0.2 + 0.01 * n, half)
    if later:
        yield _row(at, "", "", "relative_foreground_sensitivity_change", 0.01 * n, half)


def _ranks(at: tuple, level: float, half: float):
    """Ranked accuracy of four subclasses, fairness, and of means the floors and changes."""
    n, mean = at[2], at[4] is pd.NA
    gap = 0.16 + 0.006 * n
    for metric, value in {"meo": 1 - gap / 2, "di": 1 - 0.7 * gap, "md": gap}.items():
        yield _row(at, "", "", metric, value, half)
        if mean:
            yield _row(at, "", "", f"{metric}_floor", 0.1 if metric == "md" else 0.93, half)
        if mean and n:
            yield _row(at, "", "", f"{metric}_change", -0.003 * n, half)
    for k in range(4):
        value = level + gap * (k - 1.5) / 3
        yield _row(at, "", f"rank {k + 1}", "ranked_accuracy", value, half)
        yield _row(at, "", f"rank {k + 1}", "ranked_cross_fitted", value + 0.02 * (1.5 - k), half)
        if mean:
            floor = level + 0.015 * (k - 1.5)
            yield _row(at, "", f"rank {k + 1}", "ranked_accuracy_floor", floor, 0.01)
        if mean and n:
            change = (-0.011 + 0.002 * k) * n
            yield _row(at, "", f"rank {k + 1}", "ranked_cross_fitted_change", change, half)


def _slopes(scenario: str, classifier: str):
    at = (scenario, pd.NA, pd.NA, classifier, pd.NA)
    for subgroup, slope in {"rank 1": -0.011, "rank 4": -0.005, "best minus worst": 0.006}.items():
        yield _row(at, "", subgroup, "ranked_cross_fitted_slope", slope, 0.004)


def _generated(at: tuple, classes: tuple, subgroups: tuple):
    n, rng = at[2], np.random.default_rng([at[1], at[2]])
    for metric, value in {
        "fid": 57.6 + 20 * n, "kid": 0.021 + 0.004 * n, "label_fidelity": 0.9 - 0.03 * n,
        "precision": 0.7 - 0.03 * n, "recall": 0.4, "density": 0.8, "coverage": 0.6 - 0.04 * n,
        "q": 0.66 - 0.03 * n, "memorised": 0.01, "kept_fraction": 0.4,
        **({"u": 0.03, "u_signed": 0.01} if subgroups else {}),
    }.items():  # fmt: skip
        yield _row(at, "", "", metric, value, NAN if metric == "fid" else 0.02)
    for c, g in product(("", *classes), ("", *subgroups)):
        if c or g:
            yield _row(at, c, g, "kept_fraction", 0.4 + rng.normal(0, 0.03) * bool(g), NAN)


def _results(of: ScenarioView) -> pd.DataFrame:
    rows, subgroups, treated = [], of.subgroup_names, of.arm == "treatment"
    generations = 1 + max((s.generation for s in of.samples), default=4)
    for n, (classifier, clean) in product(range(generations), CLEAN.items()):
        start = clean - (0.08 if subgroups else 0.0)
        level = start + (0.006 if clean < 0.87 else -0.012) * n * treated
        for chain in of.loop_seeds:
            rng = np.random.default_rng([n, chain, *map(ord, classifier)])
            at = (of.name, chain, n, classifier, 0)
            own = level + rng.normal(0, 0.006)
            rows.append(_row(at, "", "", "accuracy", own, 0.02))
            rows.append(_row(at, "", "", "collapsed", 0.0, NAN))
            rows.extend(_ranks(at, own, 0.03) if subgroups else _ablations(at, own, 0.03))
        mean = (of.name, pd.NA, n, classifier, pd.NA)
        rows.append(_row(mean, "", "", "accuracy", level, 0.018))
        rows.extend(counted(mean, len(of.loop_seeds), 1, 0))
        if n:
            rows.append(_row(mean, "", "", "accuracy_change", level - start, 0.01))
        rows.extend(_ranks(mean, level, 0.022) if subgroups else _ablations(mean, level, 0.02))
    for kind, count in {"object_gray": 0.0, "box_neighbour": 12.0}.items() if not subgroups else ():
        at = (of.name, pd.NA, pd.NA, "", pd.NA)
        rows.append(_row(at, "", "", f"ablation_undefined/{kind}", count, NAN))
    if subgroups and generations > 1:
        rows.extend(row for classifier in CLEAN for row in _slopes(of.name, classifier))
    for chain, n in product(of.loop_seeds, range(1, generations if treated else 1)):
        rows.extend(_generated((of.name, chain, n, "", pd.NA), of.class_names, subgroups))
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.astype({"loop_seed": "Int64", "generation": "Int64", "seed": "Int64"})


def _audit(chain: int, generation: int, classes: tuple, subgroups: tuple) -> FilterAudit:
    even = dict.fromkeys(subgroups, 0.25)
    return FilterAudit(
        loop_seed=chain, generation=generation, score="combined", generated=15_750, kept=6_300,
        thresholds={c: 0.6 + 0.004 * i for i, c in enumerate(classes)},
        share_before=even, share_after=even,
    )  # fmt: skip


def scenario(
    dataset: str, chains: int = 3, generations: int = 5, side: int = 128, arm: str = "treatment"
) -> ScenarioView:
    """Of ``hard_imagenet`` or ``breeds``; two samples of each class, ``side`` pixels wide."""
    hard, k = dataset == "hard_imagenet", 2
    classes, subgroups = (CLASSES, ()) if hard else (LIVING, SUBCLASSES)
    ns = range(1, generations if arm == "treatment" else 1)
    places = list(product(range(chains), ns))
    return ScenarioView(
        name=dataset if arm == "treatment" else f"{dataset},arm={arm}",
        title=f"{dataset}, arm={arm}",
        axes={"dataset.name": dataset, "loop.arm": arm},
        class_names=classes,
        subgroup_names=subgroups,
        classifiers=tuple(CLEAN),
        loop_seeds=tuple(range(chains)),
        expert="resnet50",
        samples=tuple(
            Samples(chain, n, photographs(len(classes), n + 10 * chain, k, side))
            for chain, n in product(range(chains), range(generations))
            if ns
        ),
        audits=tuple(_audit(chain, n, classes, subgroups) for chain, n in places),
        generators=tuple(GeneratorOutcome(chain, n, "converged") for chain, n in places),
        group=dataset,
        arm=arm,
        dataset=dataset,
        initialization="" if hard else "living17",
        pretrained=True,
        base="stable-diffusion-v1-5/stable-diffusion-v1-5",
    )


def view(*scenarios: ScenarioView) -> ReportView:
    """A sweep of these scenarios, at the paper's size by default."""
    why = "undecided: no control"
    return ReportView(
        name="imagenet",
        question="Does training on generated data amplify bias across generations?",
        results=pd.concat(map(_results, scenarios), ignore_index=True),
        scenarios=scenarios,
        verdicts=tuple(
            Verdict(s.name, name, 0.99, 0.95, 1.03, why) for s in scenarios for name in CLEAN
        ),
        failures=(),
        stages=(
            StageUse("generator", 12, 0, 0, 91_200.0, 7520.0),
            StageUse("classifier resnet50", 15, 60, 0, 14_200.0, 820.0),
        ),
        warnings=(),
        config_yaml="name: imagenet\n",
        finished="2026-01-02T03:04:05+00:00",
        version="0.1.0",
        level=0.95,
    )
