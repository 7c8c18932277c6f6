"""Are 64 GPUs kept busy? 2,000 short trials on a machine that pretends to have them.

    python benchmarks/many_gpus.py                                  # about 7 minutes
    python benchmarks/many_gpus.py --gpus 8 --trials 80 --seconds 1 2   # to try the script itself

Ray, the driver, its leases and Tune are the real ones; a trial holds one GPU that is not there and
sleeps for a time drawn between the two of `--seconds`. The ideal makespan is all sleep divided by
the GPUs. The share that is reached is printed of the whole run and of the part after every GPU had
its first trial: the workers of all GPUs start on this machine's own cores, which is not so on a
cluster.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune

from ray_selfloop.config.sweep import Resources
from ray_selfloop.distributed import local, nodes, trials
from ray_selfloop.distributed.cluster import QUIET, SLOT, joined, leave
from ray_selfloop.distributed.driver import Scheduler
from ray_selfloop.graph import Graph, Place
from ray_selfloop.progress import Progress
from ray_selfloop.stages.kinds import NAMED


def sleeping(config: dict[str, Any]) -> None:
    """A trial that does nothing for the time that its stage says; when it began and ended."""
    begun = time.time()
    held = config["stage"].config
    time.sleep(held["seconds"])
    said = f"{begun} {time.time()}\n"
    (Path(config["root"]) / f"slept-{held['number']}").write_text(said)
    tune.report({trials.OK: 1.0, "error": "", "detail": "", "lost": False})


def graph_of(scenarios: int, number: int, seconds: tuple[float, float]) -> Graph:
    """So many trials over scenarios, each with its time."""
    graph, drawn = Graph(), random.Random(0)
    for one in range(number):
        place = Place(f"scenario {one % scenarios}", 0, one)
        held = {"number": one, "seconds": drawn.uniform(*seconds)}
        graph.add(NAMED["classifier"], held, {}, place)
    return graph


def reached(folder: str, gpus: int, graph: Graph) -> dict[str, float]:
    """Makespan and busy share of a run."""
    trials._trial = sleeping
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    with local.on_loopback():
        ray.init(
            address="local",
            num_cpus=gpus + 1,
            num_gpus=gpus,
            resources={SLOT: gpus},
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _system_config={"num_workers_soft_limit": 2 * gpus},
        )
    cluster = joined(Resources(gpus_per_trial=1.0), nodes.present())
    scheduler = Scheduler(Progress(graph), folder, cluster, "many")
    started = time.time()
    scheduler.run(lambda progress: None, threading.Event())
    scheduler.close()
    leave()
    spans = sorted(
        tuple(map(float, path.read_text().split())) for path in Path(folder).glob("slept-*")
    )
    if len(spans) != len(graph.nodes):
        raise SystemExit(f"{len(spans)} of {len(graph.nodes)} trials ended")
    end, full = max(ended for _, ended in spans), spans[gpus - 1][0]
    after = sum(ended - max(begun, full) for begun, ended in spans if ended > full)
    asleep = sum(ended - begun for begun, ended in spans)
    return {
        "makespan": end - started,
        "ideal": asleep / gpus,
        "whole": asleep / gpus / (end - started),
        "start": full - started,
        "after_start": after / gpus / (end - full),
    }


def main(arguments: list[str]) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gpus", type=int, default=64)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--scenarios", type=int, default=20)
    parser.add_argument("--seconds", nargs=2, type=float, default=[5.0, 15.0])
    parser.add_argument("--json", type=Path, help="file that is written")
    given = parser.parse_args(arguments)
    graph = graph_of(given.scenarios, given.trials, tuple(given.seconds))
    with tempfile.TemporaryDirectory(prefix="selfloop-many-") as folder:
        found = reached(folder, given.gpus, graph)
    if given.json:
        given.json.write_text(json.dumps(vars(given) | {"json": None} | found, indent=1))
    for name, value in found.items():
        print(f"{name:12} {value:9.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
