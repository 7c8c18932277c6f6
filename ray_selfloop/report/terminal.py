"""What a person sees in the terminal: the live table while a sweep runs, the tables at its end.

Shows plain values; must not know Ray, the store or MLflow.
"""

import math
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table as RichTable
from rich.text import Text

from ray_selfloop.claims.positive import UNSEEN
from ray_selfloop.evaluation.metrics import (
    ABLATION_DROP,
    LABEL_FIDELITY,
    METRICS,
    Reads,
    Shown,
    shown,
    with_suffix,
)
from ray_selfloop.inference import verdicts as words
from ray_selfloop.report import ablations, answer, axes, behind, primary
from ray_selfloop.report.groups import Group as PaperGroup
from ray_selfloop.report.groups import groups
from ray_selfloop.report.notices import notices
from ray_selfloop.report.numbers import (
    NO_RESULT,
    NOT_DEFINED,
    gigabytes,
    interval,
    number,
    seconds,
    signed,
    small,
    small_interval,
)
from ray_selfloop.report.series import Curve, Table
from ray_selfloop.report.view import (
    Claim,
    Look,
    Positive,
    ReportView,
    RestPoint,
    ScenarioView,
    Verdict,
)

DROPS = {"object_gray": "drop, gray object", "box_gray": "drop, gray box",
         "box_neighbour": "drop, neighbour"}  # fmt: skip
MOST_MEMORY = 3  # kinds of stages whose memory is told
GENERATIONS_PER_BLOCK = 4  # 4 columns of a mean and a spread fit in 80 characters
COLOUR_OF = {"failed": "red", "warning": "yellow", "note": "blue"}
COLOUR_OF_VERDICT = {
    answer.GROWS: "bold red",
    answer.SHRINKS: "bold green",
    words.SUPPORTED: "bold blue",
    words.CONTRADICTED: "bold red",
    words.RULED_OUT: "bold blue",
    words.ACCURACY: "yellow",
}
ELSEWHERE = "the paper's own statements are about other data: see the end of the report"
SHORT = 110.0  # s below which the time left is told in seconds
MOST_DETAILED = 2  # scenarios whose tables show every generation
MOST_GENERATIONS = 12  # of a table that others made, likewise


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


def progress(rows: Sequence[Progress], left: str = "") -> RenderableType:
    """The live table, at most 100 columns wide, and below it the time left, where it is known."""
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
    return Group(table, Text(left, "dim")) if left else table


def left(clock: float, about: str, told: str) -> str:
    """``about 4 min left, predicted by reference costs (12 of 64)``, by the minute."""
    if clock < SHORT:
        span = f"{max(math.ceil(clock / 10), 1) * 10} s"
    else:
        hours, minutes = divmod(math.ceil(clock / 60), 60)
        span = f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
    return f"{about} {span} left, predicted by {told}"


def _or_dot(count: int, style: str) -> Text:
    return Text(str(count), style) if count else Text("·", "dim")


def line(row: Progress) -> str:
    """The same as one plain line, for logs: ``trials 12/32 done, 4 cached, 2 running``."""
    parts = [f"{row.kind} {row.done}/{row.total} done"]
    counts = (("cached", row.cached), ("running", row.running), ("FAILED", row.failed))
    parts.extend(f"{count} {name}" for name, count in counts if count)
    return ", ".join(parts) + f", {seconds(row.elapsed)}"


@contextmanager
def live(console: Console) -> Iterator[Callable[[Sequence[Progress], str], None]]:
    """``with live(console) as show: show(rows, left)``; left: the time left in words, or "".

    A table that is redrawn in a terminal; elsewhere a line for each row whose counts have changed,
    and below them one of the time left where it says something else than before.
    """
    if not console.is_terminal:
        yield _printer(console)
        return
    with Live(console=console, refresh_per_second=4, transient=False) as display:

        def show(rows: Sequence[Progress], left: str) -> None:
            display.update(progress(rows, left))

        yield show


def _printer(console: Console) -> Callable[[Sequence[Progress], str], None]:
    last: dict[str, tuple[int, ...]] = {}
    said = ""

    def tell(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    def show(rows: Sequence[Progress], left: str) -> None:
        nonlocal said
        moved = False
        for row in rows:
            counts = (row.done, row.total, row.cached, row.failed)
            if row.total and last.get(row.kind) != counts:
                tell(line(row))
                moved = True
            last[row.kind] = counts
        span = left.partition(",")[0]
        if moved and span not in ("", said):
            tell(left)
            said = span

    return show


def summary(console: Console, view: ReportView, paths: Paths) -> None:
    """The answer, the numbers behind it, the warnings and the paths; one screen for a sweep.

    A sweep of at most two scenarios shows every generation; a larger one first and last.
    """
    table = Table(view.results)
    console.print()
    _print_answer(console, view)
    console.print()
    short = not view.outside or len(table.generations) <= MOST_GENERATIONS
    if len(view.scenarios) <= MOST_DETAILED and short:
        for scenario in view.scenarios:
            _print_scenario(console, table, scenario, view)
    else:
        for part in _alike(table, view):
            console.print(_overview(table, view, part))
            console.print()
    for line_of_fidelity in _fidelity(table, view):
        console.print(line_of_fidelity)
    console.print()
    for notice in notices(view):
        colour = COLOUR_OF[notice.level]
        console.print(Text.assemble((f"{notice.title}. ", colour), notice.text))
    console.print()
    _print_memory(console, view)
    _print_paths(console, paths)


def _print_memory(console: Console, view: ReportView) -> None:
    """Who held most at once: the driver, and the stages that need most."""
    held = [("driver", view.driver_memory), *((use.stage, use.memory) for use in view.stages)]
    known = [(name, size) for name, size in held if not math.isnan(size)]
    first = known[:1] if known and known[0][0] == "driver" else []
    most = sorted(known[len(first) :], key=lambda one: -one[1])[:MOST_MEMORY]
    told = ", ".join(f"{name} {gigabytes(size)}" for name, size in (*first, *most))
    if told:
        console.print(Text.assemble(("memory   ", "dim"), f"at most: {told}"))


def _print_answer(console: Console, view: ReportView) -> None:
    """The answer, what its words mean, the statement on each setting, how many others are what."""
    found = answer.answer(view)
    console.print(Text.assemble((found.lead, "bold"), f": {found.rest}."))
    used = set(primary.of_answer(view))
    _print_words(console, used)
    frozen = primary.declaration(view.declared)
    console.print(Text(frozen.text, "bold yellow" if frozen.late else "dim"))
    titles = {group.name: group.title for group in groups(view.scenarios)}
    for claim in answer.hypothesis(view.claims):
        if claim.verdict != words.NOT_TESTED:  # why others are not stands in the answer
            console.print(_claim(claim, titles.get(claim.scenario_group, claim.scenario_group)))
            for look in claim.looks:
                console.print(_look(look))
    for one in view.positive:
        console.print(_positive(one, titles.get(one.scenario_group, one.scenario_group)))
    for name, text in axes.lines(view):
        console.print(Text.assemble(("axis     ", "dim"), (name, "bold"), f": {text}"))
    _print_others(console, view, used)
    null = primary.nothing(view)
    if null:
        console.print(Text.assemble(("a_a      ", "dim"), (null.text, "bold red" * null.wrong)))


def _print_others(console: Console, view: ReportView, used: Set[str]) -> None:
    """What became of the paper's other statements, where any of the data are the paper's."""
    counted = primary.counts(view)
    if not (counted.tested or counted.untested):
        return
    told = _counted(counted) if primary.of_the_paper(view) else ELSEWHERE
    console.print(Text.assemble(("claims   ", "dim"), told))
    if primary.of_the_paper(view):
        _print_words(console, {word for word, _ in counted.verdicts} - used)


def _print_words(console: Console, used: Set[str]) -> None:
    for word, meaning in ((w, m) for w, m in words.WORDS.items() if w in used):
        console.print(Text(f"{word}: {meaning}", "dim"))


def _counted(found: primary.Counts) -> str:
    """Of the paper's other statements, how many have which verdict."""
    told = ", ".join(f"{n} {verdict}" for verdict, n in found.verdicts) or "none tested"
    rest = f"; {found.untested} others cannot be tested here" if found.untested else ""
    return f"the paper's other statements: {told}{rest}"


def _claim(claim: Claim, setting: str) -> Text:
    """The hypothesis about one setting: effect, margin, what is behind it, verdict."""
    title = answer.TITLES.get(claim.metric, claim.metric)
    kind = "primary  " if claim.primary else "claim    "
    ends = f"{signed(claim.value)} {small_interval(claim.low, claim.high)}".strip()
    text = Text.assemble((kind, "dim"), (setting, "bold"), f": {title} {ends}")
    text.append(f", margin {small(claim.margin)}; {answer.behind(claim)}  ", "dim")
    return text.append(claim.verdict, COLOUR_OF_VERDICT.get(claim.verdict, ""))


def _positive(one: Positive, setting: str) -> Text:
    """The positive control of a setting: what it is, its effect, whether it was seen."""
    chains = f"{one.chains} chain{'s' if one.chains != 1 else ''}"
    text = Text.assemble(("check    ", "dim"), (setting, "bold"), f": {answer.checked_by(one)}")
    text.append(f"; {chains}  ", "dim")
    return text.append(one.verdict, "bold red" if one.verdict == UNSEEN else "bold blue")


def _look(look: Look) -> Text:
    """What one look saw: effect, the interval over all looks, verdict."""
    ends = small_interval(look.low, look.high)
    text = Text.assemble(
        ("look     ", "dim"), f"{look.chains} chains: {signed(look.value)} {ends}  "
    )
    return text.append(look.verdict, COLOUR_OF_VERDICT.get(look.verdict, ""))


def _print_scenario(
    console: Console, table: Table, scenario: ScenarioView, view: ReportView
) -> None:
    console.rule(f"[bold]{escape(scenario.title)}", align="left", style="dim")
    console.print(_curves(table, scenario))
    for verdict in view.verdicts:
        if verdict.scenario == scenario.name:
            console.print(_verdict(verdict))
    for rest in _rests(view, scenario.name):
        console.print(rest)
    console.print()


def metrics(table: Table, scenario: ScenarioView) -> tuple[tuple[str, str], ...]:
    """``(metric, title)``: accuracy and fairness; without subgroups the drops under ablation."""
    known = [(one.name, one.long) for one in shown(Shown.TERMINAL)]
    if scenario.subgroup_names:
        return tuple(known)
    kinds = ablations.kinds(table, scenario)
    return (known[0], *((f"{ABLATION_DROP.name}/{kind}", DROPS[kind]) for kind in kinds))


def _alike(table: Table, view: ReportView) -> list[list[PaperGroup]]:
    """The groups in parts that show the same metrics."""
    parts: dict[tuple[tuple[str, str], ...], list[PaperGroup]] = defaultdict(list)
    for group in groups(view.scenarios):
        parts[metrics(table, group.main)].append(group)
    return list(parts.values())


def _overview(table: Table, view: ReportView, part: Sequence[PaperGroup]) -> RenderableType:
    """One line per classifier of every group's treatment: first -> last generation, eq. 6."""
    measured = _in_overview(metrics(table, part[0].main))
    ends = table.generations[:1] + table.generations[1:][-1:]
    laws = {(v.scenario, v.classifier): v for v in view.verdicts}
    blocks: list[RenderableType] = []
    for group in part:
        shown = _columns(measured)
        for name in group.main.classifiers:
            of = group.main.name, name
            shown.add_row(
                f"  {name}",
                *(text for metric, _ in measured for text in _ends(table, of, metric, ends)),
                behind.cell(table, *of, ends[-1]) if ends else NO_RESULT,
                _law(laws.get(of)),
            )
        blocks += [Text(group.title, "bold"), shown, *_rests(view, group.main.name)]
    span = f"generation {' → '.join(map(str, ends))}; control arms and reasons: see the report"
    return Group(*blocks, Text(span, "dim"))


def _columns(measured: Sequence[tuple[str, str]]) -> RichTable:
    """An empty table, as wide whatever is in it, of at most 80 characters."""
    shown = RichTable(box=None, padding=(0, 1, 0, 0), header_style="dim")
    shown.add_column("", min_width=20)
    for metric, title in measured:
        shown.add_column(title, justify="right", min_width=13)
        if _floored(metric):
            shown.add_column("floor", justify="right")
    shown.add_column("chains·trials", justify="right", min_width=13)
    shown.add_column("eq. 6", justify="right", min_width=11)
    return shown


def _ends(table: Table, of: tuple[str, str], metric: str, ends: Sequence[int]) -> Iterator[str]:
    """``0.110 → 0.105``, and the noise floor of the last where the metric stands beside it."""
    curve = table.mean(*of, metric)
    yield " → ".join(_level(curve, n) for n in ends)
    if _floored(metric):
        floor = table.mean(*of, with_suffix(metric, "floor"))
        yield _short(floor.at(ends[-1])[0]) if ends and len(floor) else NO_RESULT


def _floored(metric: str) -> bool:
    """Whether a metric stands beside its noise floor: a headline that subgroups decide."""
    found = METRICS.get(metric)
    return found is not None and Shown.HEADLINE in found.shown and found.reads is Reads.RATES


def _in_overview(measured: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The metrics that fit beside each other in 80 characters."""
    headlines = {one.name for one in shown(Shown.HEADLINE)}
    known = [(metric, title) for metric, title in measured if metric in headlines]
    return known if len(known) > 1 else list(measured[:2])


def _law(verdict: Verdict | None) -> Text:
    head = verdict.text.split(":")[0] if verdict else NO_RESULT
    return Text(head, COLOUR_OF_VERDICT.get(head, ""))


def _fidelity(table: Table, view: ReportView) -> Iterator[Text]:
    """Label fidelity of every setting's generators, lowest to highest."""
    for group in groups(view.scenarios):
        for chain in table.chains(group.main.name):
            curve = table.generator(group.main.name, chain, LABEL_FIDELITY.name, "generated")
            values = curve.value[~np.isnan(curve.value)]
            if len(values):
                ends = dict.fromkeys((number(values.min()), number(values.max())))
                place = group.title + (f" ({chain})" if chain else "")
                told = f"{place}: {LABEL_FIDELITY.long} {' to '.join(ends)}"
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
                floor = table.mean(scenario.name, classifier, with_suffix(metric, "floor"))
                if _floored(metric) and len(floor):
                    ends = (_level(floor, generation) for generation in shown)
                    block.add_row("    noise floor", *ends, style="dim")
        _add_behind(block, table, scenario, shown)
        blocks.append(block)
    blocks.append(Text("mean over trials ± their standard deviation", "dim"))
    return Group(*blocks)


def _level(curve: Curve, generation: int) -> str:
    return number(curve.at(generation)[0]) if generation in curve.generations else NO_RESULT


def _add_behind(
    block: RichTable, table: Table, scenario: ScenarioView, shown: Sequence[int]
) -> None:
    """Chains and trials behind the means; collapsed ones are lost to all but accuracy."""
    block.add_row(Text("chains · trials", "bold"))
    for name in scenario.classifiers:
        counts = (behind.cell(table, scenario.name, name, generation) for generation in shown)
        block.add_row(f"  {name}", *counts)


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
    return f"{number(value)} ±{_short(spread)}"


def _short(value: float) -> str:
    """``.012``; an en dash where there is none."""
    return NO_RESULT if math.isnan(value) else f"{value:.3f}".removeprefix("0")


def _verdict(verdict: Verdict) -> Text:
    """A, and A over the control's, on which the verdict is."""
    text = Text("eq. 6  ", "dim")
    text.append(f"{verdict.classifier}  ", "bold")
    if not math.isnan(verdict.a):
        text.append(f"A = {number(verdict.a)} {interval(verdict.low, verdict.high)}  ")
    if not math.isnan(verdict.ratio):
        ends = interval(verdict.ratio_low, verdict.ratio_high)
        text.append(f"A/control = {number(verdict.ratio)} {ends}  ")
    text.append(verdict.text, COLOUR_OF_VERDICT.get(verdict.text, ""))
    if verdict.note:
        text.append(f"  ({verdict.note})", "dim")
    return text


def _rests(view: ReportView, scenario: str) -> list[Text]:
    """Where bias would come to rest, of the classifiers that have such a point."""
    of = (rest for rest in view.rests if rest.scenario == scenario)
    return [_rest(rest) for rest in of if not math.isnan(rest.value)]


def _rest(rest: RestPoint) -> Text:
    text = Text("rest   ", "dim")
    text.append(f"{rest.classifier}  ", "bold")
    text.append(f"B* = {number(rest.value)} {interval(rest.low, rest.high)}  B moves: {rest.moves}")
    return text


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
