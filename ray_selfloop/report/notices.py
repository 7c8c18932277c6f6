"""What a reader must know before believing a number: failures, collapses, too few chains."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from ray_selfloop.report.view import Failure, ReportView, ScenarioView

WELL_ENDED = ("converged", "not trained")


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
    trial = (
        f"{failure.classifier}, seed {failure.seed}" if failure.classifier else f"{failure.stage}"
    )
    return (
        f"{failure.scenario}, loop seed {failure.loop_seed}, "
        f"generation {failure.generation}, {trial}"
    )


def _failures(view: ReportView) -> Iterator[Notice]:
    for failure in view.failures:
        kind = "trial" if failure.classifier else "stage"
        yield Notice("failed", f"Failed {kind}", f"{place(failure)}: {failure.error}")


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
                bad[run.outcome].append(
                    f"generation {run.generation}, loop seed {run.loop_seed}{detail}"
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
