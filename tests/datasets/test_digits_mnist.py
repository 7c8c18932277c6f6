"""Real scans: scikit-learn's digits, and MNIST's files, whole or not."""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ray_selfloop.conclusion.conclude import Conclusion
from ray_selfloop.config.datasets.coloured import ColorizedDigits, ColorizedMnist
from ray_selfloop.datasets import digits, mnist
from ray_selfloop.errors import DataError
from ray_selfloop.graph import Stage
from ray_selfloop.planning import prepare
from ray_selfloop.running import Run
from ray_selfloop.stages import dataset as data
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.run import execute
from ray_selfloop.store.records import Store

# --- digits --------------------------------------------------------------------------------------


def test_digits_are_all_of_the_scans_in_one_stratified_split() -> None:
    (train, train_labels), (test, test_labels) = digits.scans()
    assert train.shape == (1437, 8, 8)
    assert test.shape == (360, 8, 8)
    bunch = load_digits()
    wanted = np.column_stack([bunch.data * 255 / 16, bunch.target])
    images = np.concatenate([train, test]).reshape(-1, 64)
    found = np.column_stack([images, np.concatenate([train_labels, test_labels])])
    order = [np.lexsort(np.round(rows).T) for rows in (found, wanted)]
    assert np.all(np.abs(found[order[0]] - wanted[order[1]]) <= 0.5)
    expected = 360 * np.bincount(bunch.target) / 1797
    assert np.all(np.abs(np.bincount(test_labels) - expected) < 1)
    assert train.dtype == np.uint8
    assert train.max() == 255


def test_digits_that_are_written_to_are_read_again_as_they_were() -> None:
    (images, labels), _ = digits.scans()
    kept = images.copy(), labels.copy()
    images[:], labels[:] = 0, 0
    (again, their_labels), _ = digits.scans()
    assert (again == kept[0]).all()
    assert (their_labels == kept[1]).all()


def test_digits_are_split_the_same_every_time() -> None:
    for one, other in zip(digits.scans(), digits.scans(), strict=True):
        assert np.array_equal(one[0], other[0])
        assert np.array_equal(one[1], other[1])


# --- MNIST's files -------------------------------------------------------------------------------

FILES = {
    f"{part}-{kind}-ubyte": (size, *shape)
    for part, size in mnist.SIZES.items()
    for kind, shape in mnist.KINDS.items()
}


def header(shape: tuple[int, ...]) -> bytes:
    """The start of an IDX file of unsigned bytes."""
    return bytes([0, 0, 8, len(shape)]) + b"".join(side.to_bytes(4, "big") for side in shape)


@pytest.fixture
def blank(tmp_path: Path) -> Path:
    """A folder with four files of MNIST's form, all zeros and without disk use."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, shape in FILES.items():
        with (raw / name).open("wb") as file:
            file.write(header(shape))
            file.truncate(len(header(shape)) + int(np.prod(shape)))
    return tmp_path


def test_files_of_the_right_form_are_read(blank: Path) -> None:
    labels = blank / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    values = (np.arange(10_000) % 10).astype(np.uint8)
    labels.write_bytes(header((10_000,)) + values.tobytes())
    (train, train_labels), (test, test_labels) = mnist.scans(str(blank))
    assert train.shape == (60_000, 28, 28)
    assert test.shape == (10_000, 28, 28)
    assert not train_labels.any()
    assert np.array_equal(test_labels, values)
    assert test_labels.dtype == np.int64


def test_compressed_files_hold_the_same(blank: Path) -> None:
    plain = blank / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    plain.write_bytes(header((10_000,)) + bytes(range(10)) * 1_000)
    wanted = mnist.scans(str(blank))[1][1]
    plain.with_name(f"{plain.name}.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    assert np.array_equal(mnist.scans(str(blank))[1][1], wanted)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_with_what_to_do(blank: Path, name: str) -> None:
    path = blank / "MNIST" / "raw" / name
    path.unlink()
    with pytest.raises(DataError) as caught:
        mnist.files(str(blank))
    assert str(caught.value) == (
        f"MNIST is not complete: {path}(.gz) is missing. Put the four official files into "
        f"{path.parent}, or set dataset.download=true."
    )


def test_a_missing_folder_is_answered_before_anything_is_read(tmp_path: Path) -> None:
    settings = ColorizedMnist(root=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"nowhere/MNIST/raw/train-images-idx3-ubyte\(.gz\) is mis"):
        data.source(settings)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", ["truncated", "too long", "empty", "another format"])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_damaged_file_is_named(blank: Path, name: str, harm: str, compressed: bool) -> None:
    if compressed and "images" in name:
        name = name.replace("images-idx3", "labels-idx1")  # small, and read the same way
    path, content = blank / "MNIST" / "raw" / name, header(FILES[name])
    size = len(content) + int(np.prod(FILES[name]))
    size += {"truncated": -1, "too long": 1, "empty": -size}.get(harm, 0)
    with path.open("wb") as file:
        file.write(b"" if harm == "empty" else content[:-1] + b"\7" * (harm == "another format"))
        file.truncate(size)
    if compressed:
        packed = path.with_name(f"{name}.gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
        path = packed
    with pytest.raises(DataError) as caught:
        mnist.scans(str(blank))
    assert str(caught.value).startswith(f"MNIST: {path} is not complete or not MNIST")


@pytest.mark.parametrize("keep", [0, 3, 20, -9, -1])
def test_a_truncated_archive_is_named(blank: Path, keep: int) -> None:
    path = blank / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes())[:keep])
    path.unlink()
    with pytest.raises(DataError) as caught:
        mnist.files(str(blank))
    assert str(caught.value).startswith(f"MNIST: {packed} is not complete or not MNIST")


def test_an_archive_that_only_ends_like_one_is_named(blank: Path) -> None:
    path = blank / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(b"no archive" + (60_008).to_bytes(4, "little"))
    path.unlink()
    with pytest.raises(DataError) as caught:
        mnist.scans(str(blank))
    assert str(caught.value).startswith(f"MNIST: {packed} cannot be read: Not a gzipped file")


def test_a_label_that_is_no_digit_is_named(blank: Path) -> None:
    path = blank / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    content = bytearray(path.read_bytes())
    content[500] = 200
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        data.source(ColorizedMnist(root=str(blank)))
    assert str(caught.value) == f"MNIST: {path} is damaged: its labels go to 200, not 9"


# --- the dataset's key and stage -----------------------------------------------------------------


def test_the_source_of_a_dataset_is_its_files_content_not_their_place(
    blank: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    moved = tmp_path_factory.mktemp("moved")
    (moved / "MNIST").symlink_to(blank / "MNIST")
    first = data.source(ColorizedMnist(root=str(blank)))
    assert data.source(ColorizedMnist(root=str(moved))) == first
    labels = blank / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    content = bytearray(labels.read_bytes())
    content[100] ^= 1
    labels.write_bytes(content)
    assert data.source(ColorizedMnist(root=str(blank))) != first


def published(settings: ColorizedDigits, folder: Path) -> Inputs:
    """The dataset stage of these settings, computed and ready to be read."""
    store = Store(folder)
    config = settings.model_dump(mode="json", exclude={"root", "download"})
    stage = Stage("dataset", 1, config, {}, {"root": settings.root})
    with store.attempt(stage.key) as attempt:
        summary = data.run(data.KIND.work(stage, store, folder=attempt))
        store.publish(stage, attempt, summary, 0.0)
    return Inputs(Stage("reader", 1, {}, {"dataset": stage.key}), store)


def test_what_is_planned_of_a_reserve_is_what_the_stage_cuts(tmp_path: Path) -> None:
    settings = ColorizedDigits(reserve=0.4, seed=3)
    inputs = published(settings, tmp_path)
    original, reserve = data.original_and_reserve(settings)
    assert np.array_equal(inputs.split("train").labels, original)
    assert np.array_equal(inputs.split("reserve").labels, reserve)
    sizes = inputs.record("dataset").summary["sizes"]
    assert sizes == {"train": 776, "held_out": 144, "test": 1080, "reserve": 517}


def test_a_record_tells_whether_mnist_is_the_official_one(data_root: str, tmp_path: Path) -> None:
    """One byte of a picture may be another, and no form tells."""
    raw = tmp_path / "MNIST" / "raw"
    shutil.copytree(Path(data_root) / "MNIST" / "raw", raw)
    for official in (True, False):
        settings = ColorizedMnist(root=str(tmp_path), limit_train=200, limit_test=100)
        record = published(settings, tmp_path / f"store {official}").record("dataset")
        assert record.summary["official"] == official
        with (raw / "train-images-idx3-ubyte").open("r+b") as file:
            file.seek(5_000)
            file.write(b"\x07")


def test_a_reader_is_told_that_mnist_is_not_the_official_one(
    micro: list[str], data_root: str, tmp_path: Path
) -> None:
    raw = tmp_path / "MNIST" / "raw"
    shutil.copytree(Path(data_root) / "MNIST" / "raw", raw)
    with (raw / "t10k-images-idx3-ubyte").open("r+b") as file:
        file.seek(5_000)
        file.write(b"\x07")
    mine = f"dataset={{name: colorized_mnist, root: {tmp_path}, limit_train: 200, limit_test: 100}}"
    plan = prepare([*micro, mine])
    (dataset,) = plan.graph.of_kind("dataset")
    execute(dataset.stage, plan.store)
    plan.look_up()
    said = Conclusion(Run(plan), 1.0).view.warnings
    assert any("the files are not the official MNIST: they are damaged, or" in s for s in said)


def test_limits_take_a_stratified_draw(data_root: str, tmp_path: Path) -> None:
    settings = ColorizedMnist(root=data_root, limit_train=500, limit_test=200)
    inputs = published(settings, tmp_path)
    train, test = inputs.split("train"), inputs.split("test")
    assert len(train) == 450
    assert len(inputs.split("held_out")) == 50
    assert len(test) == 3 * 200
    shares = np.bincount(mnist.scans(data_root)[0][1]) / 60_000
    assert np.all(np.abs(np.bincount(train.labels) - 450 * shares) < 2)


def test_real_mnist_is_what_it_is_known_to_be(data_root: str) -> None:
    (train, train_labels), (test, test_labels) = mnist.scans(data_root)
    assert train.shape == (60_000, 28, 28)
    assert test.shape == (10_000, 28, 28)
    known = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(train_labels).tolist() == known
    assert train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert train.mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    assert train.std() / 255 == pytest.approx(0.3081, abs=1e-4)
