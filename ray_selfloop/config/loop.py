"""The loop's shape: generations, regime, chains, queue and mixing (sec. 3.1, 3.2).

Knows nothing of data sizes; what a queue can supply is decided in ``ray_selfloop.queue``.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from ray_selfloop.config.arms import TREATMENT, ArmName, described
from ray_selfloop.config.base import Settings

Seed = Annotated[int, Field(ge=0, lt=2**31)]
Regime = Literal["stack", "replace", "accumulate", "accumulate_subsample"]
Fraction = Annotated[str, Field(pattern=r"^D0(/[1-9][0-9]*)?$")]


class Loop(Settings):
    """Generations, seeds and chain topology."""

    generations: int = Field(default=3, ge=0, description="N: generations after generation 0.")
    regime: Regime = Field(
        default="stack",
        description="Training set after generation n. `stack` (the paper): D0 + the last "
        "queue.capacity kept sets. `replace`: the last kept set alone. `accumulate`: D0 + all "
        "kept sets. `accumulate_subsample`: a seeded draw of |D0| from D0 + all kept sets.",
    )
    arm: ArmName = Field(
        default=TREATMENT.name,
        description="What is run: the treatment or one of its controls (an axis of a sweep). "
        f"{described()}.",
    )
    loop_seeds: tuple[Seed, ...] = Field(
        default=(0,), min_length=1, description="One whole chain for each; the independent unit."
    )
    classifier_seeds: tuple[Seed, ...] = Field(
        default=(0, 1), min_length=1, description="Classifiers of each architecture on one chain."
    )
    chain: Literal["shared", "per_classifier"] = Field(
        default="shared",
        description="`shared`: one generator chain for all classifiers. `per_classifier`: one "
        "chain for each architecture, which is then its own filter's expert (sec. 3.2 literally).",
    )

    @field_validator("loop_seeds", "classifier_seeds")
    @classmethod
    def _each_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("each seed may be listed once")
        return seeds


class Mixing(Settings):
    """p, the share of generated data in the training set (sec. 3.1)."""

    ratio: Literal["all"] | Annotated[float, Field(gt=0)] = Field(
        default="all",
        description="`all`: the whole queue, which grows while it fills. A number p asks for "
        "exactly that share by a seeded draw from the queue; what the queue cannot supply is "
        "recorded, never topped up with real data.",
    )
    of: Literal["original", "total"] = Field(
        default="original",
        description="p = generated / original images, or generated / all images (then below 1).",
    )

    @model_validator(mode="after")
    def _share_of_total_is_below_one(self) -> Self:
        if self.of == "total" and self.ratio != "all" and self.ratio >= 1:
            raise ValueError("mixing.ratio of the total must be below 1")
        return self


class Queue(Settings):
    """The first-in-first-out queue over whole generations (data stacking)."""

    capacity: int = Field(default=3, ge=1, description="Generations it holds, D/S in the paper.")
    volume: Annotated[int, Field(ge=1)] | Fraction | None = Field(
        default=None,
        description="S, images per generation: a number, or `D0`, `D0/3`, `D0/9`. null: |D0| / "
        "capacity, so that a full queue equals the original set; |D0| in regime `replace`.",
    )
    count: Literal["after_filtering", "before_filtering"] = Field(
        default="after_filtering",
        description="Whether S counts kept samples (the generator over-samples by 1 / (1 - r)) or "
        "generated ones.",
    )
    tilt: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Intervention on u, uses subgroups: each kept set is resampled to within-class "
        "shares (1 - tilt) * original + tilt * majority. null: left as it is.",
    )
    balance: Literal["none", "parity"] = Field(
        default="none",
        description="Mitigation, uses subgroups: `parity` resamples every training set of "
        "generation 1 and later, of classifiers and of the next generator, so that each class x "
        "subgroup comes as often as every other, at the same size (images of rare ones are "
        "repeated). Generation 0 and the first generator are the treatment's. Subgroups of "
        "generated images are as the loop reads them: images of none that is clear are left out, "
        "and a probe's errors stay.",
    )
    mixing: Mixing = Field(default_factory=Mixing, description="p of the paper.")

    @property
    def read(self) -> Self:
        """With one spelling of |D0|, and `mixing.of` by default where no ratio is asked for."""
        one = self.model_copy(update={"volume": "D0"}) if self.volume == "D0/1" else self
        return one._defaulted(*(["mixing"] if self.mixing.ratio == "all" else []))
