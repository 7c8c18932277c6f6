"""Named bytes behave alike in a folder and in a bucket, and trouble with a bucket loses nothing."""

import errno
import fcntl
import os
import random
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import buckets
import pytest

from ray_selfloop.errors import StorageError
from ray_selfloop.store import blobs
from ray_selfloop.store.blobs import Blobs


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with buckets.s3_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def standing(server: str) -> Iterator[buckets.Proxy]:
    with buckets.proxy(server) as found:
        yield found


@pytest.fixture
def proxy(standing: buckets.Proxy, monkeypatch: pytest.MonkeyPatch) -> buckets.Proxy:
    """One for all tests, as a client for each address takes a while; without what was before."""
    for name, value in buckets.KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", standing.endpoint)
    standing.forget()
    return standing


@pytest.fixture
def bucket(server: str, proxy: buckets.Proxy) -> Blobs:
    return blobs.at(f"s3://{buckets.new_bucket(server)}/a/prefix")


@pytest.fixture(scope="module")
def googles() -> Iterator[str]:
    """The endpoint of an emulator behind a proxy."""
    with buckets.gs_server("bucket") as endpoint, buckets.proxy(endpoint) as found:
        yield found.endpoint


@pytest.fixture
def google(googles: str, monkeypatch: pytest.MonkeyPatch) -> Blobs:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", googles)
    return blobs.at(f"gs://bucket/{uuid.uuid4().hex}/a/prefix")


@pytest.fixture
def linkless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Blobs:
    """A folder of a file system without hard links, as exFAT and mounts of buckets are."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    return blobs.at(tmp_path / "linkless")


@pytest.fixture(params=["folder", "linkless", "bucket", "google"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    if request.param == "folder":
        return blobs.at(tmp_path / "root")
    found: Blobs = request.getfixturevalue(request.param)
    return found


# --- a folder and a bucket -----------------------------------------------------------------------


def test_what_is_there_already_is_not_created(stored: Blobs) -> None:
    assert stored.create("a/b", b"mine")
    assert not stored.create("a/b", b"another's")
    assert stored.create("a/b", b"mine"), "an answer may have been lost"
    assert stored.read("a/b") == b"mine"


def test_of_many_creators_at_once_one_wins(stored: Blobs) -> None:
    start, won = threading.Barrier(8), []

    def create(number: int) -> None:
        start.wait()
        if stored.create("lease", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [stored.read("lease")] == [str(number).encode() for number in won]


def test_bytes_are_read_as_written_until_they_are_deleted(stored: Blobs) -> None:
    assert stored.read("a/b") is None
    for content in (b"first", bytes(range(256)), b""):
        stored.write("a/b", content)
        assert stored.read("a/b") == content
    stored.delete("a/b")
    stored.delete("a/b")
    assert stored.read("a/b") is None


def test_names_are_listed_below_a_folder_and_not_beside_it(stored: Blobs) -> None:
    assert stored.list("a") == stored.list("") == {}
    for name in ("a/1", "a/deep/er/2", "ab/3", "4"):
        stored.write(name, name.encode())
    assert stored.list("a") == {"a/1": 3, "a/deep/er/2": 11}
    assert stored.list("a/deep") == {"a/deep/er/2": 11}
    assert set(stored.list("")) == {"a/1", "a/deep/er/2", "ab/3", "4"}
    stored.clear("a")
    stored.clear("never")
    assert set(stored.list("")) == {"ab/3", "4"}


def test_what_is_moved_has_another_name(stored: Blobs) -> None:
    stored.write("a/old", b"x")
    stored.move("a/old", "a/new")
    stored.move("a/old", "a/other")
    assert stored.list("") == {"a/new": 1}


def test_files_go_there_and_come_back(stored: Blobs, tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"first", b"", random.Random(0).randbytes(100_000)):
        path.write_bytes(content)
        stored.upload(path, "deep/file")
        assert stored.download("deep/file", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == content
    assert stored.list("") == {"deep/file": 100_000}
    assert not stored.download("never", tmp_path / "nothing")


def test_a_large_file_goes_in_parts(bucket: Blobs, proxy: buckets.Proxy, tmp_path: Path) -> None:
    content = random.Random(0).randbytes(33 * 2**20)
    (tmp_path / "file").write_bytes(content)
    bucket.upload(tmp_path / "file", "large")
    assert max(proxy.requests.values()) >= 3
    assert bucket.download("large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content


def test_reading_and_looking_cost_one_request_each(bucket: Blobs, proxy: buckets.Proxy) -> None:
    bucket.write("a/b", b"x")
    for look in (lambda: bucket.read("a/b"), lambda: bucket.read("no"), lambda: bucket.list("a")):
        before = proxy.requests.total()
        look()
        assert proxy.requests.total() == before + 1


# --- trouble -------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", buckets.TROUBLE)
@pytest.mark.parametrize(
    "work",
    [
        lambda stored: stored.create("new", b"x") and stored.read("new") == b"x",
        lambda stored: stored.write("old", b"y") or stored.read("old") == b"y",
        lambda stored: stored.read("old") == b"old content",
        lambda stored: stored.list("") == {"old": 11},
        lambda stored: stored.delete("old") or stored.read("old") is None,
    ],
    ids=["create", "write", "read", "list", "delete"],
)
def test_trouble_that_passes_is_not_noticed(
    bucket: Blobs, proxy: buckets.Proxy, trouble: str, work: Callable[[Blobs], bool]
) -> None:
    bucket.write("old", b"old content")
    proxy.next = [trouble]
    assert work(bucket)
    assert not proxy.next


@pytest.mark.parametrize(
    "trouble", ["dropped", *(pytest.param(t, marks=pytest.mark.slow) for t in ("cut", "slow down"))]
)
def test_trouble_is_borne_for_longer_than_the_libraries_do(
    bucket: Blobs, proxy: buckets.Proxy, trouble: str, tmp_path: Path
) -> None:
    bucket.write("name", b"content")
    proxy.next = [trouble] * 7
    assert bucket.download("name", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"content"
    assert not proxy.next


@pytest.mark.slow
def test_under_lasting_trouble_all_is_as_it_was_written(
    server: str, proxy: buckets.Proxy, tmp_path: Path
) -> None:
    stored = blobs.at(f"s3://{buckets.new_bucket(server)}")
    chance = random.Random(1)
    content = {f"{number % 3}/{number}": chance.randbytes(5000) for number in range(40)}
    proxy.share = 0.3

    def there_and_back(name: str) -> bool:
        (tmp_path / name.replace("/", "-")).write_bytes(content[name])
        stored.upload(tmp_path / name.replace("/", "-"), name)
        created = stored.create(f"{name}-record", name.encode())
        assert not stored.create(f"{name}-record", b"another's")
        return created and stored.read(name) == content[name]

    assert all(blobs.each(there_and_back, content))
    found = stored.list("")
    proxy.share = 0.0
    assert found == stored.list("")
    assert found == {name: 5000 for name in content} | {f"{n}-record": len(n) for n in content}
    assert all(proxy.trouble[kind] for kind in buckets.TROUBLE)


def test_trouble_that_does_not_pass_is_one_line(server: str, proxy: buckets.Proxy) -> None:
    stored = blobs.at(f"s3://{buckets.new_bucket(server)}/p", patience=0.5)
    proxy.next = ["slow down"] * 100
    with pytest.raises(StorageError) as caught:
        stored.write("name", b"x")
    assert str(caught.value) == (
        f"{stored.address}/name at {proxy.endpoint} cannot be written: SlowDown, please (SlowDown)"
    )


@pytest.mark.parametrize(
    "work",
    [
        lambda stored: stored.read("a"),
        lambda stored: stored.list("a"),
        lambda stored: stored.write("a", b"x"),
        lambda stored: stored.create("a", b"x"),
    ],
    ids=["read", "list", "write", "create"],
)
def test_a_bucket_that_is_not_there_is_said(
    proxy: buckets.Proxy, work: Callable[[Blobs], object]
) -> None:
    with pytest.raises(StorageError, match=r"s3://no-such/p/a at .* does not exist \(NoSuchBucket"):
        work(blobs.at("s3://no-such/p"))


def test_missing_credentials_are_said(
    bucket: Blobs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, proxy: buckets.Proxy
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"{proxy.endpoint}/")  # a client of its own
    with pytest.raises(StorageError, match="Unable to locate credentials"):
        blobs.at(bucket.address).read("a")


def test_a_file_in_the_way_and_a_cloud_of_another_kind_are_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file/deep/name cannot be written: Not a directory"):
        blobs.at(tmp_path / "file" / "deep").write("name", b"x")
    with pytest.raises(StorageError, match="cannot be read: Is a directory"):
        blobs.at(tmp_path).read("")
    with pytest.raises(StorageError, match=r"^az://b/x is neither s3://BUCKET/PREFIX nor gs://"):
        blobs.at("az://b/x")


# --- file systems without hard links -------------------------------------------------------------


def test_without_hard_links_nothing_is_seen_half_written_or_left(
    linkless: Blobs, tmp_path: Path
) -> None:
    content, seen, done = bytes(10**6), set(), threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.add(len(linkless.read("a/b") or b""))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(20):
        assert linkless.create("a/b", content)
        linkless.delete("a/b")
    done.set()
    watcher.join()
    assert seen <= {0, len(content)}
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_without_hard_links_a_killed_creator_stands_in_nobodys_way(
    linkless: Blobs, tmp_path: Path
) -> None:
    (tmp_path / "linkless" / "a").mkdir(parents=True)
    script = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)"
    wait = "; print(flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", script + wait, str(tmp_path / "linkless" / "a")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        made: list[bool] = []
        creator = threading.Thread(target=lambda: made.append(linkless.create("a/b", b"mine")))
        creator.start()
        creator.join(0.3)
        assert creator.is_alive(), "another process creates in this folder"
        holder.kill()
        creator.join(10)
    assert made == [True]


def test_without_hard_links_and_locks_a_folder_is_refused(
    linkless: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StorageError, match=r"needs hard links or locks .*has neither"):
        linkless.create("a/b", b"mine")
    assert linkless.list("") == {}
