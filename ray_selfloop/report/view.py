"""What the report shows, as plain values.

The driver fills a ReportView from the store's records; everything in ``report/`` reads it and
nothing else. Knows nothing of the store, of Ray and of MLflow. Numbers are not computed here: each
comes from the results table or is passed in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_selfloop.claims.axes import AxisEffect
from ray_selfloop.claims.decomposition import Part
from ray_selfloop.claims.noise import Null
from ray_selfloop.claims.positive import Positive
from ray_selfloop.claims.verdicts import Alternative as ReadingRow
from ray_selfloop.claims.verdicts import Look, Network
from ray_selfloop.claims.verdicts import Verdict as Claim
from ray_selfloop.config.arms import TREATMENT
from ray_selfloop.equation6.fit import Verdict
from ray_selfloop.equation6.laws import Law
from ray_selfloop.equation6.parameters import Number as FitNumber
from ray_selfloop.equation6.rest_point import RestPoint

# rows that other rooms define
__all__ = [
    "AxisEffect", "Claim", "FitNumber", "Law", "Look", "Network", "Null", "Part", "Positive",
    "ReadingRow", "RestPoint", "Verdict",
]  # fmt: skip


@dataclass(frozen=True)
class Declared:
    """What was frozen. hash: of its content. at: ISO 8601, "" where it never was. before: whether
    that was before the data. primary: its primary statements, a sentence each. others: other
    declarations of this sweep in the storage. of_table: of a table that others made."""

    hash: str
    at: str
    before: bool
    primary: tuple[str, ...] = ()
    others: int = 0
    of_table: bool = False


@dataclass(frozen=True)
class Failure:
    """A trial or stage that did not end well. ``seed`` is None for a stage of the chain."""

    scenario: str
    loop_seed: int
    generation: int
    stage: str
    classifier: str
    seed: int | None
    error: str


@dataclass(frozen=True)
class Samples:
    """Images of one generation, for the sample grid; generation 0 = original training images.

    images: uint8 ``(classes, k, C, H, W)``, RGB or grey, 0..255; kept samples of each class. Of
        photographs the page shows two of each class, about 110 pixels wide: more is not needed.
    classifier: whose chain this is where each classifier has its own; "" in a shared chain.
    """

    loop_seed: int
    generation: int
    images: NDArray[np.uint8]
    classifier: str = ""


@dataclass(frozen=True)
class FilterAudit:
    """What the filter did in one generation of one chain. Keep rates are in the results table.

    generated, kept: counts over all classes.
    thresholds: class name ("" = all classes together) -> lowest kept score.
    share_before, share_after: subgroup name -> its share among the generated and the kept.
    classifier: as in Samples.
    """

    loop_seed: int
    generation: int
    score: str
    generated: int
    kept: int
    thresholds: Mapping[str, float] = field(default_factory=dict)
    share_before: Mapping[str, float] = field(default_factory=dict)
    share_after: Mapping[str, float] = field(default_factory=dict)
    classifier: str = ""


@dataclass(frozen=True)
class GeneratorOutcome:
    """How a generator's training ended: ``converged``, ``budget``, ``diverged``, ``collapsed``.

    ``completed``: a fixed number of steps, all made; as good an end as ``converged``. Control
    generators that train nothing give ``not trained``. classifier: as in Samples.
    """

    loop_seed: int
    generation: int
    outcome: str
    detail: str = ""
    classifier: str = ""


@dataclass(frozen=True)
class ScenarioView:
    """One scenario: a point of the sweep's axes.

    name: as in the results table's column ``scenario``.
    axes: axis name -> value, in the order of the sweep file; may be empty.
    expert: the classifier whose bias can act on the next generation in a shared chain; "" if none.
    group: the same for scenarios that differ in ``arm`` alone; "" = a group of its own.
    arm: ``loop.arm``. dataset, initialization, pretrained: as in the config; they choose the
        paper's figure and the row of table 1. initialization of Breeds: its benchmark.
    differences: how the data differ from the dataset as published, in words. of_the_paper: whether
        they are the paper's all the same (fewer images, or smaller ones): else it has no figure.
    own_clip: whether the filter reads the score of a model that is trained in this sweep.
    base: what Stable Diffusion starts from, a hub id or a folder; "" for any other generator.
    """

    name: str
    title: str
    axes: Mapping[str, str]
    class_names: tuple[str, ...]
    subgroup_names: tuple[str, ...]
    classifiers: tuple[str, ...]
    loop_seeds: tuple[int, ...]
    expert: str = ""
    samples: tuple[Samples, ...] = ()
    audits: tuple[FilterAudit, ...] = ()
    generators: tuple[GeneratorOutcome, ...] = ()
    group: str = ""
    arm: str = TREATMENT.name
    dataset: str = ""
    initialization: str = ""
    differences: tuple[str, ...] = ()
    of_the_paper: bool = True
    pretrained: bool = False
    own_clip: bool = False
    base: str = ""


@dataclass(frozen=True)
class StageUse:
    """What one kind of stage took, over the whole sweep.

    computed, cached, failed: counts of this run of the command; cached = found in the store.
    core_seconds: sum over the records of duration x CPU cores, cached ones included.
    longest: seconds of the longest one. memory: most resident bytes of a process that computed one,
        NaN where it is not known.
    """

    stage: str
    computed: int
    cached: int
    failed: int
    core_seconds: float
    longest: float
    memory: float = float("nan")


@dataclass(frozen=True)
class StateCount:
    """How many trials of a generation are in which end state, in the states' order."""

    scenario: str
    classifier: str
    generation: int
    trials: Mapping[str, int]


@dataclass(frozen=True)
class Outside:
    """What the page of a table that others made says beside a sweep's.

    lead, rest: the answer. left_out: what a table cannot give, a sentence each. shared: what chains
    share. effects: a row for each change of an arm, or difference of two.
    """

    lead: str
    rest: str
    left_out: tuple[str, ...]
    shared: str
    effects: pd.DataFrame


@dataclass(frozen=True)
class ReportView:
    """The whole sweep as the report shows it.

    results: the tidy results table (one row per number), see ``evaluation/classifier_rows.py``.
    warnings: sentences that the driver knows (queue short, tracking trouble, ...); what the page
        can read off its own data (collapsed classifiers, one chain, failures) it adds itself.
    finished: when the last record was published, ISO 8601; not the time of rendering.
    wall_seconds: this run of the command, NaN if unknown.
    level: coverage of the intervals, such as 0.95.
    states: by scenario, classifier and generation; results has no mean over different states.
    fit: what else of eq. 6 is identified, in the order of the page.
    laws, rests, claims, decomposition, readings, null, positive: in the order of the page; empty
        where none was made. null: what arm `a_a` shows, in which nothing but seeds changes. axes:
        what each setting does that is varied beside the arm. positive: whether bias was seen where
        it grows by design.
    chain_hours: core-hours of one chain so far. driver_memory: most resident bytes of
        the driver of this run; NaN without one.
    declared: None where nothing was declared. outside: of a table that others made; else None.
    fid_absent: why there is no FID, one sentence; "" where there is one.
    """

    name: str
    question: str
    results: pd.DataFrame
    scenarios: tuple[ScenarioView, ...]
    verdicts: tuple[Verdict, ...]
    failures: tuple[Failure, ...]
    stages: tuple[StageUse, ...]
    warnings: tuple[str, ...]
    config_yaml: str
    finished: str
    version: str
    level: float
    wall_seconds: float = float("nan")
    states: tuple[StateCount, ...] = ()
    fit: tuple[FitNumber, ...] = ()
    laws: tuple[Law, ...] = ()
    rests: tuple[RestPoint, ...] = ()
    claims: tuple[Claim, ...] = ()
    decomposition: tuple[Part, ...] = ()
    readings: tuple[ReadingRow, ...] = ()
    fid_absent: str = ""
    null: tuple[Null, ...] = ()
    axes: tuple[AxisEffect, ...] = ()
    positive: tuple[Positive, ...] = ()
    declared: Declared | None = None
    chain_hours: float = float("nan")
    driver_memory: float = float("nan")
    outside: Outside | None = None
