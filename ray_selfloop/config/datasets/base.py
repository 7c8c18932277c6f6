"""What every kind of dataset says of itself, so that nobody else has to ask for its name.

A kind is its settings here, with their traits, and its reader in `datasets/`. Imports no numpy and
no torch, and knows no kind.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field

from ray_selfloop.config.base import Settings

Reading = Literal["pixels", "probe", "none"]
Augmentation = Literal["none", "crop_flip", "frame_crop_flip"]
FRAMED: Augmentation = "frame_crop_flip"
"""The augmentation of encoded pictures, which are never all in memory."""

Words = Callable[[Any], str]
"""Settings -> what of a field a reader is told; "" for nothing."""

FEWER: Mapping[str, Words] = {
    "limit_train": lambda d: f"at most {d.limit_train:,} training images",
    "limit_test": lambda d: f"at most {d.limit_test:,} test images",
    "reserve": lambda d: f"{100 * d.reserve:g} % of the training images set apart",
}
"""What is told of fields that several kinds have."""


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What others ask of a kind of dataset.

    title: its name on the page. reader: ``module:object`` of what reads it, loaded by who needs it
    alone. pictures: encoded ones of any size, not arrays. subgroups: how the subgroup of a
    generated image is read; ``none``: there are no subgroups. masks: whether test pictures have
    one of their object. augment: of classifiers' and the probe's training images.
    places: fields that say where files are. other, fewer: field -> what is told of it where it is
    not the default: other data than the paper's, or fewer or smaller images of them. starts: the
    fields that `DatasetSettings.start` tells of; start_titles: of a start that is part of the name.

    paper: what the paper's statements call it; "" for data that it says nothing of. unpublished:
    starts that it has no results of. figures: its figure by start, by how the classifiers start
    (`pretrained`, `scratch`) or by part of a page (`overall`, `ranked`, `ablations`, `grid`).
    weights: how its classifiers start: from scratch, from ImageNet's weights or in both ways.
    ends_alone: whether it shows the worst subgroup against the best alone. accuracy: that `plan`
    assumes before any classifier is trained.
    """

    title: str
    reader: str
    pictures: bool = False
    subgroups: Reading = "none"
    masks: bool = False
    augment: Augmentation = "none"
    places: frozenset[str] = frozenset({"root"})
    other: Mapping[str, Words] = field(default_factory=dict)
    fewer: Mapping[str, Words] = field(default_factory=lambda: FEWER)
    starts: tuple[str, ...] = ()
    start_titles: Mapping[str, str] = field(default_factory=dict)
    paper: str = ""
    unpublished: tuple[str, ...] = ()
    figures: Mapping[str, str] = field(default_factory=dict)
    weights: Literal["scratch", "imagenet", "both"] = "scratch"
    ends_alone: bool = False
    accuracy: float | None = None


class DatasetSettings(Settings):
    traits: ClassVar[Traits]

    name: str

    @property
    def start(self) -> str:
        """What tells scenarios of one dataset apart: how it is coloured, which benchmark it is;
        "" for the whole of a dataset that has but one start."""
        return ""

    @property
    def groups(self) -> int:
        """Subgroups of each class; 0 where there are none."""
        return 0

    @property
    def subgroups_from(self) -> Reading:
        """How the subgroup of a generated image is read."""
        return self.traits.subgroups

    @property
    def masked(self) -> bool:
        """Whether test pictures have a mask of their object."""
        return self.traits.masks

    @property
    def pooled(self) -> bool:
        """Whether subgroup i means the same, and is as frequent in training, in every class."""
        return False

    @property
    def alike(self) -> bool:
        """Whether subgroup i means the same in every class, however frequent it is there."""
        return False

    @property
    def crossed(self) -> bool:
        """Whether every test image is shown in every subgroup."""
        return False

    @property
    def test_images(self) -> Sequence[Sequence[float]] | None:
        """Expected test images by class and subgroup (one column where there are none).

        None where the settings alone do not tell.
        """
        return None


def limited(counts: Sequence[float], limit: int | None) -> list[float]:
    """Counts of images that are cut to at most ``limit`` by their shares."""
    share = 1.0 if limit is None else min(1.0, limit / sum(counts))
    return [count * share for count in counts]


Listed = TypeVar("Listed", bound=str)


def in_order(
    names: tuple[Listed, ...] | None, known: Iterable[Listed], what: str
) -> tuple[Listed, ...] | None:
    """Names in the official order; raises ValueError for one that is listed twice."""
    if names is not None and len(set(names)) != len(names):
        raise ValueError(f"a {what} is listed twice")
    return names and tuple(name for name in known if name in names)


def some(names: Sequence[str] | None, known: Sequence[str], what: str) -> str:
    """``3 of 20 superclasses``; "" for all of them."""
    few = names is not None and len(names) < len(known)
    return f"{len(names or ())} of {len(known)} {what}" if few else ""


Share = Annotated[float, Field(ge=0, le=1)]
Reserve = Annotated[
    float,
    Field(
        ge=0,
        lt=1,
        description="Share of the training images set apart for the held_out_real control.",
    ),
]
