"""Encoded pictures of any size, decoded when they are asked for: never all of them in memory.

Decides how a picture becomes a square of pixels, and how encoded pictures lie in a file. Knows
nothing of datasets, of stages or of what the pictures show.
"""

import io
import os
import weakref
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
from PIL import Image, UnidentifiedImageError

from ray_selfloop.errors import DataError
from ray_selfloop.images import tables
from ray_selfloop.images.imageset import Ids, Images, ImageSource, Joined

Fit = Literal["stretch", "crop"]
Format = Literal["jpeg", "png", "webp"]
MOST_PIXELS = 80_000_000  # a picture with more is refused before it is decoded
TOO_LARGE = Image.DecompressionBombError, Image.DecompressionBombWarning  # PIL's own, above that
JPEG = b"\xff\xd8"  # how one begins


class View(NamedTuple):
    """How a picture of any size becomes a square: resized (bilinear), then its centre cut out.

    side: of the square, in pixels. frame: what the picture is resized to before, at least ``side``.
    fit: ``stretch`` to frame x frame whatever its shape; ``crop``: its shorter side to frame.
    Equal to torchvision's ``Resize((frame, frame))`` or ``Resize(frame)``, then ``CenterCrop``.
    """

    side: int
    frame: int
    fit: Fit

    def __call__(self, picture: Image.Image) -> Image.Image:
        """The square, in the picture's own mode."""
        size = self.resized(picture.size)
        if size != picture.size:
            picture = picture.resize(size, Image.Resampling.BILINEAR)
        left, top = (round((length - self.side) / 2) for length in size)
        return picture.crop((left, top, left + self.side, top + self.side))

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height that a picture of ``size`` (width, height) has before its crop."""
        if self.fit == "stretch":
            return self.frame, self.frame
        width, height = (int(self.frame * length / min(size)) for length in size)
        return width, height

    @property
    def uncropped(self) -> "View":
        return self._replace(side=self.frame)


def opened(encoded: bytes, name: str) -> Image.Image:
    """A picture by its content, whatever its file is called; raises DataError.

    Only JPEG, PNG and WebP are tried, and a picture of more than ``MOST_PIXELS`` is refused.
    """
    picture = _header(encoded, name)
    try:
        picture.load()
    except (OSError, ValueError, SyntaxError) as error:
        raise _unreadable(name, error) from error
    return picture


def _header(encoded: bytes, name: str) -> Image.Image:
    """A picture of which only the header is read."""
    try:
        picture = Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG", "WEBP"))
    except (OSError, ValueError, SyntaxError, *TOO_LARGE) as error:
        raise _unreadable(name, error) from error
    if picture.width * picture.height > MOST_PIXELS:
        raise DataError(
            f"{name}: {picture.width} x {picture.height} pixels are more than {MOST_PIXELS:,}"
        )
    return picture


def _unreadable(name: str, error: Exception) -> DataError:
    # PIL names the buffer that it reads from, which tells nobody anything
    why = "of another form" if isinstance(error, UnidentifiedImageError) else error
    return DataError(f"{name} is no readable JPEG, PNG or WebP picture: {why}")


def checked(encoded: bytes, name: str) -> tuple[int, int]:
    """Width and height of a whole picture; raises DataError for any other.

    It is decoded with every warning taken for an error: of most damages to a JPEG the decoders that
    training uses say nothing and show a picture. Of a PNG the checksums are compared. WebP has
    none, and in a JPEG damage may look like another picture: what the decoder cannot tell, only a
    known digest of the file can.
    """
    picture = _header(encoded, name)
    try:
        if encoded.startswith(JPEG) and _decoded_strictly(encoded):
            return picture.size
        if picture.format == "PNG":
            picture.verify()
    except (OSError, ValueError, SyntaxError) as error:
        raise _unreadable(name, error) from error
    return opened(encoded, name).size


def _decoded_strictly(encoded: bytes) -> bool:
    """Decode a JPEG, at an eighth of its size; ValueError where its decoder has anything to say.

    False where its colours are sampled in a way that this decoder does not know.
    """
    try:
        _, _, colours, _ = simplejpeg.decode_jpeg_header(encoded)
    except ValueError as error:
        if "subsampling" in str(error):
            return False
        raise
    target = "CMYK" if colours in ("CMYK", "YCCK") else "GRAY"
    simplejpeg.decode_jpeg(encoded, target, min_height=1, min_width=1)
    return True


def rgb(picture: Image.Image) -> Image.Image:
    """Gray, CMYK, palette: all as RGB; what is transparent keeps its colour.

    Of 16 bits the upper 8 are taken, as PIL takes them of colours; of grays it would take the rest
    for white.
    """
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if "transparency" in picture.info:
        picture = picture.convert("RGBA")
    return picture.convert("RGB")


def encode(image: Images, form: Format) -> bytes:
    """uint8 ``(3, H, W)`` -> a file's bytes; JPEG at quality 95 without chroma subsampling,
    WebP lossless."""
    file = io.BytesIO()
    options: dict[Format, dict[str, Any]] = {
        "jpeg": {"quality": 95, "subsampling": 0},
        "png": {},
        "webp": {"lossless": True},
    }
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    picture.save(file, form, **options[form])
    return file.getvalue()


class Pictures:
    """``n`` encoded pictures as an image source: ``pictures[rows]`` decodes those rows.

    encoded: one file's bytes for each picture (a list, an `EncodedFile`, ...). threads: how many
    decode side by side; changes no pixel.
    Reads as uint8 ``(n, 3, side, side)`` RGB; indexing raises DataError for an unreadable picture.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, encoded: Sequence[bytes], view: View, threads: int = 1) -> None:
        self.encoded, self.view, self.threads = encoded, view, threads

    def __len__(self) -> int:
        return len(self.encoded)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self), 3, self.view.side, self.view.side

    def seen(self, view: View) -> "Pictures":
        return Pictures(self.encoded, view, self.threads)

    def take(self, rows: Ids) -> "Pictures":
        """The rows as pictures of their own, encoded as they are."""
        return Pictures([self.encoded[int(row)] for row in rows], self.view, self.threads)

    def __getitem__(self, rows: Any) -> Images:
        """uint8 ``(b, 3, side, side)``; of a single row ``(3, side, side)``."""
        if isinstance(rows, int | np.integer):
            return self._decoded(int(rows))
        chosen = np.arange(len(self))[rows]
        images = np.empty((len(chosen), *self.shape[1:]), np.uint8)

        def decode(i: int) -> None:
            images[i] = self._decoded(int(chosen[i]))

        if self.threads > 1:
            with ThreadPoolExecutor(self.threads) as pool:
                list(pool.map(decode, range(len(chosen))))
        else:
            for i in range(len(chosen)):
                decode(i)
        return images

    def _decoded(self, row: int) -> Images:
        where = f" of {self.encoded.path}" if isinstance(self.encoded, EncodedFile) else ""
        picture = rgb(opened(self.encoded[row], f"picture {row}{where}"))
        return np.asarray(self.view(picture)).transpose(2, 0, 1)


def selected(images: ImageSource, rows: Ids) -> ImageSource:
    """Rows of ``images`` in memory: of an array an array, of pictures pictures, never decoded."""
    return images.take(rows) if isinstance(images, Pictures) else np.asarray(images[rows])


def seen(images: ImageSource, view: View) -> ImageSource:
    if isinstance(images, Joined):
        return Joined([(seen(source, view), rows) for source, rows in images.parts])
    assert isinstance(images, Pictures), "an array has one size"
    return images.seen(view)


def view_of(images: ImageSource) -> View | None:
    """The view that pictures are read in; None for an array."""
    if isinstance(images, Joined):
        return view_of(images.parts[0][0])
    return images.view if isinstance(images, Pictures) else None


class Encoded(Sequence[bytes]):
    """Encoded things that are read when they are asked for, one by its row or several."""

    @abstractmethod
    def one(self, row: int) -> bytes:
        """The thing of a row, 0..n-1."""

    def __getitem__(self, row: Any) -> Any:
        rows = range(len(self))[row]
        return [self.one(i) for i in rows] if isinstance(rows, range) else self.one(rows)


class EncodedFile(Encoded):
    """Encoded things one after another in one file, read one at a time and never mapped.

    offsets: int64 ``(n + 1,)``; thing i is bytes ``offsets[i]`` to ``offsets[i + 1]``.
    """

    def __init__(self, path: Path, offsets: Ids) -> None:
        self.path, self.offsets = path, offsets
        self._file: Any = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def one(self, row: int) -> bytes:
        first, end = int(self.offsets[row]), int(self.offsets[row + 1])
        if self._file is None:
            self._file = self.path.open("rb")
            weakref.finalize(self, self._file.close)
        return os.pread(self._file.fileno(), end - first, first)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}


class EncodedParts(Encoded):
    """The binary ``column`` of parquet files as one sequence; one file is held at a time.

    Reading in order opens each file once.
    """

    def __init__(self, paths: Sequence[Path], column: str) -> None:
        self.paths, self.column = list(paths), column
        counts = [pq.read_metadata(path).num_rows for path in self.paths]
        self._ends = np.cumsum(counts)
        self._held: tuple[int, pa.ChunkedArray] = (-1, pa.chunked_array([], pa.binary()))

    def __len__(self) -> int:
        return int(self._ends[-1])

    def one(self, row: int) -> bytes:
        part = int(np.searchsorted(self._ends, row, side="right"))
        held, column = self._held  # one step: another thread may be reading another part
        if held != part:
            column = tables.read(self.paths[part], [self.column])[self.column]
            self._held = part, column
        first = int(self._ends[part - 1]) if part else 0
        return bytes(column[row - first].as_py())


def write_encoded(folder: Path, name: str, encoded: Iterable[bytes]) -> None:
    """Write ``<name>.bin`` and ``<name>_offsets.npy`` into a folder, one thing after another."""
    ends = [0]
    with (folder / f"{name}.bin").open("wb") as file:
        for one in encoded:
            file.write(one)
            ends.append(ends[-1] + len(one))
    offsets = np.asarray(ends, np.int64)
    np.save(folder / f"{name}_offsets.npy", offsets, allow_pickle=False)


def read_encoded(folder: Path, name: str) -> EncodedFile:
    with (folder / f"{name}_offsets.npy").open("rb") as file:
        offsets = np.lib.format.read_array(file, allow_pickle=False)
    return EncodedFile(folder / f"{name}.bin", offsets)
