"""Hostile data and storage: nothing in a file runs, leads out of its folder, or fills the memory.

A pickle that makes a folder when it is loaded is put in the place of every file that is read. That
it would do so is shown first.
"""

import ast
import contextlib
import gzip
import hashlib
import importlib
import io
import json
import math
import os
import pickle
import shutil
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import imagenet_worlds as worlds
import numpy as np
import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_base
import torch
from PIL import Image, PngImagePlugin
from safetensors import SafetensorError

from ray_selfloop.classifiers import weights
from ray_selfloop.config.datasets.breeds import BREEDS_SUPERCLASSES, Breeds
from ray_selfloop.config.filter import OpenClip
from ray_selfloop.datasets import breeds, cifar, hard_imagenet, mnist, pictures
from ray_selfloop.errors import CorruptRecord, DataError, SelfLoopError
from ray_selfloop.evaluation import inception
from ray_selfloop.filtering.scores import open_clip as published_clip
from ray_selfloop.generators.diffusion import checkpoint, lora
from ray_selfloop.generators.diffusion.base import check, open_base
from ray_selfloop.generators.diffusion.row_file import RowFile
from ray_selfloop.graph import Stage
from ray_selfloop.images import tables
from ray_selfloop.images.pictures import EncodedParts, Pictures, View, opened, read_encoded
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.store.records import Store

PACKAGE = Path(__file__).parents[1] / "ray_selfloop"
REFUSED = (SelfLoopError, ValueError, OSError, KeyError, SafetensorError, AssertionError)
"""What a reader of a stage's own files may raise: the stage then fails with that message."""


class Harm:
    """Pickled as a call that makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """The folder that a loaded pickle makes; it must not be there in the end."""
    folder = tmp_path / "harm"
    pickle.loads(pickle.dumps(Harm(folder)))  # noqa: S301  (our own bytes: the harm is real)
    folder.rmdir()
    yield folder
    assert not folder.exists()


# --- forms of one harm ---------------------------------------------------------------------------


def plain_pickle(mark: Path) -> bytes:
    return pickle.dumps({"data": Harm(mark), "state_dict": Harm(mark)}, 2)


def torch_file(mark: Path) -> bytes:
    file = io.BytesIO()
    torch.save({"conv1.weight": Harm(mark)}, file)
    return file.getvalue()


def old_torch_file(mark: Path) -> bytes:
    file = io.BytesIO()
    torch.save({"conv1.weight": Harm(mark)}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def old_torch_tar(mark: Path) -> bytes:
    """What torch wrote before 2018."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            content = pickle.dumps(Harm(mark), 2)
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def array_of_objects(mark: Path) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Harm(mark)] * 4, dtype=object), allow_pickle=True)
    return file.getvalue()


def archive_of_arrays(mark: Path) -> bytes:
    file = io.BytesIO()
    np.savez(file, allow_pickle=True, image=np.array([Harm(mark)], dtype=object))
    return file.getvalue()


def zipped_pickle(mark: Path) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../data.pkl", pickle.dumps(Harm(mark)))
    return file.getvalue()


def safetensors_of_pickle(mark: Path) -> bytes:
    """A header of the right length, made of a pickle."""
    content = pickle.dumps(Harm(mark))
    return len(content).to_bytes(8, "little") + content


def table_of_objects(mark: Path) -> bytes:
    """A parquet file whose columns are of Ray Data's type of pickled objects."""
    objects = pa.array([pickle.dumps(Harm(mark))], pa.large_binary())
    kind = {"ARROW:extension:name": "ray.data.arrow_pickled_object", "ARROW:extension:metadata": ""}
    names = ("id", "label", "image", "score")
    schema = pa.schema([pa.field(name, pa.large_binary(), metadata=kind) for name in names])
    file = io.BytesIO()
    table = pa.Table.from_arrays([objects] * 4, schema=schema.with_metadata({"shape": "[1, 1, 1]"}))
    pq.write_table(table, file)
    return file.getvalue()


FORMS: Mapping[str, Callable[[Path], bytes]] = {
    form.__name__: form
    for form in (
        plain_pickle,
        torch_file,
        old_torch_file,
        old_torch_tar,
        array_of_objects,
        archive_of_arrays,
        zipped_pickle,
        safetensors_of_pickle,
        table_of_objects,
    )
}
any_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


# --- nothing that could run is called ------------------------------------------------------------

BANNED = {
    "pickle", "cPickle", "cloudpickle", "dill", "shelve", "marshal", "joblib", "eval", "exec",
    "compile", "__import__", "extractall", "unpack_archive", "fromfile", "read_pickle",
    "unsafe_load", "full_load", "load_all", "jit",
}  # fmt: skip
"""Names that load or run what is in a file."""
BUILT_IN = {"eval", "exec", "compile"}  # `network.eval()` and `re.compile()` are something else
ALLOWED = {
    ("command.py", "exec"): "of an empty text of its own: Python forgets a Ctrl-C that was caught",
    ("datasets/cifar.py", "pickle"): "official files, by checksum, and arrays and containers alone",
    ("datasets/hard_imagenet.py", "pickle"): "the official ranking, texts and numbers alone",
}
SAFE = {("torch", "load"): ("weights_only", True), ("np", "load"): ("allow_pickle", False)}
LOADERS = {("yaml", "load"): "config/plain.py"}  # with a SafeLoader


def dotted(node: ast.expr) -> tuple[str, ...]:
    """``a.b.c`` as its parts."""
    if isinstance(node, ast.Attribute):
        return (*dotted(node.value), node.attr)
    return (node.id,) if isinstance(node, ast.Name) else ("",)


def uses(tree: ast.AST) -> Iterator[str]:
    """Modules imported, and functions called by their last name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (node.module or "").split(".")
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            yield name[-1] if len(name) == 1 or name[-1] not in BUILT_IN else ""


def test_what_could_run_a_file_is_called_nowhere_but_where_the_reason_stands() -> None:
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        tree = ast.parse(path.read_text())
        found |= {(place, name) for name in uses(tree) if name in BANNED}
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = dotted(call.func)[-2:]
            given = {k.arg: getattr(k.value, "value", None) for k in call.keywords}
            if name in SAFE:
                word, value = SAFE[name]
                assert given.get(word) is value, f"{place}: {'.'.join(name)} without {word}={value}"
            if name in LOADERS:
                assert place == LOADERS[name], f"{place} reads YAML by itself"
            if name[-1] == "from_pretrained":
                assert given.get("use_safetensors") is True, f"{place}: from_pretrained"
                assert "trust_remote_code" not in given
    assert found == set(ALLOWED)


# --- data ----------------------------------------------------------------------------------------


@any_form
@pytest.mark.parametrize("part", cifar.MD5)
def test_cifars_files_are_what_was_published(form, part: str, mark: Path, tmp_path: Path) -> None:
    folder = tmp_path / cifar.FOLDER
    folder.mkdir()
    for name in cifar.MD5:
        (folder / name).write_bytes(form(mark))
    with pytest.raises(DataError, match="is damaged or not the official file: its md5 is"):
        cifar.read(str(tmp_path))
    with pytest.raises(DataError, match="is refused"):
        cifar.unpickled(form(mark), folder / part)  # nor would the reader itself run it


def test_an_archive_that_lies_there_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")
    root = tmp_path / "data"
    root.mkdir()
    with tarfile.open(root / "cifar-100-python.tar.gz", "w:gz") as archive:
        for name in ("../escaped", "/tmp/selfloop-escaped", "cifar-100-python/train"):
            entry = tarfile.TarInfo(name)
            archive.addfile(entry, io.BytesIO())
    with pytest.raises(DataError, match="could not be downloaded"):
        cifar.download(str(root))
    assert [path.name for path in tmp_path.rglob("*") if path != root] in (
        [],
        ["cifar-100-python.tar.gz"],
    )
    assert not Path("/tmp/selfloop-escaped").exists()


@any_form
@pytest.mark.parametrize("name", hard_imagenet.RANKINGS)
def test_a_ranking_is_texts_and_numbers(form, name: str, mark: Path, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(form(mark))
    with pytest.raises(DataError, match="is refused"):
        hard_imagenet.ranking(tmp_path)


LARGE_MEMO = b"\x80\x04]r\xff\xff\xff\xff."  # an empty list, remembered as the 4,294,967,295th
DEEP = b"\x80\x04N" + b"\x85" * 200_000 + b"0]."  # tuples in tuples


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (LARGE_MEMO, "it is malformed"),
        (b"\x80\x04}(" + DEEP[3:-3] + b"K\x01u.", "it asks for TUPLE1"),
        (b"\x80\x04ccodecs\nencode\n.", "it asks for codecs.encode"),
        (b"\x80\x04Pharm\n.", "it asks for PERSID"),
        (b"\x80\x04\x82\x01.", "it asks for EXT1"),
        (b"\x80\x04(ios\nmkdir\n.", "it asks for INST"),
        (b"\x80\x05\x96" + b"\xff" * 8 + b".", "is refused"),  # a byte array of 2^64 bytes
        (b"\x80\x04\x8e" + b"\xff" * 8 + b".", "is refused"),
    ],
)
def test_a_ranking_can_exhaust_nothing(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / hard_imagenet.RANKINGS[0]).write_bytes(content)
    tracemalloc.start()
    with pytest.raises(DataError, match=said):
        hard_imagenet.ranking(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24


def test_a_ranking_that_holds_itself_is_named_by_its_type(tmp_path: Path) -> None:
    itself: list[Any] = []
    itself += [itself] * 3
    (tmp_path / hard_imagenet.RANKINGS[0]).write_bytes(pickle.dumps({795: itself}))
    with pytest.raises(DataError, match="it ranks a list under n04228054"):
        hard_imagenet.ranking(tmp_path)


@any_form
def test_mnists_files_are_numbers(form, mark: Path, tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in mnist.SIZES:
        for kind in mnist.KINDS:
            (raw / f"{part}-{kind}-ubyte").write_bytes(form(mark))
    with pytest.raises(DataError, match="is not complete or not MNIST"):
        mnist.scans(str(tmp_path))


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """Its tail, too, tells the size that is expected."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for shape, (part, kind) in zip(
        mnist.SHAPES, ((p, k) for p in mnist.SIZES for k in mnist.KINDS), strict=True
    ):
        header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">i4").tobytes()
        size = len(header) + math.prod(shape)
        with (raw / f"{part}-{kind}-ubyte").open("wb") as file:
            file.write(header)
            file.truncate(size)
    bomb = gzip.compress(header + bytes(250 * 2**20), compresslevel=1)
    (raw / "t10k-labels-idx1-ubyte").unlink()
    (raw / "t10k-labels-idx1-ubyte.gz").write_bytes(bomb[:-4] + size.to_bytes(4, "little"))
    with pytest.raises(DataError, match=r"labels-idx1-ubyte\.gz is not complete"), peak(2**27):
        mnist.scans(str(tmp_path))


@contextlib.contextmanager
def peak(most: int) -> Iterator[None]:
    """Not more than so many bytes are held at once within the block."""
    tracemalloc.start()
    try:
        yield
    finally:
        _, found = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found < most


# --- Breeds' hierarchy: names that lead elsewhere ------------------------------------------------


def hierarchy(folder: Path, wnid: str, name: str = "a name") -> Breeds:
    """Settings whose hierarchy files hold one class of this wnid and name."""
    folder.mkdir()
    (folder / breeds.FILES[0]).write_text(f"{breeds.TOP} {wnid}\n")
    (folder / breeds.FILES[1]).write_text(json.dumps([[0, wnid, name]]))
    (folder / breeds.FILES[2]).write_text(f"{breeds.TOP}\tentity\n")
    return Breeds(root=str(folder), hierarchy=str(folder))


@pytest.mark.parametrize(
    "wnid", ["..", "../../etc", "/etc", "n0000174", "n00001740/..", "n00001740\n", "n0000174\u0663"]
)
def test_a_class_that_is_no_wnid_names_no_folder(wnid: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is no wnid|must be two entries"):
        breeds.listed(hierarchy(tmp_path / "breeds", wnid))


@pytest.mark.parametrize("name", ["a\x1b[31m", "a\u202eb", "a\0"])
def test_a_name_that_cannot_be_printed_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no printable name") as caught:
        breeds.listed(hierarchy(tmp_path / "breeds", "n00001741", name))
    assert str(caught.value).isprintable()


@any_form
def test_a_hierarchy_is_text(form, mark: Path, tmp_path: Path) -> None:
    for name in breeds.FILES:
        (tmp_path / name).write_bytes(form(mark))
    with pytest.raises(DataError, match=r"^Breeds: "):
        breeds.read(tmp_path)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[[0, 1]]", "{}5", f"[[{'9' * 5_000}, 1, 2]]", "3"]
)
def test_a_class_list_of_another_form_is_refused(text: str, tmp_path: Path) -> None:
    settings = hierarchy(tmp_path / "breeds", "n00001741")
    (tmp_path / "breeds" / breeds.FILES[1]).write_text(text)
    with pytest.raises(DataError, match="must be a list of "):
        breeds.listed(settings)


def test_class_names_are_the_programs_own_whatever_the_files_say(tmp_path: Path) -> None:
    settings = hierarchy(tmp_path / "breeds", "n00001741", "<script>alert(1)</script>")
    assert "<script>" not in BREEDS_SUPERCLASSES["living17"]
    with pytest.raises(DataError, match="does not give living17's 17 superclasses"):
        breeds.listed(settings)


# --- pictures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a\nb.JPEG", "\x1b[31m.png", "\u202egpj.png", "\udcff.png"])
def test_a_picture_with_an_unprintable_name_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match="a picture's name must be printable text") as caught:
        pictures.files(tmp_path, tmp_path)
    assert str(caught.value).isprintable()


def test_a_strange_but_printable_name_stays_in_its_folder(tmp_path: Path) -> None:
    names = ["-rf.png", "..\\..\\a.png", "<script>.png", "...png", "é %s {}.png"]
    for name in names:
        (tmp_path / name).write_bytes(worlds.saved(Image.new("RGB", (8, 8)), "PNG"))
    (tmp_path / "pipe.png").unlink(missing_ok=True)
    os.mkfifo(tmp_path / "pipe.png")  # no file: never opened
    (tmp_path / "folder.png").mkdir()
    found = pictures.files(tmp_path, tmp_path)
    assert set(found) == set(names)
    files = pictures.PictureFiles(tmp_path, sorted(found))
    assert all(opened(files[row], "it").size == (8, 8) for row in range(len(files)))


@any_form
def test_a_picture_is_a_picture(form, mark: Path, tmp_path: Path) -> None:
    for name in ("a.JPEG", "a.png", "a.webp"):
        (tmp_path / name).write_bytes(form(mark))
        with pytest.raises(DataError, match="is no readable JPEG, PNG or WebP picture"):
            pictures.PictureFiles(tmp_path, [name])[0]


def text_bomb() -> bytes:
    """A small PNG whose text is 60 MB when unpacked."""
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "b" * 60_000_000, zip=True)
    return worlds.saved(Image.new("RGB", (4, 4)), "PNG", pnginfo=info)


def claimed(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it has so many pixels."""
    whole = bytearray(worlds.saved(Image.new("L", (1, 1)), "PNG"))
    whole[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    whole[29:33] = zlib.crc32(whole[12:29]).to_bytes(4, "big")
    return bytes(whole)


UNREADABLE: Mapping[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "an SVG": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>",
    "a GIF": lambda: worlds.saved(Image.new("L", (4, 4)), "GIF"),
    "a TIFF": lambda: worlds.saved(Image.new("L", (4, 4)), "TIFF"),
    "a PostScript program": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run",
    "a long text": text_bomb,
    "2^31 pixels a side": lambda: claimed(2**31 - 1, 2**31 - 1),
    "90 million pixels": lambda: claimed(9_000, 10_000),
    "no pixels": lambda: claimed(0, 1),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_file_that_is_no_picture_or_a_bomb_is_refused(what: str) -> None:
    content = UNREADABLE[what]()
    with peak(2**26), pytest.raises(DataError) as caught:
        Pictures([content], View(4, 4, "crop"))[0]
    assert str(caught.value).startswith("picture 0")
    assert str(caught.value).isprintable()


def test_of_an_animation_the_first_picture_is_seen() -> None:
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    for form in ("PNG", "WEBP"):
        options = {"lossless": True} if form == "WEBP" else {}
        moving = worlds.saved(first, form, save_all=True, append_images=[second], **options)
        assert Pictures([moving], View(8, 8, "crop"))[0][:, 0, 0].tolist() == [255, 0, 0]


def test_a_note_that_a_picture_is_to_be_turned_is_not_heeded() -> None:
    """As torchvision's folders read it: the pixels as they are stored."""
    picture = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    plain, turned = (worlds.saved(picture, "PNG", **o) for o in ({}, {"exif": exif}))
    seen = Pictures([plain, turned], View(8, 8, "crop"))[:]
    assert np.array_equal(seen[0], seen[1])


@pytest.mark.parametrize("order", ["gray", "colour"])
def test_of_16_bits_the_upper_8_are_seen(order: str) -> None:
    gray = (np.arange(64, dtype=np.uint16) * 1_000).reshape(8, 8)
    encoded = worlds.saved(Image.fromarray(gray), "PNG")
    if order == "colour":
        encoded = png16(gray)
    seen = Pictures([encoded], View(8, 8, "crop"))[0]
    assert np.array_equal(seen, np.stack([gray >> 8] * 3).astype(np.uint8))


def png16(gray: np.ndarray) -> bytes:
    """16 bits for each of three colours, which PIL cannot write."""
    rows = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in gray)
    size = gray.shape[1].to_bytes(4, "big") + gray.shape[0].to_bytes(4, "big")
    chunks = ((b"IHDR", size + b"\x10\x02\0\0\0"), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
        for kind, body in chunks
    )


# --- weights -------------------------------------------------------------------------------------


@any_form
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors"])
def test_weights_of_a_classifier_are_tensors(form, suffix: str, mark: Path, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(form(mark))
    with pytest.raises(DataError, match="is no readable state dict") as caught:
        weights.check("lenet", str(path))
    assert "\n" not in str(caught.value)


@any_form
def test_weights_of_inception_are_tensors(form, mark: Path, tmp_path: Path) -> None:
    path = tmp_path / "inception.pth"
    path.write_bytes(form(mark))
    with pytest.raises(DataError, match="is no file of weights") as caught:
        inception.check(str(path))
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small open_clip architecture."""
    config = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 8,
            "heads": 1,
            "layers": 1,
        },
    }
    path = tmp_path_factory.mktemp("clip") / "hostile-selfloop.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    return path.stem


@any_form
@pytest.mark.parametrize("suffix", [".pt", ".bin", ".safetensors", ".npz", ".npy"])
def test_weights_of_clip_are_tensors(
    form, suffix: str, mark: Path, tmp_path: Path, tiny_clip: str
) -> None:
    path = tmp_path / f"clip{suffix}"
    path.write_bytes(form(mark))
    settings = OpenClip(model=tiny_clip, pretrained=str(path))
    with pytest.raises(DataError, match="could not be had") as caught:
        published_clip.OpenClip(["a"], settings, torch.device("cpu"))
    assert "\n" not in str(caught.value)


# --- a Stable Diffusion base ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base.make(tmp_path_factory.mktemp("base"), None)


@pytest.fixture
def base(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(whole, tmp_path / "base"))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@any_form
def test_weights_of_a_base_are_tensors(form, mark: Path, base: Path) -> None:
    for path in base.rglob("*.safetensors"):
        path.write_bytes(form(mark))
        (path.parent / "pytorch_model.bin").write_bytes(form(mark))
        (path.parent / "diffusion_pytorch_model.bin").write_bytes(form(mark))
    found = open_base(tiny_base.settings(base))
    for load in (
        found.unet,
        lambda: found.vae(torch.device("cpu")),
        lambda: found.embeddings(["a"], torch.device("cpu")),
    ):
        with pytest.raises(DataError, match=r"generator\.base: .* cannot be loaded: ") as caught:
            load()
        assert "\n" not in str(caught.value)


CODE = "import os; os.mkdir({mark!r})\nclass Evil: pass\n"


@pytest.mark.parametrize(
    ("file", "part", "named"),
    [
        ("text_encoder/evil.py", "text_encoder", ["evil", "Evil"]),
        ("text_encoder/transformers.py", "text_encoder", ["transformers", "CLIPTextModel"]),
        ("image_encoder/evil.py", "image_encoder", ["evil", "Evil"]),
        ("unet/modeling.py", "unet", ["diffusers", "UNet2DConditionModel"]),
        ("pipeline.py", "tokenizer", ["transformers", "CLIPTokenizer"]),
        ("readme.txt", "tokenizer", ["antigravity", "Evil"]),  # a module that is installed
        ("readme.txt", "scheduler", []),
    ],
)
def test_a_base_brings_no_program_code(
    file: str, part: str, named: list[str], mark: Path, base: Path
) -> None:
    (base / file).parent.mkdir(exist_ok=True)
    (base / file).write_text(CODE.format(mark=str(mark)))
    edit(base / "model_index.json", **{part: named})
    for read in (check, open_base):
        with pytest.raises(DataError, match=r"is program code, which is never run|not from diffu"):
            read(tiny_base.settings(base))


@pytest.mark.parametrize(
    "named", ["../../secret.safetensors", "/etc/passwd", "a/b.safetensors", "..", 3, None, "a.bin"]
)
def test_the_parts_of_weights_lie_beside_their_index(named: object, base: Path) -> None:
    index = base / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": named}}))
    with pytest.raises(DataError, match=r"no \.safetensors file beside it"):
        check(tiny_base.settings(base))


READ = {
    "model_index.json": ("_class_name", "unet", "image_encoder", "scheduler"),
    "unet/config.json": ("in_channels",),
    "vae/config.json": ("latent_channels", "block_out_channels"),
    "scheduler/scheduler_config.json": ("prediction_type",),
}
ODD = (None, True, -1, 0, 1e400, "x" * 500, [], {}, [[]], 2**70, [1] * 5_000)


@pytest.mark.parametrize("file", READ)
def test_odd_values_in_a_bases_files_are_one_line_or_none(file: str, base: Path) -> None:
    settings, said = tiny_base.settings(base), []
    before = (base / file).read_text()
    for name in READ[file]:
        for odd in ODD:
            edit(base / file, **{name: odd})
            try:
                check(settings)
            except DataError as error:
                said.append(str(error))
            (base / file).write_text(before)
    assert said
    assert all(line.isprintable() and len(line) < 400 for line in said)


@pytest.mark.parametrize("text", ["", "[1]", "3", "[" * 100_000, '{"a":' * 3, "\0", "9" * 5_000])
def test_a_bases_file_that_is_no_group_is_refused(text: str, base: Path) -> None:
    (base / "vae" / "config.json").write_text(text)
    with pytest.raises(DataError, match="cannot be read"):
        check(tiny_base.settings(base))


# --- the store -----------------------------------------------------------------------------------

STAGE = Stage("samples", 1, {}, {})


def published(root: Path, files: Mapping[str, bytes]) -> Inputs:
    """What a hostile writer published: checksums and seal are right. As inputs of another stage."""
    store = Store(root / "store")
    with store.attempt(STAGE.key) as folder:
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        store.publish(STAGE, folder, {"parts": ["part-00000000.parquet"]}, 0.0)
    return Inputs(Stage("reader", 1, {}, {"it": STAGE.key}), store)


def offsets() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([0, 10], np.int64))
    return file.getvalue()


@any_form
def test_no_file_of_the_store_is_unpickled(form, mark: Path, tmp_path: Path) -> None:
    harm = form(mark)
    names = ("a.npy", "a_offsets.npy", "weights.safetensors", lora.FILE, "rows.parquet", "b.bin")
    inputs = published(tmp_path, {**dict.fromkeys(names, harm), "b_offsets.npy": offsets()})
    folder = inputs.store.path(inputs.record("it"), "a.npy").parent
    for read in (
        lambda: inputs.array("it", "a")[0],
        lambda: inputs.images("it", "a")[0],
        lambda: inputs.weights("it"),
        lambda: read_encoded(folder, "a"),
        lambda: RowFile(folder / "a.npy"),
        lambda: inputs.weights("it", lora.FILE),
        lambda: tables.read(folder / "rows.parquet"),
        lambda: EncodedParts([folder / "rows.parquet"], "image")[0],
        lambda: opened(inputs.encoded("it", "b")[0], "it"),
    ):
        with pytest.raises(REFUSED):
            read()


def test_a_column_of_pickled_objects_is_refused_where_ray_knows_it(
    mark: Path, tmp_path: Path
) -> None:
    importlib.import_module("ray.data._internal.object_extensions.arrow")  # as `ray.data` does
    path = tmp_path / "part.parquet"
    path.write_bytes(table_of_objects(mark))
    with pytest.raises(CorruptRecord, match="column 'id' is of an extension type"):
        tables.read(path)
    with pytest.raises(CorruptRecord, match="column 'image' is of an extension type"):
        EncodedParts([path], "image")[0]
    assert not mark.exists()
    pq.read_table(path)["image"].to_pylist()  # the harm is real
    mark.rmdir()


def test_types_inside_types_are_looked_into(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    inner = pa.field("a", pa.binary(), metadata={"ARROW:extension:name": "nobody.knows"})
    for kind in (pa.list_(inner), pa.struct([inner]), pa.list_(pa.field("b", pa.struct([inner])))):
        pq.write_table(pa.table({"a": pa.array([], kind)}), path)
        with pytest.raises(CorruptRecord, match="which is never read"):
            tables.read(path)
    plain = pa.table({"a": [1], "b": ["x"], "c": pa.array(["y"]).dictionary_encode(), "d": [[1.0]]})
    pq.write_table(plain, path)
    assert tables.read(path).equals(plain)
    assert tables.read(path, ["b"]).column_names == ["b"]


@any_form
def test_no_record_is_unpickled(form, mark: Path, tmp_path: Path) -> None:
    inputs = published(tmp_path, {"a.npy": b""})
    (inputs.store.folder(STAGE.key) / "record.json").write_bytes(form(mark))
    with pytest.raises(CorruptRecord, match="is not a record"):
        inputs.store.find(STAGE.key)


@any_form
def test_no_checkpoint_is_unpickled(form, mark: Path) -> None:
    """Not even one whose digest was made to fit."""

    class Kept:
        def read(self, name: str) -> bytes:
            return hashlib.sha256(form(mark)).digest() + form(mark)

        def write(self, name: str, content: bytes) -> None:
            raise NotImplementedError

    with pytest.raises(REFUSED):
        checkpoint.found(Kept(), "run")
