"""What a reader must know before believing a number: failures, collapses, too few chains."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from ray_selfloop.report.view import Failure, ReportView, ScenarioView

WELL_ENDED = ("converged", "not trained")
MOST_PLACES = 12


@dataclass(frozen=True)
class Notice:
    """``level``: ``failed`` (something is missing), ``warning`` or ``note``."""

    level: str
    title: str
    text: str


def notices(view: ReportView) -> list[Notice]:
    """All of them, the worst first."""
    return [
        *_failures(view),
        *_collapsed(view),
        *_generators(view),
        *(Notice("warning", "Sweep", text) for text in view.warnings),
        *_few_chains(view),
    ]


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
    results = view.results
    flagged = results[(results["metric"] == "collapsed") & (results["value"] == 1.0)]
    flagged = flagged[flagged["seed"].notna()]
    for row in flagged.itertuples():
        where = f"{row.scenario}, loop seed {row.loop_seed}, generation {row.generation}"
        yield Notice(
            "warning",
            "Collapsed classifier",
            f"{where}, {row.classifier}, seed {row.seed} does no better than chance; "
            "it is left out of every fairness mean",
        )


def _generators(view: ReportView) -> Iterator[Notice]:
    for scenario in view.scenarios:
        bad: dict[str, list[str]] = defaultdict(list)
        for run in scenario.generators:
            if run.outcome not in WELL_ENDED:
                detail = f" ({run.detail})" if run.detail else ""
                chain = f", chain of {run.classifier}" if run.classifier else ""
                bad[run.outcome].append(
                    f"generation {run.generation}, loop seed {run.loop_seed}{chain}{detail}"
                )
        for outcome, places in bad.items():
            text = f"{scenario.name}: {_MEANING.get(outcome, outcome)} in {'; '.join(places)}"
            yield Notice("warning", "Generator not converged", text)


_MEANING = {
    "budget": "stopped by its budget while still improving",
    "diverged": "training diverged",
    "collapsed": "the generator shows too few kinds of images (mode collapse)",
}


def _few_chains(view: ReportView) -> Iterator[Notice]:
    single = [scenario.name for scenario in view.scenarios if _one_chain(scenario)]
    if single:
        yield Notice(
            "note",
            "One chain only",
            f"{', '.join(single)}: intervals hold for this chain only; how much another run of the "
            "whole loop would differ is not known, so no claim gets a verdict. "
            "More chains: loop.loop_seeds=[0,1,2]",
        )


def _one_chain(scenario: ScenarioView) -> bool:
    return len(scenario.loop_seeds) == 1
