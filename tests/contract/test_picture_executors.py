"""A sweep on pictures: in this process in a folder, through Ray in a bucket; the same records."""

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import buckets
import psutil
import pytest
import ray
import tiny_hard_imagenet

from ray_selfloop.config.sweep import Resources
from ray_selfloop.distributed import nodes, stream
from ray_selfloop.distributed.cluster import SLOT, Cluster, joined
from ray_selfloop.distributed.driver import Scheduler
from ray_selfloop.planning import Plan, prepare
from ray_selfloop.progress import Progress
from ray_selfloop.stages.run import run_here
from ray_selfloop.store.artifacts import CACHE
from ray_selfloop.store.records import Record, Store

pytestmark = pytest.mark.slow
SHORT = (
    "loop.generations=1",
    "classifiers=[lenet]",
    "training.max_steps=20",
    "generator.steps=6",
    "generator.check_every=3",
    "generator.checkpoint_every=2",
    "generator.most_at_once=16",
)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an empty bucket, which every process that is started from now on can reach."""
    with buckets.s3_server() as endpoint, pytest.MonkeyPatch.context() as environment:
        places = {"AWS_ENDPOINT_URL": endpoint, CACHE: str(tmp_path_factory.mktemp("cache"))}
        for name, value in {**buckets.KEYS, **places}.items():
            environment.setenv(name, value)
        yield f"s3://{buckets.new_bucket(endpoint)}"


@pytest.fixture(scope="module")
def two_cpus(bucket: str) -> Iterator[Cluster]:
    """As many CPUs as a laptop's sweep has, and two pairs of sampling workers."""
    ray.init("local", num_cpus=3, resources={SLOT: 2}, include_dashboard=False, log_to_driver=False)
    yield joined(Resources(sampling_workers=2), nodes.present())
    ray.shutdown()


@pytest.fixture(scope="module")
def words(data_root: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("tiny")
    return [*tiny_hard_imagenet.words(folder, data_root, 40, 12), *SHORT]


def planned(words: list[str], storage: str | Path) -> Plan:
    return prepare([*words, f"storage={storage}", "tracking.uri=http://127.0.0.1:9"])


def fine_tune(words: list[str], storage: str | Path) -> Plan:
    """The plan of a sweep without the stages that its fine-tune does not need."""
    plan = planned(words, storage)
    (generator,) = plan.graph.of_kind("generator")
    needed, asked = set[str](), [generator.stage.key]
    while asked:
        needed.add(key := asked.pop())
        asked += plan.graph.nodes[key].stage.inputs.values()
    for key in plan.graph.nodes.keys() - needed:
        del plan.graph.nodes[key]
    return plan


def here(plan: Plan) -> dict[str, Record]:
    run_here(plan.graph, plan.store)
    return records(plan)


def there(plan: Plan, cluster: Cluster) -> dict[str, Record]:
    progress = Progress(plan.graph)
    scheduler = Scheduler(progress, plan.store.address, cluster, plan.sweep.name)
    scheduler.run(lambda _: None, threading.Event())
    scheduler.close()
    assert not progress.failed
    return records(plan)


def records(plan: Plan) -> dict[str, Record]:
    plan.look_up()
    return plan.records


def test_two_sampling_workers_draw_the_bytes_that_one_process_draws(
    words: list[str],
    tmp_path: Path,
    two_cpus: Cluster,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "WORTH", 1)  # batches: so few are worth two tasks at once
    one = here(planned(words, tmp_path / "here"))
    other = there(planned(words, f"{bucket}/stream"), two_cpus)
    assert {key: record.files for key, record in one.items()} == {
        key: record.files for key, record in other.items()
    }
    (samples,) = [record for record in one.values() if record.kind == "samples"]
    assert len(samples.summary["parts"]) > 1  # more than one row of the stream


def test_a_killed_worker_goes_on_from_the_checkpoint(
    words: list[str], tmp_path: Path, two_cpus: Cluster, bucket: str
) -> None:
    store = Store(f"{bucket}/killed")
    long = [*words, "generator.workers=2", "generator.steps=32", "generator.check_every=8"]
    long.append("generator.checkpoint_every=4")
    killed: list[int] = []
    checkpoint = "/checkpoint.bin"

    def workers() -> list[psutil.Process]:
        found = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it has ended
                found += [process] if "RayTrainWorker" in " ".join(process.cmdline()) else []
        return found

    def kill_two() -> None:
        """One as it starts, and one that goes on from a checkpoint."""
        tick = threading.Event()
        for written in (lambda: True, lambda: checkpoint in str(store.blobs.list("unfinished"))):
            victims = []
            while not (written() and victims):
                victims = workers()
                tick.wait(0.05)
            victims[0].kill()
            killed.append(victims[0].pid)

    killer = threading.Thread(target=kill_two, daemon=True)
    killer.start()
    other = there(fine_tune(long, store.address), two_cpus)
    killer.join()
    assert len(killed) == 2
    one = losses(here(fine_tune(long, tmp_path / "here")), tmp_path / "here")
    assert not store.blobs.list("unfinished")
    assert len(one) == 4
    assert losses(other, store.address) == pytest.approx(one, rel=1e-3)


def losses(found: dict[str, Record], root: str | Path) -> list[float]:
    """Of a fine-tune, at each look."""
    (record,) = [record for record in found.values() if record.kind == "generator"]
    history = Store(root).path(record, "history.json").read_text()
    return [row["train_loss"] for row in json.loads(history)]
