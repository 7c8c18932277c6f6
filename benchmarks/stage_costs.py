"""What a unit of work of each kind of stage takes here: writes `ray_selfloop/costs.json`.

    python benchmarks/stage_costs.py quickstart 'colorized_mnist_small dataset.root=DIR'

Each argument is a sweep's command line, whose words may cut trainings short. The stages of a single
chain of one generation are computed in this process on one thread, and the processor time of each
is divided by its work.
"""

import json
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator

from ray_selfloop import estimates
from ray_selfloop.planning import prepare
from ray_selfloop.stages.run import execute

SHORT = ("loop.generations=1", "loop.loop_seeds=[0]", "loop.classifier_seeds=[0]")


def costs(words: list[str]) -> Iterator[tuple[str, float]]:
    """Name of a work, and the core-seconds of a unit of it."""
    with tempfile.TemporaryDirectory() as storage:
        plan = prepare([*words, *SHORT, f"storage={storage}"])
        sweeps = {scenario.name: scenario.sweep for scenario in plan.scenarios}
        first = plan.scenarios[0].name
        for node in list(plan.graph):
            if node.places[0].scenario != first:
                continue
            started = time.process_time()
            execute(node.stage, plan.store)
            spent = time.process_time() - started
            found = estimates.effort(
                node.stage,
                sweeps[first].dataset.name,
                lambda: estimates.originals(sweeps[first], plan.contents),
            )
            name = f"{found.work} {found.dataset}".strip()
            print(f"{name}: {spent:.2f} s", file=sys.stderr)
            yield name, spent / found.units


if __name__ == "__main__":
    least: dict[str, float] = {}
    for line in sys.argv[1:]:
        for name, cost in costs(shlex.split(line)):
            least[name] = min(cost, least.get(name, cost))  # the first one loads libraries
    cores = {name: float(f"{cost:.3g}") for name, cost in sorted(least.items())}
    print(json.dumps({"calibration": round(estimates.calibration(), 2), "cores": cores}, indent=1))
