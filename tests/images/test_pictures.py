"""Pictures: how one becomes a square, which files are refused, and how they lie in one file."""

import contextlib
import io
import pickle
import struct
import zlib
from pathlib import Path

import imagenet_worlds as worlds
import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from ray_selfloop import seeding
from ray_selfloop.errors import DataError
from ray_selfloop.images.pictures import (
    MOST_PIXELS,
    Pictures,
    View,
    checked,
    encode,
    opened,
    read_encoded,
    write_encoded,
)

VIEW = View(24, 32, "stretch")


@pytest.fixture(scope="module")
def files(data_root: str) -> list[bytes]:
    """The 15 real pictures, of other shapes each; one is gray."""
    return [path.read_bytes() for path in worlds.samples(data_root).values()]


def scene(mode: str = "RGB") -> Image.Image:
    """A smooth picture of 60 x 40."""
    y, x = np.mgrid[0:40, 0:60]
    values = np.stack([4 * x, 6 * y, 255 - 4 * x], axis=-1).astype(np.uint8)
    return Image.fromarray(values).convert(mode)


# --- the view ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "frame"), [(224, 256), (223, 256), (32, 33), (16, 16), (299, 301)]
)
def test_a_view_is_torchvisions_resize_and_centre_crop(
    files: list[bytes], side: int, frame: int
) -> None:
    for fit, size in (("stretch", (frame, frame)), ("crop", frame)):
        theirs = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(side)])
        for i, encoded in enumerate(files):
            picture = Image.open(io.BytesIO(encoded)).convert("RGB")
            ours = Pictures([encoded], View(side, frame, fit))[0]
            assert np.array_equal(ours.transpose(1, 2, 0), np.asarray(theirs(picture))), (i, fit)


def test_a_picture_of_the_frames_size_is_cropped_alone() -> None:
    picture = scene().resize((32, 32))
    square = View(20, 32, "crop")(picture)
    assert np.array_equal(np.asarray(square), np.asarray(picture)[6:26, 6:26])


# --- what is read --------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_a_file_is_read_by_its_content_whatever_its_kind(form: str) -> None:
    encoded = worlds.saved(scene(), form, **({"lossless": True} if form == "WEBP" else {}))
    seen = Pictures([encoded], View(40, 40, "crop"))[0]
    assert np.array_equal(seen.transpose(1, 2, 0), np.asarray(scene())[:, 10:50])


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK"])
def test_every_kind_of_colour_is_read_as_rgb(mode: str) -> None:
    form = "JPEG" if mode == "CMYK" else "PNG"
    picture = scene("L") if mode in ("L", "1", "LA") else scene()
    picture = picture.convert(mode)
    encoded = worlds.saved(picture, form)
    assert Image.open(io.BytesIO(encoded)).mode == mode
    seen = Pictures([encoded], View(40, 40, "crop"))[0].transpose(1, 2, 0)
    expected = np.asarray(picture.convert("RGB"))[:, 10:50]
    assert np.abs(seen.astype(int) - expected).mean() < (2 if form == "JPEG" else 1e-9)


def test_an_inverted_cmyk_jpeg_of_adobes_is_not_read_as_a_negative() -> None:
    encoded = worlds.saved(scene("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in encoded
    seen = Pictures([encoded], View(40, 40, "crop"))[0].transpose(1, 2, 0)
    assert np.abs(seen.astype(int) - np.asarray(scene())[:, 10:50]).mean() < 4


def test_a_palette_with_transparency_keeps_its_colours() -> None:
    picture = scene().quantize(16)
    encoded = worlds.saved(picture, "PNG", transparency=bytes(range(0, 256, 16)))
    seen = Pictures([encoded], View(40, 40, "crop"))[0].transpose(1, 2, 0)
    assert np.array_equal(seen, np.asarray(picture.convert("RGB"))[:, 10:50])


def test_rows_are_read_as_an_arrays_rows_are(files: list[bytes]) -> None:
    pictures = Pictures(files, VIEW)
    whole = pictures[:]
    assert pictures.shape == whole.shape == (15, 3, 24, 24)
    assert whole.dtype == np.uint8
    chosen = np.arange(15) % 4 == 1
    for rows in (slice(3, 11, 2), np.array([4, 0, 4]), [14, -1], chosen, np.int64(3), -2, 0):
        assert np.array_equal(pictures[rows], whole[rows])
    assert np.array_equal(Pictures(files, VIEW, threads=3)[:], whole)
    assert np.array_equal(pictures.take(np.array([9, 2]))[:], whole[[9, 2]])
    with pytest.raises(IndexError):
        pictures[np.array([15])]


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "left"),
    [(form, left) for form in ("JPEG", "PNG", "WEBP") for left in (0, 3, 40, 100)]
    + [(form, left) for form in ("JPEG", "WEBP") for left in (-1, -2, -40)],
)
def test_a_cut_off_file_is_refused_by_name(form: str, left: int) -> None:
    cut = worlds.saved(scene(), form)[:left]
    for read in (checked, opened):
        with pytest.raises(DataError, match=r"^here/a\.JPEG is no readable JPEG, PNG or WebP pict"):
            read(cut, "here/a.JPEG")


def test_a_file_of_another_kind_is_refused_by_name() -> None:
    gif = worlds.saved(scene("L"), "GIF")
    with pytest.raises(DataError) as caught:
        checked(gif, "a.JPEG")
    assert str(caught.value) == "a.JPEG is no readable JPEG, PNG or WebP picture: of another form"


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims a size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    end = chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + end


def test_a_picture_too_large_to_decode_is_refused_by_its_header() -> None:
    with pytest.raises(DataError) as caught:
        checked(png_claiming(8_001, 10_000), "a.JPEG")
    assert str(caught.value) == f"a.JPEG: 8001 x 10000 pixels are more than {MOST_PIXELS:,}"
    with pytest.raises(DataError, match=r"^a\.JPEG"):
        checked(png_claiming(100_000, 100_000), "a.JPEG")


def test_what_is_checked_has_its_size(files: list[bytes]) -> None:
    for encoded in files:
        assert checked(encoded, "a") == Image.open(io.BytesIO(encoded)).size


def test_a_jpeg_with_bytes_after_its_end_is_a_picture() -> None:
    assert checked(worlds.saved(scene(), "JPEG") + b"\0\0", "a") == (60, 40)


def test_damage_changes_a_picture_or_is_refused_but_raises_nothing_else() -> None:
    draw = seeding.rng(0, "damage")
    for form in ("JPEG", "PNG", "WEBP"):
        whole = np.frombuffer(worlds.saved(scene(), form), np.uint8)
        for _ in range(150):
            harmed = whole.copy()
            harmed[draw.integers(0, len(whole), 3)] = draw.integers(0, 256, 3)
            with contextlib.suppress(DataError):
                opened(harmed.tobytes(), "a")


# --- in one file ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["png", "webp", "jpeg"])
def test_an_image_survives_its_encoding(form: str) -> None:
    image = np.asarray(scene()).transpose(2, 0, 1)[:, :40, :40]
    seen = Pictures([encode(image, form)], View(40, 40, "stretch"))[0]
    worst = np.abs(seen.astype(int) - image).max()
    assert worst == 0 if form != "jpeg" else 0 < worst < 8


def test_what_is_written_to_one_file_is_read_back(tmp_path: Path) -> None:
    draw = seeding.rng(0, "encoded")
    things = [draw.bytes(int(size)) for size in draw.integers(0, 400, 50)] + [b"", b"last"]
    write_encoded(tmp_path, "test_images", iter(things))
    assert {path.name for path in tmp_path.iterdir()} == {
        "test_images.bin",
        "test_images_offsets.npy",
    }
    found = read_encoded(tmp_path, "test_images")
    assert list(found) == things
    assert (found[-1], list(found[3:9:2])) == (b"last", things[3:9:2])
    assert list(pickle.loads(pickle.dumps(found))) == things  # noqa: S301  (our own bytes)
    for row in (len(things), -len(things) - 1):
        with pytest.raises(IndexError):
            found[row]


def test_nothing_is_a_file_too(tmp_path: Path) -> None:
    write_encoded(tmp_path, "reserve_images", ())
    pictures = Pictures(read_encoded(tmp_path, "reserve_images"), VIEW)
    assert pictures[:].shape == (0, 3, 24, 24)
