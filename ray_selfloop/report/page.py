"""The report: one HTML file that opens anywhere. Assembles; draws nothing, computes nothing."""

import base64
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from ray_selfloop.claims.decomposition import PARTS
from ray_selfloop.config.arms import ARMS, TREATMENT
from ray_selfloop.config.datasets.known import traits_of
from ray_selfloop.evaluation import metrics
from ray_selfloop.evaluation.metrics import AMPLIFICATION
from ray_selfloop.inference.verdicts import NOT_TESTED
from ray_selfloop.report import (
    ablations,
    answer,
    audit,
    axes,
    behind,
    cells,
    comparisons,
    definitions,
    figures,
    grids,
    numbers,
    primary,
    quality,
    slopes,
    states,
    style,
    verdicts,
)
from ray_selfloop.report.groups import Group, groups, labels
from ray_selfloop.report.groups import titles as group_titles
from ray_selfloop.report.notices import notices
from ray_selfloop.report.series import Table
from ray_selfloop.report.view import ReportView, Samples, ScenarioView

TEMPLATE = "page.html.jinja"
SHARED = (
    "All chains share the original data, the split and the test images with their colours: "
    "intervals are about new runs of the loop on this training set and new test images of the "
    "same kind."
)


def write(view: ReportView, out: Path) -> Path:
    """Write the page to ``out`` and return it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(html(view), encoding="utf-8")
    return out


def html(view: ReportView) -> str:
    """The page; the same text for the same view."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ray_selfloop", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    written = (
        numbers.number, numbers.small, numbers.signed, numbers.seconds, numbers.p_value,
        numbers.gigabytes,
    )  # fmt: skip
    told = (numbers.interval, numbers.small_interval, numbers.known, verdicts.heading)
    environment.filters.update({write.__name__: write for write in written})
    environment.globals.update({write.__name__: write for write in (*written, *told)})
    environment.globals.update(kind=answer.verdict_kind, what=verdicts.what, end=definitions.end)
    return environment.get_template(TEMPLATE).render(_content(view))


def _content(view: ReportView) -> dict[str, Any]:
    table, found, inks = Table(view.results), groups(view.scenarios), _inks(view)
    of_claims = primary.readings(view)
    return {
        "view": view,
        "level": f"{100 * view.level:g}\u00a0% interval",
        "trials": _trial_count(view),
        "chains": answer.chains(view.scenarios),
        "generations": table.generations,
        "answer": answer.answer(view),
        "alpha": f"{100 * (1 - view.level):g} %",
        "counts": primary.counts(view),
        "words": primary.defined(view),
        "looks": primary.looks(view),
        "frozen": primary.declaration(view.declared),
        "primary": primary.rows(view, table),
        "networks": primary.networks(view),
        "nothing": primary.nothing(view),
        "positive": primary.positive(view),
        "of_the_paper": primary.of_the_paper(view),
        "shared": view.outside.shared if view.outside else SHARED,
        "changes": view.outside.effects.to_dict("records") if view.outside else [],
        **_states(table, view),
        "arms": ARMS,
        "one_number": primary.one_number(view),
        "readings": of_claims,
        "definitions_read": verdicts.readings(of_claims),
        "titles": {group.name: group.title for group in found},
        "names": group_titles(view.scenarios),
        "sections": verdicts.sections(view),
        "untested": [c for c in verdicts.beside(view.claims) if c.verdict == NOT_TESTED],
        "verdicts": verdicts.equation_6(view),
        "axes": _axes(view, inks),
        "laws": [law for law in view.laws if law.held_out_error == law.held_out_error],
        "no_laws": verdicts.without_prediction(view.laws),
        "rests": verdicts.rests(view),
        "amplification": _amplification(table, view, inks),
        "notices": notices(view),
        "groups": [_group(table, view, group, inks) for group in found],
        "law_of_cues": verdicts.of_cues(view),
        "quality": _quality(table, view, found),
        "total": sum(use.core_seconds for use in view.stages),
        "most": max((use.core_seconds for use in view.stages), default=0.0) or 1.0,
        "definitions": definitions.used(view.results["metric"].unique()),
    }


def _inks(view: ReportView) -> style.Inks:
    return style.inks(c for scenario in view.scenarios for c in scenario.classifiers)


def _trial_count(view: ReportView) -> int:
    """Trained classifiers; scenarios that share one count it once."""
    lines = (use for use in view.stages if use.stage.startswith("classifier "))
    return sum(use.computed + use.cached for use in lines)


def _states(table: Table, view: ReportView) -> dict[str, Any]:
    """End states of a sweep, and of a table that others made: there of every curve."""
    found = states.content(table, view.states, always=view.outside is not None)
    return {"states": found, "states_figure": _data_uri("image/svg+xml", found["figure"])}


def _amplification(table: Table, view: ReportView, inks: style.Inks) -> str:
    """A_t where the question is put: the treatments. "" where the table has none."""
    if not (
        view.results["metric"].eq(AMPLIFICATION.name) & view.results["generation"].notna()
    ).any():
        return ""
    mains = [(group.title, group.main) for group in groups(view.scenarios)]
    return _drawing(comparisons.amplification(table, mains, inks))


def _axes(view: ReportView, inks: style.Inks) -> list[dict[str, Any]]:
    """What each axis does, with its drawing."""
    return [
        {**axes.content(panel), "plot": _drawing(axes.figure(panel, inks))}
        for panel in axes.panels(view)
    ]


# --- one group of scenarios ----------------------------------------------------------------------


def _group(table: Table, view: ReportView, group: Group, inks: style.Inks) -> dict[str, Any]:
    parts = [part for part in view.decomposition if part.scenario_group == group.name]
    known = {part.part for part in parts if part.value == part.value}
    chains = (rows for scenario in view.scenarios for rows in _shown(scenario).values())
    most = grids.bytes_per_row(sum(sum(map(grids.photographs, rows)) for rows in chains))
    main, *controls = (
        _scenario(table, s, inks)
        | {"labels": labels(s, group.paper if s is group.main else ""), "grids": _grids(s, most)}
        for s in group.scenarios
    )
    return {
        "of": group,
        "main": main,
        "controls": controls,
        "about": [(s.arm, behind.sentence(table, s)) for s in group.scenarios],
        "plots": _plots(_of_group(table, view, group, inks)),
        "compared": [title for _, title, _ in comparisons.compared(table, group.main)],
        "parts": verdicts.parts(parts),
        "part_names": [name for name in PARTS if name in known],
    }


def _scenario(table: Table, scenario: ScenarioView, inks: style.Inks) -> dict[str, Any]:
    kinds = ablations.kinds(table, scenario)
    return {
        "of": scenario,
        "behind": behind.sentence(table, scenario),
        "plots": _plots(_of_scenario(table, scenario, inks)),
        "slopes": slopes.rows(table, scenario) if traits_of(scenario.dataset).ends_alone else [],
        "columns": ablations.columns(kinds) if kinds else [],
        "ablated": ablations.rows(table, scenario) if kinds else [],
        "undefined": ablations.undefined(table, scenario),
        "heads": [metric.heading for metric in _key_metrics(scenario)],
        "ends": _ends(table, scenario),
        "numbers": [_all_numbers(table, scenario.name, c) for c in scenario.classifiers],
        "audits": audit.rows(table, scenario),
        "maps": audit.maps(table, scenario),
        "thresholds": audit.thresholds(scenario),
    }


def _ends(table: Table, scenario: ScenarioView) -> list[dict[str, Any]]:
    """The key metrics at the first and last generation, their change, and the floors of both."""
    if not table.generations:
        return []
    return [
        {"classifier": name, "rows": list(_end_rows(table, scenario, name))}
        for name in scenario.classifiers
    ]


def _end_rows(table: Table, scenario: ScenarioView, classifier: str) -> Iterator[dict[str, Any]]:
    first, last = table.generations[0], table.generations[-1]
    for label, suffix, n in (
        (f"generation {first}", "", first),
        (f"generation {last}", "", last),
        ("noise floor", "floor", last),
        ("change", "change", last),
        ("noise floor of the change", "change_floor", last),
    ):
        keys = (metrics.with_suffix(one.name, suffix) for one in _key_metrics(scenario))
        curves = [table.mean(scenario.name, classifier, key) for key in keys]
        if any(map(len, curves)):
            yield {
                "label": label,
                "quiet": suffix.endswith("floor"),
                "behind": "" if suffix else behind.cell(table, scenario.name, classifier, n),
                "cells": [cells.at(curve, n) for curve in curves],
            }


def _key_metrics(scenario: ScenarioView) -> tuple[metrics.Metric[..., Any], ...]:
    """Of a dataset without subgroups the first alone."""
    found = tuple(metrics.shown(metrics.Shown.FIGURES))
    return found if scenario.subgroup_names else found[:1]


def _all_numbers(table: Table, scenario: str, classifier: str) -> dict[str, Any]:
    rows = []
    for metric, subgroup in table.measured(scenario, classifier):
        if not definitions.listed(metric):
            continue
        curve = table.mean(scenario, classifier, metric, subgroup)
        if not len(curve):
            continue  # of no generation, as a slope
        shown = [cells.at(curve, generation) for generation in table.generations]
        rows.append({"metric": metric, "subgroup": subgroup, "cells": shown})
    return {"classifier": classifier, "rows": rows}


def _grids(scenario: ScenarioView, most: int) -> list[dict[str, Any]]:
    """One grid per chain, a row for each generation; most: bytes of one row of photographs."""
    return [
        {
            "title": quality.of_chain(f"loop seed {loop_seed}", chain),
            "photographs": any(map(grids.photographs, rows)),
            "bands": _bands(scenario.class_names, rows, most),
        }
        for (loop_seed, chain), rows in _shown(scenario).items()
    ]


def _shown(scenario: ScenarioView) -> dict[tuple[int, str], list[Samples]]:
    """The rows of each chain's grid: generation 0 first; of a control the two ends."""
    found = _by_chain(scenario)
    if scenario.arm == TREATMENT.name:
        return found
    return {chain: [rows[0], *rows[1:][-1:]] for chain, rows in found.items()}


def _bands(names: tuple[str, ...], rows: list[Samples], most: int) -> list[dict[str, Any]]:
    """Parts of a grid that stand one under another, each with some of the classes."""
    if any(map(grids.photographs, rows)):
        cut = grids.bands(len(names))
        kind, most = "image/jpeg", most * len(rows) // len(cut)
        drawn = [(names[band], grids.rows_jpeg(rows, band, most)) for band in cut]
    else:
        width, kind = grids.cell_width(len(names)), "image/png"
        drawn = [(names, [grids.row_png(row, width) for row in rows])]
    return [
        {
            "classes": classes,
            "rows": [
                {"label": grids.label(row.generation), "src": _data_uri(kind, picture)}
                for row, picture in zip(rows, pictures, strict=True)
            ],
        }
        for classes, pictures in drawn
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


# --- figures -------------------------------------------------------------------------------------

Drawings = dict[str, Callable[[], Figure]]
"""Figures by name: those for which there are numbers."""


def _of_scenario(table: Table, scenario: ScenarioView, inks: style.Inks) -> Drawings:
    drawn: Drawings = {"overall": partial(figures.overall, table, scenario, inks)}
    if table.subgroups(scenario.name, metrics.RANKED_ACCURACY.name):
        drawn["ranked_subgroups"] = partial(figures.ranked, table, scenario)
    if ablations.kinds(table, scenario):
        drawn["ablations"] = partial(ablations.figure, table, scenario, inks)
    return drawn


def _of_group(table: Table, view: ReportView, group: Group, inks: style.Inks) -> Drawings:
    parts = [part for part in view.decomposition if part.scenario_group == group.name]
    drawn: Drawings = {}
    if group.controls and table.generations:
        drawn["arms"] = partial(comparisons.arms, table, group, inks)
    if any(part.part != "total" and part.value == part.value for part in parts):
        drawn["decomposition"] = partial(comparisons.decomposition, parts, inks)
    return drawn


def _plots(drawings: Drawings) -> dict[str, str]:
    return {name: _drawing(draw()) for name, draw in drawings.items()}


def _drawing(figure: Figure) -> str:
    return _data_uri("image/svg+xml", style.svg(figure))


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


# --- pictures for the tracker --------------------------------------------------------------------


def artifacts(view: ReportView, folder: Path) -> Mapping[str, list[Path]]:
    """PNG files of the figures and sample grids, for the tracker: scenario -> files.

    File names depend on nothing but what is drawn; folders are numbered, since a scenario's name
    may be of any length and kind. What belongs to a whole group (``arms.png``,
    ``decomposition.png``) and ``amplification.png`` lies with the group's treatment.
    """
    written: dict[str, list[Path]] = {}
    table, inks = Table(view.results), _inks(view)
    for group in groups(view.scenarios):
        for scenario in group.scenarios:
            drawn = _of_scenario(table, scenario, inks)
            if scenario is group.main:
                drawn |= _of_group(table, view, group, inks) | _growth(table, group, inks)
            into = folder / str(len(written))
            into.mkdir(parents=True, exist_ok=True)
            files = {f"{name}.png": style.png(draw()) for name, draw in drawn.items()}
            files |= _sheets(scenario)
            written[scenario.name] = [into / name for name in files]
            for name, content in files.items():
                (into / name).write_bytes(content)
    return written


def _growth(table: Table, group: Group, inks: style.Inks) -> Drawings:
    curves = (table.mean(group.main.name, c, AMPLIFICATION.name) for c in group.main.classifiers)
    mains = [(group.title, group.main)]
    draw = partial(comparisons.amplification, table, mains, inks)
    return {"amplification": draw} if any(map(len, curves)) else {}


def _sheets(scenario: ScenarioView) -> dict[str, bytes]:
    found = {}
    for (loop_seed, chain), samples in _by_chain(scenario).items():
        name = f"samples{f'_{chain}' if chain else ''}_loop_seed_{loop_seed}"
        kind = "jpg" if any(map(grids.photographs, samples)) else "png"
        found[f"{name}.{kind}"] = grids.sheet(samples, scenario.class_names)
    return found
