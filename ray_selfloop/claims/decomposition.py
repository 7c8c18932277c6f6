"""The total effect in parts: volume, imbalance, artefact and filter, from the control arms."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ray_selfloop.claims.cases import Group
from ray_selfloop.claims.contrasts import LAST_MINUS_FIRST, NAN
from ray_selfloop.claims.paired import CONTROL, TREATMENT, Measured
from ray_selfloop.config.arms import HELD_OUT_REAL, REAL_SKEWED, UNFILTERED
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.evaluation import metrics
from ray_selfloop.evaluation.predictions import KINDS
from ray_selfloop.inference.chains import effect

PARTS: Mapping[str, tuple[str, str]] = {
    "total": (TREATMENT, CONTROL),
    "volume": (HELD_OUT_REAL.name, CONTROL),
    "imbalance": (REAL_SKEWED.name, HELD_OUT_REAL.name),
    "artefact": (UNFILTERED.name, REAL_SKEWED.name),
    "filter": (TREATMENT, UNFILTERED.name),
}
"""Part of the total effect -> the two arms whose difference it is; the last four add up to it."""
REAL = ("volume", "imbalance")  # parts whose arms train on real images alone
PART_METRICS = (
    metrics.ACCURACY.name,
    metrics.MEO.name,
    metrics.MD.name,
    metrics.WORST_SUBGROUP.name,
)
DROPS = tuple(f"{metrics.ABLATION_DROP.name}/{kind}" for kind in KINDS)  # where there are masks


@dataclass(frozen=True)
class Part:
    """A part of the total effect, last minus first generation: exploratory, an interval without a
    verdict; NaN with a note on what lacks."""

    scenario_group: str
    classifier: str
    metric: str
    part: str
    value: float
    low: float
    high: float
    note: str = ""


def decomposed(
    group: Group, classifier: str, measured: Measured, settings: Evaluation
) -> Iterator[Part]:
    """The parts on the runs that are usable in every arm that is there, so that they add up."""
    needed = {arm for pair in PARTS.values() for arm in pair}
    present = sorted(needed & {trial.arm for trial in measured.trials})
    for metric in (*PART_METRICS, *DROPS):
        key = metric if metric in (metrics.ACCURACY.name, *DROPS) else f"{metric}_{group.reading}"
        if (key, "") not in measured.values:
            continue
        for part, pair in PARTS.items():
            where = (group.name, classifier, metric, part)
            lacking = [arm for arm in pair if arm not in present]
            if lacking:
                yield Part(*where, NAN, NAN, NAN, f"needs the arm {' and '.join(lacking)}")
                continue
            found = effect(
                measured.contrast((key, ""), LAST_MINUS_FIRST, pair, present).draws, settings.level
            )
            notes = [
                {0: "no run is usable in all arms", 1: "this chain only"}.get(found.chains, "")
            ]
            if group.treatment.not_converged and part not in REAL:
                notes.append("generator too poor to ask")
            note = "; ".join(filter(None, notes))
            yield Part(*where, found.value, found.low, found.high, note)
