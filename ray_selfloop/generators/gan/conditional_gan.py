"""The conditional GAN: training with a stopping rule, and sampling by sample id.

Hinge losses (Lim and Ye 2017) on images and on groups of images of one class. The weights that are
sampled from are an exponential moving average over the steps, taken at the step where the samples
were nearest to held-out real images. Sees images and labels; never a subgroup, never a test image.
"""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ray_selfloop import seeding
from ray_selfloop.config.generators.gan import ConditionalGan
from ray_selfloop.errors import StageError
from ray_selfloop.generators.base import Generator, Lesson, Scene, Trained, TrainingImages
from ray_selfloop.generators.gan.augment import augmented
from ray_selfloop.generators.gan.networks import DiscriminatorNet, GeneratorNet
from ray_selfloop.generators.looked import Looks, trained
from ray_selfloop.generators.stopping import Look
from ray_selfloop.images.imageset import Ids, Images

CHECK_BATCH = 250  # images per forward pass of a look; bounds memory alone


class _Groups:
    """Draws real images in groups of one class; classes by their share of the data."""

    def __init__(self, data: TrainingImages, num_classes: int, group: int, device: torch.device):
        self.images = torch.from_numpy(data.images).to(device)
        labels = torch.from_numpy(data.labels)
        self.order = labels.argsort(stable=True)
        self.counts = labels.bincount(minlength=num_classes)
        self.starts = self.counts.cumsum(0) - self.counts
        self.group = group

    def labels(self, n: int, random: torch.Generator) -> Tensor:
        """``(n,)`` labels on the CPU; every ``group`` consecutive ones are equal."""
        drawn = torch.multinomial(self.counts.double(), n // self.group, True, generator=random)
        return drawn.repeat_interleave(self.group)

    def real(self, labels: Tensor, random: torch.Generator) -> Tensor:
        """A random real image, ``(n, C, H, W)`` in -1..1, for each label."""
        counts = self.counts[labels]
        place = (torch.rand(len(labels), generator=random) * counts).long()
        rows = self.order[self.starts[labels] + place.minimum(counts - 1)]
        return self.images[rows.to(self.images.device)].float() / 127.5 - 1


class _Trainer:
    """The two networks, their optimisers and the averaged generator."""

    def __init__(
        self,
        groups: _Groups,
        num_classes: int,
        settings: ConditionalGan,
        seed: int,
        initial: dict[str, Tensor] | None,
    ) -> None:
        self.groups, self.settings, self.device = groups, settings, groups.images.device
        shape = tuple(groups.images.shape[1:])
        self.random = torch.Generator().manual_seed(seeding.derive(seed, "steps"))
        with torch.random.fork_rng(devices=[]):  # initial weights come from torch's own stream
            torch.manual_seed(seeding.derive(seed, "weights"))
            generator = GeneratorNet(settings, num_classes, shape)
            discriminator = DiscriminatorNet(settings, num_classes, shape)
        if initial is not None:
            generator.load_state_dict(initial)
        self.generator = generator.to(self.device).train()
        self.discriminator = discriminator.to(self.device).train()
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.generator_adam = _adam(self.generator, settings.generator_learning_rate, settings)
        self.discriminator_adam = _adam(
            self.discriminator, settings.discriminator_learning_rate, settings
        )
        self.live, self.mean = _floats(self.generator), _floats(self.average)

    def step(self, number: int) -> Tensor:
        """One step of both networks -> their losses ``(generator's, discriminator's)``."""
        judge = self._train_discriminator()
        loss = self._train_generator()
        # the first steps' weights are forgotten at once: the decay grows up to its value
        decay = min(self.settings.ema_decay, number / (number + 10))
        torch._foreach_lerp_(self.mean, self.live, 1 - decay)
        return torch.stack([loss, judge])

    def _noise(self) -> Tensor:
        size = (self.settings.batch_size, self.settings.latent_size)
        return torch.randn(size, generator=self.random).to(self.device)

    def _seen(self, images: Tensor) -> Tensor:
        """Images as the discriminator sees them."""
        return augmented(images, self.settings.augment, self.random)

    def _train_discriminator(self) -> Tensor:
        labels = self.groups.labels(self.settings.batch_size, self.random)
        real = self.groups.real(labels, self.random)
        labels = labels.to(self.device)
        with torch.no_grad():
            drawn = self.generator(self._noise(), labels)
        images = torch.cat([self._seen(real), self._seen(drawn)])
        logits = self.discriminator(images, torch.cat([labels, labels]))
        loss = torch.zeros((), device=self.device)
        for judged in logits:
            of_real, of_drawn = judged.float().chunk(2)
            loss = loss + F.relu(1 - of_real).mean() + F.relu(1 + of_drawn).mean()
        _descend(self.discriminator_adam, loss)
        return loss.detach()

    def _train_generator(self) -> Tensor:
        labels = self.groups.labels(self.settings.batch_size, self.random).to(self.device)
        self.discriminator.eval().requires_grad_(False)
        drawn = self._seen(self.generator(self._noise(), labels))
        images, groups = self.discriminator(drawn, labels)
        loss = -images.float().mean() - groups.float().mean()
        _descend(self.generator_adam, loss)
        self.discriminator.train().requires_grad_(True)
        return loss.detach()

    def finite(self) -> bool:
        """Whether every weight and running statistic is a number."""
        return all(bool(value.isfinite().all()) for value in self.live)


def _adam(net: nn.Module, rate: float, settings: ConditionalGan) -> torch.optim.Adam:
    return torch.optim.Adam(net.parameters(), rate, settings.betas, fused=True)


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()


def _floats(net: nn.Module) -> list[Tensor]:
    """Weights and running statistics, sharing memory with ``net``."""
    return [value for value in net.state_dict().values() if value.is_floating_point()]


@torch.no_grad()
def _draw(net: GeneratorNet, noise: Tensor, labels: Tensor, device: torch.device) -> Tensor:
    """Noise and labels -> uint8 images on the CPU."""
    images = net(noise.to(device), labels.to(device)).float()
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()


def train(lesson: Lesson, settings: ConditionalGan) -> Trained:
    """Train as `looked.trained`; the same noise and labels at each look.

    From the previous generation's generator where the lesson has it; the discriminator is always
    fresh. On the CPU with one thread the result is bit-identical for the same arguments.
    """
    classes, seed, device = len(lesson.class_names), lesson.seed, lesson.device
    groups = _Groups(lesson.data, classes, settings.group_size, device)
    trainer = _Trainer(groups, classes, settings, seed, lesson.previous)
    looks = Looks(lesson.held_out, settings.check_samples)
    random = torch.Generator().manual_seed(seeding.derive(seed, "look"))
    noise = torch.randn((len(looks.labels), settings.latent_size), generator=random)
    pairs = zip(
        noise.split(CHECK_BATCH), torch.from_numpy(looks.labels).split(CHECK_BATCH), strict=True
    )
    parts = [*pairs]

    def look(net: GeneratorNet) -> Look:
        return looks.compared([_draw(net, *part, device).numpy() for part in parts])

    return trained(trainer, look, settings, ["generator_loss", "discriminator_loss"])


class GanSampler:
    """Draws from a trained generator; see ``generators.Sampler``."""

    def __init__(self, net: GeneratorNet, latent_size: int, device: torch.device) -> None:
        self.net, self.latent_size, self.device = net, latent_size, device

    def sample(self, ids: Ids, labels: Ids, seed: int) -> Images:
        """Noise of image ``i`` is ``N(0, 1)`` from the stream ``(seed, "noise", i)``."""
        noise = np.stack(
            [seeding.rng(seed, "noise", int(i)).standard_normal(self.latent_size) for i in ids]
        )
        drawn = _draw(
            self.net, torch.from_numpy(noise).float(), torch.from_numpy(labels), self.device
        )
        images: Images = drawn.numpy()
        return images


def sampler(scene: Scene, settings: ConditionalGan) -> GanSampler:
    """A sampler for weights that ``train`` left under the same settings and image shape.

    Raises StageError where the weights do not fit them.
    """
    assert scene.weights is not None, "it is trained"
    with torch.device("meta"):  # no initial weights are drawn
        net = GeneratorNet(settings, len(scene.class_names), scene.original.images.shape[1:])
    try:
        net.load_state_dict(scene.weights, assign=True)
    except RuntimeError as error:
        raise StageError(f"these weights belong to another generator: {error}") from error
    return GanSampler(net.to(scene.device).eval(), settings.latent_size, scene.device)


GENERATOR = Generator(sampler=sampler, train=train)
