"""What a person sees in the terminal: the live table while a sweep runs, the tables at its end.

Shows plain values; must not know Ray, the store or MLflow.
"""

import math
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table as RichTable
from rich.text import Text

from ray_selfloop.report import ablations, answer
from ray_selfloop.report.groups import Group as PaperGroup
from ray_selfloop.report.groups import groups
from ray_selfloop.report.notices import Notice, notices
from ray_selfloop.report.numbers import NO_RESULT, NOT_DEFINED, interval, number, seconds, signed
from ray_selfloop.report.series import Curve, Table
from ray_selfloop.report.view import Claim, ReportView, ScenarioView, Verdict

METRICS = (("accuracy", "accuracy"), ("meo", "MEO"), ("md", "MD"))
DROPS = {"object_gray": "drop, gray object", "box_gray": "drop, gray box",
         "box_neighbour": "drop, neighbour"}  # fmt: skip
GENERATIONS_PER_BLOCK = 6  # 6 columns of a mean and a spread fit in 100 characters
COLOUR_OF = {"failed": "red", "warning": "yellow", "note": "blue"}
COLOUR_OF_VERDICT = {
    "A > 1": "bold red",
    "A < 1": "bold green",
    "supported": "bold blue",
    "contradicted": "bold red",
    "explained by accuracy": "yellow",
}
MOST_DETAILED = 2  # scenarios whose tables show every generation


@dataclass(frozen=True)
class Progress:
    """One line of the live table: a kind of stage or trial.

    done counts ``cached`` (found in the store) too; ``total`` may grow; elapsed: seconds in which
    at least one of this kind was running.
    """

    kind: str
    done: int
    total: int
    cached: int
    running: int
    failed: int
    elapsed: float


@dataclass(frozen=True)
class Paths:
    """Where the results lie, and how to look at the curves; "" where there is none."""

    results: str
    report: str
    tracking_uri: str


def progress(rows: Sequence[Progress]) -> RenderableType:
    """The live table, at most 100 columns wide."""
    table = RichTable(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("stage")
    table.add_column("")
    for name in ("done", "running", "cached", "failed", "elapsed"):
        table.add_column(name, justify="right")
    for row in rows:
        bar = ProgressBar(total=max(row.total, 1), completed=row.done, width=24)
        table.add_row(
            row.kind,
            bar,
            f"{row.done}/{row.total}",
            _or_dot(row.running, "cyan"),
            _or_dot(row.cached, "green"),
            _or_dot(row.failed, "bold red"),
            seconds(row.elapsed),
        )
    return table


def _or_dot(count: int, style: str) -> Text:
    return Text(str(count), style) if count else Text("·", "dim")


def line(row: Progress) -> str:
    """The same as one plain line, for logs: ``trials 12/32 done, 4 cached, 2 running``."""
    parts = [f"{row.kind} {row.done}/{row.total} done"]
    counts = (("cached", row.cached), ("running", row.running), ("FAILED", row.failed))
    parts.extend(f"{count} {name}" for name, count in counts if count)
    return ", ".join(parts) + f", {seconds(row.elapsed)}"


@contextmanager
def live(console: Console) -> Iterator[Callable[[Sequence[Progress]], None]]:
    """``with live(console) as show: show(rows)``.

    A table that is redrawn in a terminal; elsewhere a line for each row whose counts have changed.
    """
    if not console.is_terminal:
        yield _printer(console)
        return
    with Live(console=console, refresh_per_second=4, transient=False) as display:

        def show(rows: Sequence[Progress]) -> None:
            display.update(progress(rows))

        yield show


def _printer(console: Console) -> Callable[[Sequence[Progress]], None]:
    last: dict[str, tuple[int, ...]] = {}

    def show(rows: Sequence[Progress]) -> None:
        for row in rows:
            counts = (row.done, row.total, row.cached, row.failed)
            if row.total and last.get(row.kind) != counts:
                console.print(line(row), highlight=False, markup=False, soft_wrap=True)
            last[row.kind] = counts

    return show


def summary(console: Console, view: ReportView, paths: Paths) -> None:
    """The answer, the numbers behind it, the warnings and the paths; one screen for a sweep.

    A sweep of at most two scenarios shows every generation; a larger one first and last.
    """
    table = Table(view.results)
    console.print()
    if len(view.scenarios) <= MOST_DETAILED:
        for scenario in view.scenarios:
            _print_scenario(console, table, scenario, view)
    else:
        for part in _alike(table, view):
            console.print(_overview(table, view, part))
            console.print()
    _print_answer(console, view)
    for line_of_fidelity in _fidelity(table, view):
        console.print(line_of_fidelity)
    console.print()
    for notice in notices(view):
        console.print(_notice(notice))
    console.print()
    _print_paths(console, paths)


def _print_scenario(
    console: Console, table: Table, scenario: ScenarioView, view: ReportView
) -> None:
    console.rule(f"[bold]{escape(scenario.title)}", align="left", style="dim")
    console.print(_curves(table, scenario))
    tested = (c for c in answer.hypothesis(view.claims) if c.verdict != answer.NOT_TESTED)
    for claim in tested:  # why others are not stands in the answer
        if claim.scenario_group in (scenario.name, scenario.group):
            console.print(_claim(claim))
    for verdict in view.verdicts:
        if verdict.scenario == scenario.name:
            console.print(_verdict(verdict))
    console.print()


def metrics(table: Table, scenario: ScenarioView) -> tuple[tuple[str, str], ...]:
    """``(metric, title)``: accuracy and fairness; without subgroups the drops under ablation."""
    if scenario.subgroup_names:
        return METRICS
    kinds = ablations.kinds(table, scenario)
    return (METRICS[0], *((f"ablation_drop/{kind}", DROPS[kind]) for kind in kinds))


def _alike(table: Table, view: ReportView) -> list[list[PaperGroup]]:
    """The groups in parts that show the same metrics."""
    parts: dict[tuple[tuple[str, str], ...], list[PaperGroup]] = defaultdict(list)
    for group in groups(view.scenarios):
        parts[metrics(table, group.main)].append(group)
    return list(parts.values())


def _overview(table: Table, view: ReportView, part: Sequence[PaperGroup]) -> RenderableType:
    """One line per classifier of every group's treatment: first -> last generation, verdicts.

    The hypothesis speaks of subgroups: where there are none, its column is left out.
    """
    shown = RichTable(box=None, padding=(0, 2, 0, 0), header_style="dim")
    shown.add_column("setting, classifier")
    measured = metrics(table, part[0].main)
    hypothesis = ["bias amplifies"] if part[0].main.subgroup_names else []
    for title in (*(title for _, title in measured), "eq. 6", *hypothesis):
        shown.add_column(title, justify="right")
    ends = table.generations[:1] + table.generations[1:][-1:]
    laws = {(v.scenario, v.classifier): v for v in view.verdicts}
    for group in part:
        shown.add_row(Text(group.title, "bold"))
        for name in group.main.classifiers:
            curves = [table.mean(group.main.name, name, metric) for metric, _ in measured]
            claims = answer.of_classifier(view, group.name, name)
            shown.add_row(
                f"  {name}",
                *(_first_to_last(curve, ends) for curve in curves),
                _law(laws.get((group.main.name, name))),
                *([_held(claims)] if hypothesis else []),
            )
    span = f"generation {' → '.join(map(str, ends))}; control arms and reasons: see the report"
    return Group(shown, Text(span, "dim"))


def _first_to_last(curve: Curve, ends: Sequence[int]) -> str:
    known = [number(curve.at(n)[0]) if n in curve.generations else NO_RESULT for n in ends]
    return " → ".join(known)


def _law(verdict: Verdict | None) -> Text:
    head = verdict.text.split(":")[0] if verdict else NO_RESULT
    return Text(head, COLOUR_OF_VERDICT.get(head, ""))


def _held(claims: Sequence[Claim]) -> Text:
    """The hypothesis' verdict; where its tests differ, in how many it is supported."""
    told = answer.counts(claims)
    if len(told) > 1:
        supported = dict(told).get(answer.SUPPORTED, 0)
        return Text(f"in {supported} of {len(claims)}", "bold blue" if supported else "")
    verdict = told[0][0] if told else NO_RESULT
    return Text(verdict, COLOUR_OF_VERDICT.get(verdict, ""))


def _print_answer(console: Console, view: ReportView) -> None:
    """The answer, and how many claims have which verdict."""
    found = answer.answer(view)
    console.print(Text.assemble((found.lead, "bold"), f": {found.rest}."))
    if view.claims:
        told = ", ".join(f"{n} {verdict}" for verdict, n in answer.counts(view.claims))
        console.print(Text.assemble(("claims  ", "dim"), told))


def _claim(claim: Claim) -> Text:
    text = Text.assemble(("claim  ", "dim"), (claim.classifier or "all", "bold"))
    ends = f"{signed(claim.value)} {interval(claim.low, claim.high)}".strip()
    text.append(f"  {claim.text}: {ends}  ")
    return text.append(claim.verdict, COLOUR_OF_VERDICT.get(claim.verdict, ""))


def _fidelity(table: Table, view: ReportView) -> Iterator[Text]:
    """Label fidelity of every setting's generators, lowest to highest."""
    for group in groups(view.scenarios):
        for chain in table.chains(group.main.name):
            curve = table.generator(group.main.name, chain, "label_fidelity", "generated")
            values = curve.value[~np.isnan(curve.value)]
            if len(values):
                ends = dict.fromkeys((number(values.min()), number(values.max())))
                place = group.title + (f" ({chain})" if chain else "")
                told = f"{place}: label fidelity {' to '.join(ends)}"
                yield Text.assemble(("generator  ", "dim"), told)


def _curves(table: Table, scenario: ScenarioView) -> RenderableType:
    """One table for every six generations; ± is the standard deviation over trials."""
    generations = table.generations
    blocks: list[RenderableType] = []
    for first in range(0, len(generations), GENERATIONS_PER_BLOCK):
        shown = generations[first : first + GENERATIONS_PER_BLOCK]
        block = RichTable(box=None, padding=(0, 2, 0, 0), header_style="dim")
        block.add_column("generation")
        for generation in shown:
            block.add_column(str(generation), justify="right")
        for metric, title in metrics(table, scenario):
            block.add_row(Text(title, "bold"))
            for classifier in scenario.classifiers:
                cells = _cells(table, scenario.name, classifier, metric, shown)
                block.add_row(f"  {classifier}", *cells)
        blocks.append(block)
    blocks.append(Text("mean over trials ± their standard deviation", "dim"))
    return Group(*blocks)


def _cells(
    table: Table, scenario: str, classifier: str, metric: str, generations: Sequence[int]
) -> list[str]:
    curve = table.mean(scenario, classifier, metric)
    trials = table.trials(scenario, classifier, metric)
    cells = []
    for generation in generations:
        if generation not in curve.generations:
            cells.append(NO_RESULT)
            continue
        values = trials.loc[trials["generation"] == generation, "value"].dropna()
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
        cells.append(_with_spread(curve.at(generation)[0], spread))
    return cells


def _with_spread(value: float, spread: float) -> str:
    """``0.953 ±.012``; without ± for a single trial."""
    if math.isnan(value):
        return NOT_DEFINED
    if math.isnan(spread):
        return number(value)
    return f"{number(value)} ±{f'{spread:.3f}'.removeprefix('0')}"


def _verdict(verdict: Verdict) -> Text:
    text = Text("eq. 6  ", "dim")
    text.append(f"{verdict.classifier}  ", "bold")
    if not math.isnan(verdict.a):
        text.append(f"A = {number(verdict.a)} {interval(verdict.low, verdict.high)}  ")
    text.append(verdict.text, COLOUR_OF_VERDICT.get(verdict.text, ""))
    if verdict.note:
        text.append(f"  ({verdict.note})", "dim")
    return text


def _notice(notice: Notice) -> Text:
    return Text.assemble((f"{notice.title}. ", COLOUR_OF[notice.level]), notice.text)


def _print_paths(console: Console, paths: Paths) -> None:
    command = f"mlflow ui --backend-store-uri {shlex.quote(paths.tracking_uri)}"
    served = paths.tracking_uri.startswith(("http://", "https://"))
    lines = (
        ("results", paths.results),
        ("report ", paths.report),
        ("curves ", paths.tracking_uri if served else command if paths.tracking_uri else ""),
    )
    for name, place in lines:
        if place:  # whole, on one line, so that it can be copied
            console.print(Text.assemble((f"{name}  ", "dim"), place), soft_wrap=True)
