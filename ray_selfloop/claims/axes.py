"""What a setting does to what the loop does: changes over generations, compared across its values.

The change of one value less that of the first, by loop seed and, where the values share their test
images, by image. Exploratory: an interval and its p, and no word; with fewer than `FEWEST` chains
the chains' own numbers alone. Knows no statement of the paper.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from ray_selfloop.claims.cases import CUE
from ray_selfloop.claims.contrasts import LAST_MINUS_FIRST, NAN, Contrast, mean_of, minus
from ray_selfloop.claims.paired import CONTROL, TREATMENT, Arm, Measured, measure, same_images
from ray_selfloop.claims.tested import margin_of
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.equation6.amplification import amplification
from ray_selfloop.equation6.bias import BiasSeries, bias_series
from ray_selfloop.equation6.relative import relative
from ray_selfloop.evaluation.metrics import ACCURACY, AMPLIFICATION, MD, MEO, METRICS
from ray_selfloop.inference.chains import effect, effect_of_chains

FEWEST = 3  # chains behind an interval
FACTOR, RATIO = "factor", "ratio"  # estimands of A: at one value, and over that of the first
IMAGES, CHAINS = "chains and test images", "chains"  # what an interval covers
ONE_CONTROL = "the same at every value"
UNCONTROLLED = "no control at every value: none is taken off"
FEW = f"fewer than {FEWEST} chains: no interval"
OTHER_IMAGES = "the values have other test images: the interval is of the chains alone"
OTHER_START = "the values differ at generation 0 already: their A have no ratio"
GAPS = (MD.name, MEO.name)


@dataclass(frozen=True)
class Point:
    """One value, as it is told; control: None where there is none."""

    told: str
    treatment: Arm
    control: Arm | None = None

    @property
    def metrics(self) -> dict[str, str]:
        """Metric -> the reading of it that applies."""
        if not self.treatment.subgroups:
            return {CUE: CUE, ACCURACY.name: ACCURACY.name}
        reading = "pooled" if self.treatment.pooled else "per_class"
        return {gap: METRICS[gap].read(reading) for gap in GAPS} | {ACCURACY.name: ACCURACY.name}


@dataclass(frozen=True)
class Axis:
    """name, setting, points: as the stage's settings have them. one_control: whether all values
    have one control."""

    name: str
    setting: str
    points: tuple[Point, ...]
    one_control: bool

    @property
    def classifiers(self) -> list[str]:
        """Those that every value has, in the first one's order."""
        every = [set(point.treatment.classifiers) for point in self.points]
        first = self.points[0].treatment.classifiers
        return [name for name in first if all(name in names for names in every)]

    @property
    def controlled(self) -> bool:
        return all(point.control for point in self.points)


@dataclass(frozen=True)
class AxisEffect:
    """A change at one value of an axis, or how much it differs from that at the first value.

    at: the value; against: the first one, "" of a change itself. control: the arm whose change is
    taken off, or "". classifier: "" of the mean over all of them. estimand: of A its `FACTOR` per
    generation, and the `RATIO` of two. margin: the smallest effect of interest, NaN of A. interval:
    what low and high cover, "" without any. each: loop seed -> the chain's own number.
    """

    axis: str
    setting: str
    at: str
    against: str
    scenario: str
    arm: str
    control: str
    classifier: str
    metric: str
    estimand: str
    margin: float
    value: float
    low: float
    high: float
    p: float
    chains: int
    interval: str
    each: Mapping[str, float]
    note: str = ""


def effects(axis: Axis, settings: Evaluation) -> Iterator[AxisEffect]:
    """Of MD, MEO and accuracy (without subgroups of the drop without the object) and of A: of each
    network, and of the mean over them; of the control once where all values have the same."""
    changes = _Changes(axis, settings)
    several = [tuple(axis.classifiers)] if len(axis.classifiers) > 1 else []
    for who in [*((name,) for name in axis.classifiers), *several]:
        for metric in changes.metrics:
            yield from changes.rows(who, metric)
    for name in axis.classifiers:
        yield from _of_a(axis, name, settings)


def _row(axis: Axis, at: int, against: int | None, **about: object) -> AxisEffect:
    """about: the other fields."""
    fields: dict[str, object] = {
        "arm": TREATMENT, "control": "", "interval": "",
        **dict.fromkeys(("margin", "low", "high", "p"), NAN), **about,
    }  # fmt: skip
    point = axis.points[at]
    of = point.control if fields["arm"] == CONTROL else point.treatment
    told = "" if against is None else axis.points[against].told
    scenario = of.scenario if of else ""
    where = axis.name, axis.setting, point.told, told, scenario
    return AxisEffect(*where, **fields)  # type: ignore[arg-type]


# --- changes -------------------------------------------------------------------------------------


@dataclass
class _Changes:
    """Last minus first generation of every value, network and arm, computed once."""

    axis: Axis
    settings: Evaluation
    _measured: dict[tuple[int, str], Measured | None] = field(default_factory=dict)

    @cached_property
    def metrics(self) -> list[str]:
        """Those that every value has of every network."""
        points = range(len(self.axis.points))
        measured = [
            (self.axis.points[i].metrics, of)
            for i in points
            for name in self.axis.classifiers
            if (of := self.measured(i, name)) is not None
        ]
        asked = [metric for point in self.axis.points[:1] for metric in point.metrics]
        return [
            metric
            for metric in asked
            if all((keys.get(metric, ""), "") in of.values for keys, of in measured)
        ]

    def measured(self, at: int, classifier: str) -> Measured | None:
        if (at, classifier) not in self._measured:
            point = self.axis.points[at]
            arms: dict[str, Arm] = {TREATMENT: _ends(point.treatment)}
            if point.control and not (self.axis.one_control and at):
                arms[CONTROL] = _ends(point.control)
            self._measured[at, classifier] = measure(classifier, arms, self.settings)
        return self._measured[at, classifier]

    def of(self, at: int, who: Sequence[str], metric: str, arms: tuple[str, ...]) -> Contrast:
        """The change of ``arms[0]``, less that of ``arms[1]``: the mean over networks."""
        found = []
        for name in who:
            measured = self.measured(at, name)
            if measured is None:
                return Contrast((), np.empty((1 + self.settings.resamples, 0)))
            key = self.axis.points[at].metrics[metric], ""
            found.append(measured.contrast(key, LAST_MINUS_FIRST, arms))
        return mean_of(found)

    def rows(self, who: Sequence[str], metric: str) -> Iterator[AxisEffect]:
        points, axis = range(len(self.axis.points)), self.axis
        own = [self.of(i, who, metric, (TREATMENT,)) for i in points]
        for i in points:
            yield self.row(i, None, own[i], (who, metric))
        note = "" if axis.controlled else UNCONTROLLED
        for i in points[1:]:
            yield self.row(i, 0, minus(own[i], own[0]), (who, metric), note=note)
        if not axis.controlled:
            return
        for i in points[:1] if axis.one_control else points:
            found = self.of(i, who, metric, (CONTROL,))
            note = ONE_CONTROL if axis.one_control else ""
            yield self.row(i, None, found, (who, metric), arm=CONTROL, note=note)
        if not axis.one_control:
            parts = [self.of(i, who, metric, (TREATMENT, CONTROL)) for i in points]
            for i in points[1:]:
                yield self.row(i, 0, minus(parts[i], parts[0]), (who, metric), control=CONTROL)

    def row(
        self,
        at: int,
        against: int | None,
        found: Contrast,
        of: tuple[Sequence[str], str],
        note: str = "",
        **arms: str,
    ) -> AxisEffect:
        who, metric = of
        tests = [self.axis.points[i].treatment.test for i in (at, at if against is None else 0)]
        shared, poor = same_images(*tests), self._poor(at, against, metric)
        why = [note, poor, "" if shared else OTHER_IMAGES]
        return _row(
            self.axis,
            at,
            against,
            classifier=who[0] if len(who) == 1 else "",
            metric=metric,
            estimand=LAST_MINUS_FIRST,
            margin=margin_of(metric, "", self.settings.claims),
            **_estimated(found, shared, self.settings.level, why),
            **arms,
        )

    def _poor(self, at: int, against: int | None, metric: str) -> str:
        """Why a generator says little about bias, or ""."""
        if metric == ACCURACY.name:
            return ""
        both = (at,) if against is None else (against, at)
        reasons = [self.axis.points[i].treatment.not_converged for i in both]
        return next((f"generator too poor to ask: {reason}" for reason in reasons if reason), "")


def _ends(arm: Arm) -> Arm:
    """The first and the last generation alone: no change asks for another."""
    ends = (0, arm.generations)
    return replace(arm, outcomes=[o for o in arm.outcomes if o.generation in ends])


def _estimated(
    found: Contrast, shared: bool, level: float, notes: Sequence[str]
) -> dict[str, object]:
    """The mean over chains with its interval and p; shared: whether by the same test images."""
    observed, chains = found.draws[0], len(found.chains)
    about: dict[str, object] = {
        "chains": chains,
        "each": {str(k): float(v) for k, v in zip(found.chains, observed, strict=True)},
    }
    told = [note for note in notes if note]
    if chains < FEWEST:
        value = float(observed.mean()) if chains else NAN
        return {**about, "value": value, "note": "; ".join([*told, FEW])}
    made = effect(found.draws, level) if shared else effect_of_chains(observed, level)
    return {
        **about,
        "value": made.value,
        "low": made.low,
        "high": made.high,
        "p": made.p_change(),
        "interval": IMAGES if shared else CHAINS,
        "note": "; ".join(told),
    }


# --- A -------------------------------------------------------------------------------------------


def _of_a(axis: Axis, classifier: str, settings: Evaluation) -> Iterator[AxisEffect]:
    """A at every value, over that at the first one, and of the control."""
    limits = settings.level, settings.dynamics.growth_limit
    series = [_series(point.treatment, classifier, settings) for point in axis.points]
    about = {"classifier": classifier, "metric": AMPLIFICATION.name}
    for i, one in enumerate(series):
        if one is not None:
            yield _row(axis, i, None, estimand=FACTOR, **about, **_factor(one, *limits))
    for i, one in enumerate(series[1:], start=1):
        if one is not None and series[0] is not None:
            ratio = _ratio(one, series[0], *limits)
            yield _row(axis, i, 0, estimand=RATIO, **about, **ratio)
    for i, point in enumerate(axis.points[: 1 if axis.one_control else None]):
        control = _series(point.control, classifier, settings)
        if control is not None and axis.controlled:
            note = ONE_CONTROL if axis.one_control else ""
            found = _factor(control, *limits, note)
            yield _row(axis, i, None, estimand=FACTOR, arm=CONTROL, **about, **found)


def _series(arm: Arm | None, classifier: str, settings: Evaluation) -> BiasSeries | None:
    """None without a sound trial, or where nothing is read as bias."""
    if arm is None or arm.test is None:
        return None
    own = [o for o in arm.outcomes if o.classifier == classifier]
    found = bias_series(arm.scenario, own, arm.test, settings) if own else []
    return found[0] if found else None


def _factor(series: BiasSeries, level: float, limit: float, note: str = "") -> dict[str, object]:
    """A with its interval, and of each chain."""
    found = amplification(series, level, limit)
    each = {k: amplification(series.of((k,)), level, limit).a for k in series.chains}
    why = found.verdict if np.isnan(found.a) else ""
    return _with_ends(found.ends, found.chains, each, "; ".join(filter(None, (note, why))))


def _ratio(one: BiasSeries, first: BiasSeries, level: float, limit: float) -> dict[str, object]:
    """A over that of the first value, chain by chain; where both share generation 0."""
    shared = [chain for chain in one.chains if chain in first.chains]
    here, there = (series.of(tuple(shared)).squared[0, :, 0] for series in (one, first))
    if not shared or not np.allclose(here, there, rtol=1e-9, atol=1e-12, equal_nan=True):
        return {"value": NAN, "chains": len(shared), "each": {}, "note": OTHER_START}
    found = relative(one, first, level, limit)
    each = {k: relative(one.of((k,)), first.of((k,)), level, limit).value for k in shared}
    made = _with_ends(found.ends, found.chains, each, found.refused)
    return {**made, "p": found.p} if made.get("interval") else made


def _with_ends(
    ends: tuple[float, float, float], chains: int, each: Mapping[int, float], note: str
) -> dict[str, object]:
    value, low, high = ends
    if np.isnan(value):  # nor any chain's own: those that have one are a choice
        return {"value": NAN, "chains": chains, "each": {}, "note": note}
    own = {str(k): a for k, a in each.items()}
    about: dict[str, object] = {"value": value, "chains": chains, "each": own}
    if chains < FEWEST:
        return {**about, "note": "; ".join(filter(None, (note, FEW)))}
    known = not np.isnan([low, high]).all()
    return {**about, "low": low, "high": high, "interval": IMAGES if known else "", "note": note}
