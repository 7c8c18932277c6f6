"""`effects.parquet`: all that was judged or compared, a row each; what its columns say stands in
`tables`. Computes nothing: the stages did."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from ray_selfloop import arms
from ray_selfloop.claims.axes import CHAINS, FACTOR, IMAGES, RATIO
from ray_selfloop.claims.contrasts import LAST_MINUS_FIRST
from ray_selfloop.claims.decomposition import PARTS
from ray_selfloop.claims.noise import A_A
from ray_selfloop.claims.statements import OF_GENERATORS
from ray_selfloop.conclusion import tables
from ray_selfloop.conclusion.amplifications import amplifications
from ray_selfloop.conclusion.published import published
from ray_selfloop.config.arms import AXIS, CONTROL, POSITIVE, TREATMENT
from ray_selfloop.config.sweep import Scenario
from ray_selfloop.equation6.rest_point import reason
from ray_selfloop.evaluation.metrics import AMPLIFICATION, REST_POINT
from ray_selfloop.planning import Plan
from ray_selfloop.stages import axes, claims, equation6

Row = Mapping[str, Any]
GROWS = {arm.name: arm.positive for arm in POSITIVE}
OWN: Row = {"interval": "", "level": tables.MEAN, "axis": "", "at": "", "against": ""}
ABOUT = (
    "id", "section", "text", "scenario_group", "primary", "metric", "subgroup", "estimand",
    "direction", "control", "margin", "verdict",
)  # fmt: skip
TEXTS = tuple(c for c in tables.EFFECTS if c not in (*tables.NUMBERS, *tables.COUNTS, "primary"))


def effects(plan: Plan) -> pd.DataFrame:
    """In the order of `tables.KINDS`, then a column for each axis."""
    rows = [{**OWN, **row} for row in _rows(plan)]
    found = pd.DataFrame(rows, columns=list(tables.EFFECTS))
    found = found.astype(dict.fromkeys(tables.NUMBERS, "float64"))
    found = found.astype(dict.fromkeys(tables.COUNTS, "Int64"))
    kinds = {name: found[name].fillna("") for name in TEXTS}
    kinds["primary"] = found["primary"].astype("boolean").fillna(False).astype(bool)
    found = tables.of_all(found.assign(**kinds))
    return tables.with_axes(found, _axes(plan, found["scenario_group"]), "scenario_group")


def _rows(plan: Plan) -> Iterator[Row]:
    judged = [record.summary for _, record in published(plan, claims.KIND)]
    entries = [entry for found in judged for entry in found["claims"]]
    yield from map(_statement, entries)
    yield from (row for entry in entries for row in _behind(entry))
    for found in judged:
        yield from map(_part, found["decomposition"])
        yield from map(_null, found["null"])
        yield from map(_check, found.get("positive", ()))
    scenarios = {scenario.name: scenario for scenario in plan.scenarios}
    for verdict in amplifications(plan):
        yield from _amplification(verdict, scenarios[verdict["scenario"]])
    for _, record in published(plan, equation6.KIND):
        for rest in record.summary["rests"]:
            yield _rest(rest, scenarios[rest["scenario"]])
    for _, record in published(plan, axes.KIND):
        for one in record.summary["effects"]:
            yield from _compared(one, arms.group(scenarios[one["scenario"]]))


def _interval(row: Row, several: str = IMAGES) -> str:
    """What its interval covers. several: with two chains or more."""
    if row["low"] is None and row["high"] is None:
        return ""
    if str(row["metric"]).startswith(OF_GENERATORS):
        return CHAINS
    return several if row.get("chains") != 1 else tables.ONE_CHAIN


def _statement(entry: Row) -> Row:
    whole = {name: entry[name] for name in tables.EFFECTS if name in entry}
    arm = TREATMENT.name if entry["chains"] else ""
    return {**whole, "kind": "statement", "arm": arm, "interval": _interval(entry)}


def _behind(entry: Row) -> Iterator[Row]:
    """Each network's own effect, and what each look saw."""
    about = {name: entry[name] for name in ABOUT} | {"arm": TREATMENT.name}
    for network in entry["networks"]:
        own = {name: network[name] for name in ("value", "low", "high", "chains")}
        row = about | own | {"kind": "network", "network": network["name"]}
        yield row | {"interval": _interval(row)}
    for look in entry["looks"]:
        own = {name: look[name] for name in ("chains", "value", "low", "high", "verdict")}
        row = about | own | {"kind": "look"}
        yield row | {"interval": _interval(row)}


def _part(part: Row) -> Row:
    plus, less = PARTS[part["part"]]
    own = {name: part[name] for name in ("scenario_group", "metric", "value", "low", "high")}
    chains = 1 if "this chain only" in part["note"] else None
    return {
        **own, "kind": "part", "id": part["part"], "text": f"{plus} - {less}", "chains": chains,
        "network": part["classifier"], "estimand": LAST_MINUS_FIRST, "arm": plus, "control": less,
        "reason": part["note"], "interval": _interval({**own, "chains": chains}),
    }  # fmt: skip


def _null(null: Row) -> Row:
    own = {name: value for name, value in null.items() if name != "classifier"}
    return {
        **own, "kind": "null", "network": null["classifier"], "estimand": LAST_MINUS_FIRST,
        "arm": A_A, "interval": _interval(null),
    }  # fmt: skip


def _check(check: Row) -> Row:
    """A positive control."""
    own = {name: check[name] for name in ("scenario_group", "arm", "metric", "value", "low", "high",
                                          "chains", "verdict")}  # fmt: skip
    return {
        **own, "kind": "check", "network": tables.ALL, "estimand": LAST_MINUS_FIRST,
        "text": GROWS[check["arm"]], "control": CONTROL.name, "interval": _interval(check),
    }  # fmt: skip


def _amplification(verdict: Row, scenario: Scenario) -> Iterator[Row]:
    """A, and where there is a control A over that of the control."""
    about = {
        "kind": "A", "scenario_group": arms.group(scenario), "arm": scenario.sweep.loop.arm,
        "metric": AMPLIFICATION.name, "network": verdict["classifier"],
        "chains": verdict["chains"], "verdict": verdict["text"], "reason": verdict["note"],
    }  # fmt: skip
    own = {"value": verdict["a"], "low": verdict["low"], "high": verdict["high"]}
    yield about | own | {"estimand": FACTOR, "interval": _interval(about | own)}
    if verdict["ratio"] is not None:
        own = {end: verdict[f"ratio_{end}"] for end in ("low", "high")} | {
            "value": verdict["ratio"]
        }
        more = {"estimand": RATIO, "control": CONTROL.name, "p_holm": verdict["p_holm"]}
        yield about | own | more | {"interval": _interval(about | own)}


def _rest(rest: Row, scenario: Scenario) -> Row:
    """B*; without a value where there is none, and why. Exploratory: no verdict."""
    row = {name: rest[name] for name in ("value", "low", "high", "chains")} | {
        "kind": "rest", "scenario_group": arms.group(scenario), "arm": scenario.sweep.loop.arm,
        "metric": REST_POINT.name, "network": rest["classifier"], "estimand": REST_POINT.name,
        "reason": reason(rest["moves"], rest["note"]),
    }  # fmt: skip
    return row | {"interval": _interval(row)}


def _compared(one: Row, group: str) -> Iterator[Row]:
    """What an axis does, and each chain's own number."""
    same = (
        "axis", "at", "against", "arm", "control", "metric", "estimand", "margin", "value",
        "low", "high", "p", "chains", "interval",
    )  # fmt: skip
    row = {name: one[name] for name in same} | {
        "kind": "axis", "scenario_group": group, "network": one["classifier"],
        "reason": one["note"],
    }  # fmt: skip
    yield row
    alone = dict.fromkeys(("low", "high", "p")) | {"interval": "", "level": tables.CHAIN}
    for chain, value in one["each"].items():
        yield row | alone | {"value": value, "chains": 1, "loop_seed": int(chain)}


def _axes(plan: Plan, wanted: "pd.Series[str]") -> pd.DataFrame:
    """Each setting's values, by its name; of a pair of settings those that both have."""
    values = tables.axes(plan.scenarios).drop(columns=AXIS, errors="ignore")
    groups = [arms.group(scenario) for scenario in plan.scenarios]
    found = values.set_axis(groups)[~pd.Index(groups).duplicated()]
    rows = {}
    for pair in sorted(set(wanted) - set(groups)):
        both = found.reindex(pair.split(" - "))
        rows[pair] = both.iloc[0].where(both.iloc[0] == both.iloc[-1])
    return pd.concat([found, pd.DataFrame(rows.values(), index=list(rows))]) if rows else found
