"""Expert-guided filtering (sec. 3.2, app. C): which scores, how much is dropped, by which cut.

Knows nothing of how scores are computed.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, create_model, field_validator, model_validator

from ray_selfloop.config.base import Path, Settings
from ray_selfloop.config.networks import Name
from ray_selfloop.config.scores import CALLED, COMBINED, SCORES, Score, ScoreSettings

if TYPE_CHECKING:
    ScoreName = str
    OfRows = Settings
else:
    ScoreName = Literal[("none", *CALLED, "combined")]


def of_rows(rows: Mapping[str, Score]) -> Any:
    """Settings with a group for each score that has settings of its own."""
    groups: dict[str, Any] = {}
    for name, own in ((name, dict[str, Any](row.own)) for name, row in rows.items() if row.own):
        kind = create_model(name, __base__=ScoreSettings, **own)
        groups[name] = kind, Field(default_factory=kind, description=f"Settings of score {name}.")
    return create_model("OfRows", __base__=Settings, **groups)


if not TYPE_CHECKING:
    OfRows = of_rows(SCORES)


def _has_one_slot(prompt: str) -> str:
    if prompt.count("{}") != 1:
        raise ValueError("the prompt must contain {} exactly once, where the class name goes")
    return prompt


Prompt = Annotated[
    str,
    AfterValidator(_has_one_slot),
    Field(description="Text of a class; `{}` stands for the class name."),
]


class Expert(Settings):
    """The classifier of the last generation whose uncertainty the filter reads."""

    classifier: Name | None = Field(
        default=None,
        description="Which network; null: resnet50 (the paper's) where it is trained, else lenet.",
    )
    seeds: tuple[int, ...] = Field(
        default=(0,),
        min_length=1,
        description="Its classifier seeds, each one of loop.classifier_seeds. Several: ensemble.",
    )

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("each seed may be listed once")
        return seeds


class DomainClip(ScoreSettings):
    """A small open_clip model trained on the original images and their class names."""

    kind: Literal["domain"] = "domain"
    prompt: Prompt = "{}"
    embed_dim: int = Field(default=32, ge=4, description="Dimension of the shared embedding space.")
    image_width: int = Field(
        default=64, ge=16, multiple_of=16, description="Width of the vision transformer."
    )
    image_layers: int = Field(default=2, ge=1, description="Layers of the vision transformer.")
    patches: int = Field(
        default=4,
        ge=2,
        description="Patches along one side: 4 cuts an 8x8 image into 2x2 pixels each.",
    )
    picture_side: int = Field(
        default=64,
        ge=8,
        le=1024,
        description="Side in pixels at which pictures (Hard ImageNet, Breeds) are seen; datasets "
        "of small images are seen as they are.",
    )
    text_width: int = Field(
        default=32, ge=16, multiple_of=16, description="Width of the text transformer."
    )
    text_layers: int = Field(default=1, ge=1, description="Layers of the text transformer.")
    steps: int = Field(default=400, ge=1, description="Optimiser steps.")
    batch_size: int = Field(default=64, ge=2, description="Images per optimiser step.")
    learning_rate: float = Field(
        default=2e-3, gt=0, description="Adam's peak rate (warm-up, cosine)."
    )
    score_batch: int = Field(default=256, ge=1, description="Fixed batch shape when scoring.")


class OpenClip(ScoreSettings):
    """A published open_clip model, by tag or by a checkpoint file."""

    FILES = frozenset({"pretrained"})
    kind: Literal["open_clip"] = "open_clip"
    model: str = Field(default="ViT-B-32", description="Architecture, an open_clip model name.")
    pretrained: Path = Field(
        default="laion2b_s34b_b79k",
        min_length=1,
        description="open_clip tag (downloaded) or path of a checkpoint.",
    )
    prompt: Prompt = "a photo of a {}"
    score_batch: int = Field(default=64, ge=1, description="Fixed batch shape when scoring.")


Clip = Annotated[DomainClip | OpenClip, Field(discriminator="kind")]


class Uncertainty(ScoreSettings):
    """Prediction uncertainty of the expert (Gal & Ghahramani 2016)."""

    method: Literal["mc_dropout", "ensemble"] = Field(
        default="mc_dropout",
        description="`mc_dropout`: several dropout masks (for each expert seed). `ensemble`: one "
        "pass of each expert seed.",
    )
    measure: Literal["entropy", "bald", "variance"] = Field(
        default="entropy",
        description="Functional entropy of the mean prediction, BALD (mutual information), or "
        "variance of the class probabilities summed over classes. High = uncertain = dropped.",
    )
    passes: int = Field(default=20, ge=2, description="Dropout masks per image and network.")
    rate: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="Dropout rate inserted before the last layer of a network that has none; "
        "others keep theirs. Low, because such a network was not trained with dropout.",
    )
    score_batch: int = Field(default=256, ge=1, description="Fixed batch shape when scoring.")

    @property
    def read(self) -> Self:
        """With defaults in the place of what dropout reads where there is none."""
        return self._defaulted(*(["passes", "rate"] if self.method == "ensemble" else []))

    def unmet(self, seeds: Sequence[int], trained: Sequence[int]) -> str:
        """An ensemble is several."""
        if self.method != "ensemble" or len(seeds) >= 2:
            return ""
        two, one = list(trained[:2]), "filter.uncertainty.method=mc_dropout"
        return (
            f"filter.expert.seeds: {list(seeds)}; filter.uncertainty.method ensemble needs at "
            f"least two; write {f'filter.expert.seeds={two}' if len(two) == 2 else one}"
        )


class Filter(OfRows):
    """Which generated samples go into the queue."""

    score: ScoreName = Field(
        default="combined",
        description="What samples are ranked by; `combined`: the mean of the CLIP score's and the "
        "uncertainty's ranks (ranks within the class under `per_class`, over all samples else).",
    )
    drop: float = Field(
        default=0.10,
        ge=0,
        le=0.999,
        description="Share r dropped: MNIST 0.10, CIFAR 0.30, ImageNet sets 0.60 (app. C). Under "
        "`range`: share of the score's range that is dropped, rounded to tenths.",
    )
    cut: Literal["per_class", "global", "range"] = Field(
        default="per_class",
        description="`per_class`: exactly round(r * n_c) dropped in each class. `global`: "
        "round(r * n) over all. `range`: 10 equal-width bins of the score, the lowest round(10 r) "
        "bins dropped (app. C), whatever they hold.",
    )
    keep: Literal["best", "random", "worst"] = Field(
        default="best",
        description="Which of the ranked samples stay, always as many as `best` keeps: those that "
        "score highest; a draw by the chain's seed, as many of each class; those that score lowest "
        "(of each class under `per_class`).",
    )
    expert: Expert = Field(
        default_factory=Expert, description="Whose uncertainty is read; an explicit value."
    )
    review: Literal["none"] = Field(default="none", description="Human review of samples.")
    clip: Clip = Field(
        default_factory=DomainClip,
        description="`domain`: trained here, score `domain_clip_score`; `open_clip`: published "
        "weights, score `clip_score`.",
    )
    uncertainty: Uncertainty = Field(
        default_factory=Uncertainty, description="How the expert's uncertainty is measured."
    )

    @property
    def read(self) -> Self:
        """With defaults in the place of what is not read under ``score``."""
        acting = self.model_copy(update={g: own.read for g, own in self.groups.items()})
        unread = {score.group for score in SCORES.values()} - self.groups.keys() - {""}
        unread |= set() if self.scores else {"drop", "cut"}
        unread |= set() if self.scores and self.drop else {"keep"}
        return acting._defaulted(*unread, *(() if self.uses_expert else ("expert",)))

    @property
    def scores(self) -> tuple[Score, ...]:
        """What samples are ranked by; empty for ``score: none``."""
        wanted = COMBINED if self.score == "combined" else (self.score,)
        known = (score for score in SCORES.values() if score.called in wanted)
        return tuple(s for s in known if s.fits(getattr(self, s.settings, None)))

    @property
    def groups(self) -> Mapping[str, ScoreSettings]:
        """The groups of settings that scores read, by name."""
        return {score.group: getattr(self, score.group) for score in self.scores if score.group}

    @property
    def uses_expert(self) -> bool:
        """Whether a score reads classifiers of the last generation."""
        return any(score.expert for score in self.scores)

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.cut == "range" and abs(10 * self.drop - round(10 * self.drop)) > 1e-9:
            raise ValueError("with cut range, drop must be a multiple of 0.1 (10 bins)")
        return self
