"""Verdicts on anybody's loop, from a checked table: results, effects, A, its laws, end states.

Decides what a table is asked: A and the rest point of each arm by itself, its arms against each
other, and the state of each chain. A mean over chains in different states is left out. Trains
nothing; knows no page.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations

import numpy as np
import pandas as pd

from ray_selfloop.claims.contrasts import Contrast, minus
from ray_selfloop.claims.paired import Measured, same_images
from ray_selfloop.config.arms import CONTROL, TREATMENT
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.equation6.bias import BiasSeries, Labels, bias_series
from ray_selfloop.equation6.fit import SEEDS, Fit, Verdict, fit
from ray_selfloop.equation6.laws import Law
from ray_selfloop.equation6.relative import NO_CONTROL
from ray_selfloop.equation6.rest_point import RestPoint
from ray_selfloop.errors import DataError
from ray_selfloop.evaluation import end_states, metrics
from ray_selfloop.evaluation.classifier_rows import fairness_rows
from ray_selfloop.evaluation.predictions import TestSet
from ray_selfloop.evaluation.rows import typed
from ray_selfloop.evaluation.states import mixed, of_one_state, told
from ray_selfloop.inference.chains import effect
from ray_selfloop.outside.counted import Counts, counts
from ray_selfloop.outside.predicted import Predictions, predictions
from ray_selfloop.outside.read import SCENARIO, Table, names_of, scenario_name

JUDGED = (metrics.ACCURACY, metrics.MD, metrics.MEO, metrics.DI_MIN_MAX, metrics.WORST_SUBGROUP)
ARM = (TREATMENT.name,)
ALONE = "without a control"
ONE_SEED = "one classifier seed: B holds the scatter between seeds, which draws A towards 1"
OF_COUNTS = (
    "pairing by test image, and what test images shared by the chains add to the error: counts "
    "do not say which images are right, so that intervals are of the scatter between chains alone",
    "noise floors over images, cross-fitted ranks, images lost and gained, the split into what "
    "accuracy explains and the rest: all need predictions by image",
    "B from products of different classifier seeds: how much the seeds' test images share is not "
    "known, so that B is the mean over the seeds",
)
OF_TABLES = (
    "training shares of the groups: accuracy reweighted to them and readings by share rank; rates "
    "are pooled over classes where the test images' shares are the same in each",
    "generated data: q and u of eq. 6 and its own law, table 1, the filter, pictures",
    "the paper's statements, which are about its own data and loop",
    "what the loop cost",
)
UNKNOWN = (metrics.ACCURACY_REWEIGHTED.name, "_by_share_rank")  # of training shares


@dataclass(frozen=True)
class Scenario:
    """An arm in a setting. chains, classes, groups: names; last: its last generation."""

    name: str
    setting: str
    arm: str
    classifiers: tuple[str, ...]
    chains: tuple[int, ...]
    classes: tuple[str, ...]
    groups: tuple[str, ...]
    last: int
    control: bool = False


@dataclass(frozen=True)
class Judged:
    """results: as a sweep's. rests: one for each arm and classifier. effects: last minus first
    generation of each arm and of every two of them. states: a row for each trial. left_out: what
    such a table cannot give. spans: scenario -> first and last generation of A."""

    scenarios: tuple[Scenario, ...]
    results: pd.DataFrame
    effects: pd.DataFrame
    states: pd.DataFrame
    verdicts: tuple[Verdict, ...]
    laws: tuple[Law, ...]
    rests: tuple[RestPoint, ...]
    span: tuple[int, int] | None
    left_out: tuple[str, ...]
    spans: Mapping[str, tuple[int, int]]


@dataclass
class _Scene:
    """What is known of a scenario's trials."""

    about: Scenario
    test: TestSet
    of: Predictions | dict[str, Counts]
    rows: pd.DataFrame
    series: list[BiasSeries]
    states: pd.DataFrame
    made: dict[str, Measured] = field(default_factory=dict)

    def measured(self, classifier: str, settings: Evaluation) -> Measured:
        """One classifier's readings; computed once."""
        if classifier not in self.made:
            self.made[classifier] = (
                self.of.measured(classifier, settings, self.about.last)
                if isinstance(self.of, Predictions)
                else self.of[classifier].measured
            )
        return self.made[classifier]


def judge(
    table: Table,
    settings: Evaluation,
    span: tuple[int, int] | None = None,
    control: str | None = None,
) -> Judged:
    """span: first and last generation of A and of effects; None: all of them. control: the arm
    that the others of a setting are judged against; None: `no_synthetic` where there is one."""
    if control is not None and control not in set(table.rows["arm"]):
        raise DataError(f"--control {control}: {table.path} has no such arm")
    named = control or CONTROL.name
    scenes = [_scene(table, settings, *one, named) for one in _scenarios(table)]
    for scene in scenes:
        _within(scene, span)
    spans = _spans(scenes, span)
    found = _fitted(scenes, settings, spans)
    states = pd.concat([scene.states for scene in scenes], ignore_index=True)
    results = pd.concat([*(s.rows for s in scenes), found.rows()], ignore_index=True)
    about = tuple(scene.about for scene in scenes)
    return Judged(
        about,
        typed(of_one_state(_known(results), states)).reset_index(drop=True),
        pd.DataFrame(_effects(scenes, settings, span), columns=list(Effect.__dataclass_fields__)),
        states,
        tuple(_worded(v.row, v.found.verdict, about, states, spans) for v in found.verdicts),
        tuple(law for law in found.laws if law.parameters),
        found.rests,
        span,
        (*(() if table.predicted else OF_COUNTS), *OF_TABLES),
        spans,
    )


# --- scenarios -----------------------------------------------------------------------------------


def _scenarios(table: Table) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    for (setting, arm), rows in table.rows.groupby(SCENARIO, sort=False):
        yield (str(setting), str(arm)), rows


def _scene(
    table: Table, settings: Evaluation, place: tuple[str, str], rows: pd.DataFrame, control: str
) -> _Scene:
    setting, arm = place
    of_setting = table.rows[table.rows["setting"] == setting]
    names = names_of(of_setting["class"]), names_of(of_setting["group"])
    about = Scenario(
        scenario_name(*place) or table.path.stem,
        setting,
        arm or TREATMENT.name,
        tuple(sorted(set(rows["classifier"]))),
        tuple(sorted(set(rows["chain"]))),
        *names,
        int(rows["generation"].max()),
        arm == control,
    )
    if table.predicted:
        return _predicted(about, predictions(about.name, rows, names), settings)
    of = {one.classifier: one for one in counts(about.name, rows, names, settings)}
    parts = [one.rows() for one in of.values()]
    states = [
        _states(about, name, [(t.loop_seed, t.seed, t.generation) for t in one.trials],
                end_states.of_counts(one.hits, one.tally.support))
        for name, one in of.items()
    ]  # fmt: skip
    series = [one.series() for one in of.values()]
    test = next(iter(of.values())).test
    return _Scene(about, test, of, pd.concat(parts), series, pd.concat(states, ignore_index=True))


def _predicted(about: Scenario, of: Predictions, settings: Evaluation) -> _Scene:
    rows = fairness_rows(about.name, of.outcomes, of.test, settings)
    states = [
        _states(about, name, of.places(name), end_states.of_predictions(of.given(name)))
        for name in about.classifiers
    ]
    series = bias_series(about.name, of.outcomes, of.test, settings)
    return _Scene(about, of.test, of, rows, series, pd.concat(states, ignore_index=True))


def _states(
    about: Scenario, classifier: str, places: Sequence[tuple[int, int, int]],
    words: end_states.Words,
) -> pd.DataFrame:  # fmt: skip
    frame = pd.DataFrame(places, columns=["loop_seed", "seed", "generation"])
    return frame.assign(scenario=about.name, classifier=classifier, state=words)


def _within(scene: _Scene, span: tuple[int, int] | None) -> None:
    if span and not 0 <= span[0] < span[1] <= scene.about.last:
        raise DataError(
            f"--generations {span[0]} {span[1]}: {scene.about.name} has generations 0 to "
            f"{scene.about.last}; give two of them, the earlier one first"
        )


def _known(results: pd.DataFrame) -> pd.DataFrame:
    """Without what needs training shares."""
    return results[~results["metric"].str.contains("|".join(UNKNOWN))]


# --- A -------------------------------------------------------------------------------------------


def _spans(scenes: Sequence[_Scene], asked: tuple[int, int] | None) -> dict[str, tuple[int, int]]:
    """Generations of A: those asked for, else as long as all chains of a setting are in one state,
    where that is at least one step."""
    found = {}
    for scene in scenes:
        setting = [s for s in scenes if s.about.setting == scene.about.setting]
        apart = [n for s in setting for _, _, n in mixed(s.states)]
        last = min(s.about.last for s in setting)
        alike = min(apart, default=last + 1) - 1
        found[scene.about.name] = asked or (0, alike if alike > 0 else last)
    return found


def _fitted(
    scenes: Sequence[_Scene], settings: Evaluation, spans: Mapping[str, tuple[int, int]]
) -> Fit:
    series = [
        one.between(spans[scene.about.name][0], spans[scene.about.name][1] + 1)
        for scene in scenes
        for one in scene.series
    ]
    about = [scene.about for scene in scenes]
    labels = Labels(
        arms={one.name: CONTROL.name if one.control else TREATMENT.name for one in about},
        groups={
            one.name: one.setting
            for one in about
            if spans[one.name][0] == 0 and _starts_alike(one, scenes)
        },
    )
    return fit(series, {}, settings, labels)


def _starts_alike(one: Scenario, scenes: Sequence[_Scene]) -> bool:
    """Whether an arm can be compared with its control: A over that of the control rests on one
    generation 0 for both, chain by chain."""
    own, control = (
        {(s.classifier, chain): s.squared[0, k, 0]
         for scene in scenes if scene.about.setting == one.setting and wanted(scene.about)
         for s in scene.series for k, chain in enumerate(s.chains)}
        for wanted in (lambda about: about.name == one.name, lambda about: about.control)
    )  # fmt: skip
    same = [bool(np.isclose(own[at], control[at], equal_nan=True)) for at in own if at in control]
    return bool(same) and all(same)


def _worded(
    row: Verdict, own: str, scenarios: Sequence[Scenario], states: pd.DataFrame,
    spans: Mapping[str, tuple[int, int]],
) -> Verdict:  # fmt: skip
    """A's own word where nothing stands beside it, said to be so; which generations."""
    about = next(one for one in scenarios if one.name == row.scenario)
    first, last = spans[row.scenario]
    notes = [f"generations {first} to {last}"]
    if row.text == NO_CONTROL:
        other = [s.arm for s in scenarios if s.control and s.setting == about.setting]
        why = f" (arm {other[0]} is none here: it does not share this start)" if other else ""
        row, notes = replace(row, text=own), [ALONE + why, *notes]
    apart = [t for s, c, t in mixed(states) if (s, c) == (row.scenario, row.classifier)]
    if apart:
        notes.append(f"from generation {min(apart)} on chains are in different states")
    notes.append(row.note.replace(SEEDS, ONE_SEED))
    return replace(row, note="; ".join(filter(None, notes)))


# --- effects -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Effect:
    """Last minus first generation of an arm, less that of another arm where `less` names one."""

    setting: str
    scenario: str
    less: str
    classifier: str
    metric: str
    first: int
    last: int
    value: float
    low: float
    high: float
    p: float
    chains: int
    note: str = ""


def _effects(
    scenes: Sequence[_Scene], settings: Evaluation, span: tuple[int, int] | None
) -> Iterator[dict[str, object]]:
    for one in scenes:
        yield from map(asdict, _of_pair(one, None, settings, span))
    for one, other in combinations(scenes, 2):
        if one.about.setting == other.about.setting:
            first, second = (other, one) if one.about.control else (one, other)
            yield from map(asdict, _of_pair(first, second, settings, span))


def _of_pair(
    one: _Scene, less: _Scene | None, settings: Evaluation, span: tuple[int, int] | None
) -> Iterator[Effect]:
    sides = (one,) if less is None else (one, less)
    first, last = span or (0, min(side.about.last for side in sides))
    for name in one.about.classifiers:
        if less is not None and name not in less.about.classifiers:
            continue
        notes = [_mixed(side, name, (first, last)) for side in sides]
        if not same_images(sides[0].test, sides[-1].test):
            notes.append("the two arms have other test images")
        note = "; ".join(filter(None, notes))
        for metric in JUDGED:
            place = (one.about.setting, one.about.name, less.about.name if less else "", name)
            found = _contrast(sides, name, metric.name, (first, last), settings)
            made = effect(found.draws, settings.level)
            ends = (np.nan,) * 4 if note else (made.value, made.low, made.high, made.p_change())
            yield Effect(*place, metric.name, first, last, *ends, made.chains, note)


def _mixed(scene: _Scene, classifier: str, ends: tuple[int, int]) -> str:
    """At which end chains are in different states, and in which; "" where at none."""
    found = mixed(scene.states)
    places = [(scene.about.name, classifier, t) for t in ends]
    said = [f"{at[0]} at generation {at[2]}: {told(found[at])}" for at in places if at in found]
    return "; ".join(said)


def _contrast(
    sides: Sequence[_Scene], classifier: str, metric: str, span: tuple[int, int],
    settings: Evaluation,
) -> Contrast:  # fmt: skip
    estimand = f"{span[1]}_minus_{span[0]}"
    parts = []
    for side in sides:
        key = metric if metric == metrics.ACCURACY.name else f"{metric}_{_reading(side)}"
        parts.append(side.measured(classifier, settings).contrast((key, ""), estimand, ARM))
    return parts[0] if len(parts) == 1 else minus(*parts)


def _reading(scene: _Scene) -> str:
    """The reading of rates that applies."""
    return "pooled" if scene.test.pooled else "per_class"
