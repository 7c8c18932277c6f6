"""What a fine-tune draws, and the loss of what was drawn.

Every draw is a function of the seed and of the picture's number in the training, made on the CPU:
the same on any device, however a batch is cut, and from whatever step a fine-tune goes on.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_selfloop import seeding
from ray_selfloop.generators.diffusion.latents import Flips, Latents
from ray_selfloop.images.imageset import Ids

Floats = NDArray[np.float32]


class Pictures(NamedTuple):
    """``n`` pictures that a fine-tune may see, and their labels int64 ``(n,)``."""

    latents: Latents
    labels: Ids


class Drawn(NamedTuple):
    """What was drawn for ``b`` pictures.

    rows, flips, times: ``(b,)``; spread: what the posterior is drawn with, and noise: what is
    added, both N(0, 1), ``(b, C, h, w)``.
    """

    rows: Ids
    flips: Flips
    times: Ids
    spread: Floats
    noise: Floats

    def part(self, of: slice) -> "Drawn":
        return Drawn(self.rows[of], self.flips[of], self.times[of], self.spread[of], self.noise[of])


class Draws:
    """The random part of a fine-tune, from its seed: picture ``p`` is the p-th that training sees.

    The pictures come in epochs, each in an order of its own.
    """

    def __init__(
        self, seed: int, count: int, shape: tuple[int, int, int], times: int, flips: bool
    ) -> None:
        self._seed, self._count, self._shape = seed, count, shape
        self._times, self._flips = times, flips
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def pictures(self, numbers: Sequence[int]) -> Drawn:
        """Of the pictures with these numbers in the training."""
        each = [self._picture(number) for number in numbers]
        rows, flips, times, noises = zip(*each, strict=True)
        spread, noise = np.stack(noises, axis=1)
        return Drawn(np.asarray(rows), np.asarray(flips), np.asarray(times), spread, noise)

    def held_out(self, most: int) -> Drawn:
        """At most ``most`` pictures, their times spread evenly over all."""
        count = min(most, self._count)
        random = seeding.rng(self._seed, "held_out")
        rows = random.permutation(self._count)[:count]
        times = ((np.arange(count) + 0.5) / count * self._times).astype(np.int64)
        spread, noise = random.standard_normal((2, count, *self._shape), np.float32)
        return Drawn(rows, np.zeros(count, bool), times, spread, noise)

    def _picture(self, number: int) -> tuple[int, bool, int, Floats]:
        epoch, place = divmod(number, self._count)
        if epoch != self._epoch:
            order = seeding.rng(self._seed, "order", epoch).permutation(self._count)
            self._epoch, self._order = epoch, order
        random = seeding.rng(self._seed, "picture", number)
        time, flip = int(random.integers(self._times)), bool(random.integers(2))
        noises = random.standard_normal((2, *self._shape), np.float32)
        return int(self._order[place]), flip and self._flips, time, noises


class Objective:
    """The loss of one UNet, on the device and in the dtype of ``embeddings``.

    schedule: the base's forward diffusion. scaling: of the VAE's latents. embeddings:
    ``(classes, tokens, d)`` of the classes' prompts.
    """

    def __init__(self, unet: Any, schedule: Any, scaling: float, embeddings: Tensor) -> None:
        self.unet, self.device = unet, embeddings.device
        self._schedule, self._scaling, self._embeddings = schedule, scaling, embeddings
        self.times: int = self._schedule.config.num_train_timesteps
        self._velocity = self._schedule.config.prediction_type == "v_prediction"

    def losses(self, pictures: Pictures, drawn: Drawn) -> Tensor:
        """Mean square error of each picture's prediction, float32 ``(b,)``."""
        posterior = pictures.latents.posterior(drawn.rows, drawn.flips)
        mean, std = self._there(posterior.mean), self._there(posterior.std)
        spread, noise, times, labels = (
            self._there(torch.from_numpy(values))
            for values in (drawn.spread, drawn.noise, drawn.times, pictures.labels[drawn.rows])
        )
        latents = (mean + std * spread) * self._scaling
        noisy = self._schedule.add_noise(latents, noise, times)
        predicted = self.unet(
            noisy.to(self._embeddings.dtype), times, self._embeddings[labels]
        ).sample
        target = self._schedule.get_velocity(latents, noise, times) if self._velocity else noise
        return (predicted.float() - target).square().mean(dim=(1, 2, 3))

    def _there(self, values: Tensor) -> Tensor:
        """On the device, without waiting for what it computes."""
        if self.device.type == "cuda" and values.device.type == "cpu":
            values = values.pin_memory()
        return values.to(self.device, non_blocking=True)
