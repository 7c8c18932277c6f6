"""How each network is built: a builder for each that the rows of `config/networks.py` name.

A network is a ``Classifier``: a trunk and a tail that ends in the last layer, so that penultimate
features and dropout before the last layer mean the same for all. Knows nothing of training.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_selfloop import seeding
from ray_selfloop.classifiers import known, weights
from ray_selfloop.config.networks import IMAGENET, TIMM, Hub, Network
from ray_selfloop.errors import DataError

Normal = tuple[tuple[float, ...], tuple[float, ...]]  # mean and deviation of the channels, 0..1
Net = TypeVar("Net", bound=nn.Module)


class State(NamedTuple):
    """Weights to start from: the tensors of a file, by name."""

    path: Path
    tensors: dict[str, Any]


class Builder(NamedTuple):
    """How networks of one kind are built.

    body: row, side in pixels, weights to start from (None: fresh ones) -> the network as published;
        raises DataError for weights that do not fit.
    parts: that network -> its trunk (images -> (n, k)) and the layers up to the last.
    """

    body: Callable[[Network, int, State | None], nn.Module]
    parts: Callable[[Any], tuple[nn.Module, nn.Sequential]]


class Classifier(nn.Module):
    """``tail(trunk(resized images))``; the tail's last module is the one linear last layer."""

    def __init__(
        self, trunk: nn.Module, tail: nn.Sequential, side: int, normal: Normal = IMAGENET
    ) -> None:
        super().__init__()
        self.trunk, self.tail, self.side, self.normal = trunk, tail, side, normal
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
        """uint8 ``(n, 3, H, W)`` 0..255 -> float32, by its mean and deviation, channels_last."""
        mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in self.normal)
        x = images.float().div(255).sub(mean).div(std)
        return x.contiguous(memory_format=torch.channels_last)

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


class ResNet8(nn.Module):
    """He et al. (2016, sec. 4.2), for small images, one block a stage; any side from 8 pixels."""

    def __init__(self) -> None:
        from torchvision.models.resnet import BasicBlock

        def halving(width: int) -> nn.Module:
            """A block that halves the side and doubles the channels."""
            to = 2 * width
            shortcut = nn.Sequential(nn.Conv2d(width, to, 1, 2, bias=False), nn.BatchNorm2d(to))
            return BasicBlock(width, to, 2, shortcut)

        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            BasicBlock(16, 16), halving(16), halving(32),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Linear(64, 1000))


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


def _torchvision(row: Network, side: int, state: State | None) -> nn.Module:
    from torchvision import models

    return _started(models.get_model(row.name, weights=None), row, state)


def _deit(row: Network, side: int, state: State | None) -> nn.Module:
    import timm
    from timm.models.vision_transformer import checkpoint_filter_fn

    assert isinstance(row.published, Hub)
    own = row.published.repository.removeprefix(TIMM)
    net = timm.create_model(own, pretrained=False, img_size=side)
    if state:  # resizes the position embedding
        state = State(state.path, checkpoint_filter_fn(state.tensors, net))
    return _started(net, row, state)


def _timm(row: Network, side: int, state: State | None) -> nn.Module:
    """timm's own way: it knows in which forms the weights of each network are published."""
    import timm

    own = row.name.removeprefix(TIMM)
    if state is None:
        return timm.create_model(own, pretrained=False)
    last = known.timm_settings(row.name).classifier
    head = f"{last if isinstance(last, str) else (last or ('',))[0]}.weight"
    classes = len(state.tensors[head]) if head in state.tensors else 0
    start = {"state_dict": state.tensors, "num_classes": classes}
    try:
        return timm.create_model(own, pretrained=True, pretrained_cfg_overlay=start)
    except (AssertionError, AttributeError, KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"training.pretrained: {state.path} does not fit {row.name}: {reason}"
        ) from error


def _convolutional_parts(net: Any) -> tuple[nn.Module, nn.Sequential]:
    trunk = nn.Sequential(net.features, net.avgpool, nn.Flatten(1))
    return trunk, net.classifier[:-1]


def _resnet_parts(net: Any) -> tuple[nn.Module, nn.Sequential]:
    net.fc = nn.Identity()
    return net, nn.Sequential()


def _timm_parts(net: Any) -> tuple[nn.Module, nn.Sequential]:
    net.reset_classifier(0)
    return net, nn.Sequential()


BUILDERS = {
    "lenet": Builder(
        lambda row, side, state: _started(LeNet(side), row, state),
        lambda net: (net.trunk, net.tail),
    ),
    "resnet8": Builder(
        lambda row, side, state: _started(ResNet8(), row, state), _convolutional_parts
    ),
    "convolutional": Builder(_torchvision, _convolutional_parts),
    "resnet": Builder(_torchvision, _resnet_parts),
    "deit": Builder(_deit, _timm_parts),
    "timm": Builder(_timm, _timm_parts),
}
"""By what a network's row calls its builder."""


def _weights(row: Network, pretrained: bool | str) -> State | None:
    """The weights asked for, downloaded where they have to be; raises DataError."""
    source = weights.source(row.name, pretrained)
    if pretrained is False:
        return None
    try:
        path = weights.fetch(row.name) if pretrained is True else Path(pretrained)
    except (OSError, RuntimeError) as error:  # URLError, HTTPError and hub errors are OSErrors
        raise DataError(
            f"training.pretrained: the weights {source} of {row.name} could not be downloaded "
            f"({error}); give the path of a state dict instead of true."
        ) from error
    return State(path, weights.read_state_dict(path))


def _started(net: Net, row: Network, state: State | None) -> Net:
    """With all weights but the last layer's from ``state``; DataError for another network's."""
    if state is None:
        return net
    last = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)][-1]
    own = {key: value for key, value in state.tensors.items() if not key.startswith(f"{last}.")}
    try:
        found = net.load_state_dict(own, strict=False)
    except RuntimeError as error:
        raise DataError(
            f"training.pretrained: {state.path} does not fit {row.name}: {error}"
        ) from error
    missing = [key for key in found.missing_keys if not key.startswith(f"{last}.")]
    if missing or found.unexpected_keys:
        raise DataError(
            f"training.pretrained: {state.path} does not fit {row.name}: "
            f"missing {missing[:3]}, not known {found.unexpected_keys[:3]}."
        )
    return net


def _width(trunk: nn.Module, tail: nn.Sequential, side: int) -> int:
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

    image_size: side of the images in pixels; they are resized to the row's ``side`` on the device.
    pretrained: false, true (published ImageNet weights) or the path of a state dict.
    batchnorm_momentum: null keeps the architecture's own.
    Raises ConfigError for an unknown name, DataError for weights that cannot be had or do not fit.
    """
    row = known.network(name)
    side, builder = row.side(image_size), BUILDERS[row.builder]
    state = _weights(row, pretrained)
    with drawing_from(seeding.derive(seed, "weights"), torch.device("cpu")):
        trunk, tail = builder.parts(builder.body(row, side, state))
        last = nn.Linear(_width(trunk, tail, side), num_classes)
    for module in trunk.modules() if batchnorm_momentum is not None else ():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = batchnorm_momentum
    net = Classifier(trunk, nn.Sequential(*tail, last), side, row.normal)
    return net.to(memory_format=torch.channels_last).eval()
