"""The report: one HTML file that opens anywhere. Assembles; draws nothing, computes nothing."""

import base64
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from ray_selfloop.report import definitions, figures, grids, numbers
from ray_selfloop.report.notices import notices
from ray_selfloop.report.series import Curve, Table
from ray_selfloop.report.view import (
    FilterAudit,
    ReportView,
    Samples,
    ScenarioView,
    StageUse,
    Verdict,
)

TEMPLATE = "page.html.jinja"
KEY_METRICS = ("accuracy", "meo", "di", "md")


def write(view: ReportView, out: Path) -> Path:
    """Write the page to ``out`` and return it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(html(view), encoding="utf-8")
    return out


def html(view: ReportView) -> str:
    """The page; the same text for the same view."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(number=numbers.number, seconds=numbers.seconds)
    environment.globals["interval"] = numbers.interval
    source = files("ray_selfloop.report").joinpath(TEMPLATE).read_text(encoding="utf-8")
    table = Table(view.results)
    return environment.from_string(source).render(
        view=view,
        level=f"{100 * view.level:g} % interval" if view.level == view.level else "interval",
        trials=_trial_count(view),
        verdicts=_verdicts(view),
        notices=notices(view),
        scenarios=[_scenario(table, scenario) for scenario in view.scenarios],
        quality=_quality(table, view.scenarios),
        stages=_stages(view.stages),
        total=sum(use.core_seconds for use in view.stages),
        definitions=definitions.used(view.results["metric"].unique()),
    )


def _trial_count(view: ReportView) -> int:
    rows = view.results
    whole = (rows["class"] == "") & (rows["subgroup"] == "") & (rows["metric"] == "accuracy")
    return int((whole & rows["seed"].notna()).sum())


# --- verdicts ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """A horizontal scale for A, in percent of the drawing's width."""

    low: float
    high: float

    def x(self, value: float) -> float:
        """Place of a value, cut at the ends."""
        place = (value - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, place)), 2)


def _verdicts(view: ReportView) -> list[dict[str, Any]]:
    ends = [e for v in view.verdicts for e in (v.low, v.high, v.a) if e == e]
    axis = Axis(max(0.0, min([*ends, 0.9]) - 0.05), min(4.0, max([*ends, 1.1]) + 0.05))
    titles = {scenario.name: scenario.title for scenario in view.scenarios}
    return [_verdict(v, axis, titles.get(v.scenario, v.scenario)) for v in view.verdicts]


def _verdict(verdict: Verdict, axis: Axis, title: str) -> dict[str, Any]:
    kinds = {"A > 1": "amplifies", "A < 1": "mitigates"}
    mark = None
    if verdict.a == verdict.a:
        known = verdict.low == verdict.low and verdict.high == verdict.high
        ends = (verdict.low, verdict.high) if known else (verdict.a, verdict.a)
        mark = {"a": axis.x(verdict.a), "low": axis.x(ends[0]), "high": axis.x(ends[1])}
    return {
        "scenario": title,
        "classifier": verdict.classifier,
        "a": numbers.number(verdict.a),
        "interval": numbers.interval(verdict.low, verdict.high),
        "text": verdict.text,
        "kind": kinds.get(verdict.text, "undecided"),
        "note": verdict.note,
        "mark": mark,
        "one": axis.x(1.0),
    }


# --- one scenario --------------------------------------------------------------------------------


def _scenario(table: Table, scenario: ScenarioView) -> dict[str, Any]:
    return {
        "of": scenario,
        "overall": _data_uri("image/svg+xml", figures.svg(figures.overall(table, scenario))),
        "ranked": _data_uri("image/svg+xml", figures.svg(figures.ranked(table, scenario)))
        if table.subgroups(scenario.name, "ranked_accuracy")
        else "",
        "ends": _ends(table, scenario),
        "numbers": [_all_numbers(table, scenario.name, c) for c in scenario.classifiers],
        "generations": table.generations,
        "grids": _grids(scenario),
        "audits": [_audit(table, scenario, audit) for audit in scenario.audits],
        "class_rates": _class_rates(table, scenario),
    }


def _cell(curve: Curve, generation: int) -> dict[str, str]:
    """A number and its interval as text; an en dash where there is no row."""
    if generation not in curve.generations:
        return {"value": numbers.NO_RESULT, "interval": ""}
    value, low, high = curve.at(generation)
    return {"value": numbers.number(value), "interval": numbers.interval(low, high)}


def _ends(table: Table, scenario: ScenarioView) -> list[dict[str, Any]]:
    """The key metrics at the first and last generation, their change, and the floors of both."""
    if not table.generations:
        return []
    first, last = table.generations[0], table.generations[-1]
    asked = (
        (f"generation {first}", "", first),
        (f"generation {last}", "", last),
        ("noise floor", "_floor", last),
        ("change", "_change", last),
        ("noise floor of the change", "_change_floor", last),
    )
    return [
        {
            "classifier": classifier,
            "rows": [
                {
                    "label": label,
                    "quiet": suffix.endswith("_floor"),
                    "cells": [
                        _cell(table.mean(scenario.name, classifier, metric + suffix), generation)
                        for metric in KEY_METRICS
                    ],
                }
                for label, suffix, generation in asked
                if _any(table, scenario.name, classifier, suffix)
            ],
        }
        for classifier in scenario.classifiers
    ]


def _any(table: Table, scenario: str, classifier: str, suffix: str) -> bool:
    return any(len(table.mean(scenario, classifier, m + suffix)) for m in KEY_METRICS)


def _all_numbers(table: Table, scenario: str, classifier: str) -> dict[str, Any]:
    rows = []
    for metric, subgroup in table.measured(scenario, classifier):
        if not definitions.listed(metric):
            continue
        curve = table.mean(scenario, classifier, metric, subgroup)
        cells = [_cell(curve, generation) for generation in table.generations]
        rows.append({"metric": metric, "subgroup": subgroup, "cells": cells})
    return {"classifier": classifier, "rows": rows}


def _grids(scenario: ScenarioView) -> list[dict[str, Any]]:
    """One grid per chain: rows of PNG cells, generation 0 first."""
    width = grids.cell_width(len(scenario.class_names))
    return [
        {
            "title": _of_chain(f"Samples, loop seed {loop_seed}", chain),
            "rows": [
                {
                    "label": grids.label(samples.generation),
                    "cells": [
                        _data_uri("image/png", grids.cell_png(c, width)) for c in samples.images
                    ],
                }
                for samples in rows
            ],
        }
        for (loop_seed, chain), rows in _by_chain(scenario).items()
    ]


def _by_chain(scenario: ScenarioView) -> dict[tuple[int, str], list[Samples]]:
    """``(loop seed, whose chain)`` -> its samples, generation 0 first."""
    chains: dict[tuple[int, str], list[Samples]] = defaultdict(list)
    for samples in sorted(scenario.samples, key=lambda s: s.generation):
        chains[samples.loop_seed, samples.classifier].append(samples)
    return dict(sorted(chains.items()))


def _audit(table: Table, scenario: ScenarioView, audit: FilterAudit) -> dict[str, Any]:
    rates = {
        name: _cell(
            table.kept_fraction(scenario.name, audit.classifier, audit.loop_seed, name),
            audit.generation,
        )
        for name in scenario.subgroup_names
    }
    shifts = {n: f"{audit.share_shift[n]:+.3f}" for n in rates if n in audit.share_shift}
    share = audit.kept / audit.generated if audit.generated else float("nan")
    return {
        "of": audit,
        "chain": _of_chain(f"loop seed {audit.loop_seed}", audit.classifier),
        "share": numbers.number(share),
        "rates": rates,
        "shifts": shifts,
        "thresholds": _span(audit.thresholds.values()),
    }


def _span(values: Iterable[float]) -> str:
    """``0.214 to 0.331``, or one number where all are alike."""
    found = sorted(values)
    return " to ".join(dict.fromkeys(map(numbers.number, found[:1] + found[-1:])))


def _class_rates(table: Table, scenario: ScenarioView) -> list[dict[str, Any]]:
    """Keep rate per class and generation."""
    rows = []
    for chain in table.chains(scenario.name):
        for name in scenario.class_names:
            curve = table.generator(scenario.name, chain, "kept_fraction", "kept", name)
            cells = [_cell(curve, generation) for generation in table.generations[1:]]
            if len(curve):
                rows.append({"name": _of_chain(name, chain), "cells": cells})
    return rows


# --- the whole sweep -----------------------------------------------------------------------------


def _quality(table: Table, scenarios: Sequence[ScenarioView]) -> dict[str, Any]:
    """Table 1's layout: rows scenario, columns generations; one block per metric and split."""
    generations = [n for n in table.generations if n > 0]
    keys = dict.fromkeys(k for s in scenarios for k in table.generator_measures(s.name))
    blocks = []
    for metric, split in definitions.ordered(keys):
        rows = []
        for scenario, chain in ((s, c) for s in scenarios for c in table.chains(s.name)):
            curve = table.generator(scenario.name, chain, metric, split)
            cells = [_cell(curve, n) for n in generations]
            rows.append({"scenario": _of_chain(scenario.title, chain), "cells": cells})
        blocks.append(
            {"metric": metric, "split": split, "rows": rows, "about": definitions.of(metric)}
        )
    return {"generations": generations, "blocks": blocks}


def _of_chain(name: str, chain: str) -> str:
    return f"{name} · chain of {chain}" if chain else name


def _stages(uses: Iterable[StageUse]) -> list[dict[str, Any]]:
    uses = list(uses)
    most = max((use.core_seconds for use in uses), default=0.0) or 1.0
    return [{"of": use, "bar": round(100 * use.core_seconds / most, 1)} for use in uses]


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def artifacts(view: ReportView, folder: Path) -> Mapping[str, list[Path]]:
    """PNG files of the figures and sample grids, for the tracker: scenario -> files."""
    table = Table(view.results)
    written: dict[str, list[Path]] = {}
    for scenario in view.scenarios:
        into = folder / re.sub(r"[^\w.=-]", "_", scenario.name)
        into.mkdir(parents=True, exist_ok=True)
        content = {
            "overall.png": figures.png(figures.overall(table, scenario)),
            "ranked_subgroups.png": figures.png(figures.ranked(table, scenario)),
            **{
                f"samples{f'_{chain}' if chain else ''}_loop_seed_{loop_seed}.png": grids.sheet_png(
                    samples, scenario.class_names
                )
                for (loop_seed, chain), samples in _by_chain(scenario).items()
            },
        }
        written[scenario.name] = [into / name for name in content]
        for name, data in content.items():
            (into / name).write_bytes(data)
    return written
