"""The store: one result for each key, whole or not at all, and damage is found."""

import json
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_selfloop.errors import CorruptRecord, StorageError
from ray_selfloop.graph import Stage, digest
from ray_selfloop.stages.inputs import Inputs, save_array
from ray_selfloop.store.records import Record, Store

STAGE = Stage("kept", 1, {"drop": 0.1, "cut": "per_class"}, {"samples": "samples-0"}, {"root": "/"})
SUMMARY = {"kept": 90, "share": 0.9, "per_class": {"10": [1, 2], "9": [3]}, "note": "grün"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def publish(
    store: Store, stage: Stage = STAGE, text: str = "abc", summary: Mapping[str, Any] = SUMMARY
) -> Record:
    """One attempt with two files, one of them in a folder."""
    with store.attempt(stage.key) as folder:
        (folder / "a.txt").write_text(text)
        (folder / "parts").mkdir()
        (folder / "parts" / "b.bin").write_bytes(bytes(range(256)))
        return store.publish(stage, folder, summary, 1.23456)


def attempts(store: Store, key: str = STAGE.key) -> list[str]:
    """Names of the attempt folders that lie in the store."""
    return [path.name for path in store.folder(key).glob("*") if path.is_dir()]


def record_file(store: Store) -> Path:
    return store.folder(STAGE.key) / "record.json"


# --- publish and find ----------------------------------------------------------------------------


def test_what_is_published_is_found(store: Store) -> None:
    record = publish(store)
    assert store.find(STAGE.key, checksums=True) == store.get(STAGE.key) == record
    assert (record.key, record.kind, record.version) == (STAGE.key, "kept", 1)
    assert record.config == STAGE.config
    assert record.inputs == STAGE.inputs
    assert record.summary == SUMMARY
    assert record.seconds == 1.235
    assert {"python", "torch", "numpy"} <= record.environment.keys()
    assert set(record.files) == {"a.txt", "parts/b.bin"}
    assert store.path(record, "a.txt").read_text() == "abc"
    assert store.path(record, "parts/b.bin").read_bytes() == bytes(range(256))
    assert attempts(store) == [record.attempt]


def test_a_store_can_be_moved(store: Store, tmp_path: Path) -> None:
    record = publish(store)
    moved = Store(shutil.move(store.root, tmp_path / "moved"))
    assert moved.find(STAGE.key, checksums=True) == record
    assert moved.path(record, "a.txt").read_text() == "abc"


def test_no_place_is_written_into_a_record(store: Store, tmp_path: Path) -> None:
    publish(store)
    assert str(tmp_path) not in record_file(store).read_text()


@pytest.mark.parametrize(("folder", "file"), [(0o755, 0o644), (0o775, 0o664), (0o700, 0o600)])
def test_who_may_read_a_storages_folders_may_read_its_files(
    store: Store, folder: int, file: int
) -> None:
    with store.attempt(STAGE.key) as attempt:
        attempt.chmod(folder)
        (attempt / "weights.safetensors").write_bytes(b"123")
        (attempt / "weights.safetensors").chmod(0o600)  # as safetensors leaves it
        record = store.publish(STAGE, attempt, SUMMARY, 1.0)
    assert store.path(record, "weights.safetensors").stat().st_mode & 0o777 == file


def test_what_is_not_published_is_not_found(store: Store) -> None:
    assert store.find(STAGE.key) is None
    with pytest.raises(StorageError, match=f"nothing is published under {STAGE.key} in "):
        store.get(STAGE.key)
    assert not store.root.exists(), "looking writes nothing"
    with pytest.raises(StorageError, match=r"has no file c\.txt"):
        store.path(publish(store), "c.txt")


def test_an_attempt_without_a_record_is_not_believed(store: Store) -> None:
    record = publish(store)
    record_file(store).unlink()  # as if killed just before the last step
    assert attempts(store) == [record.attempt]
    assert store.find(STAGE.key) is None
    second = publish(store, text="xyz")
    assert second.attempt != record.attempt
    assert store.path(store.get(STAGE.key), "a.txt").read_text() == "xyz"


def test_a_draft_of_a_record_is_not_believed(store: Store) -> None:
    publish(store)
    path = record_file(store)
    path.rename(path.with_name(".record.json.0123"))
    assert store.find(STAGE.key) is None


def test_nothing_is_left_of_a_failed_attempt(store: Store) -> None:
    def fail() -> None:
        with store.attempt(STAGE.key) as folder:
            (folder / "half.bin").write_bytes(b"123")
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        fail()
    assert store.find(STAGE.key) is None
    assert [path for path in store.root.rglob("*") if path.is_file()] == []
    assert attempts(store) == []


def test_a_result_that_json_cannot_hold_is_not_published(store: Store) -> None:
    with pytest.raises(ValueError, match="JSON"):
        publish(store, summary={"share": float("nan")})
    assert store.find(STAGE.key) is None
    assert attempts(store) == []


def test_an_attempt_that_was_not_published_is_gone(store: Store) -> None:
    with store.attempt(STAGE.key) as folder:
        (folder / "a.txt").write_text("abc")
    assert not folder.exists()


# --- two writers ---------------------------------------------------------------------------------


def test_the_second_writer_gets_the_first_ones_record(store: Store) -> None:
    with store.attempt(STAGE.key) as slow:
        (slow / "a.txt").write_text("slow")
        first = publish(store, text="quick")
        assert store.publish(STAGE, slow, {"kept": 1}, 9.0) == first
    assert store.get(STAGE.key) == first
    assert attempts(store) == [first.attempt]
    assert store.path(first, "a.txt").read_text() == "quick"


def test_of_many_writers_at_once_one_wins_and_all_agree(store: Store) -> None:
    writers = 8
    start, records = threading.Barrier(writers), []

    def write(number: int) -> None:
        start.wait()
        records.append(publish(store, text=f"writer {number}"))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(records) == writers
    assert all(record == records[0] for record in records)
    assert attempts(store) == [records[0].attempt]
    assert store.find(STAGE.key, checksums=True) == records[0]
    assert [path.name for path in store.folder(STAGE.key).iterdir() if path.is_file()] == [
        "record.json"
    ]


# --- damage --------------------------------------------------------------------------------------


def flipped(path: Path, position: int) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def rewritten(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a record's values and write it again."""
    values = json.loads(path.read_text())
    path.write_text(json.dumps(change(values)))


RECORD_HARM: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_text(""),
    "truncated": lambda path: path.write_text(path.read_text()[:-20]),
    "cut in half": lambda path: path.write_text(path.read_text()[:200]),
    "garbage": lambda path: path.write_bytes(bytes(range(256))),
    "zeros": lambda path: path.write_bytes(bytes(300)),
    "a list": lambda path: path.write_text("[]"),
    "a number": lambda path: path.write_text("3"),
    "null": lambda path: path.write_text("null"),
    "deeply nested": lambda path: path.write_text("[" * 100_000),
    "an empty object": lambda path: path.write_text("{}"),
    "a key less": lambda path: rewritten(path, lambda v: {k: v[k] for k in v if k != "files"}),
    "a key more": lambda path: rewritten(path, lambda v: {**v, "extra": 1}),
    "no seal": lambda path: rewritten(path, lambda v: {k: v[k] for k in v if k != "seal"}),
    "other config": lambda path: rewritten(path, lambda v: {**v, "config": 5}),
    "other files": lambda path: rewritten(path, lambda v: {**v, "files": {}}),
    "other summary": lambda path: rewritten(path, lambda v: {**v, "summary": {"kept": 91}}),
    "not a number": lambda path: rewritten(path, lambda v: {**v, "seconds": float("nan")}),
}


@pytest.mark.parametrize("harm", RECORD_HARM)
def test_a_damaged_record_is_named(store: Store, harm: str) -> None:
    publish(store)
    RECORD_HARM[harm](record_file(store))
    with pytest.raises(CorruptRecord) as caught:
        store.find(STAGE.key)
    assert str(record_file(store)) in str(caught.value)
    assert str(caught.value).startswith(f"{STAGE.key}: ")


def test_any_flipped_bit_in_a_record_is_found(store: Store) -> None:
    """But one that turns blank space into other blank space, and so changes no value."""
    record = publish(store)

    def outcome(store: Store) -> str:
        try:
            return "sound: same" if store.find(STAGE.key) == record else "sound: other"
        except CorruptRecord as error:
            return str(error)

    path = record_file(store)
    content = path.read_bytes()
    for position in range(len(content)):
        flipped(path, position)
        found = outcome(store)
        assert str(path) in found or found == "sound: same", f"byte {position}"
        path.write_bytes(content)


def test_the_record_of_another_stage_is_not_believed(store: Store) -> None:
    other = Stage("kept", 1, {"drop": 0.2}, {})
    publish(store, other)
    shutil.copytree(store.folder(other.key), store.folder(STAGE.key))
    with pytest.raises(CorruptRecord, match=f"describes another stage, {other.key}"):
        store.find(STAGE.key)


@pytest.mark.parametrize("name", ["a.txt", "parts/b.bin"])
@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "were published"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "were published"),
        (lambda path: path.write_bytes(b""), "has 0 bytes"),
        (lambda path: flipped(path, 2), "has changed"),
    ],
    ids=["missing", "truncated", "too long", "empty", "flipped"],
)
def test_a_damaged_file_is_named(
    store: Store, name: str, harm: Callable[[Path], object], said: str
) -> None:
    path = store.path(publish(store), name)
    harm(path)
    with pytest.raises(CorruptRecord) as caught:
        store.find(STAGE.key, checksums=True)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


def test_damage_that_changes_no_size_is_found_by_checksums_alone(store: Store) -> None:
    record = publish(store)
    flipped(store.path(record, "a.txt"), 0)
    assert store.find(STAGE.key) == record
    with pytest.raises(CorruptRecord):
        store.find(STAGE.key, checksums=True)


def test_a_folder_in_a_records_place_is_a_storage_error(store: Store) -> None:
    record_file(store).mkdir(parents=True)
    with pytest.raises(StorageError, match=r"record\.json cannot be read"):
        store.find(STAGE.key)


def test_what_was_discarded_can_be_published_again(store: Store) -> None:
    first = publish(store)
    store.path(first, "a.txt").unlink()
    store.discard(STAGE.key)
    assert store.find(STAGE.key) is None
    second = publish(store, text="again")
    assert store.find(STAGE.key, checksums=True) == second
    assert store.path(second, "a.txt").read_text() == "again"
    store.discard("kept-that-never-was")


def test_of_equal_results_the_files_are_equal(store: Store, tmp_path: Path) -> None:
    first, second = publish(store), publish(Store(tmp_path / "other"))
    assert first.files == second.files
    assert first.summary == second.summary


# --- nothing is unpickled ------------------------------------------------------------------------


def test_an_array_of_objects_is_neither_written_nor_read(store: Store) -> None:
    objects = np.array([{"a": 1}, None], dtype=object)
    with store.attempt(STAGE.key) as folder:
        with pytest.raises(ValueError, match="allow_pickle"):
            save_array(folder, "values", objects)
        np.save(folder / "values.npy", objects, allow_pickle=True)
        store.publish(STAGE, folder, {}, 0.0)
    inputs = Inputs(Stage("reader", 1, {}, {"kept": STAGE.key}), store)
    with pytest.raises(ValueError, match="Python object"):
        inputs.array("kept", "values")


def test_an_array_is_read_as_it_was_written(store: Store) -> None:
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)[:, ::-1]
    with store.attempt(STAGE.key) as folder:
        save_array(folder, "values", values)
        store.publish(STAGE, folder, {}, 0.0)
    found = Inputs(Stage("reader", 1, {}, {"kept": STAGE.key}), store).array("kept", "values")
    assert np.array_equal(found, values)
    assert found.dtype == values.dtype
    found[:] = 0  # a private copy
    assert store.find(STAGE.key, checksums=True)


def test_what_a_stage_left_unfinished_goes_once_it_is_published(tmp_path: Path) -> None:
    store, stage = Store(tmp_path), Stage("generator", 1, {}, {})
    store.unfinished(stage.key).write("checkpoint", b"step 3")
    assert store.unfinished(stage.key).read("checkpoint") == b"step 3"
    assert (tmp_path / "unfinished" / stage.key / "checkpoint").read_bytes() == b"step 3"
    with store.attempt(stage.key) as folder:
        store.publish(stage, folder, {}, 0.0)
    assert not list((tmp_path / "unfinished").iterdir())


@pytest.mark.parametrize(
    "harm",
    [
        {"attempt": "../../../.."},
        {"attempt": "/etc"},
        {"files": {"../../secret": [1, "x"]}},
        {"files": {"a/../../b": [1, "x"]}},
        {"files": {"": [1, "x"]}},
        {"files": [1]},
        {"files": {"a.npy": 3}},
    ],
    ids=str,
)
def test_a_record_that_leads_out_of_its_attempt_is_not_believed(
    store: Store, harm: dict[str, object]
) -> None:
    publish(store)
    path = store.folder(STAGE.key) / "record.json"
    values = {**json.loads(path.read_text()), **harm}
    values.pop("seal")
    path.write_text(json.dumps({**values, "seal": digest(values)}))
    with pytest.raises(CorruptRecord, match=STAGE.key):
        store.find(STAGE.key)


def test_a_folder_tells_what_was_begun_in_one_look_at_each_kind(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.begun(["kept", "claims"]) == set()
    with store.attempt(STAGE.key) as folder:
        assert store.begun(["kept"]) == {STAGE.key}
        store.publish(STAGE, folder, {}, 0.0)
    assert store.begun(["kept", "claims"]) == {STAGE.key}
    assert store.begun(["claims"]) == set()


def test_a_folder_that_cannot_be_listed_tells_nothing_of_what_was_begun(tmp_path: Path) -> None:
    (tmp_path / "stages").write_text("no folder")
    assert Store(tmp_path).begun(["kept"]) is None
