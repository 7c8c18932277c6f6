"""MNIST from torchvision's layout: `<root>/MNIST/raw`, the four files with or without .gz."""

import gzip
from pathlib import Path

import numpy as np

from ray_selfloop.data.imageset import Ids, Images
from ray_selfloop.errors import DataError

IMAGE_HEADER, LABEL_HEADER = 16, 8  # bytes before the values in the IDX format
SIZES = {"train": 60_000, "t10k": 10_000}


def _file(root: str, name: str) -> Path:
    raw = Path(root) / "MNIST" / "raw"
    for path in (raw / name, raw / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(
        f"MNIST is not complete: {raw / name}(.gz) is missing. Put the four official files into "
        f"{raw}, or set dataset.download=true."
    )


def _bytes(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def files(root: str | None) -> list[Path]:
    """The four files, train before test; raises DataError for the first that is missing."""
    folder = root or "data"
    return [
        _file(folder, f"{part}-{kind}-ubyte")
        for part in SIZES
        for kind in ("images-idx3", "labels-idx1")
    ]


def download(root: str | None) -> None:
    """Fetch what is missing with torchvision; raises DataError when that fails."""
    from torchvision.datasets import MNIST

    try:
        MNIST(root or "data", download=True)
    except (RuntimeError, OSError) as error:
        raise DataError(f"MNIST could not be downloaded to {root or 'data'}: {error}") from error


def scans(root: str | None) -> tuple[tuple[Images, Ids], tuple[Images, Ids]]:
    """``(train, test)``: gray ``(n, 28, 28)`` and labels; 60,000 and 10,000 images."""
    parts = iter(files(root))
    arrays: list[tuple[Images, Ids]] = []
    for part, size in SIZES.items():
        images_file, labels_file = next(parts), next(parts)
        images = np.frombuffer(_bytes(images_file), np.uint8, offset=IMAGE_HEADER)
        labels = np.frombuffer(_bytes(labels_file), np.uint8, offset=LABEL_HEADER)
        if len(labels) != size or len(images) != size * 28 * 28:
            raise DataError(f"MNIST {part} in {images_file.parent} is not complete or not MNIST.")
        arrays.append((images.reshape(-1, 28, 28), labels.astype(np.int64)))
    return arrays[0], arrays[1]
