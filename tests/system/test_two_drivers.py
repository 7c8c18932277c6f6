"""Two drivers of one sweep on one storage share the work: nothing is computed twice."""

import re
from pathlib import Path

import pytest
from conftest import MICRO

from ray_selfloop.planning import prepare
from sweeps import LIMIT, records, results, start

pytestmark = pytest.mark.slow
LINE = re.compile(r"^(.+?) (\d+)/\d+ done(?:, (\d+) cached)?", re.MULTILINE)


def computed(output: str) -> int:
    """How many stages a run computed itself, by the last line that it printed of each kind."""
    last = {kind: int(done) - int(cached or 0) for kind, done, cached in LINE.findall(output)}
    return sum(last.values())


def test_two_drivers_share_the_stages(tmp_path: Path) -> None:
    words = [*MICRO, "loop.generations=1", "loop.classifier_seeds=[0, 1]", f"storage={tmp_path}"]
    drivers = [start([*words, "resources.num_cpus=1"]) for _ in range(2)]
    ended = [driver.communicate(timeout=LIMIT)[0] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], ended
    shares = [computed(output) for output in ended]
    assert all(shares), ended
    assert sum(shares) == len(list(tmp_path.glob("stages/*/*/record.json")))
    table, plan = results(words), prepare(words)
    assert set(plan.graph.nodes) == set(records(words))
    assert not table.empty
