"""A search stage as a Ray Tune experiment of its own, with the ASHA scheduler, inside a Ray task.

Candidates are tried one after another: halving then decides by the order of the candidates and by
their scores alone, never by which of them happened to be faster. Searches of several architectures
run side by side, each in a task, because two experiments in threads of one process break. The first
lost worker ends a search: the driver makes another.
"""

import math
import os
import tempfile
from collections.abc import Sequence
from functools import partial
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler

from ray_selfloop.distributed import losses
from ray_selfloop.distributed.worker import device, hold_memory
from ray_selfloop.errors import MachineLost, StageError, StorageOutage, WorkerLost, last_line
from ray_selfloop.graph import Stage
from ray_selfloop.stages.run import computing, execute
from ray_selfloop.stages.search import (
    HALVED,
    KIND,
    Candidate,
    Rungs,
    Standing,
    attempt,
)
from ray_selfloop.store.records import Store

QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
}
HERE = 1e-3  # of this node's own resource: enough to be placed here, beside any number of others


def run(stage: Stage, root: str, gpus: float = 0.0) -> None:
    """A search stage in a Ray task; ``gpus`` are those of one candidate."""
    execute(stage, Store(root), halving=partial(asha, gpus=gpus))


def asha(
    stage: Stage, root: str, candidates: Sequence[Candidate], rungs: Rungs, gpus: float = 0.0
) -> list[Standing]:
    """Each candidate's last standing under asynchronous successive halving.

    Raises StageError for a candidate that failed, MachineLost or WorkerLost for one whose worker
    is gone.
    """
    os.environ.update(QUIET)
    before = losses.alive()
    configs = [{"stage": stage, "root": root, "candidate": tuple(c)} for c in candidates]
    with tempfile.TemporaryDirectory(prefix="selfloop-search-") as scratch:
        results = tune.Tuner(
            tune.with_resources(_candidate, _request(gpus)),
            param_space={"attempt": tune.grid_search(configs)},
            tune_config=tune.TuneConfig(
                metric="accuracy",
                mode="max",
                max_concurrent_trials=1,
                reuse_actors=True,
                scheduler=AsyncHyperBandScheduler(
                    time_attr="look",
                    max_t=rungs.last,
                    grace_period=rungs.first,
                    reduction_factor=rungs.factor,
                    stop_last_trials=False,  # who reaches the last look ends by itself
                ),
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=scratch,
                verbose=0,
                failure_config=tune.FailureConfig(fail_fast=True),
            ),
        ).fit()
        if results.errors:  # an error of the code is a result: what Tune calls an error is a loss
            kind = MachineLost if losses.one_died(before) else WorkerLost
            raise kind(f"search: {last_line(results.errors[0])}")
        return sorted(_standing(result, rungs) for result in results)


def _request(gpus: float) -> dict[str, float]:
    """No CPU and no slot: the task around the search holds its slot, and candidates need nothing
    that an idle experiment may keep."""
    if gpus:
        return {"cpu": 0, "gpu": gpus}
    return {"cpu": 0, f"node:{ray.util.get_node_ip_address()}": HERE}


def _candidate(config: dict[str, Any]) -> None:
    """One candidate in a worker: an error of the code is a result, a lost worker the driver's."""
    stage: Stage = config["attempt"]["stage"]
    candidate = Candidate(*config["attempt"]["candidate"])
    try:
        hold_memory()
        work = KIND.work(stage, Store(config["attempt"]["root"]), device())
        with computing(work.settings, work.device):
            attempt(work, candidate, lambda s: tune.report(s._asdict()))
    except StorageOutage:
        raise  # no error of the code
    except Exception as problem:
        failed = Standing(candidate.number, 0, -1.0, math.inf)
        tune.report({**failed._asdict(), "error": f"{type(problem).__name__}: {problem}"})


def _standing(result: Any, rungs: Rungs) -> Standing:
    """The last standing that a candidate reported; one cut short was given up by the scheduler."""
    found = result.metrics
    if found.get("error"):
        raise StageError(f"search: a candidate failed: {found['error']}")
    ended = "budget" if found["look"] == rungs.last else HALVED
    last = {name: found[name] for name in Standing._fields}
    return Standing(**{**last, "outcome": last["outcome"] or ended})
