"""A store in a bucket: the same results as in a folder, whole or not at all, for every node."""

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import buckets
import numpy as np
import pandas as pd
import pytest
from conftest import MICRO
from test_store import STAGE, publish

from ray_selfloop.__main__ import main
from ray_selfloop.errors import CorruptRecord, StorageError
from ray_selfloop.graph import Stage
from ray_selfloop.images.pictures import write_encoded
from ray_selfloop.planning import prepare
from ray_selfloop.stages.inputs import Inputs, save_array
from ray_selfloop.stages.run import execute, run_here
from ray_selfloop.store import failures
from ray_selfloop.store.artifacts import CACHE
from ray_selfloop.store.records import Record, Store

NODES = Callable[[str], Store]
RECORD = f"stages/kept/{STAGE.key}/record.json"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with buckets.s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[buckets.Proxy]:
    for name, value in buckets.KEYS.items():
        monkeypatch.setenv(name, value)
    with buckets.proxy(server) as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL", found.endpoint)
        yield found


@pytest.fixture
def node(
    server: str, proxy: buckets.Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> NODES:
    """The store as a node of that name sees it: every node has a cache of its own."""
    address = f"s3://{buckets.new_bucket(server)}/sweeps"

    def _node(name: str) -> Store:
        monkeypatch.setenv(CACHE, str(tmp_path / name))
        return Store(address)

    return _node


# --- publish and find ----------------------------------------------------------------------------


def test_another_node_finds_what_a_folder_would_hold(node: NODES, tmp_path: Path) -> None:
    folder = Store(tmp_path / "folder")
    here, record = publish(folder), publish(node("one"))
    assert (record.files, record.summary, record.config) == (here.files, here.summary, here.config)
    other = node("two")
    assert other.find(STAGE.key, checksums=True) == other.get(STAGE.key) == record
    for name in record.files:
        assert other.path(record, name).read_bytes() == folder.path(here, name).read_bytes()
    layout = {f"stages/kept/{STAGE.key}/{record.attempt}/{name}" for name in record.files}
    assert other.blobs.list("").keys() == {RECORD, *layout}


def test_finding_asks_for_the_record_and_one_listing_however_many_files(
    node: NODES, proxy: buckets.Proxy
) -> None:
    store = node("one")
    with store.attempt(STAGE.key) as folder:
        for number in range(50):
            (folder / str(number)).write_text("x")
        store.publish(STAGE, folder, {}, 0.0)
    before = proxy.requests.total()
    assert node("two").find(STAGE.key, checksums=True)
    assert proxy.requests.total() == before + 2


def test_what_was_computed_here_is_not_fetched(node: NODES, proxy: buckets.Proxy) -> None:
    store = node("one")
    record = publish(store)
    before = proxy.requests.total()
    assert store.path(record, "a.txt").read_text() == "abc"
    assert proxy.requests.total() == before


def test_a_file_is_fetched_once_for_all_processes_of_a_node(
    node: NODES, proxy: buckets.Proxy
) -> None:
    record = publish(node("one"))
    start, found = threading.Barrier(8), []

    def fetch(store: Store) -> None:
        start.wait()
        found.append(store.path(record, "a.txt").read_text())

    threads = [threading.Thread(target=fetch, args=(node("two"),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["abc"] * 8
    gets = [
        n for (method, path), n in proxy.requests.items() if (method, path[-5:]) == ("GET", "a.txt")
    ]
    assert gets == [1]


def test_files_that_are_read_together_lie_together(node: NODES) -> None:
    store, values = node("one"), np.arange(12, dtype=np.uint8).reshape(3, 4)
    pictures = [b"one", b"", b"three"]
    with store.attempt(STAGE.key) as folder:
        save_array(folder, "values", values)
        write_encoded(folder, "images", pictures)
        store.publish(STAGE, folder, {}, 0.0)
    inputs = Inputs(Stage("reader", 1, {}, {"kept": STAGE.key}), node("two"))
    assert np.array_equal(inputs.array("kept", "values"), values)
    assert [inputs.encoded("kept", "images")[row] for row in range(3)] == pictures


def test_several_nodes_write_one_attempt(node: NODES) -> None:
    one = node("one")
    with one.attempt(STAGE.key) as folder:
        (folder / "own").write_text("of one")
        two = node("two")
        part = two.workplace(STAGE.key, folder.name) / "part"
        part.write_text("of two")
        parts = {"part": two.contribute(STAGE.key, folder.name, part)}
        record = one.publish(STAGE, folder, {}, 0.0, parts)
    three = node("three")
    assert three.get(STAGE.key) == record
    assert [three.path(record, name).read_text() for name in sorted(record.files)] == [
        "of one",
        "of two",
    ]


def test_a_part_that_never_arrived_is_not_published(node: NODES) -> None:
    store = node("one")

    def attempt() -> None:
        with store.attempt(STAGE.key) as folder:
            store.publish(STAGE, folder, {}, 0.0, {"part": (3, "0" * 64)})

    with pytest.raises(CorruptRecord, match="part is missing"):
        attempt()
    assert store.find(STAGE.key) is None


def test_what_is_unfinished_outlives_its_node(node: NODES) -> None:
    node("one").unfinished(STAGE.key).write("checkpoint", b"step 3")
    assert node("two").unfinished(STAGE.key).read("checkpoint") == b"step 3"
    publish(node("two"))
    assert node("one").unfinished(STAGE.key).read("checkpoint") is None


# --- two writers ---------------------------------------------------------------------------------


def test_the_second_writer_takes_its_own_objects_away(node: NODES) -> None:
    store = node("one")
    with store.attempt(STAGE.key) as slow:
        (slow / "a.txt").write_text("slow")
        first = publish(node("two"), text="quick")
        assert store.publish(STAGE, slow, {"kept": 1}, 9.0) == first
    assert node("three").path(store.get(STAGE.key), "a.txt").read_text() == "quick"
    assert all(first.attempt in name or name == RECORD for name in store.blobs.list(""))


def test_nothing_is_left_of_a_failed_attempt(node: NODES, tmp_path: Path) -> None:
    store = node("one")

    def fail() -> None:
        with store.attempt(STAGE.key) as folder:
            (folder / "half.bin").write_bytes(b"123")
            store.contribute(STAGE.key, folder.name, folder / "half.bin")
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        fail()
    assert store.blobs.list("") == {}
    assert not [path for path in (tmp_path / "one").rglob("*") if path.is_file()]


# --- kills and trouble ---------------------------------------------------------------------------

WRITER = """
import random, sys
from ray_selfloop.store.records import Store
from test_store import STAGE
store = Store(sys.argv[1])
with store.attempt(STAGE.key) as folder:
    for name, size in (("small", 1000), ("large", 33 * 2**20), ("third", 1000)):
        (folder / name).write_bytes(random.Random(name).randbytes(size))
    store.publish(STAGE, folder, {}, 0.0)
"""


@pytest.mark.parametrize(
    "moment", [pytest.param("partNumber=2", marks=pytest.mark.slow), "record.json"]
)
def test_a_killed_upload_is_believed_by_nobody_and_made_again(
    node: NODES, proxy: buckets.Proxy, moment: str
) -> None:
    store = node("one")
    proxy.hold = lambda method, path: method in ("PUT", "POST") and moment in path
    words = [sys.executable, "-c", WRITER, store.address]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    writer = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": path})
    assert proxy.held.wait(60)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    proxy.hold = lambda method, path: False
    assert store.find(STAGE.key) is None
    subprocess.run(words, env={**os.environ, "PYTHONPATH": path}, check=True, timeout=60)
    record = node("two").get(STAGE.key)
    for name, size in (("small", 1000), ("large", 33 * 2**20), ("third", 1000)):
        content = node("two").path(record, name).read_bytes()
        assert content == random.Random(name).randbytes(size)


@pytest.mark.slow
def test_in_lasting_trouble_nothing_is_lost_and_nothing_half_read(
    node: NODES, proxy: buckets.Proxy
) -> None:
    one, two = node("one"), node("two")
    stages = [Stage("kept", 1, {"number": number}, {}) for number in range(6)]
    proxy.share = 0.3
    records = [publish(one, stage, text=stage.key * 500) for stage in stages]
    for stage, record in zip(stages, records, strict=True):
        assert two.get(stage.key) == record
        assert two.path(record, "a.txt").read_text() == stage.key * 500
        assert two.path(record, "parts/b.bin").read_bytes() == bytes(range(256))
    assert all(proxy.trouble[kind] for kind in buckets.TROUBLE)


# --- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is missing"),
        (b"ab", "has 2 bytes, 3 were published"),
        (b"abcd", "has 4 bytes, 3 were published"),
        (b"", "has 0 bytes, 3 were published"),
    ],
)
def test_an_object_of_another_size_is_named(node: NODES, content: bytes | None, said: str) -> None:
    store = node("one")
    record = publish(store)
    name = f"stages/kept/{STAGE.key}/{record.attempt}/a.txt"
    if content is None:
        store.blobs.delete(name)
    else:
        store.blobs.write(name, content)
    with pytest.raises(CorruptRecord) as caught:
        store.find(STAGE.key)
    assert str(caught.value) == f"{STAGE.key}: {store.address}/{name} {said}"


def test_a_flipped_bit_is_found_when_it_is_fetched_and_computed_again(node: NODES) -> None:
    record = publish(node("one"))
    store = node("two")
    name = f"stages/kept/{STAGE.key}/{record.attempt}/a.txt"
    store.blobs.write(name, b"abb")
    assert store.find(STAGE.key, checksums=True) == record, "nothing was fetched yet"
    with pytest.raises(CorruptRecord) as caught:
        store.path(record, "a.txt")
    assert str(caught.value) == (
        f"{STAGE.key}: the content of {store.address}/{name} has changed; "
        "run again to compute it anew"
    )
    assert store.find(STAGE.key) is None
    again = publish(node("three"))
    with pytest.raises(CorruptRecord, match="has changed"):
        store.path(record, "a.txt")
    assert store.path(store.get(STAGE.key), "a.txt").read_text() == "abc"
    assert store.get(STAGE.key) == again, "the new record was left alone"


def test_a_damaged_record_is_named(node: NODES) -> None:
    store = node("one")
    publish(store)
    content = store.blobs.read(RECORD)
    assert content is not None
    for harm in (content[:-20], b"", bytes(256), content.replace(b'"kept": 90', b'"kept": 91')):
        store.blobs.write(RECORD, harm)
        with pytest.raises(CorruptRecord, match=f"^{STAGE.key}: {store.address}/{RECORD}|content"):
            store.find(STAGE.key)
    store.discard(STAGE.key)
    assert store.find(STAGE.key) is None


def test_a_copy_cut_short_is_fetched_again(node: NODES) -> None:
    record = publish(node("one"))
    store = node("two")
    store.path(record, "a.txt").write_text("a")
    assert store.path(record, "a.txt").read_text() == "abc"


def damage(path: Path) -> None:
    """Flip a bit as a disk does, which tells nobody."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


READER = """
import sys
from ray_selfloop.store.records import Store
from test_store import STAGE
store = Store(sys.argv[1])
print(store.path(store.get(STAGE.key), "a.txt").read_text())
"""


def test_a_copy_is_looked_at_once_by_each_process_and_when_it_has_changed(
    node: NODES, proxy: buckets.Proxy
) -> None:
    record = publish(node("one"))
    store = node("two")
    copy = store.path(record, "a.txt")
    damage(copy)
    assert store.path(record, "a.txt").read_text() == "abb", "it was looked at, and not again"
    words = [sys.executable, "-c", READER, store.address]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    found = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
    assert (found.stdout, found.stderr) == ("abc\n", "")
    damage(copy)
    os.utime(copy)
    assert store.path(record, "a.txt").read_text() == "abc"
    before = proxy.requests.total()
    assert store.path(record, "a.txt") == copy
    assert proxy.requests.total() == before
    assert store.get(STAGE.key) == record, "what is right in the bucket was left alone"


def test_a_link_in_the_place_of_the_cache_is_not_followed(node: NODES, tmp_path: Path) -> None:
    record = publish(node("one"))
    store = node("two")
    own = store.path(record, "a.txt").parents[4]
    own.rename(tmp_path / "elsewhere")
    own.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match=rf"^{own} is not this user's alone; name "):
        store.path(record, "a.txt")


def test_a_cache_that_others_can_write_to_is_not_used(node: NODES) -> None:
    record = publish(node("one"))
    store = node("two")
    own = store.path(record, "a.txt").parents[4]
    assert own.stat().st_mode & 0o777 == 0o700
    own.chmod(0o777)
    with pytest.raises(StorageError, match=rf"{own} is not this user's alone; name .* {CACHE}$"):
        store.path(record, "a.txt")


def test_a_record_published_while_the_damaged_one_is_looked_at_is_left_alone(
    node: NODES, proxy: buckets.Proxy
) -> None:
    one, two = node("one"), node("two")
    damaged = publish(one)
    one.blobs.delete(f"stages/kept/{STAGE.key}/{damaged.attempt}/a.txt")
    again: list[Record] = []

    def published_meanwhile(method: str, path: str) -> bool:
        if "list-type" in path and not again:
            proxy.hold = lambda method, path: False
            assert two.discard_damaged(STAGE.key)
            again.append(publish(two))
        return False

    proxy.hold = published_meanwhile
    assert one.discard_damaged(STAGE.key) is None
    assert [one.get(STAGE.key)] == again


def test_a_plan_says_what_is_cut_short_and_a_stage_what_is_flipped_and_both_are_computed_again(
    node: NODES, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = [*MICRO, f"storage={node('one').address}", "tracking.uri=http://127.0.0.1:9"]
    found = prepare(words)
    dataset, generator = (found.graph.of_kind(k)[0].stage for k in ("dataset", "generator"))
    data, trained = (execute(stage, found.store) for stage in (dataset, generator))
    attempts = {r.kind: f"stages/{r.kind}/{r.key}/{r.attempt}" for r in (data, trained)}
    images = f"{attempts['dataset']}/train_images.npy"
    content = found.store.blobs.read(images)
    assert content is not None
    found.store.blobs.write(images, content[:-1] + bytes([content[-1] ^ 1]))
    found.store.blobs.write(f"{attempts['generator']}/weights.safetensors", b"half")

    node("two")
    again = prepare(words)
    assert set(again.records) == {dataset.key}
    (said,) = again.set_aside()
    assert said.startswith(f"{generator.key}: s3://")
    assert " has 4 bytes, " in said
    with pytest.raises(CorruptRecord, match=rf"^{dataset.key}: the content of .* has changed; run"):
        execute(generator, again.store)
    assert not prepare(words).records
    repeated = [execute(stage, again.store) for stage in (dataset, generator)]
    assert [r.files for r in repeated] == [data.files, trained.files]


# --- a sweep -------------------------------------------------------------------------------------


def test_status_reads_the_failures_of_what_is_missing_and_no_other(
    node: NODES, proxy: buckets.Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*MICRO, f"storage={node('one').address}", "tracking.uri=http://127.0.0.1:9"]
    plan = prepare(words)
    published, missing = (plan.graph.of_kind(kind)[0].stage for kind in ("dataset", "generator"))
    publish(plan.store, published)
    for stage in (published, missing):
        failures.publish(plan.store.blobs, stage, "OSError: gone", "")
    assert main(["status", *words]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("failed")]
    assert said == [f"failed: generator, {missing.key}: OSError: gone"]
    read = [
        path for (method, path) in proxy.requests if (method, "/failures/" in path) == ("GET", True)
    ]
    assert [Path(path).stem for path in read] == [missing.key]


@pytest.mark.slow
def test_a_sweep_in_a_bucket_has_its_files_there_and_no_password_in_them(
    node: NODES, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    address = node("one").address
    server = "tracking.uri=http://me:secret@127.0.0.1:9"
    words = [*MICRO, "loop.generations=1", "generator.max_steps=10", f"storage={address}", server]
    plan = prepare(words)
    run_here(plan.graph, plan.store)
    assert main(["results", *words]) == 0
    node("two")
    assert main(["report", *words]) == 0
    assert main(["sync-mlflow", *words]) == 75
    again = prepare(words)
    assert again.records.keys() == again.graph.nodes.keys()
    names = again.store.blobs.list("")
    assert {name.partition("/")[0] for name in names} == {"stages", "micro"}
    table = pd.read_parquet(BytesIO(again.store.blobs.read("micro/results.parquet") or b""))
    assert set(table["generation"].dropna()) == {0, 1}
    said, warned = capfd.readouterr()
    assert f"report   {address}/micro/report.html" in said
    assert "curves   http://me:***@127.0.0.1:9" in said
    contents = [again.store.blobs.read(name) or b"" for name in names]
    assert not [name for name, found in zip(names, contents, strict=True) if b"secret" in found]
    assert "secret" not in said + warned
