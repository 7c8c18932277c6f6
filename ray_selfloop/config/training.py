"""How classifiers are trained: recipe, budget and early stopping.

Budgets are counted in optimiser steps and epochs, never in seconds, so that a result does not
depend on the machine. Knows nothing of networks or data.
"""

from collections.abc import Collection
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ray_selfloop.config.base import Path, Settings

LEARNING_RATES = {"default": 1e-3, "paper": 1e-1}


class Training(Settings):
    """Settings of one classifier's training."""

    recipe: Literal["default", "paper"] = Field(
        default="default",
        description="`default`: Adam at 1e-3, cosine to zero over the whole budget. `paper`: Adam "
        "at a constant 1e-1, sec. 4.1 read literally; it does not train most networks.",
    )
    max_epochs: int = Field(
        default=50,
        ge=1,
        description="Cap on passes over the training set. The budget of a training is the smaller "
        "of this and max_steps; the cosine ends with the budget.",
    )
    max_steps: int | None = Field(
        default=None,
        ge=1,
        description="Cap on optimiser steps; null: max_epochs alone decides. A step budget keeps "
        "cost and schedule equal while the queue doubles the training set.",
    )
    pretrained: bool | Path = Field(
        default=False,
        description="false: from scratch. true: ImageNet weights by tag, from the library's cache "
        "or downloaded; LeNet has none. A text: path of a state dict, .safetensors or .pth; its "
        "content enters the keys, and eight hex digits of sha256 in its name are checked.",
    )
    backbone: Literal["full", "frozen"] = Field(
        default="full",
        description="`full`: every weight is trained. `frozen`: the last layer alone, on features "
        "of the pretrained network, which stays as it is (dropout off, BatchNorm's statistics "
        "kept).",
    )
    image_size: int | None = Field(
        default=None,
        ge=16,
        le=1024,
        description="Side in pixels that images are enlarged to on the device; null: their own, or "
        "the network's smallest working size (AlexNet and DeiT-S 64, LeNet 28, others 32; one of "
        "timm whose size is fixed sees them at that alone). "
        "ImageNet weights know objects at 224: fine-tuned at 32 they transfer less, at 224 a step "
        "costs about 49 times as much. Never below the images' own side.",
    )
    batch_size: int = Field(
        default=64,
        ge=2,
        description="Images per optimiser step. Batches are cut from one permutation after another "
        "and all full; max_epochs passes are ceil(max_epochs * n / batch_size) steps.",
    )
    learning_rate: float | None = Field(
        default=None,
        gt=0,
        description="Adam's (initial) learning rate; null: the recipe's (1e-3 or 1e-1).",
    )
    weight_decay: float = Field(default=0.0, ge=0, description="L2 penalty inside Adam.")
    batchnorm_momentum: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="BatchNorm momentum when trained from scratch with recipe `default`. "
        "torchvision's 0.01 keeps MobileNet-V3 at chance for 20 epochs on small data. Pretrained "
        "networks and recipe `paper` keep the architecture's own.",
    )
    check_steps: int | None = Field(
        default=None,
        ge=1,
        description="Optimiser steps between two looks at the held-out images; null: once an "
        "epoch. The last step of the budget is always looked at.",
    )
    patience_steps: int = Field(
        default=5_000,
        ge=1,
        description="Stop when this many optimiser steps brought no better held-out accuracy (at "
        "equal accuracy, no lower loss).",
    )
    min_steps: int = Field(
        default=1_000,
        ge=0,
        description="Never stop early before this many optimiser steps: on small data an epoch is "
        "a handful of steps.",
    )

    @model_validator(mode="after")
    def _path_is_named(self) -> Self:
        if isinstance(self.pretrained, str) and not self.pretrained.strip():
            raise ValueError("pretrained: an empty text is no path; give false, true or a path")
        return self

    @model_validator(mode="after")
    def _frozen_is_pretrained(self) -> Self:
        if self.backbone == "frozen" and self.pretrained is False:
            raise ValueError(
                "backbone frozen needs pretrained weights: features of random weights stay random; "
                "write pretrained=true (or a path), or backbone=full"
            )
        return self

    def seen_size(self, image_size: int) -> int:
        """The side in pixels at which a network is built for images of ``image_size`` pixels."""
        return max(self.image_size or 0, image_size)

    def identity(self, searched: Collection[str] = ()) -> dict[str, Any]:
        """What a result depends on, as JSON values, but for what is decided elsewhere.

        That is ``searched``, which a search stage decides, and the weights, which count by content.
        ``image_size`` and ``backbone`` are there where they are set, so that the keys of others are
        what they were.
        """
        unset = () if self.image_size else ("image_size",)
        full = ("backbone",) if self.backbone == "full" else ()
        return self.model_dump(mode="json", exclude={"pretrained", *unset, *full, *searched})

    @property
    def read(self) -> Self:
        """With the learning rate as it is, and defaults in the place of what is not read."""
        found = self.model_copy(update={"learning_rate": self.initial_learning_rate})
        return found._defaulted(*(["batchnorm_momentum"] if self.momentum is None else []))

    @property
    def momentum(self) -> float | None:
        """``batchnorm_momentum`` where it is read; None keeps the architecture's own."""
        scratch = self.pretrained is False and self.recipe == "default"
        return self.batchnorm_momentum if scratch else None

    @property
    def initial_learning_rate(self) -> float:
        """``learning_rate``, or the recipe's where it is null."""
        return self.learning_rate or LEARNING_RATES[self.recipe]
