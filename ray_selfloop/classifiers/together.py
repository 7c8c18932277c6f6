"""Training several seeds of one small network at once: one pass and one optimiser step serve all.

Saves what a small network spends most on a GPU, the time between two kernels. The weights of all
seeds are stacked; order, augmentation, initial weights, early stopping and best weights are each
seed's own, drawn and decided as `train.py` does for one. Numbers agree with those of `train.train`
up to rounding, which training amplifies: never use it where results must be the same bits.
Knows nothing of who is placed where.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from ray_selfloop import seeding
from ray_selfloop.classifiers import train, zoo
from ray_selfloop.classifiers.augment import augmented
from ray_selfloop.classifiers.train import Examples, Run, Trained
from ray_selfloop.config.training import Training

SMALL = ("lenet",)
"""Networks that can be stacked and are small enough to gain by it.

Not AlexNet, VGG and the MobileNets: their dropout would draw other masks than for one seed alone.
Not ResNet-50 and DeiT-S: one of them fills a GPU.
"""


def possible(name: str, examples: Examples) -> bool:
    """Whether seeds of a network can be trained together: a small one, on images in memory."""
    return name in SMALL and isinstance(examples.train.images, np.ndarray)


def train_together(
    name: str,
    examples: Examples,
    training: Training,
    seeds: Sequence[int],
    device: torch.device,
) -> list[Trained]:
    """What ``train.train`` gives for each seed, up to rounding; ``possible`` must hold.

    All take their steps side by side. A seed that has ended is measured no more and keeps its best
    weights; the others go on until the last has ended.
    """
    assert possible(name, examples), name
    runs = [Run(name, examples, training, seed, device) for seed in seeds]
    stack = _Stack([run.network for run in runs], training, runs[0].steps)
    batches = _Batches(examples, training.batch_size, seeds, device)
    losses: list[Tensor] = []
    for step in range(1, runs[0].steps + 1):
        losses.append(stack.step(*batches.next()))
        if not runs[0].due(step):
            continue
        means = torch.stack(losses).mean(0).tolist()
        losses.clear()
        for run, mean in zip(runs, means, strict=True):
            run.look(step, mean, stack.rate)
        if all(run.outcome for run in runs):
            break
    return [run.trained() for run in runs]


class _Batches:
    """Training batches of several seeds, without end; the images lie on the device once."""

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        seeds: Sequence[int],
        device: torch.device,
    ) -> None:
        n = len(examples.train.labels)
        self.images = train.tensor_of(np.asarray(examples.train.images), device)
        self.labels = torch.tensor(examples.train.labels, device=device)
        self.augment, self.side = examples.augment, examples.side
        self.rows = [train.shuffled_rows(n, batch_size, seeding.derive(s, "order")) for s in seeds]
        self.draws = [
            torch.Generator().manual_seed(seeding.derive(s, "augmentation")) for s in seeds
        ]

    def next(self) -> tuple[Tensor, Tensor]:
        """float32 ``(k, b, 3, H, W)`` and labels ``(k, b)``, of k seeds."""
        rows = torch.stack([next(rows) for rows in self.rows]).to(self.images.device)
        images = self.images[rows]
        if self.augment != "none":
            parts = zip(images, self.draws, strict=True)
            images = torch.stack([augmented(x, self.augment, d, self.side) for x, d in parts])
        normalised = zoo.normalised(images.flatten(0, 1))
        return normalised.unflatten(0, rows.shape), self.labels[rows]


class _Stack:
    """The weights of several networks as one, ``(k, ...)``; each network holds a view of its."""

    def __init__(self, networks: Sequence[zoo.Classifier], training: Training, steps: int) -> None:
        layers = [nn.Sequential(net.trunk, net.tail).train() for net in networks]
        stacked, _ = stack_module_state(layers)
        self.weights: dict[str, nn.Parameter] = {n: nn.Parameter(w) for n, w in stacked.items()}
        for i, own in enumerate(layers):
            for name, weight in own.named_parameters():
                weight.data = self.weights[name].data[i]
        everything = list(self.weights.values())
        self.layers, self.side = layers[0], networks[0].side
        self.optimiser, self.schedule = train.optimiser_of(everything, training, steps)

    @property
    def rate(self) -> float:
        """The learning rate of the step to come."""
        return float(self.schedule.get_last_lr()[0])

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """One optimiser step of every network; their mean cross-entropies before it, ``(k,)``.

        Each depends on its own weights alone, so the gradient of their sum is each one's own.
        """

        def logits(weights: dict[str, Any], images: Tensor) -> Tensor:
            return functional_call(self.layers, weights, (images,))

        if images.shape[-1] != self.side:
            resized = F.interpolate(images.flatten(0, 1), size=2 * (self.side,), mode="bilinear")
            images = resized.unflatten(0, labels.shape)
        outputs = vmap(logits)(self.weights, images)
        losses = F.cross_entropy(outputs.flatten(0, 1), labels.flatten(), reduction="none")
        mean = losses.view(labels.shape).mean(1)
        self.optimiser.zero_grad(set_to_none=True)
        mean.sum().backward()
        self.optimiser.step()
        self.schedule.step()
        return mean.detach()
