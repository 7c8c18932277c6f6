"""What every generator's settings answer to whoever asks, so that nobody asks for a name.

Decides nothing about a single generator: each has a file beside this one, and a line in `known`.
Fields of these names mean the same in every generator that has them: ``start`` (the previous
generation's weights, or fresh ones), ``budget`` (the share of the training that is granted),
``workers`` (processes of one training), ``picture_format`` (of the files that it draws).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from ray_selfloop.config.base import Settings


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a kind of generator is; strings name what is loaded by need, as ``module:object``.

    worker: what trains and draws, a `generators.base.Generator`.
    draws: ``arrays`` of the dataset's own size, encoded ``pictures``, or ``either``.
    trained: whether each generation has one of its own, trained on what the loop has made.
    real: a control: real images in the place of generated ones.
    by_turn: what it draws depends on the number of the generation.
    dear: so slow to draw that images are measured among those that went into the filter.
    paper: whether a sweep with it may speak of what the paper says of its own loop.
    check: ``check(settings, demand)`` refuses before anything runs; ``demand()`` tells what the
        sweep will ask, as a `generators.base.Demand`.
    content: ``content(settings, generation)`` counts in keys for what the files hold that
        ``PLACES`` name.
    """

    worker: str
    draws: Literal["arrays", "pictures", "either"]
    trained: bool = True
    real: bool = False
    by_turn: bool = False
    dear: bool = False
    paper: bool = False
    check: str = ""
    content: str = ""


class GeneratorSettings(Settings):
    """The settings of one kind of generator."""

    name: str
    traits: ClassVar[Traits]
    SAMPLING: ClassVar[frozenset[str]] = frozenset()
    """Fields that a training does not depend on."""
    TRAINING: ClassVar[frozenset[str]] = frozenset()
    """Fields that drawing from what a training left does not depend on."""
    CACHED: ClassVar[frozenset[str]] = frozenset()
    """Fields that what is computed once for each training image depends on; besides the content."""
    PLACES: ClassVar[frozenset[str]] = frozenset()
    """Fields that no result depends on: they say where something lies, or save work."""

    @property
    def continues(self) -> bool:
        """Whether training starts from the previous generation's weights."""
        return getattr(self, "start", "scratch") == "previous"

    @property
    def fresh(self) -> Self:
        """The same, for a generation that has none before it."""
        return self.model_copy(update={"start": "scratch"}) if self.continues else self

    @property
    def fully_trained(self) -> bool:
        """Whether it is trained, and on its whole budget."""
        return self.traits.trained and getattr(self, "budget", 1) == 1

    @property
    def processes(self) -> int:
        return getattr(self, "workers", 1)

    @property
    def encodes(self) -> Literal["jpeg", "png", "webp"] | None:
        """The form of file in which drawn pictures are stored; None: as they are given."""
        return getattr(self, "picture_format", None)

    @property
    def caches(self) -> bool:
        """Whether something is computed once for each training image, in a stage of its own."""
        return False

    @property
    def at_once(self) -> int | None:
        """Images that it draws at once; None: as many as are asked for."""
        return None

    @property
    def seen(self) -> int:
        """Images that a training on its whole budget sees."""
        granted: Mapping[str, int] = getattr(self, "granted", {})
        return granted.get("budget", getattr(self, "steps", 0)) * int(
            getattr(self, "batch_size", 0)
        )

    def places(self) -> dict[str, Any]:
        """``PLACES`` as a worker in another folder reads them."""
        return self.model_dump(mode="json", include=set(self.PLACES))
