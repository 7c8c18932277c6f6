"""What a reader must know before believing a number: failures, collapses, too few chains."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from ray_selfloop.claims.noise import NOT_EXPECTED
from ray_selfloop.claims.positive import UNSEEN
from ray_selfloop.config.arms import CONTROL, TREATMENT
from ray_selfloop.config.datasets.known import traits_of
from ray_selfloop.evaluation import metrics
from ray_selfloop.evaluation.states import told
from ray_selfloop.report.view import Failure, GeneratorOutcome, ReportView, ScenarioView

WELL_ENDED, NOT_TRAINED = ("converged", "completed"), "not trained"
MOST_PLACES = 12
MOST_NAMES = 3  # scenario names that a notice spells out
PUBLISHED_BASE = "stable-diffusion-v1-5/stable-diffusion-v1-5"  # on the hub; any other is told


@dataclass(frozen=True)
class Notice:
    """``level``: ``failed`` (something is missing), ``warning`` or ``note``.

    details: the single places behind ``text``, to be folded; empty where the text names them.
    """

    level: str
    title: str
    text: str
    details: tuple[str, ...] = ()


def notices(view: ReportView) -> list[Notice]:
    """All of them, the worst first."""
    return [
        *_failures(view),
        *_intervals(view),
        *_positive(view),
        *_collapsed(view),
        *_mixed(view),
        *_generators(view),
        *_warnings(view),
        *_ablations(view),
        *_few_chains(view),
        *_other_weights(view),
    ]


def _intervals(view: ReportView) -> Iterator[Notice]:
    """Where the arm `a_a` shows that the intervals are wrong."""
    bad = [n for n in view.null if n.verdict == NOT_EXPECTED]
    if bad:
        places = tuple(f"{n.scenario_group}, {n.classifier}, {n.metric}" for n in bad)
        yield Notice(
            "failed",
            "Intervals not to be believed",
            f"in the arm a_a nothing but seeds changes, yet {len(bad)} of {len(view.null)} changes "
            "have an interval that excludes zero",
            places,
        )


def _positive(view: ReportView) -> Iterator[Notice]:
    """Where bias was not seen though it grows by design."""
    for one in view.positive:
        if one.verdict == UNSEEN:
            yield Notice(
                "failed",
                "Positive control not seen",
                f"{one.scenario_group}: in the arm {one.arm} bias grows by design, yet its "
                "interval does not lie beyond zero; what this sweep does not find there may be "
                "there all the same. More chains (loop.loop_seeds) make it see smaller effects",
            )


def place(failure: Failure) -> str:
    """``biased, loop seed 0, generation 2, mobilenet_v3_small, seed 1``."""
    what = failure.classifier if failure.seed is not None else failure.stage
    chain = f", chain of {failure.classifier}" if failure.classifier else ""
    return (
        f"{failure.scenario}, loop seed {failure.loop_seed}, generation {failure.generation}, "
        f"{what}{chain if failure.seed is None else f', seed {failure.seed}'}"
    )


def _failures(view: ReportView) -> Iterator[Notice]:
    """One notice for each error; the places that share it are listed, up to MOST_PLACES."""
    places: dict[str, list[str]] = defaultdict(list)
    for failure in view.failures:
        places[failure.error].append(place(failure))
    for error, where in places.items():
        more = f"; and {len(where) - MOST_PLACES} more" if len(where) > MOST_PLACES else ""
        yield Notice("failed", "Failed", f"{'; '.join(where[:MOST_PLACES])}{more}: {error}")


def _collapsed(view: ReportView) -> Iterator[Notice]:
    """One notice: how many trials of how many, per scenario and classifier."""
    rows = view.results
    rows = rows[(rows["metric"] == metrics.COLLAPSED.name) & rows["seed"].notna()]
    flagged = rows[rows["value"] == 1.0]
    if flagged.empty:
        return
    per = ["scenario", "classifier"]
    of, bad = rows.groupby(per, sort=False).size(), flagged.groupby(per, sort=False).size()
    counts: dict[str, list[str]] = defaultdict(list)
    for (scenario, classifier), n in bad.items():
        counts[scenario].append(f"{classifier} {n} of {of[scenario, classifier]}")
    places = tuple(
        f"{row.scenario}, loop seed {row.loop_seed}, generation {row.generation}, "
        f"{row.classifier}, seed {row.seed}"
        for row in flagged.itertuples()
    )
    text = "; ".join(f"{scenario}: {', '.join(parts)}" for scenario, parts in counts.items())
    yield Notice(
        "warning",
        "Collapsed classifiers",
        f"{len(flagged)} of {len(rows)} trials do no better than chance ({text}). They stay in "
        "every mean of accuracy, and are left out of every mean of fairness: where arms lost "
        "different numbers of trials, fairness among the survivors is no evidence",
        places,
    )


def _mixed(view: ReportView) -> Iterator[Notice]:
    """Where means over chains are left out; of a table that others made the answer says it."""
    places = tuple(
        f"{one.scenario}, {one.classifier}, generation {one.generation}: {told(one.trials)}"
        for one in view.states
        if len(one.trials) > 1 and not view.outside
    )
    if places:
        yield Notice(
            "warning",
            "Chains in different end states",
            "trials of one generation have come to different ends, and a mean over them would "
            "describe none: means of fairness stand only where all that did not collapse are in "
            "one state, those of accuracy are of all trials. Effects and verdicts are of all that "
            "did not collapse",
            places,
        )


def _generators(view: ReportView) -> Iterator[Notice]:
    """One notice per outcome: how many generators of how many, per scenario."""
    counts: dict[str, list[str]] = defaultdict(list)
    places: dict[str, list[str]] = defaultdict(list)
    for scenario in view.scenarios:
        trained = [run for run in scenario.generators if run.outcome != NOT_TRAINED]
        for outcome in dict.fromkeys(run.outcome for run in trained):
            if outcome in WELL_ENDED:
                continue
            bad = [run for run in trained if run.outcome == outcome]
            counts[outcome].append(f"{scenario.name}: {len(bad)} of {len(trained)}")
            places[outcome] += [f"{scenario.name}, {_run(run)}" for run in bad]
    for outcome, parts in counts.items():
        text = f"{_MEANING.get(outcome, outcome)}: {'; '.join(parts)}"
        title = _ENDED.get(outcome, f"Generator ended as {outcome}")
        yield Notice("warning", title, text, tuple(places[outcome]))


def _run(run: GeneratorOutcome) -> str:
    chain = f", chain of {run.classifier}" if run.classifier else ""
    detail = f" ({run.detail})" if run.detail else ""
    return f"generation {run.generation}, loop seed {run.loop_seed}{chain}{detail}"


def _warnings(view: ReportView) -> Iterator[Notice]:
    """A sentence that several scenarios share is said once, with their names in front."""
    names = {scenario.name for scenario in view.scenarios}
    sharing: dict[str, list[str]] = defaultdict(list)
    for text in view.warnings:
        name, colon, rest = text.partition(": ")
        known = bool(colon) and name in names
        sharing[rest if known else text] += [name] if known else []
    for text, where in sharing.items():
        folded = MOST_NAMES < len(where) < len(names)
        told = f"{len(where)} scenarios" if folded else _named(where, view)
        said = f"{told}: {text}" if where else text
        yield Notice("warning", "Sweep", said, tuple(where) if folded else ())


_ENDED = {
    "budget": "Generator stopped by its budget",
    "diverged": "Generator diverged",
    "collapsed": "Generator collapsed",
}
_MEANING = {
    "budget": "Training ended while still improving",
    "diverged": "Training diverged",
    "collapsed": "The generator shows too few kinds of images (mode collapse)",
}


def _ablations(view: ReportView) -> Iterator[Notice]:
    """Where figure 8 is missing, and where a relative drop has no meaning."""
    rows = view.results
    for scenario in view.scenarios:
        own = rows[(rows["scenario"] == scenario.name) & rows["seed"].isna()]
        drops = own["metric"].str.startswith(f"{metrics.ABLATION_DROP.name}/")
        if traits_of(scenario.dataset).masks and len(own) and not drops.any():
            yield Notice(
                "warning", "No ablations", f"{scenario.name}: {_unablated(rows, scenario)}"
            )
    of_drops = rows["metric"].str.startswith(f"{metrics.ABLATION_DROP_RELATIVE.name}/")
    relative = rows[of_drops & rows["seed"].isna()]
    undefined = relative[relative["value"].isna()]
    bad = undefined[["scenario", "generation", "classifier"]].drop_duplicates()
    if len(bad):
        places = tuple(
            f"{scenario}, generation {generation}, {classifier}"
            for scenario, generation, classifier in bad.itertuples(index=False)
        )
        yield Notice(
            "warning",
            "Relative drop not defined",
            f"in {len(bad)} means clean accuracy is not above chance, or no trial is sound",
            places,
        )


def _unablated(rows: pd.DataFrame, scenario: ScenarioView) -> str:
    """Why a scenario has no accuracy under ablation, as far as the table tells."""
    flags = rows[(rows["scenario"] == scenario.name) & (rows["metric"] == metrics.COLLAPSED.name)][
        "value"
    ]
    if flags.empty:
        why = "every classifier is collapsed or no predictions without the object are there"
    elif (flags == 1.0).all():
        why = "every classifier is collapsed and a collapsed one has no place in it"
    else:
        why = "no predictions without the object are there"
    return (
        f"the table has no accuracy under ablation, for {why}; so nothing is said of spurious cues"
    )


def _other_weights(view: ReportView) -> Iterator[Notice]:
    """Where the ImageNet sets do not start from what the paper starts from."""
    said: dict[str, list[str]] = defaultdict(list)
    for scenario in view.scenarios:
        if traits_of(scenario.dataset).weights != "imagenet":
            continue
        if not scenario.pretrained:
            said[_FROM_SCRATCH].append(scenario.name)
        if scenario.own_clip and scenario.audits:
            said[_DOMAIN_CLIP].append(scenario.name)
        if scenario.base not in ("", PUBLISHED_BASE) and scenario.generators:
            said[_OTHER_BASE.format(scenario.base)].append(scenario.name)
    for text, where in said.items():
        yield Notice("note", "Not the paper's weights", f"{_named(where, view)}: {text}")


def _named(where: Sequence[str], view: ReportView) -> str:
    """Scenarios by name, or that they are all of many."""
    every = len(where) == len(view.scenarios) > MOST_NAMES
    return f"all {len(where)} scenarios" if every else ", ".join(where)


_FROM_SCRATCH = "classifiers start from scratch, the paper's from ImageNet weights"
_DOMAIN_CLIP = (
    "the filter's domain_clip_score is of a small model trained on the original images of this "
    "sweep, not of a published CLIP; the paper's r of 60 % was calibrated for the latter"
)
_OTHER_BASE = (
    "Stable Diffusion starts from {}; whether it holds the published weights of version 1.5 is not "
    "checked, and the sample grids and table 1 show what it draws"
)


def _few_chains(view: ReportView) -> Iterator[Notice]:
    """One chain: what is missing for a verdict, the control arm included where it lacks."""
    single = [scenario for scenario in view.scenarios if len(scenario.loop_seeds) == 1]
    if not single:
        return
    yield Notice(
        "note",
        "One chain only",
        f"{_named([s.name for s in single], view)}: intervals hold for this chain only; how much "
        "another run of the whole loop would differ is not known, so no statement gets a verdict. "
        f"{_missing(view, single)}",
    )


def _missing(view: ReportView, single: Sequence[ScenarioView]) -> str:
    """What to add, as settings."""
    controlled = {s.group or s.name for s in view.scenarios if s.arm == CONTROL.name}
    lacking = any((s.group or s.name) not in controlled for s in single)
    chains = "more chains (loop.loop_seeds=[0,1,2])"
    if not lacking:
        return f"Missing: {chains}"
    arms = f"axes.loop.arm=[{TREATMENT.name},{CONTROL.name}]"
    return f"Missing: {chains} and the control arm ({arms}); chains without it give no answer"
