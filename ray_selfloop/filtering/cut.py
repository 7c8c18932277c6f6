"""The cut: which generated samples stay, from score columns alone, and what the cut did.

Pure: knows nothing of images, models or storage, and never sees a subgroup before it has cut.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_selfloop import seeding
from ray_selfloop.config.filter import Filter
from ray_selfloop.errors import StageError
from ray_selfloop.images.imageset import Ids

BINS = 10  # of the `range` cut (app. C)

Scores = NDArray[np.float64]
Mask = NDArray[np.bool_]


def drop_share(settings: Filter) -> float:
    """The share r that the filter drops: 0 when it ranks by nothing."""
    return settings.drop if settings.scores else 0.0


def dropped_count(n: int, drop: float) -> int:
    """``round(drop * n)``, halves to the even number."""
    return round(drop * n)


def draws_needed(volume: int, drop: float) -> int:
    """The smallest n with ``n - round(drop * n) == volume``: what to draw to keep ``volume``."""
    n = int(volume / (1 - drop))
    while n > volume and (n - 1) - dropped_count(n - 1, drop) >= volume:
        n -= 1
    while n - dropped_count(n, drop) < volume:
        n += 1
    return n


def _columns(scores: Mapping[str, NDArray[Any]], settings: Filter) -> list[Scores]:
    """The score columns as float64, turned so that high is good; raises StageError."""
    columns = []
    for score in settings.scores:
        if score.name not in scores:
            raise StageError(f"filter: no score {score.name!r}; there are {sorted(scores)}")
        column = np.asarray(scores[score.name], np.float64)
        if not np.isfinite(column).all():
            bad = int((~np.isfinite(column)).sum())
            raise StageError(
                f"filter: {bad} of {len(column)} values of {score.name} are not finite"
            )
        columns.append(column if score.high else -column)
    return columns


def ranking(scores: Mapping[str, NDArray[Any]], labels: Ids, settings: Filter) -> Scores:
    """What samples are cut by, ``(n,)``, high is good.

    One score: the score (negated where low is good). Several: the mean of their ranks divided by
    the number ranked, in (0, 1]; ranks within the class under ``per_class``, over all else; equal
    values share the mean of their ranks.
    """
    from scipy.stats import rankdata  # slow to load, and a plan needs no ranks

    columns = _columns(scores, settings)
    if not columns:
        return np.zeros(len(labels))
    if len(columns) == 1:
        return columns[0]
    out = np.empty(len(labels))
    groups = labels if settings.cut == "per_class" else np.zeros_like(labels)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        out[rows] = np.mean([rankdata(column[rows]) for column in columns], axis=0) / len(rows)
    return out


def _without_lowest(values: Scores, ids: Ids, count: int) -> Mask:
    """All but the ``count`` lowest; among equal values the higher id goes first."""
    mask = np.ones(len(values), bool)
    mask[np.lexsort((-ids, values))[:count]] = False
    return mask


def keep(
    scores: Mapping[str, NDArray[Any]], labels: Ids, ids: Ids, settings: Filter, seed: int = 0
) -> Mask:
    """Which samples stay, bool ``(n,)``.

    scores: column name -> ``(n,)``; must hold all that ``settings`` rank by.
    ids: sample ids, each once; they break ties, so that the order of the rows does not matter.
    seed: of the draw of ``keep: random``, as many of each class as the best would be; ``worst``
    keeps the lowest, as many as the best would be, in each class under ``per_class``.
    """
    mask = _best(scores, labels, ids, settings)
    if settings.keep == "best" or mask.all():
        return mask
    if settings.keep == "random":
        drawn = seeding.rng(seed, "keep").random(len(ids))[np.argsort(np.argsort(ids))]
        return _as_many_lowest(drawn, ids, mask, labels)
    groups = labels if settings.cut == "per_class" else np.zeros_like(labels)
    return _as_many_lowest(ranking(scores, labels, settings), ids, mask, groups)


def _as_many_lowest(values: Scores, ids: Ids, mask: Mask, groups: Ids) -> Mask:
    """In each group as many of the lowest as the mask has there."""
    lowest = np.zeros(len(mask), bool)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        lowest[rows] = ~_without_lowest(values[rows], ids[rows], int(mask[rows].sum()))
    return lowest


def _best(scores: Mapping[str, NDArray[Any]], labels: Ids, ids: Ids, settings: Filter) -> Mask:
    """What stays under ``keep: best``.

    ``per_class``: exactly ``round(r n_c)`` go in each class; ``global``: ``round(r n)``;
    ``range``: what lies in the lowest bins. Raises StageError for a missing or non-finite score.
    """
    n, drop = len(labels), drop_share(settings)
    if n == 0 or drop == 0.0:
        return np.ones(n, bool)
    values = ranking(scores, labels, settings)
    if settings.cut == "range":
        low, high = values.min(), values.max()
        return values >= low + (high - low) * round(BINS * drop) / BINS
    if settings.cut == "global":
        return _without_lowest(values, ids, dropped_count(n, drop))
    mask = np.ones(n, bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        mask[rows] = _without_lowest(values[rows], ids[rows], dropped_count(len(rows), drop))
    return mask


def _ratios(over: NDArray[Any], under: NDArray[Any]) -> list[float | None]:
    """Elementwise over / under; None where nothing is there to divide by."""
    return [float(a / b) if b else None for a, b in zip(over, under, strict=True)]


def _thresholds(
    scores: Mapping[str, NDArray[Any]], mask: Mask, labels: Ids, classes: int, settings: Filter
) -> list[float | None]:
    """Lowest ranking value kept in each class."""
    values = ranking(scores, labels, settings)
    kept = [values[mask & (labels == label)] for label in range(classes)]
    return [float(part.min()) if len(part) else None for part in kept]


def audit(
    scores: Mapping[str, NDArray[Any]],
    mask: Mask,
    labels: Ids,
    classes: int,
    settings: Filter,
) -> dict[str, Any]:
    """What the cut did, as plain numbers and lists; a list has one entry per class.

    ``generated``, ``kept`` and ``kept_fraction`` over all and ``..._per_class``; ``threshold``:
    the lowest ranking value kept (a score, or for ``combined`` a mean rank in (0, 1]);
    ``<score>_kept``, ``<score>_dropped``: mean scores. None where there is nothing to average.
    """
    drawn = np.bincount(labels, minlength=classes)
    kept = np.bincount(labels[mask], minlength=classes)
    report: dict[str, Any] = {
        "generated": int(drawn.sum()),
        "kept": int(kept.sum()),
        "kept_fraction": _ratios(kept.sum()[None], drawn.sum()[None])[0],
        "generated_per_class": drawn.tolist(),
        "kept_per_class": kept.tolist(),
        "kept_fraction_per_class": _ratios(kept, drawn),
        "threshold_per_class": _thresholds(scores, mask, labels, classes, settings),
    }
    for score in settings.scores:
        column, name = np.asarray(scores[score.name], np.float64), score.name
        report[f"{name}_kept"] = float(column[mask].mean()) if mask.any() else None
        report[f"{name}_dropped"] = float(column[~mask].mean()) if (~mask).any() else None
    return report


def audit_subgroups(
    mask: Mask, labels: Ids, subgroups: Ids, shape: tuple[int, int]
) -> dict[str, Any]:
    """How the cut moved the subgroups: ``shape`` is (classes C, subgroups G).

    Subgroups outside 0..G-1 (unknown, none clear) are counted in ``subgroup_unknown`` and left
    out. ``shares_before``, ``shares_after``: ``(C, G)`` within the class, None for an empty class;
    ``share_shift``: their total variation, mean over the classes that have both.
    """
    known = (subgroups >= 0) & (subgroups < shape[1])
    before, after = (
        _table(labels, subgroups, known, shape),
        _table(labels, subgroups, known & mask, shape),
    )
    both = (before.sum(1) > 0) & (after.sum(1) > 0)
    shares = [table[both] / table[both].sum(1, keepdims=True) for table in (before, after)]
    shift = 0.5 * np.abs(shares[0] - shares[1]).sum(1)
    return {
        "subgroup_unknown": int((~known).sum()),
        "generated_per_subgroup": before.sum(0).tolist(),
        "kept_per_subgroup": after.sum(0).tolist(),
        "kept_fraction_per_subgroup": _ratios(after.sum(0), before.sum(0)),
        "kept_fraction_per_cell": [_ratios(*rows) for rows in zip(after, before, strict=True)],
        "shares_before": [_ratios(row, np.full(shape[1], row.sum())) for row in before],
        "shares_after": [_ratios(row, np.full(shape[1], row.sum())) for row in after],
        "share_shift": float(shift.mean()) if len(shift) else None,
    }


def _table(labels: Ids, subgroups: Ids, rows: Mask, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Counts (C, G) of the rows."""
    table = np.zeros(shape, np.int64)
    np.add.at(table, (labels[rows], subgroups[rows]), 1)
    return table
