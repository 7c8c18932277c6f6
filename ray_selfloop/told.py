"""What a reader has to be told of a dataset's settings: its start, and how it is not the paper's.

Knows settings and words; nothing of images, pages and claims.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, get_args

from ray_selfloop.config.dataset import (
    BREEDS_SUPERCLASSES,
    Breeds,
    Cifar,
    Dataset,
    HardClass,
    Superclass,
)

UNPUBLISHED = ("imbalanced", "spurious")  # starts that the paper has no results of
STARTS = {"initialization", "benchmark", "variant"}  # fields
Words = Callable[[Any], str]


def initialization(dataset: Dataset) -> str:
    """What tells scenarios of one dataset apart: how it is coloured, which benchmark it is, or that
    it is CIFAR's imbalanced variant; "" for the whole of a dataset that has but one start."""
    if isinstance(dataset, Cifar):
        return "" if dataset.variant == "full" else dataset.variant
    return str(getattr(dataset, "initialization", "") or getattr(dataset, "benchmark", ""))


def _some(names: tuple[str, ...] | None, all_of_them: int, what: str) -> str:
    few = names is not None and len(names) < all_of_them
    return f"{len(names or ())} of {all_of_them} {what}" if few else ""


def _superclasses(dataset: Cifar | Breeds) -> str:
    known = get_args(Superclass) if isinstance(dataset, Cifar) else None
    known = known or BREEDS_SUPERCLASSES[dataset.benchmark]  # type: ignore[union-attr]
    return _some(dataset.superclasses, len(known), "superclasses")


def _only(start: str, dataset: Dataset, words: str) -> str:
    """The words where the dataset starts so, or for "" in any way but without bias."""
    found = initialization(dataset)
    return words if (found == start if start else found != "unbiased") else ""


# Field -> in words, where it is not the default: other data, or fewer or smaller images of them.
OTHER: Mapping[str, Words] = {
    "superclasses": _superclasses,
    "classes": lambda d: _some(d.classes, len(get_args(HardClass)), "classes"),
    "subset": lambda d: f"{d.subset} subset",
    "ratios": lambda d: _only("", d, "colour shares " + ", ".join(f"{r:g}" for r in d.ratios)),
    "minority": lambda d: _only("imbalanced", d, "minority chosen by name"),
    "minority_kept": lambda d: _only(
        "imbalanced", d, f"{100 * d.minority_kept:g} % of the minority kept"
    ),
}
FEWER: Mapping[str, Words] = {
    "limit_train": lambda d: f"at most {d.limit_train:,} training images",
    "limit_test": lambda d: f"at most {d.limit_test:,} test images",
    "reserve": lambda d: f"{100 * d.reserve:g} % of the training images set apart",
    "test_colours": lambda d: f"{d.test_colours} test colours",
    "side": lambda d: f"{d.side} pixels",
    "frame": lambda d: f"framed at {d.frame} pixels",
    "fit": lambda d: {"stretch": "stretched", "crop": "cropped"}[d.fit],
}


def _said(dataset: Dataset, fields: Mapping[str, Words]) -> list[str]:
    """The words of those fields that the dataset has, and has otherwise than by default."""
    known = type(dataset).model_fields
    own = (name for name in fields if name in known)
    changed = (
        name
        for name in own
        if getattr(dataset, name) != known[name].get_default(call_default_factory=True)
    )
    return [words for name in changed if (words := fields[name](dataset))]


def differences(dataset: Dataset) -> tuple[str, ...]:
    """How the data differ from the dataset as it is published, but for how it starts."""
    return (*_said(dataset, OTHER), *_said(dataset, FEWER))


def title(dataset: Dataset, known: Collection[str] = ()) -> str:
    """Name, start and differences; known: fields that stand in what follows."""
    start = initialization(dataset)
    started = [start] if start and not STARTS & {*known} else []
    rest = {name: words for name, words in {**OTHER, **FEWER}.items() if name not in known}
    return ", ".join([dataset.name, *started, *_said(dataset, rest)])


def others(dataset: Dataset, known: Collection[str] = ()) -> tuple[str, ...]:
    """What makes them other data than the paper's; known: fields that need not be told."""
    start = initialization(dataset)
    started = [start] if start in UNPUBLISHED and not STARTS & {*known} else []
    rest = {name: words for name, words in OTHER.items() if name not in known}
    return (*started, *_said(dataset, rest))


def of_the_paper(dataset: Dataset) -> bool:
    """Whether these are the paper's data, all or some of their images: results on others are no
    evidence on what it says of its own, nor one of its figures."""
    return not others(dataset)
