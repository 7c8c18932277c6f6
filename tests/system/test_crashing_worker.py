"""A trial whose worker always dies is given up after 4 times, and takes no other one along."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MICRO
from fake_cluster import FakeCluster

from ray_selfloop.planning import prepare
from ray_selfloop.store import failures
from sweeps import LIMIT, start

pytestmark = pytest.mark.slow
WORDS = (
    *MICRO,
    "loop.generations=0",
    "filter.score=none",
    "loop.classifier_seeds=[0, 1, 2, 3]",
    "resources.gpus_per_trial=0.5",
    "storage_shared=true",
)


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    found = FakeCluster(faults=str(Path(__file__).parent / "faults"))
    yield found
    found.close()


def test_a_trial_that_always_crashes_fails_alone(cluster: FakeCluster, tmp_path: Path) -> None:
    words = [*WORDS, f"storage={tmp_path / 'store'}"]
    plan = prepare(words)
    (deadly,) = (
        node.stage.key
        for node in plan.graph.of_kind("classifier")
        if {(place.generation, place.seed) for place in node.places} == {(0, 1)}
    )
    (cluster.folder / "deadly").write_text(deadly)
    output, code = ended(cluster, words)
    assert code == 1, output
    plan.look_up()
    assert plan.graph.nodes.keys() - plan.records.keys() == {deadly}
    record = failures.read(plan.store.blobs, deadly)
    assert record is not None
    assert record.error.startswith("lost 4 times while its machine lived: ")
    deaths = (cluster.folder / "deaths").read_text().split()
    assert deaths == [deadly] * 4

    (cluster.folder / "deadly").unlink()
    output, code = ended(cluster, words)
    assert code == 0, output
    plan.look_up()
    assert plan.graph.nodes.keys() == plan.records.keys()
    output, code = ended(cluster, words)  # nothing to do but to clear up
    assert code == 0, output
    assert failures.read(plan.store.blobs, deadly) is None


def ended(cluster: FakeCluster, words: list[str]) -> tuple[str, int]:
    """Output and exit code of a sweep that runs on the cluster to its end."""
    driver = start(words, {**cluster.environment, "RAY_ADDRESS": cluster.address})
    output, _ = driver.communicate(timeout=LIMIT)
    return output, driver.returncode
