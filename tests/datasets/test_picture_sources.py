"""Sources of images: joined without copying, read from parquet, seen in another view."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_selfloop.images.imageset import Joined, join
from ray_selfloop.images.pictures import (
    EncodedParts,
    Pictures,
    View,
    encode,
    read_encoded,
    seen,
    selected,
    view_of,
    write_encoded,
)

VIEW = View(8, 8, "stretch")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (10, 3, 8, 8), dtype=np.uint8)


@pytest.fixture(scope="module")
def pictures(images: np.ndarray) -> Pictures:
    return Pictures([encode(image, "png") for image in images], VIEW)


def test_lossless_pictures_read_as_the_array_that_they_were(
    images: np.ndarray, pictures: Pictures
) -> None:
    rows = np.array([3, 3, 9, 0])
    assert np.array_equal(pictures[rows], images[rows])
    assert np.array_equal(pictures[2:5], images[2:5])
    assert np.array_equal(pictures[7], images[7])
    assert np.array_equal(pictures[np.arange(10) % 2 == 0], images[::2])
    assert pictures[np.array([], np.int64)].shape == (0, 3, 8, 8)
    assert pictures.shape == images.shape


def test_joined_sources_read_as_the_concatenation(images: np.ndarray, pictures: Pictures) -> None:
    parts = [np.array([4, 1]), np.array([9]), np.empty(0, np.int64), np.array([0, 0, 5])]
    whole = np.concatenate([images[rows] for rows in parts])
    lazy = join(list(zip([pictures, images, images, pictures], parts, strict=True)))
    assert isinstance(lazy, Joined)
    assert lazy.shape == whole.shape
    for rows in (np.arange(6), np.array([5, 0, 2, 2]), np.array([-1])):
        assert np.array_equal(lazy[rows], whole[rows])
    assert np.array_equal(lazy[3], whole[3])
    assert isinstance(join([(images, rows) for rows in parts]), np.ndarray)


def test_any_number_of_threads_decodes_the_same(pictures: Pictures) -> None:
    rows = np.array([5, 1, 1, 8])
    assert np.array_equal(Pictures(pictures.encoded, VIEW, threads=4)[rows], pictures[rows])


def test_a_selection_of_pictures_is_never_decoded(images: np.ndarray, pictures: Pictures) -> None:
    rows = np.array([2, 7])
    chosen = selected(pictures, rows)
    assert isinstance(chosen, Pictures)
    assert list(chosen.encoded) == [pictures.encoded[2], pictures.encoded[7]]
    assert np.array_equal(selected(images, rows), images[rows])


def test_another_view_reaches_every_part(images: np.ndarray, pictures: Pictures) -> None:
    small = View(4, 4, "crop")
    joined = join([(pictures, np.array([1])), (pictures, np.array([0]))])
    assert seen(joined, small)[np.array([1])].shape == (1, 3, 4, 4)
    assert np.array_equal(seen(joined, small)[np.array([1])], pictures.seen(small)[np.array([0])])
    assert (view_of(joined), view_of(pictures), view_of(images)) == (VIEW, VIEW, None)


def test_parquet_files_read_as_one_sequence_whatever_the_order(tmp_path: Path) -> None:
    things = [f"thing {i}".encode() for i in range(7)]
    bounds = [(0, 3), (3, 4), (4, 7)]
    paths = [tmp_path / f"{first}.parquet" for first, _ in bounds]
    for path, (first, end) in zip(paths, bounds, strict=True):
        pq.write_table(pa.table({"image": things[first:end]}), path)
    parts = EncodedParts(paths, "image")
    assert list(parts) == things
    assert [parts[i] for i in (6, 0, 3, 2)] == [things[i] for i in (6, 0, 3, 2)]
    assert parts[1:5] == things[1:5]
    with pytest.raises(IndexError):
        parts[7]


def test_a_packed_file_gives_back_what_was_written(tmp_path: Path) -> None:
    things = [b"one", b"", b"three" * 100]
    write_encoded(tmp_path, "things", things)
    packed = read_encoded(tmp_path, "things")
    assert list(packed) == things
    assert packed[-1:] == things[-1:]
