"""The conditional GAN: training with a stopping rule, and sampling by sample id.

Hinge losses (Lim and Ye 2017) on images and on groups of images of one class. The weights that are
sampled from are an exponential moving average over the steps, taken at the step where the samples
were nearest to held-out real images. Sees images and labels; never a subgroup, never a test image.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

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
from ray_selfloop.generators.stopping import CRITERION, Look, Stopping, features, look
from ray_selfloop.images.imageset import Ids, Images
from ray_selfloop.images.split import apportion

CHECK_BATCH = 250  # images per forward pass of a look; bounds memory alone


@dataclass(frozen=True)
class TrainedGan:
    """What training leaves.

    weights: all that sampling needs; CPU tensors.
    history: one entry per look: step, mean losses since the last, criterion, diversities.
    outcome: ``converged`` (the criterion stopped improving), ``budget`` (max_steps, or the share
        of it that ``settings.budget`` grants, reached),
        ``diverged`` (losses or weights not finite) or ``collapsed`` (diversity too small).
    steps, best_step: optimiser steps made, and those after which ``weights`` were taken.
    best: the look at ``weights``; NaN where training diverged before the first.
    """

    weights: dict[str, Tensor]
    history: list[dict[str, float]]
    outcome: str
    steps: int
    best_step: int
    best: Look


class _Groups:
    """Draws real images in groups of one class; classes by their share of the data."""

    def __init__(self, data: TrainingImages, num_classes: int, group: int, device: torch.device):
        self.images = torch.from_numpy(data.images).to(device)
        self.images = self.images.contiguous(memory_format=torch.channels_last)
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
        """One step of both networks -> their losses ``(generator's, discriminator's)``.

        Both learn from the same generated images, the generator from what the discriminator has
        just become.
        """
        labels = self.groups.labels(self.settings.batch_size, self.random)
        real = self.groups.real(labels, self.random)
        labels = labels.to(self.device)
        drawn = self.generator(self._noise(), labels)
        judge = self._train_discriminator(real, drawn.detach(), labels)
        loss = self._train_generator(drawn, labels)
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

    def _train_discriminator(self, real: Tensor, drawn: Tensor, labels: Tensor) -> Tensor:
        images = torch.cat([self._seen(real), self._seen(drawn)])
        logits = self.discriminator(
            images, torch.cat([labels, labels]), self.discriminator.normalised()
        )
        loss = _hinge(logits[0]) + _hinge(logits[1])
        _descend(self.discriminator_adam, loss)
        return loss.detach()

    def _train_generator(self, drawn: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            weights = self.discriminator.normalised()
        images, groups = self.discriminator(self._seen(drawn), labels, weights)
        loss = -images.mean() - groups.mean()
        _descend(self.generator_adam, loss)
        return loss.detach()


def _hinge(logits: Tensor) -> Tensor:
    """Of as many real ones and, after them, generated ones."""
    of_real, of_drawn = logits.chunk(2)
    return F.relu(1 - of_real).mean() + F.relu(1 + of_drawn).mean()


def _adam(net: nn.Module, rate: float, settings: ConditionalGan) -> torch.optim.Adam:
    return torch.optim.Adam(net.parameters(), rate, settings.betas, fused=True)


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    """A step of an optimiser along the gradient of its own weights alone."""
    optimiser.zero_grad()
    loss.backward(inputs=optimiser.param_groups[0]["params"])
    optimiser.step()


def _floats(net: nn.Module) -> list[Tensor]:
    """Weights and running statistics, sharing memory with ``net``."""
    return [value for value in net.state_dict().values() if value.is_floating_point()]


def _finite(values: list[Tensor]) -> bool:
    return all(bool(value.isfinite().all()) for value in values)


class _Looks:
    """Compares the averaged generator with the held-out images, always with the same noise."""

    def __init__(self, held_out: TrainingImages, settings: ConditionalGan, seed: int) -> None:
        self.real = features(np.asarray(held_out.images))
        self.real_labels = torch.from_numpy(held_out.labels)
        counts = apportion(settings.check_samples, np.bincount(held_out.labels).astype(float))
        self.labels = torch.from_numpy(np.repeat(np.arange(len(counts)), counts))
        random = torch.Generator().manual_seed(seeding.derive(seed, "look"))
        self.noise = torch.randn((len(self.labels), settings.latent_size), generator=random)

    def at(self, net: GeneratorNet, device: torch.device) -> Look:
        drawn = [
            features(_draw(net, noise, labels, device).numpy())
            for noise, labels in zip(
                self.noise.split(CHECK_BATCH), self.labels.split(CHECK_BATCH), strict=True
            )
        ]
        return look(self.real, self.real_labels, torch.cat(drawn), self.labels)


@torch.no_grad()
def _draw(net: GeneratorNet, noise: Tensor, labels: Tensor, device: torch.device) -> Tensor:
    """Noise and labels -> uint8 images on the CPU."""
    images = net(noise.to(device), labels.to(device))
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()


def train(
    data: TrainingImages,
    held_out: TrainingImages,
    num_classes: int,
    settings: ConditionalGan,
    seed: int,
    device: torch.device,
    initial: dict[str, Tensor] | None,
) -> TrainedGan:
    """Train until the criterion stops improving, or for the budget that ``settings`` grant.

    held_out: real images, used for the stopping criterion alone. initial: generator weights to
    start from (``start: previous``), or None; the discriminator is always fresh. On the CPU with
    one thread the result is bit-identical for the same arguments.
    """
    groups = _Groups(data, num_classes, settings.group_size, device)
    trainer = _Trainer(groups, num_classes, settings, seed, initial)
    looks = _Looks(held_out, settings, seed)
    stopping = Stopping(**settings.granted)
    best, weights = Look(*[float("nan")] * 3), _copy(trainer.average)
    history: list[dict[str, float]] = []
    outcome: str | None = None
    for step, losses in _rounds(trainer, settings):
        if not (_finite([losses]) and _finite(trainer.live)):
            return TrainedGan(weights, history, "diverged", step, stopping.best_step, best)
        seen = looks.at(trainer.average, device)
        history.append(_entry(step, losses, seen))
        if stopping.improved(step, seen.distance):
            best, weights = seen, _copy(trainer.average)
        outcome = stopping.verdict(step)
        if outcome is not None:
            break
    assert outcome is not None, "the last round is the budget's"
    if best.diversity < settings.collapse_ratio:
        outcome = "collapsed"
    return TrainedGan(weights, history, outcome, step, stopping.best_step, best)


def _rounds(trainer: _Trainer, settings: ConditionalGan) -> Iterator[tuple[int, Tensor]]:
    """Train, and stop for a look every ``check_every`` steps and at the budget's end.

    Yields the number of steps made and the mean losses ``(generator's, discriminator's)`` since
    the last look.
    """
    losses: list[Tensor] = []
    last = settings.granted["budget"]
    for step in range(1, last + 1):
        losses.append(trainer.step(step))
        if step % settings.check_every == 0 or step == last:
            yield step, torch.stack(losses).mean(dim=0)
            losses = []


def _copy(net: GeneratorNet) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in net.state_dict().items()}


def _entry(step: int, losses: Tensor, seen: Look) -> dict[str, float]:
    generator, discriminator = losses.tolist()
    return {
        "step": float(step),
        "generator_loss": generator,
        "discriminator_loss": discriminator,
        CRITERION: seen.distance,
        "diversity": seen.diversity,
        "least_diversity": seen.least_diversity,
    }


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


def sampler(
    weights: dict[str, Tensor],
    num_classes: int,
    image_shape: tuple[int, int, int],
    settings: ConditionalGan,
    device: torch.device,
) -> GanSampler:
    """A sampler for weights that ``train`` returned under the same settings and image shape.

    Raises StageError where the weights do not fit them.
    """
    with torch.device("meta"):  # no initial weights are drawn
        net = GeneratorNet(settings, num_classes, image_shape)
    try:
        net.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise StageError(f"these weights belong to another generator: {error}") from error
    return GanSampler(net.to(device).eval(), settings.latent_size, device)


def _train(lesson: Lesson, settings: ConditionalGan) -> Trained:
    found = train(
        lesson.data,
        lesson.held_out,
        len(lesson.class_names),
        settings,
        lesson.seed,
        lesson.device,
        lesson.previous,
    )
    return Trained(found.weights, found.history, found.outcome)


def _sampler(scene: Scene, settings: ConditionalGan) -> GanSampler:
    assert scene.weights is not None, "it is trained"
    _, channels, height, width = scene.original.images.shape
    shape = (channels, height, width)
    return sampler(scene.weights, len(scene.class_names), shape, settings, scene.device)


GENERATOR = Generator(sampler=_sampler, train=_train)
