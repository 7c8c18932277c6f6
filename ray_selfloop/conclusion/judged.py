"""A second way to a page: from a table that others made. Trains nothing, and loads neither ray nor
torch. What is said of the table is decided in `outside`; here it is arranged and written."""

import math
import time
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from rich.console import Console

from ray_selfloop import __version__
from ray_selfloop.conclusion import tables
from ray_selfloop.conclusion.endings import counted
from ray_selfloop.config.arms import CONTROL, TREATMENT
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.config.plain import dumped
from ray_selfloop.equation6.rest_point import reason
from ray_selfloop.errors import StorageError
from ray_selfloop.evaluation import metrics
from ray_selfloop.evaluation.states import held, told
from ray_selfloop.outside.judge import ALONE, OF_COUNTS, Judged, Scenario, judge
from ray_selfloop.outside.read import read
from ray_selfloop.report import numbers, page, terminal
from ray_selfloop.report.view import (
    Declared,
    Outside,
    ReportView,
    ScenarioView,
    Verdict,
)

QUESTION = "What does this table show: does bias grow from generation to generation?"
UNPAIRED = (
    "Whether the chains share data and test images the table does not say: intervals are about new "
    "runs of the same loop."
)
GREW = {"A > 1": "bias grew", "A < 1": "bias shrank"}


def judged(
    path: Path,
    renamed: Sequence[str] = (),
    span: tuple[int, int] | None = None,
    control: str | None = None,
) -> Judged:
    """Verdicts on the loops of a table; raises DataError where it cannot be judged."""
    return judge(read(path, renamed), Evaluation(), span, control)


def write(path: Path, found: Judged, folder: Path | None = None) -> Path:
    """Write page and tables into a folder (beside the table: NAME-judged), and return it."""
    folder = folder or path.with_name(f"{path.stem}-judged")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = ("results", "effects", "end_states")
        for name, table in zip(names, frames(found), strict=True):
            table.to_parquet(folder / f"{name}.parquet", index=False)
        page.write(view(path, found), folder / "report.html")
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror or error}; give --out DIR") from error
    return folder


def summarise(path: Path, found: Judged, folder: Path) -> None:
    """The same in the terminal."""
    console = Console()
    paths = terminal.Paths(str(folder / "results.parquet"), str(folder / "report.html"), "")
    terminal.summary(console, view(path, found), paths)


def view(path: Path, found: Judged) -> ReportView:
    """All that the page shows."""
    settings = Evaluation()
    kept = settings.model_dump(mode="json", include={"level", "permutations", "seed", "dynamics"})
    asked = {"table": path.name, "generations": list(found.span or ()) or "all"}
    changed = datetime.fromtimestamp(path.stat().st_mtime if path.exists() else time.time(), UTC)
    return ReportView(
        name=path.stem,
        question=QUESTION,
        results=found.results,
        scenarios=tuple(_scenario(one) for one in found.scenarios),
        verdicts=found.verdicts,
        failures=(),
        stages=(),
        warnings=(),
        config_yaml=dumped({**asked, "evaluation": kept}),
        finished=changed.isoformat(timespec="seconds"),
        version=__version__,
        level=settings.level,
        laws=found.laws,
        rests=found.rests,
        declared=Declared("", "", False, of_table=True),
        states=counted(found.states),
        outside=Outside(*_answer(found), found.left_out, UNPAIRED, found.effects),
    )


def _scenario(one: Scenario) -> ScenarioView:
    return ScenarioView(
        name=one.name,
        title=one.name,
        axes={},
        class_names=one.classes,
        subgroup_names=one.groups,
        classifiers=one.classifiers,
        loop_seeds=one.chains,
        arm=CONTROL.name if one.control else TREATMENT.name,
    )


def _answer(found: Judged) -> tuple[str, str]:
    """What the page says first: of each arm and classifier A, and in which state its chains end."""
    controls = {one.name for one in found.scenarios if one.control}
    parts = [_said(found, v) for v in found.verdicts if v.scenario not in controls]
    parts += _ends(found)
    alone = [ALONE in v.note for v in found.verdicts if v.scenario not in controls]
    if any(alone):
        parts.append(
            f"{_why_alone(controls)}, so that nothing tells what generated data did from what "
            "longer training did"
        )
    if not any(alone):
        return "Against the control", "; ".join(parts)
    return ("No control" if all(alone) else "In part against a control"), "; ".join(parts)


def _why_alone(controls: Collection[str]) -> str:
    if not controls:
        return "no arm is a control"
    return f"{', '.join(sorted(controls))} does not share the start of what is said to have none"


def _said(found: Judged, v: Verdict) -> str:
    several = sum(w.scenario == v.scenario for w in found.verdicts) > 1
    where = f"{v.scenario}, {v.classifier}" if several else v.scenario
    if math.isnan(v.a):
        return f"of {where} A is not known ({v.text})"
    word = GREW.get(v.text, f"verdict {v.text}")
    first, last = found.spans[v.scenario]
    ends = numbers.interval(v.low, v.high)
    ratio = ""
    if not math.isnan(v.ratio):
        ratio = f", {numbers.number(v.ratio)} {numbers.interval(v.ratio_low, v.ratio_high)} times "
        ratio += "the control's"
    return (
        f"{word} in {where} (A = {numbers.number(v.a)} {ends}{ratio} a generation, generations "
        f"{first} to {last}, {v.chains} chain{'s' if v.chains != 1 else ''})"
    )


def _ends(found: Judged) -> Iterator[str]:
    """The last generation's states, where not all chains work."""
    for (scenario, classifier, n), words in held(found.states).items():
        about = next(one for one in found.scenarios if one.name == scenario)
        if n == about.last and list(words) != ["working"]:
            where = f"{scenario}, {classifier}" if len(about.classifiers) > 1 else scenario
            yield f"at generation {n} the chains of {where} are in these states: {told(words)}"


def frames(found: Judged) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Results, effects (A's verdicts and rest points last) and end states."""
    rows = [{"scenario": v.scenario, "classifier": v.classifier, "metric": "A", "value": v.a,
             "low": v.low, "high": v.high, "chains": v.chains, "verdict": v.text, "note": v.note}
            for v in found.verdicts]  # fmt: skip
    rows += [{"scenario": r.scenario, "classifier": r.classifier, "metric": metrics.REST_POINT.name,
              "value": r.value, "low": r.low, "high": r.high, "chains": r.chains,
              "note": reason(r.moves, r.note)} for r in found.rests]  # fmt: skip
    effects = pd.concat([found.effects, pd.DataFrame(rows)], ignore_index=True)
    results = tables.results(found.results, images=OF_COUNTS[0] not in found.left_out)
    return results, effects, found.states
