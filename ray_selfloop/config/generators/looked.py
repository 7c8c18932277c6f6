"""What generators have in common that are trained until their samples get no nearer to real images.

Decides what the words of that mean; each generator says its own defaults.
"""

import math
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from ray_selfloop.config.generators.base import GeneratorSettings

MaxSteps = Annotated[
    PositiveInt, Field(description="Budget: optimiser steps after which training ends.")
]
MinSteps = Annotated[int, Field(ge=0, description="No early stop before this step.")]
CheckEvery = Annotated[
    PositiveInt, Field(description="Steps between two looks at the stopping criterion.")
]
PatienceSteps = Annotated[
    PositiveInt,
    Field(description="Converged: the criterion has not improved for this many steps."),
]
CheckSamples = Annotated[
    int,
    Field(
        ge=30,
        description="Samples drawn for one look at the stopping criterion, which compares classes "
        "that have two or more.",
    ),
]
Decay = Annotated[float, Field(ge=0.0, lt=1.0)]
Ratio = Annotated[float, Field(gt=0.0, lt=1.0)]


class LookedAt(GeneratorSettings):
    """Settings of a training from scratch that is looked at as it goes."""

    start: Literal["scratch", "previous"] = Field(
        default="scratch",
        description="Initial weights of a generation: fresh ones, or those of the previous "
        "generation's generator.",
    )
    budget: float = Field(
        default=1.0,
        gt=0.0,
        le=1.0,
        description="Share of max_steps, min_steps and patience_steps that is granted (rounded "
        "up): less trained generators by intervention, for the q of eq. 6.",
    )
    max_steps: MaxSteps
    min_steps: MinSteps
    check_every: CheckEvery
    patience_steps: PatienceSteps
    check_samples: CheckSamples
    collapse_ratio: Ratio

    @property
    def granted(self) -> dict[str, int]:
        """Optimiser steps: ``budget``, ``minimum`` and ``patience`` after the budget's share."""
        steps = {
            "budget": self.max_steps,
            "minimum": self.min_steps,
            "patience": self.patience_steps,
        }
        return {name: math.ceil(self.budget * count) for name, count in steps.items()}
