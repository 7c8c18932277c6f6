"""Generator metrics of one generation as rows of the results table.

Decides which metrics a split gets. Knows no images: features, judged labels and subgroups come in
as arrays.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ray_selfloop import seeding
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.evaluation import fairness, fidelity, metrics
from ray_selfloop.evaluation.fairness import mean_defined, ratio
from ray_selfloop.evaluation.frechet import (
    RealFeatures,
    frechet_between,
    kernel_distance,
    moments,
    prdc,
    radii,
)
from ray_selfloop.evaluation.predictions import Floats, Ids
from ray_selfloop.evaluation.probe_correction import probed_change
from ray_selfloop.evaluation.rows import Rows, Where, typed
from ray_selfloop.inference.images import band, reverse_percentile, wilson

Ends = tuple[float, float, float]  # value, low, high
Mask = NDArray[np.bool_]

PUBLISHED_NAMES = {"inception": (metrics.FID.name, metrics.KID.name)}
"""Of the feature sets that have names of their own."""


@dataclass(frozen=True)
class Reference:
    """The real data that generated images are compared with.

    features: by name. shares: float ``(C, G)``, subgroup shares within each class of D0; None
    without subgroups. judged: int ``(C, 2)``, held-out images of each class that the judge gives
    their label, and all of them; None without a judge. alike: subgroup i means the same in every
    class.
    """

    features: dict[str, RealFeatures]
    shares: Floats | None
    class_names: tuple[str, ...]
    subgroup_names: tuple[str, ...]
    judged: Ids | None = None
    alike: bool = False


@dataclass(frozen=True)
class Generated:
    """Generated images of one split; ``n`` rows.

    features: name -> float ``(m, d)`` of all images or of a draw of them; may be empty (no feature
        metrics are written then).
    labels: int64 ``(n,)``, the label that each image was asked for.
    judged: int64 ``(n,)``, the class that the generation-0 judge gives it, or None.
    subgroups: int64 ``(n,)``, 0..G-1, and G where none is clear; None without subgroups.
    confusion: float ``(C, G, G)``, how often real images of subgroup i (rows) were read as j, where
        a probe read the subgroups; None where pixels tell them.
    designed: the subgroup shares were set (`queue.tilt`), so that no sampling stands behind them.
    """

    features: Mapping[str, NDArray[np.floating]]
    labels: Ids
    judged: Ids | None
    subgroups: Ids | None
    confusion: Floats | None = None
    designed: bool = False


def real_features(
    train: NDArray[np.floating], held_out: NDArray[np.floating], settings: Evaluation
) -> RealFeatures:
    """What the real side of one feature set is reduced to; arrays ``(n, d)`` and ``(m, d)``."""
    drawn = _draw(train, settings.reference, settings.seed, "reference")
    many = len(drawn) > settings.neighbours
    with threadpool_limits(limits=1):
        return RealFeatures(
            train=drawn,
            reach=radii(drawn, settings.neighbours) if many else np.empty(0),
            held_out=_draw(held_out, len(held_out), settings.seed, "held_out"),
            moments=moments(np.asarray(train, np.float64)),
        )


def generator_rows(
    generation: int, splits: dict[str, Generated], reference: Reference, settings: Evaluation
) -> pd.DataFrame:
    """Rows of one generation, with the columns of `rows.COLUMNS`; which scenario and chain they are
    of, is known where they are put together.

    splits: any of ``generated`` (before the filter), ``kept`` (after it) and ``queue`` (all
    generated images in the training set); the name becomes the table's ``split``. Feature metrics
    use at most ``settings.samples`` images (a seeded draw), shares and label
    fidelity all that are given.
    Metrics of the first feature set have plain names (``precision``), those of others a suffix
    (``precision/lenet``); distances always carry theirs, but for `fid` and `kid`, which are the
    distances on the features named ``inception``. Numbers do not depend on the images' order.
    """
    where, frames = Where(0, generation), []
    for split, data in splits.items():
        rows = Rows("", split)
        with threadpool_limits(limits=1):
            _feature_rows(rows, where, data, reference, settings)
        _fidelity_rows(rows, where, data, reference, settings)
        _share_rows(rows, where, data, reference, settings)
        frames.append(rows.frame())
    return typed(pd.concat(frames, ignore_index=True))


def drawn_rows(values: NDArray[Any], most: int, seed: int, purpose: str) -> Ids:
    """At most ``most`` row numbers of ``(n, ...)``, chosen and ordered by a keyed hash of the rows'
    content: random, and the same rows whatever order they come in."""
    key = seeding.derive(seed, purpose).to_bytes(8, "big")
    marks = [hashlib.blake2b(row.tobytes(), digest_size=8, key=key).digest() for row in values]
    return np.array(sorted(range(len(marks)), key=marks.__getitem__)[:most], np.int64)


def _draw(features: NDArray[np.floating], most: int, seed: int, purpose: str) -> Floats:
    rows = drawn_rows(features, most, seed, purpose)
    return np.asarray(features[rows], np.float64)


def _feature_rows(
    rows: Rows, where: Where, data: Generated, reference: Reference, settings: Evaluation
) -> None:
    for name, features in data.features.items():
        suffix = "" if name == settings.features[0] else f"/{name}"
        drawn = _draw(features, settings.samples, settings.seed, "samples")
        real = reference.features[name]
        rows.add(f"{metrics.SAMPLES.name}{suffix}", [float(len(drawn))], where)
        if min(len(drawn), len(real.train)) <= settings.neighbours:
            continue  # too few for any comparison of distributions
        for metric, value in _distances(name, drawn, real).items():
            rows.add(metric, [value], where)
        for metric, value in _neighbourhoods(drawn, real, settings.neighbours).items():
            rows.add(f"{metric}{suffix}", [value], where)
        for one in metrics.reading(metrics.Reads.FEATURES):
            rows.add(f"{one.name}{suffix}", [one(real, drawn, settings.neighbours)], where)


def _distances(name: str, drawn: Floats, real: RealFeatures) -> dict[str, float]:
    """Frechet distance to all original images, kernel distance to the drawn ones."""
    named = (metrics.FRECHET_DISTANCE, metrics.KERNEL_DISTANCE)
    plain = tuple(f"{one.name}/{name}" for one in named)
    frechet, kernel = PUBLISHED_NAMES.get(name, plain)
    return {
        frechet: frechet_between(real.moments, moments(drawn)),
        kernel: kernel_distance(real.train, drawn),
    }


def _neighbourhoods(drawn: Floats, real: RealFeatures, k: int) -> dict[str, float]:
    """What nearest neighbours tell: q, precision to coverage, copies."""
    copied = fidelity.copies(real.train, real.held_out, drawn)
    return {
        metrics.Q.name: fidelity.quality(real.train, real.held_out, drawn, real.reach, k),
        **prdc(real.train, drawn, k, real.reach)._asdict(),
        metrics.MEMORISED.name: copied.memorised,
        metrics.NEAREST_NEIGHBOUR_RATIO.name: copied.ratio,
    }


def _fidelity_rows(
    rows: Rows, where: Where, data: Generated, reference: Reference, settings: Evaluation
) -> None:
    if data.judged is None:
        return
    for name, mask in _of_classes(data, reference).items():
        ends = _share(data.labels == data.judged, mask, settings.level)
        rows.add(metrics.LABEL_FIDELITY.name, ends, where, (name, ""))


def _of_classes(data: Generated, reference: Reference) -> dict[str, Mask]:
    """Class ("" for all of them) -> its images."""
    classes = {name: data.labels == c for c, name in enumerate(reference.class_names)}
    return {"": np.ones(len(data.labels), np.bool_), **classes}


def _share(hit: Mask, of: Mask, level: float) -> Ends:
    """Share of the rows ``of`` that are hit, with Wilson's interval."""
    return wilson(int((hit & of).sum()), int(of.sum()), level)


def judge_rows(generation: int, reference: Reference, settings: Evaluation) -> pd.DataFrame:
    """`judge_accuracy` of all held-out real images and of each class, in split ``generated``."""
    rows, where = Rows("", "generated"), Where(0, generation)
    if reference.judged is not None:
        counts = {"": reference.judged.sum(axis=0)}
        counts |= dict(zip(reference.class_names, reference.judged, strict=True))
        for name, (hits, total) in counts.items():
            ends = wilson(int(hits), int(total), settings.level)
            rows.add(metrics.JUDGE_ACCURACY.name, ends, where, (name, ""))
    return rows.frame()


def cas_rows(
    generation: int, counted: tuple[int, int], reference: Reference, settings: Evaluation
) -> pd.DataFrame:
    """`cas` and `cas_relative`; counted: held-out real images classified correctly, and all."""
    rows, where = Rows("", "generated"), Where(0, generation)
    ends = wilson(*counted, settings.level)
    rows.add(metrics.CAS.name, ends, where)
    if reference.judged is not None and reference.judged[:, 0].sum():
        hits, total = reference.judged.sum(axis=0)
        relative = min(ends[0] / (hits / total), 1.0)
        rows.add(metrics.CAS_RELATIVE.name, [relative], where)
    return rows.frame()


def _share_rows(
    rows: Rows, where: Where, data: Generated, reference: Reference, settings: Evaluation
) -> None:
    if data.subgroups is None or reference.shares is None:
        return
    classes, groups = reference.shares.shape
    counts = fidelity.share_counts(data.labels, data.subgroups, classes, groups)
    shares = reference.shares / reference.shares.sum(axis=1, keepdims=True)
    change, found = _changes(counts, shares, data, settings)
    _variation_rows(rows, where, change, reference.class_names, settings.level)
    signs = fairness.association(shares, counts.sum(axis=1))
    if reference.alike and not np.isnan(signs).any():
        _directional_rows(rows, where, change, (shares, signs), settings.level)
    for c, name in enumerate(reference.class_names):
        for g, subgroup in enumerate(reference.subgroup_names):
            rows.add(metrics.SUBGROUP_SHARE.name, found[c][g], where, (name, subgroup))
    if data.confusion is None:  # a probe always names a subgroup
        ends = wilson(int(counts[:, -1].sum()), int(counts.sum()), settings.level)
        rows.add(metrics.NONE_CLEAR.name, ends, where)


def _changes(
    counts: Floats, shares: Floats, data: Generated, settings: Evaluation
) -> tuple[fidelity.ShareChange, Floats]:
    """What became of the shares, and every class x subgroup's share with its interval, ``(C, G,
    3)``; counts ``(C, G + 1)``. Shares that were set have themselves as interval.

    Shares are among readable images. Those that a tilt set were set as they were read: the probe
    is not corrected for there.
    """
    readable, stream = counts[:, :-1], seeding.rng(settings.seed, "shares")
    totals = readable.sum(axis=1)
    if data.designed:
        found = ratio(readable, totals[:, None])
        return fidelity.designed_change(readable, shares), np.stack([found] * 3, axis=-1)
    resamples, level = settings.resamples, settings.level
    if data.confusion is None:
        rows = zip(readable, totals, strict=True)
        counted = [[wilson(int(n), int(total), level) for n in row] for row, total in rows]
        change = fidelity.share_change(readable, shares, resamples, level, stream)
        return change, np.array(counted)
    probed = probed_change(readable, shares, data.confusion, resamples, level, stream)
    return probed.change, _corrected_shares(probed.shares, level)


def _corrected_shares(draws: Floats, level: float) -> Floats:
    """Corrected shares ``(1 + R, C, G)`` with the central quantiles of their draws."""
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(draws[1:], tails, axis=0)  # shares end at 0: no basic interval
    return np.stack([draws[0], np.minimum(low, draws[0]), np.maximum(high, draws[0])], axis=-1)


def _variation_rows(
    rows: Rows, where: Where, change: fidelity.ShareChange, names: tuple[str, ...], level: float
) -> None:
    """u and its like: mean over classes with intervals and floors, then the classes' values."""
    found = {metrics.U: (change.u.mean, change.u.classes)}
    other = ((metrics.U_TOTAL_VARIATION, change.variation), (metrics.U_SIGNED, change.signed))
    for metric, draws in other:
        mean = mean_defined(draws)
        low, high = reverse_percentile(mean, level)
        found[metric] = (float(mean[0]), float(low), float(high)), draws[0]
    for metric, (ends, classes) in found.items():
        rows.add(metric.name, ends, where)
        for name, value in zip(names, classes, strict=True):
            rows.add(metric.name, [float(value)], where, (name, ""))
    if change.null is not None:
        floors = {
            metrics.U: change.u.null,
            metrics.U_TOTAL_VARIATION: mean_defined(change.null),
        }
        for metric, null in floors.items():
            rows.add(metrics.with_suffix(metric.name, "floor"), np.array(band(null, level)), where)


def _directional_rows(
    rows: Rows,
    where: Where,
    change: fidelity.ShareChange,
    of: tuple[Floats, Floats],
    level: float,
) -> None:
    """DBA from class to subgroup, with interval and floor; of: original shares, and the signs."""
    drawn = mean_defined(fairness.directional_amplification(change.shares, *of))
    low, high = reverse_percentile(drawn, level)
    rows.add(metrics.DBA_TA.name, (float(drawn[0]), float(low), float(high)), where)
    if change.perfect is not None:
        null = mean_defined(fairness.directional_amplification(change.perfect, *of))
        key = metrics.with_suffix(metrics.DBA_TA.name, "floor")
        rows.add(key, np.array(band(null, level)), where)


def kept_rows(
    generation: int, drawn: Generated, kept: Mask, reference: Reference, settings: Evaluation
) -> pd.DataFrame:
    """``kept_fraction`` of all, of each class, each subgroup and each class x subgroup.

    drawn: the images that went into the filter (features and judged are not used); kept ``(n,)``:
    those that came out. Shares of all and of a class are the cut's own doing and have no interval;
    those of subgroups have Wilson's.
    """
    rows, where = Rows("", "kept"), Where(0, generation)
    for name, inside in _of_classes(drawn, reference).items():
        ends = _share(kept, inside, settings.level)
        rows.add(metrics.KEPT_FRACTION.name, ends[:1], where, (name, ""))
        if drawn.subgroups is None:
            continue
        for g, subgroup in enumerate(reference.subgroup_names):
            ends = _share(kept, inside & (drawn.subgroups == g), settings.level)
            rows.add(metrics.KEPT_FRACTION.name, ends, where, (name, subgroup))
    return rows.frame()
