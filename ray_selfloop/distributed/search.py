"""A search stage as a Ray Tune experiment of its own, with the ASHA scheduler, inside a Ray task.

Candidates are tried one after another: halving then decides by the order of the candidates and by
their scores alone, never by which of them happened to be faster. Searches of several architectures
run side by side, each in a task, because two experiments in threads of one process break.
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

from ray_selfloop.distributed.cluster import device, hold_memory
from ray_selfloop.distributed.losses import RETRIES
from ray_selfloop.errors import StageError
from ray_selfloop.graph import Stage
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.run import execute, limited
from ray_selfloop.stages.search import HALVED, Candidate, Rungs, Standing, attempt, searching
from ray_selfloop.store import Store

QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
}
HERE = 1e-3  # of this node's own resource: enough to be placed here, beside any number of others


def run(stage: Stage, root: str, gpus: float = 0.0) -> None:
    """A search stage in a Ray task; ``gpus`` are those of one candidate."""
    with searching(partial(asha, gpus=gpus)):
        execute(stage, Store(root))


def asha(
    stage: Stage, root: str, candidates: Sequence[Candidate], rungs: Rungs, gpus: float = 0.0
) -> list[Standing]:
    """Each candidate's last standing under asynchronous successive halving.

    Raises StageError for a candidate that failed.
    """
    os.environ.update(QUIET)
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
                failure_config=tune.FailureConfig(max_failures=RETRIES),
            ),
        ).fit()
        return sorted(_standing(result, rungs) for result in results)


def _request(gpus: float) -> dict[str, float]:
    """No CPU and no slot: the task around the search holds its slot, and candidates need nothing
    that an idle experiment may keep."""
    if gpus:
        return {"cpu": 0, "gpu": gpus}
    return {"cpu": 0, f"node:{ray.util.get_node_ip_address()}": HERE}


def _candidate(config: dict[str, Any]) -> None:
    """One candidate in a worker: an error of the code is a result, a lost worker is retried."""
    stage: Stage = config["attempt"]["stage"]
    inputs = Inputs(stage, Store(config["attempt"]["root"]))
    candidate = Candidate(*config["attempt"]["candidate"])
    hold_memory()
    try:
        with limited(stage.config["threads"]):
            attempt(stage, inputs, candidate, device(), lambda s: tune.report(s._asdict()))
    except Exception as problem:
        failed = Standing(candidate.number, 0, -1.0, math.inf)
        tune.report({**failed._asdict(), "error": f"{type(problem).__name__}: {problem}"})


def _standing(result: Any, rungs: Rungs) -> Standing:
    """The last standing that a candidate reported; one cut short was given up by the scheduler."""
    found = result.metrics or {}
    if result.error or found.get("error") or "look" not in found:
        reason = found.get("error") or f"its worker died {RETRIES + 1} times"
        raise StageError(f"search: a candidate failed: {reason}")
    ended = "budget" if found["look"] == rungs.last else HALVED
    last = {name: found[name] for name in Standing._fields}
    return Standing(**{**last, "outcome": last["outcome"] or ended})
