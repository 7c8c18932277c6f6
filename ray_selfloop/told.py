"""What a reader has to be told of a dataset's settings: its start, and how it is not the paper's.

Knows settings and words; nothing of images, pages and claims.
"""

from collections.abc import Collection, Mapping

from ray_selfloop.config.datasets.base import DatasetSettings, Words
from ray_selfloop.config.datasets.known import KINDS


def fields() -> frozenset[str]:
    """The fields of all datasets that are told in words."""
    every = [kind.traits for kind in KINDS.values()]
    return frozenset().union(*({*t.starts, *t.other, *t.fewer} for t in every))


def _said(dataset: DatasetSettings, words: Mapping[str, Words]) -> list[str]:
    """The words of those fields that the dataset has, and has otherwise than by default."""
    known = type(dataset).model_fields
    own = (name for name in words if name in known)
    changed = (
        name
        for name in own
        if getattr(dataset, name) != known[name].get_default(call_default_factory=True)
    )
    return [said for name in changed if (said := words[name](dataset))]


def _started(dataset: DatasetSettings, known: Collection[str]) -> list[str]:
    """Its start, unless one of its fields stands in what follows."""
    told = not dataset.start or {*dataset.traits.starts} & {*known}
    return [] if told else [dataset.start]


def _but(words: Mapping[str, Words], known: Collection[str]) -> dict[str, Words]:
    return {name: said for name, said in words.items() if name not in known}


def differences(dataset: DatasetSettings) -> tuple[str, ...]:
    """How the data differ from the dataset as it is published, but for how it starts."""
    return (*_said(dataset, dataset.traits.other), *_said(dataset, dataset.traits.fewer))


def title(dataset: DatasetSettings, known: Collection[str] = ()) -> str:
    """Name, start and differences; known: fields that stand in what follows."""
    rest = _but({**dataset.traits.other, **dataset.traits.fewer}, known)
    return ", ".join([dataset.name, *_started(dataset, known), *_said(dataset, rest)])


def others(dataset: DatasetSettings, known: Collection[str] = ()) -> tuple[str, ...]:
    """What makes them other data than the paper's; known: fields that need not be told."""
    odd = dataset.start in dataset.traits.unpublished
    started = _started(dataset, known) if odd else []
    return (*started, *_said(dataset, _but(dataset.traits.other, known)))


def of_the_paper(dataset: DatasetSettings) -> bool:
    """Whether these are the paper's data, all or some of their images: results on others are no
    evidence on what it says of its own, nor one of its figures."""
    return bool(dataset.traits.paper) and not others(dataset)
