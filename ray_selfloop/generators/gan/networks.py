"""The two networks of the conditional GAN, built from the image size.

DCGAN's shape (Radford et al. 2016): strided convolutions, no pooling; batch normalisation in the
generator, spectral normalisation (Miyato et al. 2018) and a projection of the label (Miyato and
Koyama 2018) in the discriminator. Beyond DCGAN, the discriminator also judges *groups* of images
of one class by the mean and the spread of their features, in the manner of minibatch
discrimination (Salimans et al. 2016) and PacGAN (Lin et al. 2018): with single images alone, one
colour per class is enough to fool it. Activations lie with their channels last, which CPUs convolve
fastest. Knows nothing of losses and data.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ray_selfloop.config.generators.gan import ConditionalGan
from ray_selfloop.errors import ConfigError

LARGEST_BASE = 8  # pixels; halving ends at or below this
LABEL_SIZE = 16  # dimensions of the generator's label embedding
SLOPE = 0.2  # of the discriminator's leaky ReLU, as in DCGAN
MOMENTUM = 0.05  # of the generator's running batch statistics
FIRST_ITERATIONS = 15  # of the power method, on weights that were just drawn
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
        x = x.view(len(x), self.base, self.base, -1).permute(0, 3, 1, 2)
        x = F.relu_(self.first(x))
        for up, norm in zip(self.ups, self.norms, strict=True):
            x = F.relu_(norm(up(x)))
        return OVERSHOOT * torch.tanh(self.to_image(x))


class DiscriminatorNet(nn.Module):
    """Images ``(n, C, H, H)`` -> logits ``(n,)`` of images and ``(n / group,)`` of groups.

    Real images are in -1..1. Rows come in groups: ``group`` consecutive rows have the same label.
    A pass is given the weights of ``normalised``, which computes them once.
    """

    def __init__(
        self, settings: ConditionalGan, num_classes: int, image_shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        channels, size = image_shape[0], image_shape[1]
        width, features = settings.discriminator_width, settings.discriminator_features
        half, steps = features // 2, doublings(size)
        widths = [channels, *(width << step for step in range(steps + 1))]
        self.strides = [2] * steps + [1]  # the last convolution stays at the lowest resolution
        self.group, self.gain = settings.group_size, settings.discriminator_gain
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 4 if stride == 2 else 3, stride, 1)
            for a, b, stride in zip(widths[:-1], widths[1:], self.strides, strict=True)
        )
        self.features = nn.Linear(widths[-1] * (size >> steps) ** 2, features)
        self.image_logit = nn.Linear(features, 1)
        self.image_label = nn.Embedding(num_classes, features)
        self.group_features = nn.Linear(features, half)
        self.group_hidden = nn.Linear(2 * half, half)
        self.group_logit = nn.Linear(half, 1)
        self.group_label = nn.Embedding(num_classes, half)
        for number, weight in enumerate(self._weights()):
            self.register_buffer(f"left{number}", F.normalize(torch.randn(len(weight)), dim=0))
        with torch.no_grad():
            for _ in range(FIRST_ITERATIONS):
                self.normalised()

    def _weights(self) -> list[Tensor]:
        return [weight for name, weight in self.named_parameters() if name.endswith("weight")]

    def normalised(self) -> list[Tensor]:
        """Every weight over its largest singular value, after one more power iteration."""
        pairs = zip(self._weights(), self.buffers(), strict=True)
        return [_normalised(weight, left) for weight, left in pairs]

    def forward(
        self, images: Tensor, labels: Tensor, weights: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        *convs, features, logit, label = weights[:-4]
        x = images.contiguous(memory_format=torch.channels_last)
        for conv, weight, stride in zip(self.convs, convs, self.strides, strict=True):
            assert isinstance(conv, nn.Conv2d)
            x = self._active(F.conv2d(x, weight, conv.bias, stride, 1))
        x = x.permute(0, 2, 3, 1).flatten(1)
        x = self._active(F.linear(x, features, self.features.bias))  # (n, features)
        image = F.linear(x, logit, self.image_logit.bias)[:, 0]
        image = image + (F.embedding(labels, label) * x).sum(dim=1)
        return image, self._judge_groups(x, labels[:: self.group], weights[-4:])

    def _active(self, x: Tensor) -> Tensor:
        x = F.leaky_relu_(x, SLOPE)
        return x if self.gain == 1 else x * self.gain

    def _judge_groups(self, x: Tensor, labels: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """Features ``(n, features)`` and a label per group -> logits ``(n / group,)``."""
        features, hidden, logit, label = weights
        x = F.leaky_relu_(F.linear(x, features, self.group_features.bias), SLOPE)
        x = x.view(len(labels), self.group, -1)
        spread, mean = torch.var_mean(x, dim=1, correction=0)
        x = torch.cat([mean, (spread + 1e-6).sqrt()], dim=1)
        x = F.leaky_relu_(F.linear(x, hidden, self.group_hidden.bias), SLOPE)
        alike = (F.embedding(labels, label) * x).sum(dim=1)
        return F.linear(x, logit, self.group_logit.bias)[:, 0] + alike


def _normalised(weight: Tensor, left: Tensor) -> Tensor:
    """A weight over its largest singular value, whose left vector is moved towards the true one.

    The vectors are constants to the gradient, as in Miyato et al. 2018, sec. 2.1 and appendix A.
    """
    matrix = weight.flatten(1)
    with torch.no_grad():
        right = matrix.mT @ left
        length = right.norm()
    image = matrix @ right
    norm = image.norm()
    with torch.no_grad():
        torch.div(image, norm, out=left)
    return weight / (norm / length)
