"""Generator metrics of one generation as rows of the results table.

Decides which metrics a split gets. Knows no images: features, judged labels and subgroups come in
as arrays.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ray_selfloop import seeding
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.evaluation import fidelity
from ray_selfloop.evaluation.fairness import mean_defined
from ray_selfloop.evaluation.frechet import frechet_distance, kernel_distance, prdc, radii
from ray_selfloop.evaluation.intervals import band, reverse_percentile
from ray_selfloop.evaluation.outcomes import Floats, Ids
from ray_selfloop.evaluation.rows import Rows, Where, typed


@dataclass(frozen=True)
class Reference:
    """The real data that generated images are compared with.

    features: name -> float ``(n, d)`` of the original training images (D0).
    held_out: name -> float ``(m, d)`` of the held-out real images.
    shares: float ``(C, G)``, subgroup shares within each class of D0; None without subgroups.
    """

    features: dict[str, Floats]
    held_out: dict[str, Floats]
    shares: Floats | None
    class_names: tuple[str, ...]
    subgroup_names: tuple[str, ...]


@dataclass(frozen=True)
class Generated:
    """Generated images of one split; ``n`` rows.

    features: name -> float ``(n, d)``; may be empty (no feature metrics are written then).
    labels: int64 ``(n,)``, the label that each image was asked for.
    judged: int64 ``(n,)``, the class that the generation-0 judge gives it, or None.
    subgroups: int64 ``(n,)``, 0..G-1, and G where none is clear; None without subgroups.
    """

    features: dict[str, Floats]
    labels: Ids
    judged: Ids | None
    subgroups: Ids | None


def generator_rows(
    scenario: str,
    loop_seed: int,
    generation: int,
    splits: dict[str, Generated],
    reference: Reference,
    settings: Evaluation,
) -> pd.DataFrame:
    """Rows of one generation, with the columns of `rows.COLUMNS` and no classifier or seed.

    splits: any of ``generated`` (before the filter), ``kept`` (after it) and ``queue`` (all
    generated images in the training set); the name becomes the table's ``split``. Feature metrics
    use ``settings.samples`` images (a seeded draw), shares and label fidelity all that are given.
    Metrics of the first feature set have plain names (``precision``), those of others a suffix
    (``precision/lenet``); distances always carry theirs.
    """
    where, frames = Where(loop_seed, generation), []
    for split, data in splits.items():
        rows = Rows(scenario, split)
        with threadpool_limits(limits=1):
            _feature_rows(rows, where, data, reference, settings)
        _fidelity_rows(rows, where, data, reference, settings)
        _share_rows(rows, where, data, reference, settings)
        frames.append(rows.frame())
    return typed(pd.concat(frames, ignore_index=True))


def _draw(features: Floats, most: int, seed: int, *purpose: str) -> Floats:
    """At most ``most`` rows in a seeded order."""
    order = seeding.rng(seed, *purpose).permutation(len(features))
    return np.asarray(features[order[:most]], np.float64)


def _feature_rows(
    rows: Rows, where: Where, data: Generated, reference: Reference, settings: Evaluation
) -> None:
    k, seed = settings.neighbours, settings.seed
    for name, features in data.features.items():
        suffix = "" if name == settings.features[0] else f"/{name}"
        drawn = _draw(features, settings.samples, seed, "samples")
        real = _draw(reference.features[name], settings.reference, seed, "reference")
        rows.add(f"samples{suffix}", [float(len(drawn))], where)
        if min(len(drawn), len(real)) <= k:
            continue  # too few for any comparison of distributions
        held = reference.held_out[name]
        held, reach = _draw(held, len(held), seed, "held_out"), radii(real, k)
        found = {
            f"frechet_distance/{name}": frechet_distance(reference.features[name], drawn),
            f"kernel_distance/{name}": kernel_distance(real, drawn),
            f"q{suffix}": fidelity.quality(real, held, drawn, reach, k),
        }
        found |= {f"{key}{suffix}": v for key, v in prdc(real, drawn, k, reach)._asdict().items()}
        copied = fidelity.copies(real, held, drawn)
        found[f"memorised{suffix}"] = copied.memorised
        found[f"nearest_neighbour_ratio{suffix}"] = copied.ratio
        for metric, value in found.items():
            rows.add(metric, [value], where)


def _fidelity_rows(
    rows: Rows, where: Where, data: Generated, reference: Reference, settings: Evaluation
) -> None:
    if data.judged is None:
        return
    everything = np.ones(len(data.labels), np.bool_)
    parts = {"": everything}
    parts |= {name: data.labels == c for c, name in enumerate(reference.class_names)}
    for name, mask in parts.items():
        hits, total = fidelity.agreement(data.labels, data.judged, mask)
        rows.add("label_fidelity", fidelity.wilson(hits, total, settings.level), where, (name, ""))


def _share_rows(
    rows: Rows, where: Where, data: Generated, reference: Reference, settings: Evaluation
) -> None:
    if data.subgroups is None or reference.shares is None:
        return
    classes, groups = reference.shares.shape
    counts = fidelity.share_counts(data.labels, data.subgroups, classes, groups)
    shares = reference.shares / reference.shares.sum(axis=1, keepdims=True)
    stream = seeding.rng(settings.seed, "shares")
    change = fidelity.share_change(counts, shares, settings.resamples, stream)
    _variation_rows(rows, where, change, reference.class_names, settings.level)
    for c, name in enumerate(reference.class_names):
        total = int(counts[c].sum())
        for g, subgroup in enumerate(reference.subgroup_names):
            ends = fidelity.wilson(int(counts[c, g]), total, settings.level)
            rows.add("subgroup_share", ends, where, (name, subgroup))
    ends = fidelity.wilson(int(counts[:, -1].sum()), int(counts.sum()), settings.level)
    rows.add("none_clear", ends, where)


def _variation_rows(
    rows: Rows, where: Where, change: fidelity.ShareChange, names: tuple[str, ...], level: float
) -> None:
    """u and its like: mean over classes with intervals and floors, then the classes' values."""
    excess, null = change.variation - change.floor, change.null - change.floor
    # the floor has taken the bias off already: the draws shall scatter around the estimate
    excess[1:] -= excess[1:].mean(axis=0) - excess[0]
    measures = {
        "u": (excess, null),
        "u_total_variation": (change.variation, change.null),
        "u_signed": (change.signed, None),
    }
    for metric, (draws, floor) in measures.items():
        mean = mean_defined(draws)
        low, high = reverse_percentile(mean, level)
        rows.add(metric, (float(mean[0]), float(low), float(high)), where)
        for c, name in enumerate(names):
            rows.add(metric, [float(draws[0, c])], where, (name, ""))
        if floor is not None:
            ends = tuple(float(end) for end in band(mean_defined(floor), level))
            rows.add(f"{metric}_floor", ends, where)


def kept_rows(
    scenario: str,
    loop_seed: int,
    generation: int,
    drawn: Generated,
    kept: NDArray[np.bool_],
    reference: Reference,
    settings: Evaluation,
) -> pd.DataFrame:
    """``kept_fraction`` of all, of each class, each subgroup and each class x subgroup.

    drawn: the images that went into the filter (features and judged are not used); kept ``(n,)``:
    those that came out. Shares of all and of a class are the cut's own doing and have no interval;
    those of subgroups have Wilson's.
    """
    rows, where = Rows(scenario, "kept"), Where(loop_seed, generation)
    masks = {name: drawn.labels == c for c, name in enumerate(reference.class_names)}
    everything = np.ones(len(kept), np.bool_)
    for name, inside in {"": everything, **masks}.items():
        ends = fidelity.wilson(int((kept & inside).sum()), int(inside.sum()), settings.level)
        rows.add("kept_fraction", ends[:1], where, (name, ""))
        if drawn.subgroups is None:
            continue
        for g, subgroup in enumerate(reference.subgroup_names):
            of = inside & (drawn.subgroups == g)
            ends = fidelity.wilson(int((kept & of).sum()), int(of.sum()), settings.level)
            rows.add("kept_fraction", ends, where, (name, subgroup))
    return rows.frame()
