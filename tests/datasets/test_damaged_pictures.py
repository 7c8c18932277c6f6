"""Damaged, mended and replaced pictures: which are seen, how they are named, what is left out."""

import errno
import hashlib
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import imagenet_worlds as worlds
import numpy as np
import pytest
import tiny_hard_imagenet
from PIL import Image

from ray_selfloop import planning, seeding, sweep
from ray_selfloop.conclusion.conclude import Conclusion
from ray_selfloop.config.datasets.hard_imagenet import HardImageNet
from ray_selfloop.config.datasets.known import NOT_IN_KEY
from ray_selfloop.datasets import contents, hard_imagenet
from ray_selfloop.datasets.contents import Contents
from ray_selfloop.datasets.pictures import Whole
from ray_selfloop.errors import DataError
from ray_selfloop.graph import Stage
from ray_selfloop.images.pictures import (
    Pictures,
    View,
    checked,
    encode,
    opened,
    read_encoded,
    write_encoded,
)
from ray_selfloop.running import Run
from ray_selfloop.stages import dataset as data
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.run import execute
from ray_selfloop.store.records import Record, Store

SECTOR = 512  # bytes of a disk's smallest block


@pytest.fixture
def few(data_root: str, tmp_path: Path) -> worlds.World:
    """Two classes of 6 training and 3 validation pictures, for a test to harm."""
    return worlds.hard_imagenet(tmp_path, data_root, 6, 3, ("ski", "snorkel"))


@pytest.fixture
def many(data_root: str, tmp_path: Path) -> worlds.World:
    """Two classes of 170 training pictures, copied at one time."""
    return worlds.hard_imagenet(tmp_path, data_root, 170, 3, ("sunglasses", "snorkel"))


def settings(world: worlds.World, **values: Any) -> HardImageNet:
    classes = sorted({path.name for path in (world.root / "train").iterdir()})
    named = [name for name, wnid in worlds.WNIDS.items() if wnid in classes]
    return HardImageNet(**{"side": 28, "frame": 32, "classes": named, **world.places, **values})


def train_pictures(world: worlds.World) -> list[Path]:
    return sorted((world.root / "train").glob("*/*.JPEG"))


Block = Literal["random", "zeros", "elsewhere"]  # what a bad block holds


def with_a_bad_block(encoded: bytes, draw: np.random.Generator, block: Block) -> bytes:
    """One sector of other bytes, somewhere; ``elsewhere``: of another part of the file."""
    first = int(draw.integers(0, len(encoded) // SECTOR)) * SECTOR
    other = int(draw.integers(0, len(encoded) - SECTOR))
    filled = {
        "random": draw.bytes(SECTOR),
        "zeros": bytes(SECTOR),
        "elsewhere": encoded[other : other + SECTOR],
    }
    return encoded[:first] + filled[block] + encoded[first + SECTOR :]


def harm(paths: Iterable[Path], seed: int, blocks: Sequence[Block] = ("random",)) -> list[Path]:
    """A bad block in each, with the file's size and date left as they were."""
    draw, harmed = seeding.rng(seed, "blocks"), []
    for path, block in zip(paths, itertools.cycle(blocks), strict=False):
        at, encoded = path.stat(), path.read_bytes()
        path.write_bytes(with_a_bad_block(encoded, draw, block))
        os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))
        assert path.stat().st_size == at.st_size
        assert path.read_bytes() != encoded
        harmed.append(path)
    return harmed


def sums(world: worlds.World) -> None:
    """What `cd ROOT && sha256sum train/*/* > SHA256SUMS` writes."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(world.root)}\n"
        for path in train_pictures(world)
    ]
    (world.root / "SHA256SUMS").write_text("".join(lines))


def used(found: HardImageNet, mine: Contents | None = None) -> Whole:
    return hard_imagenet.whole(found, mine or Contents())


def stage_of(found: HardImageNet) -> Stage:
    config = found.model_dump(mode="json", exclude=set(NOT_IN_KEY))
    places = {"root": found.root, "masks": found.masks}
    hints = {**places, "damaged": found.damaged, "decoders": 2}
    return Stage("dataset", 2, {**config, "source": data.source(found)}, {}, hints)


def published(found: HardImageNet, folder: Path) -> tuple[Record, Inputs]:
    stage, store = stage_of(found), Store(folder / "store")
    record = execute(stage, store)
    return record, Inputs(Stage("reader", 1, {}, {"dataset": stage.key}), store)


# --- 300 blocks ----------------------------------------------------------------------------------


def test_of_300_bad_blocks_all_are_named_and_none_is_trained_on(
    many: worlds.World, tmp_path: Path
) -> None:
    """With the pictures' checksums beside them, without which some are not seen."""
    sums(many)
    harmed = harm(train_pictures(many)[20:320], 0, get_args(Block))
    assert len(harmed) == 300
    assert sum(decodes(path.read_bytes()) for path in harmed) >= 5
    with pytest.raises(DataError, match=r"; so are 299 more files\. Fetch again") as caught:
        data.source(settings(many))
    said = caught.value.__notes__[0].splitlines()
    assert sorted(Path(line.split()[0]) for line in said) == harmed
    record, inputs = published(settings(many, damaged="leave_out"), tmp_path)
    assert record.summary["left_out"] == [str(path.relative_to(many.root)) for path in harmed]
    assert record.summary["sizes"]["train"] + record.summary["sizes"]["held_out"] == 40
    bad = {path.read_bytes() for path in harmed}
    for part in ("train", "held_out"):
        images = inputs.split(part).images
        assert isinstance(images, Pictures)
        assert bad.isdisjoint(images.encoded)


def test_without_checksums_a_strict_decoder_names_nearly_all_of_them(many: worlds.World) -> None:
    """What training decodes with shows a picture of some of them, without a word."""
    harmed = harm(train_pictures(many)[20:320], 0)
    found = used(settings(many, damaged="leave_out"))
    assert set(found.left_out) <= {str(path.relative_to(many.root)) for path in harmed}
    assert len(found.left_out) >= 297
    assert sum(shown(path) for path in harmed) >= 10


def decodes(encoded: bytes) -> bool:
    """Whether the strict decoder has nothing to say."""
    try:
        checked(encoded, "it")
    except DataError:
        return False
    return True


def test_a_flipped_bit_that_no_decoder_sees_is_seen_by_the_checksum(few: worlds.World) -> None:
    (path,) = train_pictures(few)[3:4]
    data.source(settings(few))
    sums(few)
    path.write_bytes(with_a_silent_bit(path.read_bytes()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(DataError) as caught:
        data.source(settings(few))
    assert str(caught.value).startswith(
        f"{path} is not the file of SHA256SUMS: its sha256 is {digest[:8]}.... Fetch again"
    )
    assert used(settings(few, damaged="leave_out")).left_out == [str(path.relative_to(few.root))]
    (few.root / "SHA256SUMS").unlink()
    assert used(settings(few)).left_out == []


def with_a_silent_bit(jpeg: bytes) -> bytes:
    """The first bit of the coded pixels whose flip decodes without a word, to other pixels."""
    before = np.asarray(opened(jpeg, "it"))
    for at, bit in itertools.product(range(jpeg.index(b"\xff\xda") + 20, len(jpeg)), range(8)):
        flipped = jpeg[:at] + bytes([jpeg[at] ^ (1 << bit)]) + jpeg[at + 1 :]
        if decodes(flipped) and not np.array_equal(np.asarray(opened(flipped, "it")), before):
            return flipped
    raise AssertionError("every bit is seen")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (r"a\b", "\\{0}  train/a\\\\b"),
        ("a\nb", "\\{0}  train/a\\nb"),
        ("a\rb", "\\{0}  train/a\\rb"),
        (r"a\nb", "\\{0}  train/a\\\\nb"),
        ("a\x85b", "{0}  train/a\x85b"),
        ("a b", "{0}  train/a b\r"),
        (r"a\nb", "{0} *./train/a\\nb"),
    ],
)
def test_checksums_are_read_as_sha256sum_writes_them(
    few: worlds.World, tmp_path: Path, name: str, line: str
) -> None:
    """Names with a backslash or a line's end in them are escaped; blank lines are nothing."""
    shutil.copyfile(train_pictures(few)[0], tmp_path / "imagenet/train" / name)
    (few.root / "SHA256SUMS").write_text(f"\n{line.format('0' * 64)}\n\n", newline="")
    (look,) = Contents().of(few.root, [f"train/{name}"])
    assert look.damage.startswith(" is not the file of SHA256SUMS")


@pytest.mark.parametrize("line", ["", "{0}  ILSVRC.zip\n", "{0}  n04228054/n04228054_1.JPEG\n"])
def test_checksums_that_name_no_picture_are_refused(few: worlds.World, line: str) -> None:
    (few.root / "SHA256SUMS").write_text(line.format("0" * 64))
    with pytest.raises(DataError) as caught:
        data.source(settings(few))
    assert str(caught.value) == (
        f"{few.root}/SHA256SUMS names none of the 18 files that are used: names must be relative "
        "to the folder that it lies in, like train/n04228054/n04228054_1.JPEG; write it anew, or "
        "remove it"
    )


def test_checksums_of_masks_lie_in_their_folder(few: worlds.World) -> None:
    mask = sorted((few.masks / "val").iterdir())[0]
    (few.masks / "SHA256SUMS").write_text(f"{'0' * 64}  val/{mask.name}\n")
    with pytest.raises(DataError, match=f"^{mask} is not the file of SHA256SUMS"):
        data.source(settings(few))


def shown(path: Path) -> bool:
    """Whether the decoder of training shows a picture."""
    try:
        opened(path.read_bytes(), "it")
    except DataError:
        return False
    return True


def test_no_undamaged_picture_is_refused(data_root: str) -> None:
    home = Path(data_root)
    paths = [
        *worlds.samples(data_root).values(),
        *home.glob("tiny-imagenet-hard4/train/*/images/*"),
    ]
    assert len(paths) > 2000
    for path in paths:
        assert checked(path.read_bytes(), str(path)) == Image.open(path).size


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_jpegs_of_every_kind_are_whole(mode: str, options: dict[str, Any], data_root: str) -> None:
    picture = Image.open(worlds.samples(data_root)["ski"]).convert(mode)
    encoded = worlds.saved(picture, "JPEG", **options)
    assert checked(encoded, "it") == picture.size
    with pytest.raises(DataError, match=r"^it is no readable JPEG, PNG or WebP picture: "):
        checked(encoded[: len(encoded) // 2] + encoded[len(encoded) // 2 + 300 :], "it")


def test_a_png_is_compared_with_its_own_checksums() -> None:
    values = seeding.rng(0, "png").integers(0, 256, (3, 40, 40), np.uint8)
    encoded = bytearray(encode(values, "png"))
    encoded[encoded.index(b"IDAT") + 4 + 1000] ^= 1
    with pytest.raises(DataError, match=r"^it is no readable JPEG, PNG or WebP picture: "):
        checked(bytes(encoded), "it")


# --- mended and replaced files -------------------------------------------------------------------


def test_a_mended_file_is_seen(few: worlds.World, tmp_path: Path) -> None:
    """Nothing of what failed stands in the way; the storage remembers what it saw."""
    kept = Store(tmp_path / "store").blobs
    mine = Contents(kept)
    before = data.source(settings(few), mine)
    (path,) = train_pictures(few)[:1]
    good = path.read_bytes()
    mine.keep()
    harm([path], 1)
    mine = Contents(kept)
    with pytest.raises(DataError, match=f"^{path} is no readable JPEG"):
        data.source(settings(few), mine)
    mine.keep()
    path.write_bytes(good)
    assert data.source(settings(few), Contents(kept)) == before


def test_another_picture_of_the_same_size_and_date_is_another_dataset(
    few: worlds.World, tmp_path: Path
) -> None:
    path, another = train_pictures(few)[2:4]
    size = max(len(file.read_bytes()) for file in (path, another)) + 4
    path.write_bytes(padded(path.read_bytes(), size))
    said: list[str] = []
    kept = Store(tmp_path / "store").blobs
    mine = Contents(kept)
    before, at = data.source(settings(few), mine), path.stat()
    mine.keep()
    path.write_bytes(padded(another.read_bytes(), size))
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (at.st_size, at.st_mtime_ns)
    mine = Contents(kept, say=said.append)
    assert data.source(settings(few), mine) != before
    assert said == [f"changed since they were last read: {path}"]
    assert mine.changed == [str(path)]


def padded(jpeg: bytes, size: int) -> bytes:
    """The same picture with a comment."""
    comment = bytes(size - len(jpeg) - 4)
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2) + comment + jpeg[2:]


def test_a_touched_or_copied_file_is_the_same(few: worlds.World, tmp_path: Path) -> None:
    before = data.source(settings(few))
    for path in train_pictures(few):
        os.utime(path)
    assert data.source(settings(few)) == before
    moved = worlds.World(tmp_path / "a", tmp_path / "b")
    shutil.copytree(few.root, moved.root)
    shutil.copytree(few.masks, moved.masks)
    assert data.source(settings(moved)) == before


def test_what_was_read_is_believed_while_size_and_times_stay(
    few: worlds.World, tmp_path: Path
) -> None:
    """What is kept is altered here: it would not be seen if the files were read again."""
    kept = Store(tmp_path / "store").blobs
    old(few)
    mine = Contents(kept)
    before = data.source(settings(few), mine)
    mine.keep()
    name = next(name for name in kept.list("looks") if b"train/" in (kept.read(name) or b""))
    altered = kept.read(name) or b""
    assert str(few.root).encode() not in altered
    digest = hashlib.sha256(train_pictures(few)[0].read_bytes()).hexdigest().encode()
    assert altered.count(digest) == 1
    kept.write(name, altered.replace(digest, b"0" * 64))
    assert data.source(settings(few), Contents(kept)) != before
    for harmed in (
        b"",
        b"\n",
        b"\xff\t\n",
        b"1 2 3 \ta",
        altered[:-90],
        altered.replace(b" ", b""),
    ):
        kept.write(name, harmed)
        assert data.source(settings(few), Contents(kept)) == before


@pytest.mark.parametrize("seen_by", ["decoder", "checksum"])
def test_a_look_that_says_damaged_is_not_believed(
    few: worlds.World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen_by: str
) -> None:
    """Mended by `rsync -t` where the file system's time of the last change is what it sets."""
    monkeypatch.setattr(Path, "stat", without_changes(Path.stat))
    sums(few)
    kept, (path,) = Store(tmp_path / "store").blobs, train_pictures(few)[2:3]
    good, at = path.read_bytes(), (10**18, 10**18)
    bad = good[:-40] + bytes(40) if seen_by == "decoder" else with_a_silent_bit(good)
    path.write_bytes(bad)
    os.utime(path, ns=at)
    mine = Contents(kept)
    assert used(settings(few, damaged="leave_out"), mine).left_out
    mine.keep()
    path.write_bytes(good)
    os.utime(path, ns=at)
    assert used(settings(few), Contents(kept)).left_out == []
    assert used(settings(few), mine).left_out == []


Stat = Callable[..., os.stat_result]


def without_changes(stat: Stat) -> Stat:
    """Of a file system that keeps one time."""

    def found(path: Path, **options: bool) -> os.stat_result:
        at = stat(path, **options)
        times = {"st_mtime_ns": at.st_mtime_ns, "st_ctime_ns": at.st_mtime_ns}
        return os.stat_result(at[:10], {"st_ctime": at.st_mtime, "st_mtime": at.st_mtime, **times})

    return found


def test_what_was_read_before_an_interrupt_is_kept(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, read = contents._look, itertools.count()

    def interrupted(path: Path) -> str:
        if next(read) == 20:
            raise KeyboardInterrupt
        return look(path)

    monkeypatch.setattr(contents, "_look", interrupted)
    monkeypatch.setattr(contents, "MANY", 8)
    with pytest.raises(KeyboardInterrupt):
        planning.prepare(words)
    (table,) = (tmp_path / "store/looks").iterdir()
    assert len(table.read_text().splitlines()) >= 16


def test_a_file_is_asked_once_for_its_times_by_one_process(
    few: worlds.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And compared when it is packed all the same."""
    stamp, asked = contents._stamp, list[Path]()

    def counted(path: Path) -> str:
        asked.append(path)
        return stamp(path)

    monkeypatch.setattr(contents, "_stamp", counted)
    mine = Contents()
    before = data.source(settings(few), mine)
    assert asked
    asked.clear()
    path, other = train_pictures(few)[:2]
    shutil.copyfile(other, path)
    assert data.source(settings(few), mine) == before
    assert asked == []
    files = used(settings(few), mine).listed.train.files
    with pytest.raises(DataError, match=f"^{path} is not what it was"):
        files[0]


def test_a_picture_from_before_1970_is_kept_too(
    few: worlds.World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some archives bear such times."""
    kept = Store(tmp_path / "store").blobs
    for path in train_pictures(few):
        os.utime(path, ns=(0, -(10**9)))
    old(few)
    mine = Contents(kept)
    before = data.source(settings(few), mine)
    mine.keep()
    monkeypatch.setattr(contents, "_look", lambda path: pytest.fail(f"{path} is read again"))
    assert data.source(settings(few), Contents(kept)) == before


def old(world: worlds.World) -> None:
    """Wait until the files are older than the clock's steps."""
    newest = max(path.stat().st_ctime for path in (*world.root.rglob("*"), *world.masks.rglob("*")))
    time.sleep(max(0.0, newest + 1.05 - time.time()))


# --- refused, or left out ------------------------------------------------------------------------


def test_a_damaged_mask_takes_its_picture_along(few: worlds.World, tmp_path: Path) -> None:
    mask = sorted((few.masks / "val").iterdir())[1]
    mask.write_bytes(mask.read_bytes()[:-20])
    with pytest.raises(DataError, match=f"^{mask} is no readable JPEG, PNG or WebP picture: "):
        data.source(settings(few))
    record, inputs = published(settings(few, damaged="leave_out"), tmp_path)
    assert record.summary["left_out"] == [f"val/{mask.name}"]
    assert record.summary["sizes"]["test"] == 5 == len(inputs.encoded("dataset", "test_masks"))
    lost = few.root / "val" / mask.name.replace("_ILSVRC", "/ILSVRC")
    images = inputs.split("test").images
    assert isinstance(images, Pictures)
    assert lost.read_bytes() not in list(images.encoded)


@pytest.mark.parametrize("call", ["stat", "read_bytes"])
@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_a_file_that_cannot_be_read_is_damaged(
    few: worlds.World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    path = train_pictures(few)[1]
    kept = Store(tmp_path / "store").blobs
    with monkeypatch.context() as patch:
        patch.setattr(Path, call, broken(getattr(Path, call), path, number))
        with pytest.raises(DataError) as caught:
            data.source(settings(few))
        said = f"{path} cannot be read: {os.strerror(number)}. Fetch again what is damaged, or set "
        assert str(caught.value).startswith(said)
        mine = Contents(kept)
        found = used(settings(few, damaged="leave_out"), mine)
        assert found.left_out == [str(path.relative_to(few.root))]
        assert len(found.listed.train.names) == 11
        mine.keep()
    assert used(settings(few), Contents(kept)).left_out == []


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EMFILE, errno.ESTALE])
def test_a_file_that_is_missing_or_not_to_be_had_now_is_an_error(
    few: worlds.World, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Its dataset is not whole, or this machine is not."""
    path = train_pictures(few)[1]
    for call in ("stat", "read_bytes"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, call, broken(getattr(Path, call), path, number))
            with pytest.raises(DataError) as caught:
                data.source(settings(few, damaged="leave_out"))
        assert str(caught.value) == f"{path} cannot be read: {os.strerror(number)}"


def broken(call: Callable[..., Any], path: Path, number: int) -> Callable[..., Any]:
    """A call that fails for one file."""

    def fails(self: Path, **options: Any) -> Any:
        if self == path:
            raise OSError(number, os.strerror(number), str(self))
        return call(self, **options)

    return fails


def test_a_class_of_which_too_little_is_left_is_named(few: worlds.World) -> None:
    harmed = train_pictures(few)[:5]
    for path in harmed:
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"^the train pictures are 1 of ski and must be 2 or more"):
        data.source(settings(few, damaged="leave_out"))


def test_the_reserve_is_planned_without_what_is_left_out(few: worlds.World, tmp_path: Path) -> None:
    train_pictures(few)[3].write_bytes(b"")
    found = settings(few, damaged="leave_out", reserve=0.4)
    original, reserve = data.original_and_reserve(found)
    _, inputs = published(found, tmp_path)
    assert np.array_equal(inputs.split("train").labels, original)
    assert np.array_equal(inputs.split("reserve").labels, reserve)
    assert len(original) + len(reserve) == 10


def test_the_pack_tells_which_file_each_picture_is(few: worlds.World, tmp_path: Path) -> None:
    record, inputs = published(settings(few), tmp_path)
    rows = 0
    for column in ("train_images", "held_out_images", "test_images", "test_masks"):
        home = few.masks if column == "test_masks" else few.root
        lines = inputs.store.path(record, f"{column}.sha256").read_text().splitlines()
        for line, encoded in zip(lines, inputs.encoded("dataset", column), strict=True):
            digest, name = line.split("  ")
            assert hashlib.sha256(encoded).hexdigest() == digest
            assert (home / name).read_bytes() == encoded
            rows += 1
    assert rows == 12 + 6 + 6


# --- between planning and packing ----------------------------------------------------------------


def test_a_file_that_changes_after_planning_is_named(few: worlds.World, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    mine = Contents(store.blobs)
    data.source(settings(few), mine)
    mine.keep()
    stage = stage_of(settings(few))
    path = train_pictures(few)[4]
    shutil.copyfile(train_pictures(few)[5], path)
    with pytest.raises(DataError, match=f"^{path} is not what it was when this sweep was planned"):
        execute(stage, store)


def test_a_disk_that_changes_bytes_by_itself_is_seen_in_the_pack(few: worlds.World) -> None:
    """Where neither size nor times tell: the bytes that are packed are compared."""
    found = used(settings(few))
    files = found.listed.train.files
    path = few.root / files.names[3]
    path.write_bytes(path.read_bytes()[:-2] + b"\xff\xd9\x00")
    assert files[2]
    with pytest.raises(DataError, match=f"^{path} is not what it was"):
        files[3]


def test_a_packed_picture_that_cannot_be_decoded_is_named_by_its_file(tmp_path: Path) -> None:
    write_encoded(tmp_path, "train_images", [b"nothing"])
    pictures = Pictures(read_encoded(tmp_path, "train_images"), View(8, 8, "stretch"))
    with pytest.raises(DataError) as caught:
        pictures[0]
    assert str(caught.value).startswith(f"picture 0 of {tmp_path}/train_images.bin is no readable")


# --- from the command line -----------------------------------------------------------------------


@pytest.fixture
def words(data_root: str, tmp_path: Path) -> list[str]:
    """A sweep on 12 training and 3 test pictures of each of four classes."""
    found = tiny_hard_imagenet.words(tmp_path, data_root, 12, 3)
    return [*found, f"storage={tmp_path / 'store'}"]


def harmed_by(words: list[str]) -> list[Path]:
    """Two pictures of the sweep's data, damaged."""
    (root,) = [word.partition("=")[2] for word in words if word.startswith("dataset.root=")]
    paths = sorted(Path(root, "train").glob("*/*.JPEG"))[5:7]
    for path in paths:
        path.write_bytes(path.read_bytes()[:-40])
    return paths


def test_a_damaged_picture_is_refused_before_anything_is_computed(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = harmed_by(words)
    assert sweep.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path} is no readable JPEG, PNG or WebP picture: ")
    assert line.endswith(
        "; so is 1 more file. Fetch again what is damaged, or set dataset.damaged=leave_out to go "
        "on without it"
    )
    assert not (Path(words[-1].partition("=")[2]) / "stages").exists()


def test_what_is_left_out_stands_in_the_report(words: list[str]) -> None:
    paths = harmed_by(words)
    plan = planning.prepare([*words, "dataset.damaged=leave_out"])
    (dataset,) = plan.graph.of_kind("dataset")
    execute(dataset.stage, plan.store)
    plan.look_up()
    conclusion = Conclusion(Run(plan), 1.0)
    names = ", ".join(f"train/{path.parent.name}/{path.name}" for path in paths)
    (said,) = [text for text in conclusion.view.warnings if "left out" in text]
    assert said == (
        f"base: 2 damaged files are left out of the data: {names} (all: `left_out` in the "
        "dataset's record)."
    )
    assert names in Path(conclusion.report).read_text(encoding="utf-8")


def test_what_is_done_with_damage_is_not_in_the_key_but_what_is_left_out(words: list[str]) -> None:
    """On sound data both are the same dataset; a record need not be computed twice."""

    def key(*more: str) -> str:
        (node,) = planning.prepare([*words, *more]).graph.of_kind("dataset")
        return node.stage.key

    sound = key()
    assert key("dataset.damaged=leave_out") == sound
    harmed_by(words)
    assert key("dataset.damaged=leave_out") != sound


def test_looking_on_writes_nothing(words: list[str], tmp_path: Path) -> None:
    planning.prepare(words, writes=False)
    assert not (tmp_path / "store").exists()
    planning.prepare(words)
    assert [path.parent.name for path in (tmp_path / "store").rglob("*.*")] == ["looks"] * 2
