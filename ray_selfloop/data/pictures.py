"""Encoded pictures of any size, decoded when they are asked for: never all of them in memory.

Decides how a picture becomes a square of pixels, and how encoded pictures lie in a file. Knows
nothing of datasets, of stages or of what the pictures show.
"""

import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ray_selfloop.data.imageset import Ids, Images
from ray_selfloop.errors import DataError

Fit = Literal["stretch", "crop"]
Format = Literal["jpeg", "png", "webp"]
MOST_PIXELS = 100_000_000  # a picture with more is refused before it is decoded


class View(NamedTuple):
    """How a picture of any size becomes a square: resized (bilinear), then its centre cut out.

    side: of the square, in pixels. frame: what the picture is resized to before, at least ``side``.
    fit: ``stretch`` to frame x frame whatever its shape; ``crop``: its shorter side to frame.
    """

    side: int
    frame: int
    fit: Fit

    def __call__(self, picture: Image.Image) -> Image.Image:
        """The square, in the picture's own mode."""
        width, height = picture.size
        size = self.frame, self.frame
        if self.fit == "crop":
            scale = self.frame / min(width, height)
            size = max(self.frame, round(width * scale)), max(self.frame, round(height * scale))
        if size != (width, height):
            picture = picture.resize(size, Image.Resampling.BILINEAR)
        left, top = ((length - self.side) // 2 for length in size)
        return picture.crop((left, top, left + self.side, top + self.side))

    @property
    def uncropped(self) -> "View":
        """The whole frame."""
        return self._replace(side=self.frame)


def opened(encoded: bytes, name: str) -> Image.Image:
    """A picture by its content, whatever its file is called; raises DataError.

    Only JPEG, PNG and WebP are tried, and a picture of more than ``MOST_PIXELS`` is refused.
    """
    try:
        picture = Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG", "WEBP"))
        if picture.width * picture.height > MOST_PIXELS:
            raise DataError(f"{name}: {picture.width} x {picture.height} pixels are too many")
        picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} is no readable JPEG, PNG or WebP picture: {error}") from error
    return picture


def encode(image: Images, form: Format) -> bytes:
    """uint8 ``(3, H, W)`` -> a file's bytes; JPEG at quality 95 without chroma subsampling,
    WebP lossless."""
    file = io.BytesIO()
    options: dict[str, Any] = {
        "jpeg": {"quality": 95, "subsampling": 0},
        "png": {},
        "webp": {"lossless": True},
    }[form]
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(file, form, **options)
    return file.getvalue()


class Pictures:
    """``n`` encoded pictures as an image source: ``pictures[rows]`` decodes those rows.

    encoded: one file's bytes for each picture (a list, an `EncodedFile`, ...).
    Reads as uint8 ``(n, 3, side, side)`` RGB; indexing raises DataError for an unreadable picture.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, encoded: Sequence[bytes], view: View) -> None:
        self.encoded, self.view = encoded, view

    def __len__(self) -> int:
        return len(self.encoded)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``(n, 3, side, side)``."""
        return len(self), 3, self.view.side, self.view.side

    def seen(self, view: View) -> "Pictures":
        """The same pictures at another size."""
        return Pictures(self.encoded, view)

    @overload
    def __getitem__(self, rows: int | np.integer[Any]) -> Images: ...
    @overload
    def __getitem__(self, rows: slice | Ids | list[int] | NDArray[np.bool_]) -> Images: ...
    def __getitem__(self, rows: Any) -> Images:
        """uint8 ``(b, 3, side, side)``; of a single row ``(3, side, side)``."""
        if isinstance(rows, int | np.integer):
            return self._decoded(int(rows))
        chosen = np.arange(len(self))[rows]
        images = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        for i, row in enumerate(chosen):
            images[i] = self._decoded(int(row))
        return images

    def _decoded(self, row: int) -> Images:
        picture = opened(self.encoded[row], f"picture {row}").convert("RGB")
        return np.asarray(self.view(picture)).transpose(2, 0, 1)


class EncodedFile(Sequence[bytes]):
    """Encoded things one after another in one file, read one at a time and never mapped.

    offsets: int64 ``(n + 1,)``; thing i is bytes ``offsets[i]`` to ``offsets[i + 1]``.
    """

    def __init__(self, path: Path, offsets: Ids) -> None:
        self.path, self.offsets = path, offsets
        self._file: Any = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, row: int) -> bytes: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[bytes]: ...
    def __getitem__(self, row: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        first, end = int(self.offsets[row]), int(self.offsets[row + 1])
        if self._file is None:
            self._file = self.path.open("rb")
        return os.pread(self._file.fileno(), end - first, first)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}


class EncodedWriter:
    """Writes ``<name>.bin`` and ``<name>_offsets.npy`` into a folder, one thing after another."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name, self._ends = folder, name, [0]

    def __enter__(self) -> "EncodedWriter":
        self._file = (self._folder / f"{self._name}.bin").open("wb")
        return self

    def append(self, encoded: bytes) -> None:
        """The next thing."""
        self._file.write(encoded)
        self._ends.append(self._ends[-1] + len(encoded))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        offsets = np.asarray(self._ends, np.int64)
        np.save(self._folder / f"{self._name}_offsets.npy", offsets, allow_pickle=False)


def write_encoded(folder: Path, name: str, encoded: Iterable[bytes]) -> None:
    """All of ``encoded``, as `EncodedWriter` writes them."""
    with EncodedWriter(folder, name) as writer:
        for one in encoded:
            writer.append(one)


def read_encoded(folder: Path, name: str) -> EncodedFile:
    """What `EncodedWriter` wrote."""
    offsets = np.load(folder / f"{name}_offsets.npy", allow_pickle=False)
    return EncodedFile(folder / f"{name}.bin", offsets)
