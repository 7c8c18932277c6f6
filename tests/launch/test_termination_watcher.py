"""The watcher on a worker: AWS's notice drains the node, and the watcher ends with it."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import ray
from instance_metadata import Service, in_seconds, serving
from ray._private.node import Node as RayNode
from ray.cluster_utils import Cluster

from ray_selfloop import errors
from ray_selfloop.distributed.clouds import aws_spot, watch

LIMIT = 60  # s, far above what any wait here takes


@pytest.fixture
def service() -> Iterator[Service]:
    """AWS's metadata service, on this machine."""
    with serving() as found:
        yield found


def test_a_notice_is_read_with_its_time(service: Service) -> None:
    assert aws_spot.notice(service.url) is None
    service.ends = in_seconds(90)
    assert aws_spot.notice(service.url) == service.ends


def test_a_notice_without_a_readable_time_counts_from_now(service: Service) -> None:
    service.answer = lambda method, path, token: (200, "{}")  # type: ignore[method-assign]
    found = aws_spot.notice(service.url)
    assert found is not None
    assert 0 < found - time.time() <= aws_spot.NOTICE


def test_a_service_in_trouble_is_no_notice(service: Service) -> None:
    service.status = 500
    with pytest.raises(OSError, match="500"):
        aws_spot.notice(service.url)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head of one CPU, to which tests add nodes; this process is connected to it."""
    head = {"num_cpus": 1, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args=head)
    found.connect()
    yield found
    ray.shutdown()
    found.shutdown()


def started(cluster: Cluster, instance: str, monkeypatch: pytest.MonkeyPatch) -> RayNode:
    """A node as autoscaler v2 starts it for a cloud instance; it has the resource ``instance``."""
    monkeypatch.setenv(watch.INSTANCE, instance)
    node = cluster.add_node(num_cpus=1, resources={instance: 1})
    monkeypatch.delenv(watch.INSTANCE)
    return node


def watching(cluster: Cluster, service: Service, instance: str) -> subprocess.Popen[str]:
    """The watcher as `cluster.yaml` starts it, asking the stand-in five times a second."""
    command = [sys.executable, "-m", "ray_selfloop.distributed.clouds.aws_spot", cluster.address]
    return subprocess.Popen(
        [*command, "--service", service.url, "--every", "0.2"],
        env={**os.environ, watch.INSTANCE: instance},
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for_questions(service: Service, process: subprocess.Popen[str], more: int) -> None:
    """Until the watcher has asked so many times more."""
    enough, end = len(service.asked) + more, time.monotonic() + LIMIT
    while len(service.asked) < enough:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "the watcher does not ask"
        time.sleep(0.05)


@ray.remote(num_cpus=0)
class Work:
    """Something that runs on one node until the node dies."""

    def here(self) -> str:
        """Its node."""
        return str(ray.get_runtime_context().get_node_id())

    def go_on(self) -> None:
        """Never ends by itself."""
        threading.Event().wait()


def work_on(node: RayNode, instance: str) -> ray.ObjectRef:
    """Work that has begun on a node."""
    work = Work.options(resources={instance: 0.1}).remote()
    assert ray.get(work.here.remote()) == node.node_id
    return work.go_on.remote()


def counts_as_preempted(work: ray.ObjectRef) -> bool:
    """What Ray says of work whose node is gone."""
    gone = (ray.exceptions.ActorDiedError, ray.exceptions.ActorUnavailableError)
    with pytest.raises(gone) as error:
        ray.get(work, timeout=LIMIT)
    return getattr(error.value, "preempted", False)


@ray.remote(num_cpus=0.5)
def where() -> str:
    """The node that ran this."""
    return str(ray.get_runtime_context().get_node_id())


@pytest.mark.slow
def test_a_notice_drains_the_node_and_what_dies_with_it_counts_as_preempted(
    cluster: Cluster, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = started(cluster, "i-taken", monkeypatch)
    work = work_on(node, "i-taken")
    process = watching(cluster, service, "i-taken")
    wait_for_questions(service, process, 3)
    service.status = 500  # trouble of the service is no notice and no end
    wait_for_questions(service, process, 3)
    service.status, service.ends = 200, in_seconds(100)
    said, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == errors.DONE
    assert said.count("HTTP Error 500") == 1
    assert said.splitlines()[-1].endswith("s and is drained")
    draining = watch.GcsClient(address=cluster.address).get_draining_nodes()
    assert draining == {node.node_id: service.ends * 1000}
    assert set(ray.get([where.remote() for _ in range(8)])) == {cluster.head_node.node_id}
    assert ray.wait([work], timeout=0)[1] == [work]  # what runs there goes on
    cluster.remove_node(node, allow_graceful=False)
    assert counts_as_preempted(work)


@pytest.mark.slow
def test_a_node_lost_without_notice_is_not_preempted_and_its_watcher_ends(
    cluster: Cluster, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = started(cluster, "i-lost", monkeypatch)
    work = work_on(node, "i-lost")
    process = watching(cluster, service, "i-lost")
    wait_for_questions(service, process, 3)
    cluster.remove_node(node, allow_graceful=False)
    said, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == errors.DONE
    assert said.splitlines()[-1].endswith("the node's raylet is gone")
    assert not counts_as_preempted(work)


@pytest.mark.slow
def test_a_watcher_without_its_node_ends_at_once(
    cluster: Cluster, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [cluster.address, "--instance", "i-unknown", "--service", service.url]
    assert aws_spot.main(words) == errors.BAD_INPUT
    assert "RAY_CLOUD_INSTANCE_ID='i-unknown'" in capsys.readouterr().out
    assert service.asked == []
