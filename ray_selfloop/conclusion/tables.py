"""The tables that a sweep leaves: what every column says, and the columns that a reader filters by.

Decides the one word for all of something, the level of a row, what its interval covers and its
scenario's axes; the tables' numbers come from the stages. Written into docs/results.md by

    python -m ray_selfloop.conclusion.tables docs/results.md
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ray_selfloop.claims.axes import CHAINS, IMAGES
from ray_selfloop.config.sweep import Scenario
from ray_selfloop.evaluation import metrics
from ray_selfloop.evaluation.rows import COLUMNS
from ray_selfloop.stages.axes import setting

ALL = "all"
ONE_CHAIN = "test images"  # what an interval covers, beside those of `claims.axes`
GENERATED, FLOOR = "generated images", "no bias"
TRIAL, CHAIN, MEAN, DATA = "trial", "chain", "mean", "data"
LEVELS = {
    TRIAL: "one trained classifier",
    CHAIN: "one chain",
    MEAN: "the mean over seeds, then chains",
    DATA: "the test images themselves",
}
INTERVALS = {
    IMAGES: "new runs of the loop and new test images",
    CHAINS: "new runs of the loop alone",
    ONE_CHAIN: "new test images for these classifiers alone",
    GENERATED: "new images of this generator",
    FLOOR: "what classifiers without bias would show",
}
_ALL = f"`{ALL}`"
RESULTS: Mapping[str, str] = {
    "scenario": "the scenario's name",
    "loop_seed": "which chain; missing: the mean over chains",
    "generation": "0 is real data alone; missing: of no generation, such as a slope",
    "classifier": f"the network; {_ALL}: of generated or test images that all of them share",
    "seed": "the classifier seed; missing: the mean over seeds, or no classifier",
    "split": "`test`; of generated images `generated`, `kept` (by the filter) or `queue`",
    "class": f"one class, or {_ALL}",
    "subgroup": f"one subgroup, a rank, or {_ALL}",
    "metric": "its name: see [metrics](metrics.md)",
    "value": "the number; missing: not defined",
    "low": "lower end of its interval; missing: none, or open",
    "high": "upper end, likewise",
    "level": "; ".join(f"`{word}`: {says}" for word, says in LEVELS.items()),
    "interval": "what low and high cover; empty: there are none; "
    + "; ".join(f"`{word}`: {says}" for word, says in INTERVALS.items()),
}  # fmt: skip
KINDS = {
    "statement": "a statement about a setting, with its verdict",
    "network": "one network's own effect behind a statement, unadjusted",
    "look": "a primary statement at one look of a sweep with `decide`",
    "part": "a part of the total effect, from the control arms",
    "check": "a positive control: the change in an arm in which bias grows by design",
    "null": "a change in the arm `a_a`, whose true value is 0",
    "A": "A of eq. 6 (`estimand` is `factor`), and over the control's (`ratio`)",
    "rest": "where bias would come to rest, B* of the affine law; its reason says where B moves",
    "axis": "the change at one value of an axis, or against the axis's first value",
}
EFFECTS: Mapping[str, str] = {
    "kind": "; ".join(f"`{word}`: {says}" for word, says in KINDS.items()),
    "id": "of a statement; of a part its name",
    "section": "of the paper, or `primary`",
    "text": "the statement in words",
    "scenario_group": "the setting: the scenario's name without its arm",
    "primary": "whether it is one of the declared primary statements",
    "metric": "its name: see [metrics](metrics.md)",
    "network": f"one network, or {_ALL}: the statement, or the mean over the networks",
    "subgroup": f"one subgroup, a rank, or {_ALL}",
    "estimand": "`last_minus_first` generation, `slope` per generation, `level`, `scatter`; of A "
    "its `factor` per generation or the `ratio` of two; of B* `rest_point`",
    "direction": "what the statement says of it",
    "quantifier": "of how many networks it has to hold",
    "arm": "whose change it is",
    "control": "the arm whose change is taken off, or that A is divided by; empty: none",
    "margin": "the smallest effect of interest",
    "value": "the effect, in the metric's unit; missing: not defined",
    "low": "lower end of its interval; missing: none, or open",
    "high": "upper end, likewise",
    "interval": "what low and high cover, as above",
    "level": f"`{MEAN}`: over chains; `{CHAIN}`: one chain's own number (of an axis)",
    "chains": "chains behind it",
    "loop_seed": f"which chain, at level `{CHAIN}`",
    "trials": "trials behind it, where they are counted",
    "lost": "collapsed trials by arm",
    "together": "statements that are judged together",
    "mde": "minimum detectable effect",
    "p": "that the verdict rests on; of an axis two-sided, of no difference, unadjusted",
    "p_holm": "p adjusted over those judged together",
    "verdict": "its word; empty: exploratory, none is given",
    "reason": "why, and what to know beside it",
    "half": "the verdict under half the margin",
    "twice": "the verdict under twice the margin",
    "level_value": "the part that the accuracy of each class explains",
    "level_low": "lower end",
    "level_high": "upper end",
    "rest_value": "the rest of the effect",
    "rest_low": "lower end",
    "rest_high": "upper end",
    "decided": "chains of the look that decided it; 0: of none",
    "axis": "the axis that is compared, by its name in the sweep file; empty: none",
    "at": "its value in this row, in words",
    "against": "the value whose change is taken off, in words; empty: the change itself",
}
NUMBERS = (
    "margin", "value", "low", "high", "mde", "p", "p_holm", "level_value", "level_low",
    "level_high", "rest_value", "rest_low", "rest_high",
)  # fmt: skip
COUNTS = ("chains", "loop_seed", "trials", "together", "decided")


# --- what every table gets -----------------------------------------------------------------------


def of_all(table: pd.DataFrame) -> pd.DataFrame:
    """With one word for all; tables of older versions leave it empty."""
    words = [name for name in ("classifier", "class", "subgroup", "network") if name in table]
    return table.assign(**{name: table[name].replace("", ALL) for name in words})


def results(
    table: pd.DataFrame, scenarios: Sequence[Scenario] = (), images: bool = True
) -> pd.DataFrame:
    """The results table as it is written. images: whether means over chains cover test images."""
    found = of_all(table[list(COLUMNS)])
    level = _levels(found)
    found = found.assign(level=level, interval=_intervals(found, level, images))
    return with_axes(found, axes(scenarios), "scenario")


def _levels(table: pd.DataFrame) -> "np.ndarray[Any, Any]":
    cases = [table["seed"].notna(), table["loop_seed"].notna(), table["classifier"] != ALL]
    return np.select(cases, [TRIAL, CHAIN, MEAN], DATA)


def _intervals(
    table: pd.DataFrame, level: "np.ndarray[Any, Any]", images: bool
) -> "np.ndarray[Any, Any]":
    cases = [
        table[["low", "high"]].isna().all(axis=1),
        table["metric"].str.contains(r"_floor(?:/|$)"),
        level == TRIAL,
        level != MEAN,
        _chains(table, level) > 1,
    ]
    words = ["", FLOOR, ONE_CHAIN, GENERATED, IMAGES if images else CHAINS]
    return np.select(cases, words, ONE_CHAIN)


def _chains(table: pd.DataFrame, level: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Chains behind the means: of accuracy all, else those with a sound trial; of a number without
    a generation the most that any generation has."""
    of_accuracy = table["metric"].isin(
        [metrics.ACCURACY.name, metrics.with_suffix(metrics.ACCURACY.name, "change")]
    )
    by = ["scenario", "classifier", "generation"]
    trials = table[(level == TRIAL) & (table["metric"] == metrics.ACCURACY.name)]
    every = trials.groupby(by)["loop_seed"].nunique()
    sound = table[table["metric"] == metrics.CHAINS.name].groupby(by)["value"].max()
    counted = [_at(table, found, by) for found in (every, sound)]
    return np.where(of_accuracy, *counted)


def _at(table: pd.DataFrame, found: pd.Series, by: list[str]) -> "np.ndarray[Any, Any]":
    """The counts of each row's own generation, else the most of any; 0 where nothing is known."""
    own = table[by].merge(found.rename("n").reset_index(), "left", by)["n"]
    most = found.groupby(level=by[:2]).max().rename("n").reset_index()
    rest = table[by[:2]].merge(most, "left", by[:2])["n"]
    return own.astype("Float64").fillna(rest.astype("Float64")).fillna(0).to_numpy(np.float64)


# --- axes ----------------------------------------------------------------------------------------


def axes(scenarios: Sequence[Scenario]) -> pd.DataFrame:
    """A row for each scenario, a column for each key that an axis sets: what it is there."""
    keys = list(dict.fromkeys(key for scenario in scenarios for key in scenario.values))
    rows = [[setting(scenario, key) for key in keys] for scenario in scenarios]
    names = pd.Index([scenario.name for scenario in scenarios], name="scenario")
    found = pd.DataFrame(rows, index=names, columns=keys, dtype=object)
    return pd.DataFrame({key: _plain(found[key]) for key in keys}, index=names)


def _plain(column: pd.Series) -> pd.Series:
    """Numbers as numbers; what is mixed, or no plain value, as text."""
    numbers = all(isinstance(value, int | float) for value in column)
    return column.infer_objects() if numbers else column.map(str)


def with_axes(table: pd.DataFrame, found: pd.DataFrame, by: str) -> pd.DataFrame:
    """found: as of `axes`, by what the column ``by`` names."""
    columns = found.reindex(table[by]).set_axis(table.index)
    return pd.concat([table, columns], axis=1)


# --- the schema ----------------------------------------------------------------------------------

BEGIN, END = "<!-- tables: written by ray_selfloop.conclusion.tables -->", "<!-- end of tables -->"
MD_BY_GENERATION = """
import pandas as pd

rows = pd.read_parquet("selfloop-results/mine/results.parquet")
md = rows[(rows["metric"] == "md") & (rows["level"] == "mean") & (rows["class"] == "all")]
curves = md.pivot_table("value", "generation", ["scenario", "classifier"])
curves.plot(ylabel="MD").figure.savefig("md.png")
"""
AXIS_QUESTION = """
import pandas as pd

effects = pd.read_parquet("selfloop-results/mine/effects.parquet")
asked = effects[(effects["axis"] == "filter.drop") & (effects["against"] != "")]
asked = asked[(asked["metric"] == "md") & (asked["level"] == "mean")]
print(asked[["network", "against", "filter.drop", "value", "low", "high", "p", "chains"]])
"""


def schema() -> Iterator[str]:
    """The generated part of docs/results.md."""
    yield "## The tables"
    yield ""
    yield f"What is empty does not apply; all of something is {_ALL}. Both tables have a column for"
    yield "each key that the axes set, such as `filter.drop`, with the scenario's value."
    for name, columns in (("results", RESULTS), ("effects", EFFECTS)):
        yield from ("", f"**`{name}.parquet`**", "", "| column | what it says |", "|---|---|")
        yield from (f"| `{column}` | {says} |" for column, says in columns.items())
    told = (
        ("MD by generation, drawn ([a sweep of your own](../README.md#a-sweep-file)):",
         MD_BY_GENERATION),
        ("Does dropping more change MD?", AXIS_QUESTION),
    )  # fmt: skip
    for says, code in told:
        yield from ("", says, "", "```python", *code.strip().splitlines(), "```")


def in_page(text: str) -> str:
    """A page with its generated part written anew."""
    before, _, rest = text.partition(BEGIN)
    return "\n".join([before + BEGIN, "", *schema(), "", END + rest.partition(END)[2]])


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(in_page(page.read_text(encoding="utf-8")), encoding="utf-8")
