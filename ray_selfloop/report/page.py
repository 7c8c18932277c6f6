"""The report: one HTML file that opens anywhere. Assembles; draws nothing, computes nothing."""

import base64
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from ray_selfloop.arms import DESCRIPTIONS, TREATMENT
from ray_selfloop.report import (
    answer,
    audit,
    cells,
    comparisons,
    definitions,
    figures,
    grids,
    numbers,
    quality,
    style,
    verdicts,
)
from ray_selfloop.report.groups import Group, groups
from ray_selfloop.report.groups import titles as group_titles
from ray_selfloop.report.notices import notices
from ray_selfloop.report.series import Table
from ray_selfloop.report.view import ReportView, Samples, ScenarioView, StageUse

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
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=numbers.number,
        small=numbers.small,
        signed=numbers.signed,
        seconds=numbers.seconds,
        p=numbers.p_value,
    )
    environment.globals.update(
        interval=numbers.interval, small_interval=numbers.small_interval, kind=answer.verdict_kind
    )
    return environment.get_template(TEMPLATE).render(_content(view))


def _source(name: str) -> str:
    return files("ray_selfloop.report").joinpath(name).read_text(encoding="utf-8")


def _content(view: ReportView) -> dict[str, Any]:
    table, found, inks = Table(view.results), groups(view.scenarios), _inks(view)
    titles = {group.name: group.title for group in found}
    names = group_titles(view.scenarios)
    return {
        "view": view,
        "level": f"{100 * view.level:g}\u00a0% interval"
        if view.level == view.level
        else "interval",
        "trials": _trial_count(view),
        "chains": answer.chains(view.scenarios),
        "generations": table.generations,
        "answer": answer.answer(view),
        "counts": answer.counts(view.claims),
        "hypothesis": verdicts.hypothesis(view, titles),
        "readings": verdicts.readings(view.readings),
        "names": names,
        "sections": verdicts.sections(view, titles),
        "verdicts": verdicts.equation_6(view),
        "laws": [law for law in view.laws if law.held_out_error == law.held_out_error],
        "no_laws": verdicts.without_prediction(view.laws),
        "amplification": _amplification(table, view, inks),
        "notices": notices(view),
        "groups": [_group(table, view, group, inks) for group in found],
        "quality": _quality(table, view, found),
        "stages": _stages(view.stages),
        "total": sum(use.core_seconds for use in view.stages),
        "definitions": definitions.used(view.results["metric"].unique()),
    }


def _level(level: float) -> str:
    return f"{100 * level:g}\u00a0% interval" if level == level else "interval"


def _inks(view: ReportView) -> style.Inks:
    return style.inks(c for scenario in view.scenarios for c in scenario.classifiers)


def _trial_count(view: ReportView) -> int:
    """Trained classifiers; scenarios that share one count it once."""
    lines = (use for use in view.stages if use.stage.startswith("classifier "))
    return sum(use.computed + use.cached for use in lines)


def _amplification(table: Table, view: ReportView, inks: style.Inks) -> str:
    """A_t where the question is put: the treatments. "" where the table has none."""
    if not (view.results["metric"].eq("A") & view.results["generation"].notna()).any():
        return ""
    mains = [(group.title, group.main) for group in groups(view.scenarios)]
    return _drawing(comparisons.amplification(table, mains, inks))


# --- one group of scenarios ----------------------------------------------------------------------


def _group(table: Table, view: ReportView, group: Group, inks: style.Inks) -> dict[str, Any]:
    parts = [part for part in view.decomposition if part.scenario_group == group.name]
    known = {part.part for part in parts if part.value == part.value}
    return {
        "of": group,
        "main": _scenario(table, group.main, inks),
        "controls": [_scenario(table, scenario, inks) for scenario in group.controls],
        "about": [(s.arm, DESCRIPTIONS.get(s.arm, "")) for s in group.scenarios],
        "arms": _drawing(comparisons.arms(table, group, inks)) if _has_arms(table, group) else "",
        "parts": verdicts.parts(parts),
        "part_names": [name for name in comparisons.PARTS if name in known],
        "decomposition": _drawing(comparisons.decomposition(parts, inks)) if len(known) > 1 else "",
    }


def _has_arms(table: Table, group: Group) -> bool:
    return bool(group.controls and table.generations)


def _scenario(table: Table, scenario: ScenarioView, inks: style.Inks) -> dict[str, Any]:
    return {
        "of": scenario,
        "overall": _drawing(figures.overall(table, scenario, inks)),
        "ranked": _drawing(figures.ranked(table, scenario))
        if table.subgroups(scenario.name, "ranked_accuracy")
        else "",
        "ends": _ends(table, scenario),
        "numbers": [_all_numbers(table, scenario.name, c) for c in scenario.classifiers],
        "grids": _grids(scenario),
        "audits": audit.rows(table, scenario),
        "maps": audit.maps(table, scenario),
        "thresholds": audit.thresholds(scenario),
    }


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
                        cells.at(table.mean(scenario.name, classifier, metric + suffix), generation)
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
        shown = [cells.at(curve, generation) for generation in table.generations]
        rows.append({"metric": metric, "subgroup": subgroup, "cells": shown})
    return {"classifier": classifier, "rows": rows}


def _grids(scenario: ScenarioView) -> list[dict[str, Any]]:
    """One grid per chain: a picture for each generation, 0 first; of a control the two ends."""
    width = grids.cell_width(len(scenario.class_names))
    return [
        {
            "title": quality.of_chain(f"loop seed {loop_seed}", chain),
            "rows": [
                {
                    "label": grids.label(samples.generation),
                    "src": _data_uri("image/png", grids.row_png(samples, width)),
                }
                for samples in (rows if scenario.arm == TREATMENT else [rows[0], *rows[1:][-1:]])
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


# --- the whole sweep -----------------------------------------------------------------------------


def _quality(table: Table, view: ReportView, found: list[Group]) -> dict[str, Any]:
    controls = [scenario for group in found for scenario in group.controls]
    return {
        "generations": [n for n in table.generations if n > 0],
        "fid_absent": "" if quality.fid_measured(table, found) else view.fid_absent,
        "blocks": quality.blocks(table, [group.main for group in found]),
        "controls": quality.blocks(table, controls),
    }


def _stages(uses: Iterable[StageUse]) -> list[dict[str, Any]]:
    uses = list(uses)
    most = max((use.core_seconds for use in uses), default=0.0) or 1.0
    return [{"of": use, "bar": round(100 * use.core_seconds / most, 1)} for use in uses]


def _drawing(figure: Figure) -> str:
    return _data_uri("image/svg+xml", style.svg(figure))


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


# --- pictures for the tracker --------------------------------------------------------------------


def artifacts(view: ReportView, folder: Path) -> Mapping[str, list[Path]]:
    """PNG files of the figures and sample grids, for the tracker: scenario -> files.

    File names depend on nothing but what is drawn. What belongs to a whole group (``arms.png``,
    ``decomposition.png``) and ``amplification.png`` lies with the group's treatment.
    """
    written: dict[str, list[Path]] = {}
    table, inks = Table(view.results), _inks(view)
    for group in groups(view.scenarios):
        for scenario in group.scenarios:
            drawn = _pictures(table, scenario, inks)
            if scenario is group.main:
                drawn |= _group_pictures(table, view, group, inks)
            into = folder / re.sub(r"[^\w.=-]", "_", scenario.name)
            into.mkdir(parents=True, exist_ok=True)
            written[scenario.name] = [into / name for name in drawn]
            for name, draw in drawn.items():
                (into / name).write_bytes(draw())
    return written


Pictures = dict[str, Callable[[], bytes]]


def _pictures(table: Table, scenario: ScenarioView, inks: style.Inks) -> Pictures:
    def grid(samples: list[Samples]) -> Callable[[], bytes]:
        return lambda: grids.sheet_png(samples, scenario.class_names)

    return {
        "overall.png": lambda: style.png(figures.overall(table, scenario, inks)),
        "ranked_subgroups.png": lambda: style.png(figures.ranked(table, scenario)),
        **{
            f"samples{f'_{chain}' if chain else ''}_loop_seed_{loop_seed}.png": grid(samples)
            for (loop_seed, chain), samples in _by_chain(scenario).items()
        },
    }


def _group_pictures(table: Table, view: ReportView, group: Group, inks: style.Inks) -> Pictures:
    parts = [part for part in view.decomposition if part.scenario_group == group.name]
    drawn: Pictures = {}
    if _has_arms(table, group):
        drawn["arms.png"] = lambda: style.png(comparisons.arms(table, group, inks))
    if any(part.part != "total" and part.value == part.value for part in parts):
        drawn["decomposition.png"] = lambda: style.png(comparisons.decomposition(parts, inks))
    if any(len(table.mean(group.main.name, c, "A")) for c in group.main.classifiers):
        drawn["amplification.png"] = lambda: style.png(
            comparisons.amplification(table, [(group.title, group.main)], inks)
        )
    return drawn
