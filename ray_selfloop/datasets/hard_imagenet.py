"""Hard ImageNet (Moayeri et al. 2022): 15 classes of ImageNet, and a mask of every object.

Decides which pictures belong to it (those that have a mask), which of them are the balanced subset,
and what of a mask is object. The official ranking is a pickle: it is read only where the subset
asks for it, it consists of containers, texts and numbers, and by an unpickler that knows no more.
"""

import io
import pickle
import pickletools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray_selfloop.config.datasets.hard_imagenet import SYNSETS, HardImageNet
from ray_selfloop.datasets import imagenet, pictures
from ray_selfloop.datasets.contents import Contents
from ray_selfloop.datasets.pictures import Found, Listed, Whole
from ray_selfloop.errors import DataError

FOLDER = "hardImageNet"
RANKINGS = ("paths_by_rank2.pkl", "meta/paths_by_rank.pkl")  # the official loader's, others'
BALANCED = 100  # pictures from each end of a class's ranking
MASK_NAMES = {
    "train": re.compile(r"(n\d{8})_(n\d{8}_\d+\.JPEG)"),
    "val": re.compile(r"(n\d{8})_(ILSVRC2012_val_\d{8}\.JPEG)"),
}
RANKED = re.compile(r"(?:.*/)?train/(n\d{8}/n\d{8}_\d+\.JPEG)")
BOX = (
    "https://app.box.com/index.php?rm=box_download_shared_file"
    "&shared_name=ca7qlcfsqlfqul9rzgtuqhb2c6pm62qd&file_id=f_972129165893"
)
FETCH = (
    "Get it as https://github.com/mmoayeri/HardImageNet says: "
    f"`curl -L '{BOX}' -o hardImageNet.zip && unzip hardImageNet.zip`, and set dataset.masks to "
    "the folder that holds train, val and meta"
)


# --- which pictures ------------------------------------------------------------------------------


def folder_of(settings: HardImageNet) -> Path:
    return Path(settings.masks or _root(settings) / FOLDER)


def listed(settings: HardImageNet) -> Listed:
    """The pictures that have a mask, by class and name; raises DataError for what is missing.

    Test pictures are ImageNet's validation pictures. There are no subgroups.
    """
    names = settings.class_names
    train, test = (_with_mask(settings, split) for split in ("train", "val"))
    return Listed(train, test, tuple(names), (), tuple(names))


def _with_mask(settings: HardImageNet, split: str) -> Found:
    """One split: the pictures of the classes used that have a mask, and are in the subset."""
    by_wnid = _masked(folder_of(settings), split)
    cells = [_of_class(name, by_wnid, settings, split) for name in settings.class_names]
    if split == "train" and settings.subset == "balanced":
        cells = _balanced(cells, settings)
    return imagenet.found_in(_root(settings), split, cells)


def _root(settings: HardImageNet) -> Path:
    return Path(settings.root or "data")


def _of_class(
    name: str, by_wnid: Mapping[str, Sequence[str]], settings: HardImageNet, split: str
) -> Sequence[str]:
    """The pictures of one class that have a mask; all of them must be there."""
    wnid, masks = SYNSETS[name].wnid, folder_of(settings) / split
    wanted = by_wnid.get(wnid, ())
    if not wanted:
        raise DataError(
            f"Hard ImageNet is not complete: {masks} holds no mask of {name} ({wnid}_*.JPEG). "
            f"{FETCH}."
        )
    found = set(imagenet.pictures_of(_root(settings), split, wnid))
    lacking = [picture for picture in wanted if picture not in found]
    if lacking:
        raise DataError(
            f"ImageNet is not complete: {_root(settings) / split / lacking[0]} is missing, one of "
            f"{len(lacking)} pictures of {name} that have a mask in {masks}. {imagenet.FETCH}."
        )
    return wanted


def _masked(masks: Path, split: str) -> dict[str, list[str]]:
    """Wnid -> pictures ``<wnid>/<name>`` that have a mask, by the masks' own names.

    A mask is called ``<wnid>_<name of its picture>``; any other name is refused.
    """
    for path in (masks, masks / split):
        if not path.is_dir():
            raise DataError(f"Hard ImageNet is not complete: {path} is missing. {FETCH}.")
    wnids = {synset.wnid for synset in SYNSETS.values()}
    found: dict[str, list[str]] = {}
    for name in pictures.files(masks / split, masks):
        match = MASK_NAMES[split].fullmatch(name)
        if not match or match[1] not in wnids:
            raise DataError(
                f"Hard ImageNet: {masks / split / name} is no mask of its: one is called "
                "<wnid of one of the 15 classes>_<name of its picture>.JPEG; move it away"
            )
        found.setdefault(match[1], []).append(f"{match[1]}/{match[2]}")
    return found


def mask_name(picture: str) -> str:
    """``val/<wnid>/<name>`` of a picture -> ``val/<wnid>_<name>`` of its mask."""
    split, wnid, name = picture.split("/")
    return f"{split}/{wnid}_{name}"


# --- the ranking by spurious cues ----------------------------------------------------------------


PLAIN = re.compile(
    "PROTO|FRAME|STOP|MARK|MEMOIZE|NONE|((LONG_)?BIN)?(PUT|GET)|(EMPTY_)?(DICT|LIST)|SETITEMS?|"
    "APPENDS?|(BIN)?INT[12]?|LONG1?|(SHORT_)?BINBYTES|((SHORT_)?BIN)?UNICODE"
)
"""Pickle's operations that make dictionaries, lists, texts and numbers."""


class _ContainersAlone(pickle.Unpickler):
    """Knows dictionaries, lists, texts and numbers; any other name in the file is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Never anything."""
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def ranking(masks: Path) -> dict[str, list[str]]:
    """Wnid -> training pictures ``<wnid>/<name>``, from the strongest spurious cues to the weakest.

    Raises DataError where the official file is missing, or holds anything but an index's paths.
    """
    path = next((masks / name for name in RANKINGS if (masks / name).is_file()), None)
    if path is None:
        raise DataError(
            f"Hard ImageNet is not complete: {masks / RANKINGS[1]} is missing (nor is it "
            f"{masks / RANKINGS[0]}); dataset.subset=balanced needs it. {FETCH}."
        )
    try:
        content = path.read_bytes()
        _require_plain(content)
        found = _ContainersAlone(io.BytesIO(content)).load()
    except Exception as error:  # a bad pickle raises a dozen types
        raise DataError(f"Hard ImageNet: {path} is refused: {error or 'no pickle'}") from error
    if not isinstance(found, dict):
        raise DataError(f"Hard ImageNet: {path} is refused: it holds no dictionary")
    wnids = {synset.number: synset.wnid for synset in SYNSETS.values()}
    return {
        wnid: [_ranked(entry, wnid, path) for entry in _listed(found.get(index))]
        for index, wnid in wnids.items()
    }


def _require_plain(content: bytes) -> None:
    """Raise UnpicklingError for a pickle that does more, or numbers what it has beyond its size.

    So it can neither call anything, nor exhaust memory or the stack.
    """
    for operation, argument, _ in pickletools.genops(content):
        if operation.name in ("GLOBAL", "STACK_GLOBAL"):
            return  # where the unpickler stops, and names what was asked for
        if not PLAIN.fullmatch(operation.name):
            raise pickle.UnpicklingError(f"it asks for {operation.name}")
        if operation.name.endswith("PUT") and int(argument or 0) > len(content):
            raise pickle.UnpicklingError("it is malformed")


def _listed(entry: object) -> Sequence[object]:
    return entry if isinstance(entry, list | tuple) else ()


def _ranked(entry: object, wnid: str, path: Path) -> str:
    match = RANKED.fullmatch(entry) if isinstance(entry, str) and ".." not in entry else None
    if not match or not match[1].startswith(f"{wnid}/"):
        raise DataError(
            f"Hard ImageNet: {path} is refused: it ranks {_shown(entry)} under {wnid}, where "
            f"train/{wnid}/{wnid}_<number>.JPEG belongs"
        )
    return match[1]


def _shown(entry: object) -> str:
    """A text; of anything else, which may hold itself, its type."""
    return f"{entry!r:.100}" if isinstance(entry, str) else f"a {type(entry).__name__}"


def _balanced(cells: Sequence[Sequence[str]], settings: HardImageNet) -> list[Sequence[str]]:
    """Of each class the pictures at both ends of the ranking, by name.

    As the official loader takes them: a ranked picture without mask has no substitute.
    """
    ranked = ranking(folder_of(settings))
    kept: list[Sequence[str]] = []
    for name, cell in zip(settings.class_names, cells, strict=True):
        order = ranked[SYNSETS[name].wnid]
        ends = {*order[:BALANCED], *order[-BALANCED:]}
        kept.append([picture for picture in cell if picture in ends])
        if not kept[-1]:
            raise DataError(
                f"Hard ImageNet: the ranking in {folder_of(settings)} names no picture of {name} "
                "that has a mask; set dataset.subset=all or fetch it anew. " + FETCH
            )
    return kept


# --- masks ---------------------------------------------------------------------------------------


def whole(settings: HardImageNet, contents: Contents) -> Whole:
    """The pictures that are used, each test picture with its mask; raises DataError.

    Under ``crop`` a mask and its picture must have one shape, up to rounding. Under ``stretch`` a
    mask of any shape is stretched as its picture is, as in the reference code.
    """

    def masks(test: Found) -> Found:
        return Found(folder_of(settings), [mask_name(name) for name in test.names], test.cells)

    found = pictures.whole(listed(settings), settings, contents, masks)
    if settings.fit == "crop" and found.beside:
        _check_shapes(found.listed.test, found.beside, settings, contents)
    return found


def _check_shapes(test: Found, masks: Found, settings: HardImageNet, contents: Contents) -> None:
    """Raise DataError for the first mask that does not lie over its test picture."""
    view = pictures.view(settings)
    sizes = [
        [(look.width, look.height) for look in contents.of(found.root, found.names)]
        for found in (test, masks)
    ]
    for name, wide, own in zip(masks.names, *sizes, strict=True):
        lengths = zip(view.resized(wide), view.resized(own), strict=True)
        if any(abs(one - other) > 1 for one, other in lengths):
            raise DataError(
                f"Hard ImageNet: the mask {masks.root / name} is {own[0]} x {own[1]}, its picture "
                f"{wide[0]} x {wide[1]}: under dataset.fit=crop both must have one shape; set "
                "dataset.fit=stretch"
            )


def facts(settings: HardImageNet) -> dict[str, Any]:
    """What the record says besides: the wnid of each class."""
    return {"wnids": {name: [SYNSETS[name].wnid] for name in settings.class_names}}


KIND = pictures.kind(whole, facts)
