"""Reads curves off the tidy results table. Computes no metric; must not know how one is drawn."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_selfloop.evaluation.metrics import ACCURACY, COLLAPSED, KEPT_FRACTION, with_suffix

Floats = NDArray[np.float64]
NAN = float("nan")


@dataclass(frozen=True)
class Curve:
    """One number per generation, ascending; all arrays ``(n,)``.

    low, high: the interval's ends, NaN where there is none.
    """

    generations: NDArray[np.int64]
    value: Floats
    low: Floats
    high: Floats

    def __len__(self) -> int:
        return len(self.generations)

    def at(self, generation: int) -> tuple[float, float, float]:
        """``(value, low, high)`` at a generation; NaN where the curve has none."""
        for i in np.flatnonzero(self.generations == generation):
            return float(self.value[i]), float(self.low[i]), float(self.high[i])
        return NAN, NAN, NAN


Rows = NDArray[np.int64]
Parts = dict[tuple[str, str, str, str, str, str], Rows]
NOBODY = np.empty(0, np.int64)
ENDS = ("value", "low", "high")
NOTHING = Curve(np.empty(0, np.int64), np.empty(0), np.empty(0), np.empty(0))


class Table:
    """The results table, split once by what the report asks for."""

    def __init__(self, results: pd.DataFrame) -> None:
        self._columns = _columns(results)
        self._rows = results
        of_chain, of_seed = results["loop_seed"].notna(), results["seed"].notna()
        named = results["classifier"] != ""
        of_trial, standing = named & of_chain & of_seed, ~_collapsed(results)
        self._means = _parts(results, np.flatnonzero(named & ~of_chain & ~of_seed))
        of_accuracy = results["metric"] == ACCURACY.name
        self._trials = _parts(results, np.flatnonzero(of_trial & (standing | of_accuracy)))
        self._generator = _parts(results, np.flatnonzero(~of_seed & (of_chain | ~named)))
        self.generations = sorted(int(n) for n in results["generation"].dropna().unique())

    def mean(self, scenario: str, classifier: str, metric: str, subgroup: str = "") -> Curve:
        """Mean over seeds and chains, with its interval."""
        key = (scenario, classifier, metric, "", subgroup, "test")
        return self._curve(self._means.get(key, NOBODY))

    def over_generations(
        self, scenario: str, classifier: str, metric: str, subgroup: str = ""
    ) -> tuple[float, float, float]:
        """``(value, low, high)`` of a mean that belongs to no generation, such as a slope."""
        part = self._means.get((scenario, classifier, metric, "", subgroup, "test"), NOBODY)
        part = part[np.isnan(self._columns["generation"][part])]
        if not len(part):
            return NAN, NAN, NAN
        value, low, high = (float(self._columns[end][part[0]]) for end in ENDS)
        return value, low, high

    def count(self, scenario: str, metric: str) -> float:
        """A number of the test images themselves, of no classifier; NaN where there is none."""
        part = self._generator.get((scenario, "", metric, "", "", "test"), NOBODY)
        return float(self._columns["value"][part[0]]) if len(part) else NAN

    def trials(self, scenario: str, classifier: str, metric: str) -> pd.DataFrame:
        """One row per trial behind a mean: generation, loop_seed, seed, value.

        Collapsed trials stay in accuracy and are left out of any other metric.
        """
        columns = ["generation", "loop_seed", "seed", "value"]
        part = self._trials.get((scenario, classifier, metric, "", "", "test"), NOBODY)
        return self._rows.iloc[part][columns]

    def floor(self, scenario: str, classifiers: Iterable[str], metric: str) -> Curve:
        """What classifiers would show without any bias: the union of their floors' intervals."""
        floors = [self.mean(scenario, name, with_suffix(metric, "floor")) for name in classifiers]
        return _union([floor for floor in floors if len(floor)])

    def measured(self, scenario: str, classifier: str) -> list[tuple[str, str]]:
        """``(metric, subgroup)`` of every mean over all classes, in the order of the table."""
        return [
            (metric, subgroup)
            for name, of, metric, cls, subgroup, _ in self._means
            if name == scenario and of == classifier and not cls
        ]

    def generator_measures(self, scenario: str) -> list[tuple[str, str]]:
        """``(metric, split)`` of the generated data over all classes and subgroups."""
        found = (
            (metric, split)
            for name, _, metric, cls, subgroup, split in self._generator
            if name == scenario and cls == subgroup == ""
        )
        return list(dict.fromkeys(found))

    def chains(self, scenario: str) -> list[str]:
        """Whose chains have generated data: classifiers, or "" alone in a shared chain."""
        return list(dict.fromkeys(key[1] for key in self._generator if key[0] == scenario))

    def generator(self, scenario: str, chain: str, metric: str, split: str) -> Curve:
        """A number of the generated data: the table's mean row, else the mean over loop seeds.

        chain: as ``chains`` names it. split: ``generated`` (before the filter), ``kept`` or
        ``queue``. A mean over several loop seeds made here has no interval.
        """
        return self._curve(self._generator.get((scenario, chain, metric, "", "", split), NOBODY))

    def keep_rate(
        self, scenario: str, chain: str, cls: str = "", subgroup: str = "", seed: int | None = None
    ) -> Curve:
        """Share of a class's, a subgroup's or a cell's generated images that the filter kept, over
        all loop seeds or in one."""
        key = (scenario, chain, KEPT_FRACTION.name, cls, subgroup, "kept")
        part = self._generator.get(key, NOBODY)
        return self._curve(part if seed is None else part[self._columns["loop_seed"][part] == seed])

    def subgroups(self, scenario: str, metric: str) -> list[str]:
        """Names that stand in column subgroup for a metric; ranks in ascending order."""
        parts = (*self._means, *self._generator)
        names = (s for name, _, m, _, s, _ in parts if name == scenario and m == metric and s)
        return sorted(dict.fromkeys(names), key=_natural)

    def _curve(self, part: Rows) -> Curve:
        """Own mean rows where the table has them, else the mean over loop seeds."""
        column = self._columns
        own = part[np.isnan(column["loop_seed"][part])]
        part = own if len(own) else part
        part = part[~np.isnan(column["generation"][part])]
        generations, at, counts = np.unique(
            column["generation"][part], return_inverse=True, return_counts=True
        )
        value, low, high = (_mean(column[name][part], at, len(counts)) for name in ENDS)
        ends = (np.where(counts > 1, np.nan, end) for end in (low, high))
        return Curve(generations.astype(np.int64), value, *ends)


def _mean(values: Floats, at: NDArray[np.int64], size: int) -> Floats:
    """Mean per generation, NaN rows left out; NaN where there is no other."""
    known = ~np.isnan(values)
    counts = np.bincount(at[known], minlength=size)
    sums = np.bincount(at[known], weights=values[known], minlength=size)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _collapsed(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """The rows of trials that are flagged as collapsed."""
    where = ["scenario", "loop_seed", "generation", "classifier", "seed"]
    flagged = rows.loc[(rows["metric"] == COLLAPSED.name) & (rows["value"] == 1.0), where]
    flagged = flagged[flagged["seed"].notna()]
    if flagged.empty:
        return np.zeros(len(rows), np.bool_)
    inside = pd.MultiIndex.from_frame(rows[where]).isin(pd.MultiIndex.from_frame(flagged))
    return np.asarray(inside, np.bool_)


def _natural(name: str) -> tuple[int, str]:
    """Ranks by number (``rank 10`` after ``rank 9``), names in the order found."""
    number = re.search(r"\d+", name)
    return (int(number[0]) if number else 0, "")


def _columns(rows: pd.DataFrame) -> dict[str, Floats]:
    """The numeric columns, NaN where a row has none."""
    names = ("loop_seed", "generation", *ENDS)
    return {name: rows[name].to_numpy(np.float64, na_value=np.nan) for name in names}


def _parts(rows: pd.DataFrame, where: Rows) -> Parts:
    """Positions of the rows at ``where`` for each kind of number."""
    by = ["scenario", "classifier", "metric", "class", "subgroup", "split"]
    grouped = rows.iloc[where].groupby(by, sort=False, observed=True)
    return {key: where[inside] for key, inside in grouped.indices.items()}


def _union(curves: list[Curve]) -> Curve:
    if not curves:
        return NOTHING
    generations = np.unique(np.concatenate([c.generations for c in curves]))
    stacked = np.array([[c.at(int(n)) for n in generations] for c in curves])
    value, low, high = np.moveaxis(stacked, -1, 0)  # each (curves, generations)
    return Curve(generations, value.mean(axis=0), low.min(axis=0), high.max(axis=0))
