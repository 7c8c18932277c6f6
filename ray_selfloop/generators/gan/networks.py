"""The two networks of the conditional GAN, built from the image size.

DCGAN's shape (Radford et al. 2016): strided convolutions, no pooling; batch normalisation in the
generator, spectral normalisation (Miyato et al. 2018) and a projection of the label (Miyato and
Koyama 2018) in the discriminator. Beyond DCGAN, the discriminator also judges *groups* of images
of one class by the mean and the spread of their features, in the manner of minibatch
discrimination (Salimans et al. 2016) and PacGAN (Lin et al. 2018): with single images alone, one
colour per class is enough to fool it. Knows nothing of losses and data.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ray_selfloop.config.generators.gan import ConditionalGan
from ray_selfloop.errors import ConfigError

LARGEST_BASE = 8  # pixels; halving ends at or below this
LABEL_SIZE = 16  # dimensions of the generator's label embedding
SLOPE = 0.2  # of the discriminator's leaky ReLU, as in DCGAN
MOMENTUM = 0.05  # of the generator's running batch statistics
# The range of the generator's images over that of real ones. With a plain tanh, black and full ink
# are its asymptotes, no gradient reaches a dark channel, and a colour once lost stays lost.
OVERSHOOT = 1.05


def doublings(size: int) -> int:
    """How often the generator doubles its resolution for square images of ``size`` pixels.

    8 -> 1 (from 4), 28 -> 2 (from 7), 32 -> 3 (from 4). Raises ConfigError where halving does not
    reach ``LARGEST_BASE`` pixels.
    """
    count, base = 0, size
    while base % 2 == 0 and base > 4:
        count, base = count + 1, base // 2
    if base > LARGEST_BASE or size < 4:
        raise ConfigError(
            f"conditional_gan cannot make images of {size} pixels: halving ends at {base}, and "
            f"4 to {LARGEST_BASE} is needed. Sizes such as 8, 16, 28, 32 and 64 work."
        )
    return count


def _side(image_shape: tuple[int, ...]) -> int:
    height, width = image_shape[1:]
    if height != width:
        raise ConfigError(f"conditional_gan makes square images; the data has {height}x{width}")
    return height


def _doubling(upsampling: str, before: int, after: int) -> nn.Module:
    """``(n, before, H, H)`` -> ``(n, after, 2H, 2H)``."""
    if upsampling == "transposed":
        return nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.Conv2d(before, after, 3, padding=1, bias=False),
    )


class GeneratorNet(nn.Module):
    """Noise ``(n, latent)`` and labels ``(n,)`` -> images ``(n, C, H, H)``.

    Real images are in -1..1, these within OVERSHOOT of it on either side.
    """

    def __init__(
        self, settings: ConditionalGan, num_classes: int, image_shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        channels, size, width = image_shape[0], _side(image_shape), settings.generator_width
        steps = doublings(size)
        widths = [max(width >> step, 8) for step in range(steps + 1)]
        self.base = size >> steps
        self.label = nn.Embedding(num_classes, LABEL_SIZE)
        self.project = nn.Linear(settings.latent_size + LABEL_SIZE, width * self.base**2)
        self.first = nn.BatchNorm2d(width, momentum=MOMENTUM)
        self.ups = nn.ModuleList(
            _doubling(settings.upsampling, before, after) for before, after in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(b, momentum=MOMENTUM) for b in widths[1:])
        self.to_image = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        x = self.project(torch.cat([noise, self.label(labels)], dim=1))
        x = F.relu(self.first(x.view(len(x), -1, self.base, self.base)))
        for up, norm in zip(self.ups, self.norms, strict=True):
            x = F.relu(norm(up(x)))
        return OVERSHOOT * torch.tanh(self.to_image(x))


class DiscriminatorNet(nn.Module):
    """Images ``(n, C, H, H)`` -> logits ``(n,)`` of images and ``(n / group,)`` of groups.

    Real images are in -1..1. Rows come in groups: ``group`` consecutive rows have the same label.
    """

    def __init__(
        self, settings: ConditionalGan, num_classes: int, image_shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        channels, size = image_shape[0], image_shape[1]
        width, features = settings.discriminator_width, settings.discriminator_features
        steps = doublings(size)
        widths = [channels, *(width << step for step in range(steps + 1))]
        strides = [2] * steps + [1]  # the last convolution stays at the lowest resolution
        self.group, self.gain = settings.group_size, settings.discriminator_gain
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 4 if stride == 2 else 3, stride, 1)
            for a, b, stride in zip(widths[:-1], widths[1:], strides, strict=True)
        )
        self.features = nn.Linear(widths[-1] * (size >> steps) ** 2, features)
        self.image_logit = nn.Linear(features, 1)
        self.image_label = nn.Embedding(num_classes, features)
        half = features // 2
        self.group_features = nn.Linear(features, half)
        self.group_hidden = nn.Linear(2 * half, half)
        self.group_logit = nn.Linear(half, 1)
        self.group_label = nn.Embedding(num_classes, half)
        for layer in [m for m in self.modules() if isinstance(getattr(m, "weight", None), Tensor)]:
            spectral_norm(layer)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        x = images
        for conv in self.convs:
            x = self.gain * F.leaky_relu(conv(x), SLOPE)
        x = self.gain * F.leaky_relu(self.features(x.flatten(1)), SLOPE)  # (n, features)
        image = self.image_logit(x)[:, 0] + (self.image_label(labels) * x).sum(dim=1)
        return image, self._judge_groups(x, labels[:: self.group])

    def _judge_groups(self, x: Tensor, labels: Tensor) -> Tensor:
        """Features ``(n, features)`` and a label per group -> logits ``(n / group,)``."""
        x = F.leaky_relu(self.group_features(x), SLOPE).view(len(labels), self.group, -1)
        mean = x.mean(dim=1)
        spread = ((x - mean[:, None]).square().mean(dim=1) + 1e-6).sqrt()
        x = F.leaky_relu(self.group_hidden(torch.cat([mean, spread], dim=1)), SLOPE)
        return self.group_logit(x)[:, 0] + (self.group_label(labels) * x).sum(dim=1)
