"""The test pictures with their objects removed, as an image source that is read by the batch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_selfloop.config.evaluation import Ablation
from ray_selfloop.images.masks import mask
from ray_selfloop.images.pictures import view_of
from ray_selfloop.stages.inputs import Inputs

COMPATS = ("paper", "reference")


def ablated_name(kind: str, compat: str) -> str:
    """The file of a trial's predictions under one ablation, in one reading of it."""
    return f"predictions_{kind}" if compat == "paper" else f"predictions_{compat}_{kind}"


class AblatedPictures:
    """The test pictures under one ablation: ``pictures[rows]`` is float32 ``(b, 3, H, W)``, 0..255.

    defined: bool ``(n,)``, whether the ablation has a meaning for a picture; known of the rows that
    have been read.
    """

    def __init__(self, inputs: Inputs, kind: str, settings: Ablation) -> None:
        self.images = inputs.images("dataset", "test_images")
        self.masks = inputs.encoded("dataset", "test_masks")
        self.kind, self.settings = kind, settings
        self.defined = np.ones(len(self.images), np.bool_)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images.shape

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        import torch

        from ray_selfloop.evaluation.ablation.pixels import ablated

        chosen = np.arange(len(self))[rows]
        view, reference = view_of(self.images), self.settings.compat == "reference"
        assert view is not None, "only pictures have masks"
        masks = np.stack(
            [mask(self.masks[int(row)], view, reference, f"test mask {row}") for row in chosen]
        )
        images = torch.from_numpy(self.images[chosen])
        removed, defined = ablated(
            images, torch.from_numpy(masks), self.kind, self.settings, torch.from_numpy(chosen)
        )
        self.defined[chosen] = defined.numpy()
        return removed.numpy()
