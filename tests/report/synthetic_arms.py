"""A made-up sweep of CIFAR's size with control arms: no result of anything, see synthetic_sweep."""

from itertools import product

import numpy as np
import pandas as pd
import synthetic_sweep
from synthetic_sweep import COLUMNS, _row, counted

from ray_selfloop.claims.noise import AS_EXPECTED, NOT_EXPECTED
from ray_selfloop.claims.statements import HYPOTHESIS
from ray_selfloop.report.view import (
    Claim,
    Declared,
    FilterAudit,
    FitNumber,
    GeneratorOutcome,
    Law,
    Network,
    Null,
    Part,
    ReadingRow,
    ReportView,
    Samples,
    ScenarioView,
    StageUse,
    Verdict,
)

NAN = float("nan")
SUPERCLASSES = (
    "aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables",
    "household_electrical_devices", "household_furniture", "insects", "large_carnivores",
    "large_man-made_outdoor_things", "large_natural_outdoor_scenes",
    "large_omnivores_and_herbivores", "medium_mammals", "non-insect_invertebrates", "people",
    "reptiles", "small_mammals", "trees", "vehicles_1", "vehicles_2",
)  # fmt: skip
SUBGROUPS = tuple(f"fine {k}" for k in range(1, 6))
CLASSIFIERS = ("lenet", "resnet50", "vgg19")
ARMS = ("treatment", "no_synthetic", "unfiltered")
STARTS = {"scratch": False, "pretrained": True}
LEVEL = {"lenet": 0.42, "resnet50": 0.66, "vgg19": 0.58}
DRIFT = {"treatment": -0.008, "no_synthetic": 0.001, "unfiltered": -0.014}


def _name(start: str, arm: str) -> str:
    return f"pretrained={start == 'pretrained'},arm={arm}"


def _fairness(at: tuple, arm: str, rng: np.random.Generator, half: float):
    n, level = at[2], LEVEL[at[3]] + 0.12 * ("True" in at[0])
    accuracy = level + DRIFT[arm] * at[2] + rng.normal(0, 0.004)
    gap = 0.11 - 0.4 * DRIFT[arm] * n + rng.normal(0, 0.003)
    values = {
        "accuracy": accuracy,
        "meo": 1 - gap * 0.5,
        "di": 1 - gap * 1.2,
        "di_min_max": 1 - gap * 1.6,
        "md": gap,
        "worst_subgroup": accuracy - gap,
        "gap_rms": gap / 3,
        "log_odds_gap": 5 * gap,
    }
    for metric, value in values.items():
        yield _row(at, "", "", metric, value, half)
    for k in range(5):
        rank = str(k + 1)
        yield _row(at, "", rank, "ranked_accuracy", accuracy + gap * (k - 2) / 2, half)
        yield _row(at, "", rank, "ranked_cross_fitted", accuracy + gap * (k - 2) / 3, half)
        if at[4] is pd.NA:
            yield _row(at, "", rank, "ranked_accuracy_floor", accuracy + 0.02 * (k - 2), 0.012)


def _mean_rows(at: tuple, half: float):
    n = at[2]
    for metric, value in {"meo": 0.945, "di": 0.87, "md": 0.114}.items():
        yield _row(at, "", "", f"{metric}_floor", value, 0.012)
        if n:
            yield _row(at, "", "", f"{metric}_change", 0.003 * n, half)
            yield _row(at, "", "", f"{metric}_change_floor", 0.0, 0.01)
    if n < 10:
        yield _row(at, "", "", "A", 1 + 0.02 * np.sin(n + len(at[3])), 0.05)


def _generated(at: tuple, rng: np.random.Generator):
    drift = 0.012 * at[2]
    for metric, value in {
        "frechet_distance/pixels8": 1.9 + 5 * drift, "frechet_distance/resnet50_imagenet": 61.3,
        "kernel_distance/pixels8": 0.08 + drift, "label_fidelity": 0.71 - drift, "u": 0.05 + drift,
        "u_signed": 0.01, "q": 0.6 - drift, "precision": 0.62 - drift, "recall": 0.4 - drift,
        "density": 0.7, "coverage": 0.51 - drift, "memorised": 0.012,
        "nearest_neighbour_ratio": 0.97, "kept_fraction": 0.7,
    }.items():  # fmt: skip
        yield _row(at, "", "", metric, value + rng.normal(0, 0.002), 0.02)
    for c, g in product(("", *SUPERCLASSES), ("", *SUBGROUPS)):
        if c or g:
            rate = 0.7 + (0.03 * (SUBGROUPS.index(g) - 2) if g else 0) + rng.normal(0, 0.02)
            yield _row(at, c, g, "kept_fraction", rate, 0.05 if g else NAN)


def results(chains: int = 3, generations: int = 11) -> pd.DataFrame:
    """The table; vgg19 from scratch is collapsed in 12 of its trials."""
    rows = []
    for start, arm, n in product(STARTS, ARMS, range(generations)):
        scenario = _name(start, arm)
        for classifier in CLASSIFIERS:
            for chain in range(chains):
                rng = np.random.default_rng([n, chain, *map(ord, scenario + classifier)])
                at = (scenario, chain, n, classifier, 0)
                rows.extend(_fairness(at, arm, rng, 0.02))
                dead = start == "scratch" and classifier == "vgg19" and n % 3 == 0 and chain == 0
                rows.append(_row(at, "", "", "collapsed", float(dead), NAN))
            rng = np.random.default_rng([n, *map(ord, scenario + classifier)])
            mean = (scenario, pd.NA, n, classifier, pd.NA)
            rows.extend(_fairness(mean, arm, rng, 0.014))
            rows.extend(_mean_rows(mean, 0.012))
            dead = start == "scratch" and classifier == "vgg19" and n % 3 == 0
            rows.extend(counted(mean, chains, 1, int(dead)))
        for chain in range(chains if n and arm != "no_synthetic" else 0):
            rng = np.random.default_rng([n, chain, *map(ord, scenario)])
            rows.extend(_generated((scenario, chain, n, "", pd.NA), rng))
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.astype({"loop_seed": "Int64", "generation": "Int64", "seed": "Int64"})


def images(generation: int) -> np.ndarray:
    """uint8 (20, 6, 3, 32, 32): smooth colour fields, about as hard to compress as photographs."""
    rng = np.random.default_rng(generation)
    coarse = rng.integers(0, 256, (20, 6, 3, 8, 8))
    fine = coarse.repeat(4, axis=-1).repeat(4, axis=-2) + rng.normal(0, 12, (20, 6, 3, 32, 32))
    return np.clip(fine, 0, 255).astype(np.uint8)


def _scenario(start: str, arm: str, chains: int, generations: int) -> ScenarioView:
    name, generated = _name(start, arm), arm != "no_synthetic"
    places = list(product(range(chains), range(1, generations))) if generated else []
    before = dict.fromkeys(SUBGROUPS, 0.2)
    after = {g: 0.2 + 0.008 * (k - 2) for k, g in enumerate(SUBGROUPS)}
    return ScenarioView(
        name=name,
        title=f"cifar20_100, {name}",
        axes={"training.pretrained": str(STARTS[start]), "loop.arm": arm},
        class_names=SUPERCLASSES,
        subgroup_names=SUBGROUPS,
        classifiers=CLASSIFIERS,
        loop_seeds=tuple(range(chains)),
        expert="resnet50",
        samples=tuple(Samples(0, n, images(n)) for n in range(generations)) if generated else (),
        audits=tuple(
            FilterAudit(
                loop_seed=chain,
                generation=n,
                score="combined",
                generated=23_800,
                kept=16_660,
                thresholds={c: 0.3 + 0.004 * i for i, c in enumerate(SUPERCLASSES)},
                share_before=before,
                share_after=after,
            )
            for chain, n in places
        ),
        generators=tuple(
            GeneratorOutcome(chain, n, "budget" if (chain + n) % 2 else "converged", "step 4000")
            for chain, n in places
        ),
        group=f"pretrained={STARTS[start]}",
        arm=arm,
        dataset="cifar20_100",
        initialization="full",
        pretrained=STARTS[start],
    )


def claim(id: str, group: str, verdict: str, **changes) -> Claim:
    """A statement about one group with numbers that fit its verdict."""
    value = {"supported": 0.02, "contradicted": -0.02}.get(verdict, 0.004)
    fields = {
        "id": id, "section": "4.3 with pre-trained weights", "text": "MD improves",
        "scenario_group": group, "primary": False, "metric": "md", "subgroup": "",
        "estimand": "slope", "direction": "increases", "quantifier": "in every network",
        "control": "no_synthetic", "margin": 0.012, "value": value, "low": value - 0.014,
        "high": value + 0.014, "together": 6, "mde": 0.021, "p": 0.04, "p_holm": 0.12,
        "verdict": verdict, "reason": WIDE if verdict == "undecided" else "", "half": verdict,
        "twice": verdict, "chains": 3, "trials": 180,
        "networks": tuple(
            Network(name, value + shift, value + shift - 0.02, value + shift + 0.02, 3)
            for name, shift in zip(CLASSIFIERS, (0.005, -0.001, -0.004), strict=True)
        ),
    }  # fmt: skip
    if verdict == "not tested":
        nothing = dict.fromkeys(("margin", "value", "low", "high", "mde", "p", "p_holm"), NAN)
        fields |= nothing | {"half": "", "twice": "", "chains": 0, "trials": 0, "networks": ()}
    return Claim(**(fields | changes))


def hypothesis(group: str, verdict: str, **changes) -> Claim:
    """The primary statement about one group."""
    parts = dict(zip(PARTS_OF_EFFECT, (0.001, -0.002, 0.004, 0.003, -0.012, 0.018), strict=True))
    fields = {
        "section": "primary", "text": "Bias is amplified: the introduction's hypothesis",
        "primary": verdict not in ("not tested", "exploratory"), "estimand": "last_minus_first",
        "quantifier": "on average over the networks", "together": 2, "twice": "ruled out", **parts,
    }  # fmt: skip
    return claim(HYPOTHESIS, group, verdict, **(fields | changes))


PARTS_OF_EFFECT = (
    "level_value", "level_low", "level_high", "rest_value", "rest_low", "rest_high",
)  # fmt: skip
UNCONVERGED = "generator too poor to ask: label fidelity 0.61 is under its bound 0.85"
WIDE = "the interval, widened for 6 statements judged together, holds zero and the margin"
GROUPS = {start: f"pretrained={pretrained}" for start, pretrained in STARTS.items()}


def claims() -> tuple[Claim, ...]:
    """Of every verdict at least one, the hypothesis about each group first."""
    found = [
        hypothesis(GROUPS["scratch"], "supported"),
        hypothesis(GROUPS["pretrained"], "undecided"),
    ]
    for start, group in GROUPS.items():
        found += [
            claim(f"{start}-meo", group, "contradicted", metric="meo", text="MEO improves"),
            claim(f"{start}-md", group, "explained by accuracy",
                  reason="the accuracy of each class explains it: the rest lies inside the margin"),
            claim(f"{start}-accuracy", group, "undecided", metric="accuracy", section="4.3",
                  text="accuracy degrades over generations"),
            claim(f"{start}-di", group, "undecided", metric="di", reason=UNCONVERGED, section="4.3",
                  text="Most models show similar Disparate Impact"),
            claim(f"{start}-drop", group, "ruled out", metric="accuracy", section="4.3",
                  text="A drop of accuracy", half="undecided"),
            claim(f"{start}-cues", group, "not tested", section="4.4", metric="ablation_drop",
                  text="reliance on spurious cues grows", reason="no Hard ImageNet in this sweep"),
        ]  # fmt: skip
    return tuple(found)


def _parts() -> tuple[Part, ...]:
    found = []
    for start, name, metric in product(STARTS, CLASSIFIERS, ("accuracy", "md")):
        sign = -1 if metric == "accuracy" else 1
        cut = {"volume": 0.004, "imbalance": 0.002, "artefact": 0.03, "filter": -0.006}
        for part, value in {"total": sum(cut.values()), **cut}.items():
            ends = (sign * value - 0.009, sign * value + 0.009)
            group = f"pretrained={STARTS[start]}"
            found.append(Part(group, name, metric, part, sign * value, *ends))
    return tuple(found)


def _verdicts() -> tuple[Verdict, ...]:
    found = []
    for start, arm, name in product(STARTS, ARMS, CLASSIFIERS):
        grows = start == "scratch" and name == "lenet"
        a = 1.06 if grows and arm == "treatment" else 1.01
        why = "generator too poor to ask" if name == "vgg19" else "ratio 1 is not excluded"
        text = "A > control" if grows else f"undecided: {why}"
        ratio = {"ratio": a, "ratio_low": a - 0.04, "ratio_high": a + 0.05, "p_holm": 0.02}
        if arm != "treatment":
            text, ratio = "control" if arm == "no_synthetic" else "exploratory", {}
        found.append(
            Verdict(_name(start, arm), name, a, a - 0.03, a + 0.04, text, chains=3, **ratio)
        )
    return tuple(found)


def nulls(bad: int = 0) -> tuple[Null, ...]:
    """What an arm `a_a` shows; the first ``bad`` changes are not as they must be."""
    words = (NOT_EXPECTED if k < bad else AS_EXPECTED for k in range(len(CLASSIFIERS) * 3))
    places = product(CLASSIFIERS, ("accuracy", "md", "worst_subgroup"))
    return tuple(
        Null(GROUPS["scratch"], name, metric, 0.002, -0.01, 0.014, 3, 0.8, word)
        for (name, metric), word in zip(places, words, strict=True)
    )


DECLARED = Declared(
    "0123456789abcdef0123", "2026-01-01T09:00:00+00:00", True,
    ("pretrained=False: md increases; margin 0.012",),
)  # fmt: skip


def view(chains: int = 3, generations: int = 11) -> ReportView:
    """2 groups x 3 arms x 3 classifiers x 11 generations, 20 classes x 5 subgroups."""
    scenarios = tuple(
        _scenario(start, arm, chains, generations) for start, arm in product(STARTS, ARMS)
    )
    laws = ("eq6", "constant", "affine", "persistence")
    return ReportView(
        name="cifar20_100",
        question=synthetic_sweep.view().question.replace("digit", "image"),
        results=results(chains, generations),
        scenarios=scenarios,
        verdicts=_verdicts(),
        failures=(),
        stages=(StageUse("generator", 40, 20, 0, 91_200.0, 1520.0),),
        warnings=tuple(
            f"{s.name}: the queue grows up to generation 3; until then each generation trains on "
            "more generated images than the one before."
            for s in scenarios
        ),
        config_yaml="name: cifar20_100\n",
        finished="2026-01-02 03:04 UTC",
        version="0.1.0",
        level=0.95,
        fit=(FitNumber("all", "d_Q/(1+d_D)", 0.21, 0.02, 0.4),),
        laws=tuple(
            Law(_name("scratch", "treatment"), name, law, {"A": 1.02}, 0.004 + 0.001 * i, 0.002,
                0.008, None if law == "persistence" else i == 0)
            for name, (i, law) in product(CLASSIFIERS, enumerate(laws))
        ),
        claims=claims(),
        decomposition=_parts(),
        readings=(
            ReadingRow("eq. 2, pairs", "unordered", "ordered", "MD increases over generations",
                       "supported", "supported", changes=False),
            ReadingRow("rates", "per class", "pooled", "MEO improves over generations",
                       "contradicted", "undecided", changes=True),
        ),
        fid_absent="no Inception-V3 weights were given or found",
        null=nulls(),
        declared=DECLARED,
    )  # fmt: skip
