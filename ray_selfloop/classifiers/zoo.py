"""The seven networks: how each is built, at which input size, from which weights.

A network is a ``Classifier``: a trunk and a tail that ends in the last layer, so that penultimate
features and dropout before the last layer mean the same for all. Knows nothing of training.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_selfloop import seeding
from ray_selfloop.classifiers import weights
from ray_selfloop.errors import ConfigError, DataError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, for every network


class Architecture(NamedTuple):
    """One row of the zoo table.

    smallest: smallest working side in pixels; smaller images are resized to it.
    multiple: the side must be a multiple of this; images are resized to the next one.
    body: ``(name, side)`` -> the network as published, with fresh weights.
    parts: that network -> its trunk (images -> (n, k)) and the layers up to the last.
    """

    smallest: int
    multiple: int
    body: Callable[[str, int], nn.Module]
    parts: Callable[[nn.Module], tuple[nn.Module, nn.Sequential]]


def normalised(images: Tensor) -> Tensor:
    """uint8 ``(n, 3, H, W)`` 0..255 -> float32, ImageNet's mean and deviation, channels_last."""
    mean = torch.tensor(MEAN, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=images.device).view(1, 3, 1, 1)
    return images.float().div(255).sub(mean).div(std).contiguous(memory_format=torch.channels_last)


class Classifier(nn.Module):
    """``tail(trunk(resized images))``; the tail's last module is the one linear last layer."""

    def __init__(self, trunk: nn.Module, tail: nn.Sequential, side: int) -> None:
        super().__init__()
        self.trunk, self.tail, self.side = trunk, tail, side
        self.frozen = False

    def freeze(self) -> None:
        """Leave only the last layer to be trained: all before it stays in evaluation mode."""
        self.frozen = True
        for weight in [*self.trunk.parameters(), *self.tail[:-1].parameters()]:
            weight.requires_grad_(False)

    def train(self, mode: bool = True) -> "Classifier":
        """As torch's; of a frozen network the last layer alone."""
        super().train(mode and not self.frozen)
        self.tail[-1].train(mode)
        return self

    def normalised(self, images: Tensor) -> Tensor:
        """uint8 ``(n, 3, H, W)`` -> what this network reads, see ``normalised``."""
        return normalised(images)

    def embed(self, x: Tensor) -> Tensor:
        """Normalised float ``(n, 3, H, W)`` -> trunk output ``(n, k)``, input of the tail."""
        if x.shape[-1] != self.side or x.shape[-2] != self.side:
            x = F.interpolate(x, size=(self.side, self.side), mode="bilinear")
        return self.trunk(x.contiguous(memory_format=torch.channels_last))

    def features(self, x: Tensor) -> Tensor:
        """Normalised float ``(n, 3, H, W)`` -> penultimate features ``(n, d)``."""
        return self.tail[:-1](self.embed(x))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised float ``(n, 3, H, W)`` -> logits ``(n, L)``."""
        return self.tail(self.embed(x))


class LeNet(nn.Module):
    """LeNet-5 (LeCun et al. 1998) on RGB, with ReLU and max pooling; any side from 16 pixels."""

    def __init__(self, side: int) -> None:
        super().__init__()
        left = (side // 2 - 4) // 2  # side after two pools and one unpadded 5x5 convolution
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(1),
        )  # fmt: skip
        self.tail = nn.Sequential(
            nn.Linear(16 * left * left, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()
        )


@contextlib.contextmanager
def drawing_from(seed: int, device: torch.device) -> Iterator[None]:
    """Layers that only draw from torch's global generator draw from ``seed`` within this block.

    Weight initialisation and dropout of published networks do; the generator's state is restored.
    """
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def _lenet(name: str, side: int) -> nn.Module:
    return LeNet(side)


def _torchvision(name: str, side: int) -> nn.Module:
    from torchvision import models

    return models.get_model(name, weights=None)


def _timm(name: str, side: int) -> nn.Module:
    import timm

    return timm.create_model(weights.TIMM_NAMES[name], pretrained=False, img_size=side)


def _lenet_parts(net: Any) -> tuple[nn.Module, nn.Sequential]:
    return net.trunk, net.tail


def _convolutional_parts(net: Any) -> tuple[nn.Module, nn.Sequential]:
    trunk = nn.Sequential(net.features, net.avgpool, nn.Flatten(1))
    return trunk, net.classifier[:-1]


def _resnet_parts(net: Any) -> tuple[nn.Module, nn.Sequential]:
    net.fc = nn.Identity()
    return net, nn.Sequential()


def _timm_parts(net: Any) -> tuple[nn.Module, nn.Sequential]:
    net.reset_classifier(0)
    return net, nn.Sequential()


NETWORKS = {
    "lenet": Architecture(28, 1, _lenet, _lenet_parts),
    "alexnet": Architecture(64, 1, _torchvision, _convolutional_parts),
    "vgg19": Architecture(32, 1, _torchvision, _convolutional_parts),
    "resnet50": Architecture(32, 1, _torchvision, _resnet_parts),
    "mobilenet_v3_small": Architecture(32, 1, _torchvision, _convolutional_parts),
    "mobilenet_v3_large": Architecture(32, 1, _torchvision, _convolutional_parts),
    "deit_s": Architecture(64, 16, _timm, _timm_parts),
}


def working_side(name: str, image_size: int) -> int:
    """The input side in pixels at which ``name`` sees images of ``image_size`` pixels."""
    network = NETWORKS[name]
    side = max(image_size, network.smallest)
    return math.ceil(side / network.multiple) * network.multiple


def _published(name: str, side: int, pretrained: bool | str) -> nn.Module:
    """The network as published, with the weights asked for; raises DataError."""
    source = weights.source(name, pretrained)
    net = NETWORKS[name].body(name, side)
    if pretrained is False:
        return net
    try:
        path = weights.fetch(name) if pretrained is True else Path(pretrained)
    except (OSError, RuntimeError) as error:  # URLError, HTTPError and hub errors are OSErrors
        raise DataError(
            f"training.pretrained: the weights {source} of {name} could not be downloaded "
            f"({error}); give the path of a state dict instead of true."
        ) from error
    _load(net, name, path)
    return net


def _load(net: nn.Module, name: str, path: Path) -> None:
    """Load all but the last layer from ``path``; raises DataError for another network's weights."""
    state = weights.read_state_dict(path)
    if name in weights.TIMM_NAMES:
        from timm.models.vision_transformer import checkpoint_filter_fn

        state = checkpoint_filter_fn(state, net)  # resizes the position embedding
    last = _last_layer(net)
    state = {key: value for key, value in state.items() if not key.startswith(f"{last}.")}
    try:
        found = net.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise DataError(f"training.pretrained: {path} does not fit {name}: {error}") from error
    missing = [key for key in found.missing_keys if not key.startswith(f"{last}.")]
    if missing or found.unexpected_keys:
        raise DataError(
            f"training.pretrained: {path} does not fit {name}: "
            f"missing {missing[:3]}, not known {found.unexpected_keys[:3]}."
        )


def _last_layer(net: nn.Module) -> str:
    return [name for name, module in net.named_modules() if isinstance(module, nn.Linear)][-1]


def _set_batchnorm_momentum(net: nn.Module, momentum: float | None) -> None:
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and momentum is not None:
            module.momentum = momentum


def _width(trunk: nn.Module, tail: nn.Sequential, side: int) -> int:
    """Number of penultimate features."""
    linears = [module for module in tail if isinstance(module, nn.Linear)]
    if linears:
        return linears[-1].out_features
    trunk.eval()
    with torch.no_grad():
        return int(trunk(torch.zeros(1, 3, side, side)).shape[1])


def build(
    name: str,
    num_classes: int,
    image_size: int,
    pretrained: bool | str,
    batchnorm_momentum: float | None,
    seed: int,
) -> Classifier:
    """The network ``name`` with a fresh last layer of ``num_classes``, on the CPU, channels_last.

    image_size: side of the images in pixels; they are resized to ``working_side`` on the device.
    pretrained: false, true (published ImageNet weights) or the path of a state dict.
    batchnorm_momentum: null keeps the architecture's own.
    Raises ConfigError for an unknown name, DataError for weights that cannot be had or do not fit.
    """
    if name not in NETWORKS:
        raise ConfigError(f"classifier {name!r} is not known; known: {', '.join(NETWORKS)}")
    side = working_side(name, image_size)
    with drawing_from(seeding.derive(seed, "weights"), torch.device("cpu")):
        trunk, tail = NETWORKS[name].parts(_published(name, side, pretrained))
        last = nn.Linear(_width(trunk, tail, side), num_classes)
    _set_batchnorm_momentum(trunk, batchnorm_momentum)
    net = Classifier(trunk, nn.Sequential(*tail, last), side)
    return net.to(memory_format=torch.channels_last).eval()
