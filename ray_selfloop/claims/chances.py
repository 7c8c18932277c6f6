"""How soon a sweep with `decide` is likely to be decided, and what it costs until then.

Of the primary statement, by its true effect: the chance of a decision by each look, what is
decided, chains and core-hours in the mean. Knows the noise of one chain as `power` has it. A gap's
noise floor, and accuracy as another explanation, are not in these numbers: both ask for more.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ray_selfloop.claims.tested import margin_of
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.inference.sequential import Chances, chances

if TYPE_CHECKING:
    from ray_selfloop.claims.power import Costs, Noise, Setting

TIMES = (0, 1, 2)  # margins that the true effects are


def expected(
    noise: "Noise", margin: float, setting: "Setting", settings: Evaluation
) -> dict[float, Chances]:
    """By true effect. Intervals are those of all primary statements and looks together."""
    sd = noise.error(replace(setting.design, chains=1))
    alpha = (1 - settings.level) / max(setting.together, 1)
    sizes = [times * margin for times in TIMES]
    return {size: chances(size, sd, margin, setting.looks, alpha) for size in sizes}


def sentences(
    metric: str, noise: "Noise", setting: "Setting", settings: Evaluation, costs: "Costs"
) -> Iterator[str]:
    """A small table and how to read it."""
    margin = margin_of(metric, "", settings.claims)
    rows = expected(noise, margin, setting, settings)
    yield (
        f"until it is decided, by the true growth of bias in {metric}: chance of a decision by "
        "each look; of what (interval above zero: grows; below zero: falls; growth by the margin "
        f"of {margin:g}: excluded); means"
    )
    shown = [f"by {m} chains" for m in setting.looks]
    heads = ["growth", *shown, "grows", "falls", "excluded", "chains", "core-hours"]
    widths = [len(head) + 2 for head in heads]
    yield _row(heads, widths)
    for size, found in rows.items():
        shares = (*found.decided, found.grows, found.falls, found.excluded)
        spent = costs.at(found.chains(), setting.design.seeds)
        hours = f"{spent:.3g}" if costs.known else "not known"
        cells = [f"{size:g}", *(f"{100 * share:.0f} %" for share in shares)]
        yield _row([*cells, f"{found.chains():.1f}", hours], widths)
    yield _more(list(rows.values()), setting.together)


def _row(cells: list[str], widths: list[int]) -> str:
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _more(rows: list[Chances], together: int) -> str:
    """What is not in the table."""
    near = (
        "a gap near its noise floor needs more chains, as noise hides a part of its growth, and so "
        "does growth that accuracy may explain"
    )
    if together < 2:
        return f"{near}; decide.hours may end the sweep before"
    means = ", ".join(f"{row.chains(together):.1f}" for row in rows)
    return (
        f"{near}; settings are independent, and the sweep ends when all are decided: {together} "
        f"like this one after {means} chains in the mean; decide.hours may end it before"
    )
