"""Breeds (Santurkar et al. 2020): superclasses of ImageNet's hierarchy with four classes each.

Decides which superclasses LIVING-17 and NONLIVING-26 have, and which ImageNet classes are under
each, from the three files of the authors' edited hierarchy alone. Of pictures it knows the folders.
"""

import graphlib
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ray_selfloop.config.datasets.breeds import BREEDS_SUPERCLASSES, GROUPS, Breeds
from ray_selfloop.datasets import pictures
from ray_selfloop.datasets.contents import Contents
from ray_selfloop.datasets.imagenet import found_in, pictures_of
from ray_selfloop.datasets.pictures import Found, Listed, Whole
from ray_selfloop.errors import DataError

SUBGROUP_NAMES = tuple(f"subclass {g + 1}" for g in range(GROUPS))
TOP = "n00001740"  # entity
ANCESTORS = {"living17": "n00004258", "nonliving26": "n00021939"}  # living, non-living thing
DEPTH = 5  # edges from the top, on the longest way
DRAW_SEED = 2  # the authors' own
FILES = ("class_hierarchy.txt", "dataset_class_info.json", "node_names.txt")
FOLDER = Path("BREEDS-Benchmarks/imagenet_class_hierarchy/modified")
WNID = re.compile("n[0-9]{8}")
FETCH = "Get it: `git clone https://github.com/MadryLab/BREEDS-Benchmarks`, folder {folder}"

Groups = dict[str, tuple[str, ...]]
"""Superclass -> the wnids of its four subclasses, in their order."""


class Hierarchy(NamedTuple):
    """ImageNet's classes and what is above them.

    children: wnid -> wnids one edge below. names: of every wnid, in words, the first of several.
    classes: the wnids of ImageNet's classes.
    """

    children: Mapping[str, Collection[str]]
    names: Mapping[str, str]
    classes: Collection[str]

    def depths(self) -> dict[str, int]:
        """Edges from the top to each node under it, on the longest way; raises CycleError."""
        above: dict[str, set[str]] = {}
        for parent, children in self.children.items():
            for child in children:
                above.setdefault(child, set()).add(parent)
        found = {TOP: 0}
        for node in graphlib.TopologicalSorter(above).static_order():
            ways = [found[parent] + 1 for parent in above.get(node, ()) if parent in found]
            if ways:
                found[node] = max(ways)
        return found

    def below(self, node: str) -> set[str]:
        """The node itself and all nodes under it."""
        found, left = {node}, [node]
        while left:
            new = set(self.children.get(left.pop(), ())) - found
            found |= new
            left += new
        return found


def read(folder: Path) -> Hierarchy:
    """The three files; raises DataError for the first that is missing or has another form."""
    texts = []
    for name in FILES:
        path = folder / name
        if not path.is_file():
            fetch = FETCH.format(folder="/".join(FOLDER.parts[1:]))
            raise DataError(f"Breeds: {path} is missing. {fetch}.")
        try:
            texts.append(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"Breeds: {path} cannot be read: {error}") from error
    edges, classes, names = texts
    children: dict[str, list[str]] = {}
    for parent, child in _pairs(edges, None, folder / FILES[0]):
        children.setdefault(parent, []).append(child)
    known = dict(_pairs(names, "\t", folder / FILES[2]))
    own = _classes(classes, folder / FILES[1])
    named = {wnid: name.split(",")[0].strip() for wnid, name in {**known, **own}.items()}
    strange = [name for name in named.values() if not name.isprintable()]
    if strange:
        raise DataError(f"Breeds: {folder} is refused: {strange[0]!r:.80} is no printable name")
    return Hierarchy(children, named, own.keys())


def _pairs(text: str, separator: str | None, path: Path) -> list[tuple[str, str]]:
    """Two words of every line."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip().split(separator)
        if len(words) != 2:
            raise DataError(
                f"Breeds: {path}, line {number}: must be two entries, not {line[:60]!r}"
            )
        found.append((words[0], words[1]))
    return found


def _classes(text: str, path: Path) -> dict[str, str]:
    """Wnid -> names of ImageNet's classes, from ``[[index, wnid, names], ...]``.

    A wnid is the name of a folder of pictures: one of another form is refused.
    """
    try:
        found = {str(wnid): str(names) for _, wnid, names in json.loads(text)}
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(
            f"Breeds: {path} must be a list of [index, wnid, names] for ImageNet's classes: {error}"
        ) from error
    strange = [wnid for wnid in found if not WNID.fullmatch(wnid)]
    if strange:
        raise DataError(f"Breeds: {path} is refused: {strange[0]!r:.80} is no wnid (n, 8 digits)")
    return found


def members(hierarchy: Hierarchy, benchmark: str) -> Groups:
    """The superclasses of a benchmark by wnid, with the wnids of their subclasses (App. A.2-A.3).

    Superclasses are the nodes under the benchmark's ancestor that lie `DEPTH` edges under the top
    and have at least four ImageNet classes; four are drawn from each in turn, as
    ``make_living17`` and ``make_nonliving26`` of the authors' code do without a split. The draw's
    order means nothing: the four are given by wnid. Raises graphlib.CycleError.
    """
    depths = hierarchy.depths()
    under = hierarchy.below(ANCESTORS[benchmark])
    draw = np.random.RandomState(DRAW_SEED)
    found: Groups = {}
    for node in sorted(node for node in under if depths.get(node) == DEPTH):
        classes = sorted(hierarchy.below(node) & set(hierarchy.classes))
        if len(classes) >= GROUPS:
            drawn = draw.choice(len(classes), GROUPS, replace=False)
            found[node] = tuple(classes[i] for i in sorted(drawn))
    return found


def groups(settings: Breeds) -> tuple[Groups, Hierarchy]:
    """The superclasses used, by name; raises DataError where the files give other ones."""
    folder = Path(settings.hierarchy or Path(settings.root or "data") / FOLDER)
    hierarchy = read(folder)
    try:
        found = members(hierarchy, settings.benchmark)
    except graphlib.CycleError as error:
        raise DataError(f"Breeds: {folder / FILES[0]} has a circle: {error.args[1]}") from error
    named = {hierarchy.names.get(node, node): wnids for node, wnids in found.items()}
    official = BREEDS_SUPERCLASSES[settings.benchmark]
    odd = sorted(set(named) ^ set(official))
    if odd:
        raise DataError(
            f"Breeds: the hierarchy in {folder} does not give {settings.benchmark}'s "
            f"{len(official)} superclasses ({odd[0]} is at fault): use the authors' edited one. "
            + FETCH.format(folder="/".join(FOLDER.parts[1:]))
        )
    return {name: named[name] for name in settings.class_names}, hierarchy


def listed(settings: Breeds) -> Listed:
    """The pictures of every subclass, as they lie there; raises DataError for what is missing.

    Cells are superclass x 4 + subclass. Test pictures are ImageNet's validation pictures.
    """
    own, hierarchy = groups(settings)
    root = Path(settings.root or "data")

    subclasses = [(name, wnid) for name, wnids in own.items() for wnid in wnids]

    def found(split: str) -> Found:
        return found_in(root, split, [pictures_of(root, split, wnid) for _, wnid in subclasses])

    strata = tuple(f"{name}: {hierarchy.names[wnid]} ({wnid})" for name, wnid in subclasses)
    return Listed(found("train"), found("val"), tuple(own), SUBGROUP_NAMES, strata)


def facts(settings: Breeds) -> dict[str, Any]:
    """What the record says besides: names and wnids of each superclass's subclasses."""
    own, hierarchy = groups(settings)
    return {
        "fine_names": {
            name: [hierarchy.names[wnid] for wnid in wnids] for name, wnids in own.items()
        },
        "wnids": {name: list(wnids) for name, wnids in own.items()},
    }


def whole(settings: Breeds, contents: Contents) -> Whole:
    return pictures.whole(listed(settings), settings, contents)


KIND = pictures.kind(whole, facts)
