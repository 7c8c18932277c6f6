"""Settings of the evaluation: which numbers are computed from stored predictions, and how sure.

Decides nothing about training: none of these values is in the key of a classifier or a generator.
"""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from ray_selfloop.config.base import Settings


class Judge(Settings):
    """The generation-0 classifier whose opinion is the label fidelity of generated images."""

    classifier: str = Field(default="lenet", description="one of the sweep's classifiers")
    seeds: tuple[int, ...] = Field(
        default=(0,),
        min_length=1,
        description="classifier seeds; several vote by their mean probability",
    )


class Dynamics(Settings):
    """How eq. 6 is fitted to the measured bias."""

    bias: Literal["gap_rms", "gap_rms_pooled"] = Field(
        default="gap_rms",
        description="B: standard deviation of the true subgroup rates within each class, or of the "
        "rates pooled over classes (more sensitive; only for subgroups that mean the same in all)",
    )
    factor_index: Literal["incoming", "literal"] = Field(
        default="incoming",
        description="which data act on the step t -> t+1: incoming = the queue that generation t+1 "
        "trains on; literal = the queue of generation t, as eq. 6 is printed",
    )
    split: Literal["kept", "generated"] = Field(
        default="kept", description="q and u of what the filter kept, or of all that was generated"
    )
    quality: Literal["q", "label_fidelity"] = Field(
        default="q", description="which metric of the generator is the q of eq. 6"
    )
    growth_limit: float = Field(
        default=4.0, gt=1.0, description="A is sought in [1/growth_limit, growth_limit]"
    )


class Evaluation(Settings):
    """How bias and generator quality are measured."""

    judge: Judge = Judge()
    samples: int = Field(
        default=2000,
        ge=10,
        description="generated images behind every generator metric, the same number each time",
    )
    reference: int = Field(
        default=5000,
        ge=10,
        description="most original images used for precision, recall, density, coverage and "
        "nearest neighbours (a seeded draw where there are more)",
    )
    features: tuple[str, ...] = Field(
        default=("pixels8",),
        min_length=1,
        description="named features, the first one is behind q and the unsuffixed metrics",
    )
    neighbours: int = Field(
        default=5, ge=1, description="k of precision, recall, density and coverage"
    )
    ordered: bool = Field(
        default=False, description="sum MEO and DI over ordered pairs, as eq. 2 and 3 are printed"
    )
    level: float = Field(
        default=0.95, gt=0.5, lt=1.0, description="coverage of every interval and noise-floor band"
    )
    resamples: int = Field(
        default=1000, ge=20, description="bootstrap resamples of the test images"
    )
    permutations: int = Field(
        default=1000, ge=20, description="subgroup permutations behind the floors"
    )
    seed: int = Field(default=0, ge=0, description="seed of resamples, permutations and subsets")
    dynamics: Dynamics = Dynamics()

    @field_validator("neighbours")
    @classmethod
    def _fewer_than_images(cls, value: int, info: ValidationInfo) -> int:
        """A k-th nearest other image exists only among more than k images."""
        most = [
            f"{name} ({info.data[name]})"
            for name in ("samples", "reference")
            if name in info.data and value >= info.data[name]
        ]
        if most:
            raise ValueError(f"must be smaller than {' and '.join(most)}")
        return value
