"""The scores that samples can be ranked by, a row each: what settings, keys and the cut ask of one.

How a score is computed stands in a file of `filtering/scores/`, which its row names and workers
alone load. Imports no torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ray_selfloop.config.base import Settings

HERE = "ray_selfloop.filtering.scores."


class ScoreSettings(Settings):
    """A group of `filter`: what one score, or one of several, is computed by."""

    FILES: ClassVar[frozenset[str]] = frozenset()
    """Fields that may name a file, which counts by its content."""

    def unmet(self, seeds: Sequence[int], trained: Sequence[int]) -> str:
        """What is wrong with the expert's seeds, of those that are trained; "" for nothing."""
        return ""


@dataclass(frozen=True)
class Score:
    """One score.

    name: its column among the samples.
    opened: ``file:function`` in `filtering/scores/`, from `base.Given` to what scores a batch.
    high: whether high values are good; else low ones are.
    own: its settings, each with its type and pydantic's `Field`: the group of `filter` that has the
    score's name, and in keys of samples where it is read alone.
    settings: a group that `filter` has, which it reads, and by which `filter.score` calls it; it is
    in all keys of samples. kind: of several in that group, the one that it is.
    expert: whether it reads classifiers of the last generation. trained: whether it reads a model
    that stage `scorer` has trained.
    checked: ``file:function`` of that group, which raises where what it reads cannot be had.
    version: raised when its numbers change; from then on, or without settings, in samples' keys.
    """

    name: str
    opened: str
    high: bool = True
    own: Mapping[str, tuple[Any, Any]] = field(default_factory=dict, hash=False)
    settings: str = ""
    kind: str = ""
    expert: bool = False
    trained: bool = False
    checked: str = ""
    version: int = 1

    @property
    def group(self) -> str:
        """The group of `filter` that it reads; "" for none."""
        return self.name if self.own else self.settings

    @property
    def called(self) -> str:
        """What `filter.score` calls it."""
        return self.settings or self.name

    def fits(self, settings: Any) -> bool:
        """Whether its group of settings is of its kind."""
        return not self.kind or bool(self.kind == settings.kind)


SCORES: Mapping[str, Score] = {
    score.name: score
    for score in (
        Score(
            "domain_clip_score", "domain_clip:opened", settings="clip", kind="domain", trained=True
        ),
        Score(
            "clip_score", "open_clip:opened", settings="clip", kind="open_clip",
            checked="open_clip:check",
        ),
        Score(
            "uncertainty", "uncertainty:opened", high=False, settings="uncertainty", expert=True
        ),
    )
}  # fmt: skip
IN_ALL_KEYS = frozenset(score.settings for score in SCORES.values() if score.settings)
"""Groups that keys of samples and kept sets hold whether they are read or not."""
CALLED = tuple(dict.fromkeys(score.called for score in SCORES.values()))
COMBINED = ("clip", "uncertainty")
"""What `combined` ranks by: the mean of their ranks."""
