"""The search for learning rate and weight decay: what is tried, and when a candidate is given up.

A sweep with a `tune` block searches once per architecture and dataset, on the original training
images, with the held-out images as the criterion; every training of that architecture then uses
what was found. Knows nothing of who runs the search.
"""

from typing import Self

from pydantic import Field, model_validator

from ray_selfloop.config.base import Settings
from ray_selfloop.config.training import Training


class Between(Settings):
    """A range of positive numbers, searched evenly on the logarithmic scale."""

    low: float = Field(gt=0, description="Smallest value tried.")
    high: float = Field(gt=0, description="Largest value tried.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low must be below high (found {self.low:g} and {self.high:g})")
        return self


class Tune(Settings):
    """Asynchronous successive halving (ASHA) over candidates drawn from ``seed``."""

    learning_rates: Between | None = Field(
        default=Between(low=1e-4, high=1e-2),
        description="Adam's initial learning rates; null: training.learning_rate is used.",
    )
    weight_decays: Between | None = Field(
        default=Between(low=1e-6, high=1e-3),
        description="L2 penalties inside Adam; null: training.weight_decay is used.",
    )
    samples: int = Field(
        default=12,
        ge=2,
        description="Candidates. Each range is cut into so many parts, equal on the logarithmic "
        "scale, and every part is drawn from once.",
    )
    max_epochs: int | None = Field(
        default=None,
        ge=1,
        description="Cap on a candidate's epochs, its cosine included; null: the training's own "
        "budget, so that the values found are the best for that budget.",
    )
    grace: float = Field(
        default=1 / 9,
        gt=0,
        le=1,
        description="Share of a candidate's budget before it may be given up.",
    )
    reduction_factor: int = Field(
        default=3,
        ge=2,
        description="At grace, grace times this, and so on, a candidate goes on only with a "
        "held-out accuracy among the best 1 / reduction_factor of those before it.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        description="Of the candidates and their trainings: one search for all chains of a sweep.",
    )

    @model_validator(mode="after")
    def _searches_something(self) -> Self:
        if self.learning_rates is None and self.weight_decays is None:
            raise ValueError("learning_rates and weight_decays are both null: nothing to search")
        return self

    @property
    def searched(self) -> tuple[str, ...]:
        """The fields of `training` that the search decides."""
        ranges = {"learning_rate": self.learning_rates, "weight_decay": self.weight_decays}
        return tuple(name for name, between in ranges.items() if between)

    def require_free(self, training: Training) -> None:
        """Raise ValueError where ``training`` fixes what is searched."""
        for name in self.searched:
            if getattr(training, name) != Training.model_fields[name].default:
                raise ValueError(
                    f"training.{name}: fixed at {getattr(training, name):g}, but tune.{name}s "
                    "searches it; leave one out (null)"
                )
