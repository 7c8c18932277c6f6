"""What a statement is, and every claim of the paper as one: `statements.yaml`, beside this file.

Decides what can be said: a metric, its direction, an estimand, and of how many networks. Knows
nothing of how a statement is tested.
"""

from collections.abc import Iterator
from importlib.resources import files
from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from ray_selfloop.claims.contrasts import LAST_MINUS_FIRST, SLOPE
from ray_selfloop.config import plain
from ray_selfloop.evaluation import metrics
from ray_selfloop.inference.verdicts import DOWN, UP, Direction, Quantifier

Compare = Literal[
    "", "initialization", "pretrained", "size", "networks", "generator", "filter", "count"
]

LARGE = ("vgg19", "resnet50")
SMALL = ("lenet", "alexnet")
RANK_GAP = metrics.GAP  # the last rank less the first
RANK_MEAN = "mean of best and worst"
DISTANCE = metrics.FID.name
# each tested under its own name
KIN = (
    metrics.FID.name,
    metrics.KID.name,
    f"{metrics.FRECHET_DISTANCE.name}/",
    f"{metrics.KERNEL_DISTANCE.name}/",
)
BALANCE, POORNESS = metrics.U_SIGNED.name, f"1 - {metrics.Q.name}"
OF_GENERATORS = (*KIN, BALANCE, POORNESS)
HYPOTHESIS = "hypothesis"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Statement:
    """One claim about one metric under one estimand; a family is a section.

    dataset: a dataset's name, ``cifar`` for every variant, ``any``; regime: ``loop.regime``;
    initialization and pretrained: "" and None for all. classifiers: (): all; without: but these.
    networks: of how many of these it has to hold; ``mean``: of their mean. subgroup: of a ranked
    metric. compare: difference of two contrasts, first minus second: biased - unbiased, pretrained
    - scratch, mean of the large - mean of the small networks, ``networks``: any two; ``count``:
    more networks change so when pretrained than from scratch; ``filter``: treatment - unfiltered;
    ``generator``: of the treatment's generator, without a control.
    controlled: the treatment minus `no_synthetic`; else of the treatment alone.
    steeper: of `RANK_GAP`: says that the worst subgroup's slope is the steeper one, whichever way
        both go. Both falling, the gap grows; both rising, it shrinks.
    size: the claimed size of a change; 0 for any.
    elsewhere: id of the statement that says the same; untestable: why nothing here tests it.
    """

    id: str
    section: str
    text: str
    metric: str
    direction: Direction
    dataset: str
    initialization: str = ""
    pretrained: bool | None = None
    regime: str = "stack"
    classifiers: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    networks: Quantifier | Literal["mean"] = "all"
    subgroup: str = ""
    estimand: str = SLOPE
    compare: Compare = ""
    controlled: bool = True
    steeper: bool = False
    size: float = 0.0
    elsewhere: str = ""
    untestable: str = ""


GROWTH: dict[str, Direction] = {"md": UP, "meo": DOWN, "worst_subgroup": DOWN, "accuracy": DOWN}
"""Metric of the primary statement -> the way that it goes where bias grows."""


def primary(metric: str) -> Statement:
    """The introduction's hypothesis as the primary statement of a setting."""
    return Statement(
        HYPOTHESIS, "primary", "Bias is amplified: the introduction's hypothesis", metric,
        GROWTH[metric], "any", networks="mean", estimand=LAST_MINUS_FIRST,
    )  # fmt: skip


def read(text: str) -> Iterator[Statement]:
    """The statements of a text in the form of `statements.yaml`."""
    for common in plain.parsed(text):
        for one in common.pop("says"):
            name, moves = one.pop("id"), one.pop("of")
            for metric, direction in moves.items():
                end = f"-{metric.rpartition('/')[2]}" if len(moves) > 1 else ""
                yield Statement(f"{name}{end}", metric=metric, direction=direction, **common, **one)


STATEMENTS = tuple(read(files(__package__).joinpath("statements.yaml").read_text("utf-8")))
"""Every claim of the paper beside the primary one."""
