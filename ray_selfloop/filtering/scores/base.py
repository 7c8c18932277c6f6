"""What a score is opened with and gives back, and what scores that compare with texts share.

Knows nothing of the cut, and sees no subgroup.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ray_selfloop.images.imageset import Ids, ImageSource
from ray_selfloop.images.pictures import View

Floats = NDArray[np.float32]
Opened = Callable[[ImageSource, Ids, Ids], NDArray[Any]]
"""Images uint8 ``(n, 3, H, W)``, labels and sample ids ``(n,)`` -> the score of each, ``(n,)``.

What it gives a sample must not depend on the others of the batch."""


class Network(Protocol):
    """A classifier whose ``tail`` ends in the last layer and holds its dropout, if it has any."""

    tail: nn.Sequential

    def normalised(self, images: Tensor) -> Tensor:
        """uint8 ``(n, 3, H, W)`` -> what the network reads."""

    def embed(self, x: Tensor) -> Tensor:
        """Normalised images -> the tail's input ``(n, k)``."""


@dataclass(frozen=True)
class Given:
    """What a score is opened with; ``trained`` and ``experts`` are loaded when they are called.

    settings: its group of `filter`; None where it has none. side: of the dataset's images, pixels.
    view: how its pictures are seen; None where images are arrays. trained: the weights of stage
    `scorer`. experts: classifiers of the last generation, on ``device``, in eval mode.
    """

    settings: Any
    class_names: Sequence[str]
    side: int
    view: View | None
    trained: Callable[[], Mapping[str, Tensor]]
    experts: Callable[[], Sequence[Network]]
    seed: int
    device: torch.device


def texts_of(class_names: Sequence[str], prompt: str) -> list[str]:
    return [prompt.replace("{}", name.replace("_", " ")) for name in class_names]


@torch.no_grad()
def cosines(embed: Any, texts: Tensor, images: ImageSource, labels: Ids, batch: int) -> Floats:
    """Cosine of each image with its class's text, in batches of one shape."""
    parts, n = [np.empty(0, np.float32)], len(images)
    for start in range(0, n, batch):
        rows = np.minimum(np.arange(start, start + batch), n - 1)
        seen = embed(np.ascontiguousarray(images[rows]))
        read = texts[torch.from_numpy(labels[rows]).to(texts.device)]
        parts.append((seen * read).sum(1)[: n - start].float().cpu().numpy())
    return np.concatenate(parts)
