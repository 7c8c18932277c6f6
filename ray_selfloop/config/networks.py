"""The networks that can be classifiers, a row each: what settings, weights and GPUs ask of one.

How a network is built stands in `classifiers/zoo.py`, under the row's ``builder``. Beside the rows,
`timm/NAME` is any network of timm that takes square RGB images; what its row holds is asked of timm
when a sweep is planned (`classifiers/known.py`). Imports no torch.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, WithJsonSchema

TIMM = "timm/"
OF_TIMM = re.compile(r"timm/\w[\w.-]*", re.ASCII)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and deviation of its channels
PICTURE = 224  # pixels; the side that `Footprint.kept` speaks of


class Footprint(NamedTuple):
    """What training a network keeps in memory.

    parameters: millions. kept: MB that the backward pass keeps for one picture of 224 pixels.
    """

    parameters: float
    kept: float


class Torchvision(NamedTuple):
    """Weights that torchvision publishes: their tag, and the name of their file."""

    tag: str
    file: str


class Hub(NamedTuple):
    """Weights in a repository of the Hugging Face hub."""

    repository: str
    file: str = "model.safetensors"


@dataclass(frozen=True)
class Network:
    """One network.

    name: what sweeps call it. builder: what `zoo.BUILDERS` calls the way to build it.
    footprint: counted on a CPU in float32 (parameters, and bytes that autograd saves), not measured
    on a GPU. What is kept grows with the picture's area, so one number serves all sides.
    smallest: smallest working side in pixels; smaller images are enlarged to it.
    multiple: the side is a multiple of this; images are enlarged to the next one.
    fixed: the network sees images at ``smallest`` alone.
    published: ImageNet weights; None where there are none.
    normal: mean and deviation, 0..1, of the channels of what it was made for.
    """

    name: str
    builder: str
    footprint: Footprint
    smallest: int
    multiple: int = 1
    published: Torchvision | Hub | None = None
    fixed: bool = False
    normal: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET

    def side(self, size: int) -> int:
        """The side in pixels at which it sees images of ``size`` pixels."""
        if self.fixed:
            return self.smallest
        return math.ceil(max(size, self.smallest) / self.multiple) * self.multiple


NETWORKS: Mapping[str, Network] = {
    network.name: network
    for network in (
        Network("lenet", "lenet", Footprint(5.6, 4.0), 28),
        Network(
            "alexnet", "convolutional", Footprint(57.1, 3.7), 64,
            published=Torchvision("IMAGENET1K_V1", "alexnet-owt-7be5be79.pth"),
        ),
        Network(
            "vgg19", "convolutional", Footprint(139.7, 78.6), 32,
            published=Torchvision("IMAGENET1K_V1", "vgg19-dcbb9e9d.pth"),
        ),
        Network(
            "resnet50", "resnet", Footprint(23.6, 85.9), 32,
            published=Torchvision("IMAGENET1K_V2", "resnet50-11ad3fa6.pth"),
        ),
        Network(
            "mobilenet_v3_small", "convolutional", Footprint(1.5, 16.2), 32,
            published=Torchvision("IMAGENET1K_V1", "mobilenet_v3_small-047dcff4.pth"),
        ),
        Network(
            "mobilenet_v3_large", "convolutional", Footprint(4.2, 44.1), 32,
            published=Torchvision("IMAGENET1K_V2", "mobilenet_v3_large-5c1a4163.pth"),
        ),
        Network(
            "deit_s", "deit", Footprint(21.7, 59.4), 64, multiple=16,
            published=Hub("timm/deit_small_patch16_224.fb_in1k"),
        ),
        Network("resnet8", "resnet8", Footprint(0.1, 31.9), smallest=8),
    )
}  # fmt: skip

EXPERT = "resnet50"  # the paper's, where it is trained
JUDGE, PROBE = "lenet", "mobilenet_v3_small"
TRAINED = (JUDGE, PROBE)
"""What settings name where a sweep names none."""


def parts(key: str) -> list[str]:
    """The parts of a dotted key; a network of timm is one of them, with the dot before its tag."""
    found = key.split(".")
    at = next((i for i, part in enumerate(found) if part.startswith(TIMM)), len(found))
    settings = 1 if found[0] == "training_of" and len(found) > at + 1 else 0
    end = len(found) - settings
    return [*found[:at], ".".join(found[at:end]), *found[end:]] if at < end else found


def _of_timm(name: str) -> str:
    if not OF_TIMM.fullmatch(name):
        raise ValueError("must be timm/NAME, any network of timm that takes square RGB images")
    return name


if TYPE_CHECKING:
    Name = str
else:
    _Timm = Annotated[
        str,
        AfterValidator(_of_timm),
        Field(title=f"{TIMM}NAME"),
        WithJsonSchema({"type": "string", "pattern": f"^{OF_TIMM.pattern}$"}),
    ]
    Name = Literal[tuple(NETWORKS)] | _Timm
    """The name of a network, in a sweep file; whether timm knows it is asked by `plan`."""
