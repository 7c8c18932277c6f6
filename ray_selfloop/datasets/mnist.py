"""MNIST from torchvision's layout: `<root>/MNIST/raw`, the four files with or without .gz."""

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np

from ray_selfloop.errors import DataError
from ray_selfloop.images.imageset import Ids, Images

SIZES = {"train": 60_000, "t10k": 10_000}
KINDS = {"images-idx3": (28, 28), "labels-idx1": ()}  # shape of one value
HIGHEST = 9  # label
OFFICIAL = "e21d8812ea08a3f6b29d"  # digest of the four official files' values
SHAPES = [(size, *shape) for size in SIZES.values() for shape in KINDS.values()]


def _file(root: str, name: str) -> Path:
    raw = Path(root) / "MNIST" / "raw"
    for path in (raw / name, raw / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(
        f"MNIST is not complete: {raw / name}(.gz) is missing. Put the four official files into "
        f"{raw}, or set dataset.download=true."
    )


def _header(shape: tuple[int, ...]) -> bytes:
    return bytes((0, 0, 8, len(shape))) + np.array(shape, ">i4").tobytes()


def _wrong(path: Path, shape: tuple[int, ...]) -> DataError:
    wanted = " x ".join(str(side) for side in shape)
    return DataError(f"MNIST: {path} is not complete or not MNIST: it must hold {wanted} bytes")


def _check_size(path: Path, shape: tuple[int, ...]) -> None:
    """Raise DataError where a file has another size; a .gz tells its content's in its tail."""
    try:
        size = path.stat().st_size
        if path.suffix == ".gz":
            with path.open("rb") as file:
                file.seek(-min(size, 4), os.SEEK_END)
                size = int.from_bytes(file.read(), "little")
    except OSError as error:
        raise DataError(f"MNIST: {path} cannot be read: {error}") from error
    if size != len(_header(shape)) + math.prod(shape):
        raise _wrong(path, shape)


def _values(path: Path, shape: tuple[int, ...]) -> Images:
    """The values of an IDX file of unsigned bytes; raises DataError where it holds another shape.

    IDX: 0, 0, 8 (unsigned byte), the number of dimensions, each dimension in 4 bytes, the values.
    """
    header = _header(shape)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(len(header) + math.prod(shape) + 1)  # never a bomb's gigabytes
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"MNIST: {path} cannot be read: {error}") from error
    if not content.startswith(header) or len(content) != len(header) + math.prod(shape):
        raise _wrong(path, shape)
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)


def files(root: str | None) -> list[Path]:
    """The four files, train before test; raises DataError for the first missing or incomplete."""
    folder = root or "data"
    found = [_file(folder, f"{part}-{kind}-ubyte") for part in SIZES for kind in KINDS]
    for path, shape in zip(found, SHAPES, strict=True):
        _check_size(path, shape)
    return found


def download(root: str | None) -> None:
    """Fetch what is missing with torchvision; raises DataError when that fails."""
    from torchvision.datasets import MNIST

    try:
        MNIST(root or "data", download=True)
    except (RuntimeError, OSError) as error:
        raise DataError(f"MNIST could not be downloaded to {root or 'data'}: {error}") from error


def scans(root: str | None) -> tuple[tuple[Images, Ids], tuple[Images, Ids]]:
    """``(train, test)``: gray ``(n, 28, 28)`` and labels; 60,000 and 10,000 images."""
    found = [_values(path, shape) for path, shape in zip(files(root), SHAPES, strict=True)]
    for path, values in zip(files(root)[1::2], found[1::2], strict=True):
        if values.max() > HIGHEST:
            raise DataError(f"MNIST: {path} is damaged: its labels go to {values.max()}, not 9")
    train, train_labels, test, test_labels = found
    return (train, train_labels.astype(np.int64)), (test, test_labels.astype(np.int64))
