"""Training one classifier on images in memory, and reading logits and features from it.

Decides schedule, early stopping, best weights and what counts as collapsed. Knows nothing of where
images come from, of subgroups or of the loop. At one thread the result is bit-identical for a seed.
"""

import contextlib
import math
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import bdtrc
from torch import Tensor
from torch.nn import functional as F

from ray_selfloop import seeding
from ray_selfloop.classifiers import weights, zoo
from ray_selfloop.classifiers.augment import augmented
from ray_selfloop.config.datasets.base import FRAMED, Augmentation
from ray_selfloop.config.training import Training
from ray_selfloop.images.imageset import Ids, Images, ImageSource
from ray_selfloop.images.pictures import seen, view_of

CHANCE_LEVEL = 1e-3  # one-sided level of the test against the best constant guess
Floats = NDArray[np.float32]
Look = dict[str, float]
OnLook = Callable[[Look], bool]
"""Told of every look at the held-out images, see ``Trained.history``; true: stop here."""


class LabeledImages(NamedTuple):
    """uint8 ``(n, C, H, W)``, in memory or decoded by the batch, and int64 ``(n,)``."""

    images: ImageSource
    labels: Ids


class Examples(NamedTuple):
    """What a classifier learns from.

    train: what it is fitted to. held_out: real images for early stopping and the best weights.
    augment: what happens to training images, see `augment.augmented`.
    """

    train: LabeledImages
    held_out: LabeledImages
    num_classes: int
    augment: Augmentation

    @property
    def side(self) -> int:
        """The side in pixels that a network sees."""
        return self.held_out.images.shape[-1]


@dataclass(frozen=True)
class Trained:
    """A trained classifier.

    network: the best weights by held-out accuracy (ties: lower loss, then earlier), eval mode.
    history: for each look at the held-out images: step, learning_rate (of the step to come),
        train_loss (mean since the last look), held_out_loss, held_out_accuracy.
    steps, best_step: optimiser steps done, and those of the best weights.
    outcome: ``budget``, ``early_stopped``, ``diverged`` (a loss that is not finite), or
        ``stopped`` by who was told of the looks.
    collapsed: see ``collapsed``.
    source: the weights that training started from, as ``weights.source``.
    """

    network: zoo.Classifier
    history: list[Look]
    steps: int
    best_step: int
    held_out_accuracy: float
    outcome: str
    collapsed: bool
    recipe: str
    source: str


def tensor_of(images: Images, device: torch.device) -> Tensor:
    writable = np.require(images, requirements=("C", "W"))  # a copy only of a read-only array
    return torch.from_numpy(writable).to(device)


@torch.no_grad()
def in_batches(
    function: Callable[[Tensor], Tensor],
    network: zoo.Classifier,
    images: ImageSource,
    batch_size: int,
    device: torch.device,
) -> Floats:
    """``function`` of ``network``'s batches of one fixed shape, joined: float32 ``(n, ...)``.

    The last batch is filled up with its first image, so that no result depends on how many
    images are asked for together.
    """
    parts: list[Floats] = []
    for start in range(0, len(images), batch_size):
        batch = images[np.arange(start, min(start + batch_size, len(images)))]
        missing = np.repeat(batch[:1], batch_size - len(batch), axis=0)
        pixels = tensor_of(np.concatenate([batch, missing]), device)
        out = function(network.normalised(pixels))
        parts.append(out[: len(batch)].float().cpu().numpy())
    return np.concatenate(parts)


def logits(
    network: zoo.Classifier, images: ImageSource, batch_size: int, device: torch.device
) -> Floats:
    """Logits float32 ``(n, L)`` of uint8 ``(n, 3, H, W)``; the network must be in eval mode."""
    return in_batches(network, network, images, batch_size, device)


def features(
    network: zoo.Classifier, images: ImageSource, batch_size: int, device: torch.device
) -> Floats:
    """Penultimate features float32 ``(n, d)`` of uint8 ``(n, 3, H, W)``, eval mode."""
    return in_batches(network.features, network, images, batch_size, device)


def collapsed(outputs: Floats, labels: Ids) -> bool:
    """Whether a classifier with these held-out logits ``(n, L)`` is no better than a guess.

    True when an output is not finite, when one class is predicted for all images, or when its
    accuracy is not above that of the best constant guess (the largest class share) by the exact
    one-sided binomial test at level 0.001.
    """
    predictions = outputs.argmax(axis=1)
    if not np.isfinite(outputs).all() or len(np.unique(predictions)) < 2:
        return True
    n, hits = len(labels), int((predictions == labels).sum())
    guess = np.bincount(labels).max() / n
    return hits == 0 or guess == 1.0 or bool(bdtrc(hits - 1, n, guess) > CHANCE_LEVEL)


def budget(n: int, training: Training) -> int:
    """Optimiser steps that training on ``n`` images may take at most."""
    steps = math.ceil(training.max_epochs * n / training.batch_size)
    return min(steps, training.max_steps or steps)


def look_steps(n: int, training: Training) -> int:
    """Optimiser steps between two looks at the held-out images: an epoch, or as set."""
    return training.check_steps or math.ceil(n / training.batch_size)


def looks(n: int, training: Training) -> int:
    """Looks at the held-out images in a training on ``n`` images that uses its whole budget."""
    return math.ceil(budget(n, training) / look_steps(n, training))


def shuffled_rows(n: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Batches of row numbers, all of one size, cut from one permutation after another."""
    draw = torch.Generator().manual_seed(seed)
    left = torch.empty(0, dtype=torch.int64)
    while True:
        while len(left) < batch_size:
            left = torch.cat([left, torch.randperm(n, generator=draw)])
        yield left[:batch_size]
        left = left[batch_size:]


def optimiser_of(
    weights: Iterable[torch.nn.Parameter], training: Training, steps: int
) -> tuple[torch.optim.Adam, torch.optim.lr_scheduler.LambdaLR]:
    """Adam with the recipe's schedule: cosine to zero over ``steps``, or constant (``paper``)."""
    adam = torch.optim.Adam(
        [weight for weight in weights if weight.requires_grad],
        lr=training.initial_learning_rate,
        weight_decay=training.weight_decay,
        fused=True,
    )

    def factor(step: int) -> float:
        if training.recipe == "paper":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))

    return adam, torch.optim.lr_scheduler.LambdaLR(adam, factor)


class _Best:
    """The best weights so far and when to give up: the one place that decides early stopping."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.rank = (-1.0, -math.inf)  # held-out accuracy, minus held-out loss
        self.step = 0
        self.state: dict[str, Tensor] | None = None

    def offer(self, network: zoo.Classifier, step: int, accuracy: float, loss: float) -> None:
        """Keep the weights if they are better than all before."""
        rank = (accuracy, -loss if math.isfinite(loss) else -math.inf)
        if rank > self.rank:
            self.rank, self.step = rank, step
            self.state = {key: value.clone() for key, value in network.state_dict().items()}

    def gives_up(self, step: int) -> bool:
        """Whether patience is at an end after ``step`` optimiser steps."""
        patience = self.training.patience_steps
        return step >= self.training.min_steps and step - self.step >= patience


Batch = tuple[Tensor, Tensor]  # rows (b,) and their images, uint8, both on the device


def _batches(
    images: ImageSource, rows: Iterator[Tensor], device: torch.device
) -> Generator[Batch, None, None]:
    """Batches of images: of an array that lies on the device, or of pictures, one batch ahead."""
    if isinstance(images, np.ndarray):
        there = tensor_of(images, device)
        for chosen in rows:
            yield (own := chosen.to(device)), there[own]

    def read() -> tuple[Tensor, Images]:
        chosen = next(rows)
        return chosen, images[chosen.numpy()]

    with ThreadPoolExecutor(1, "decoding") as ahead:
        coming = ahead.submit(read)
        while True:
            chosen, decoded = coming.result()
            coming = ahead.submit(read)
            yield chosen.to(device), tensor_of(decoded, device)


def _framed(images: ImageSource, augment: Augmentation) -> ImageSource:
    """Pictures with the frame that a random crop is cut from; arrays as they are."""
    view = view_of(images)
    return seen(images, view.uncropped) if view and augment == FRAMED else images


class _Run:
    """One training: the network, its batches, and how it stands by its looks."""

    def __init__(
        self, name: str, examples: Examples, training: Training, seed: int, device: torch.device
    ) -> None:
        self.examples, self.training, self.device = examples, training, device
        self.network = zoo.build(
            name,
            examples.num_classes,
            training.seen_size(examples.side),
            training.pretrained,
            training.momentum,
            seed,
        ).to(device)
        if training.backbone == "frozen":
            self.network.freeze()
        self.network.train()
        self.labels = torch.tensor(examples.train.labels, device=device)
        rows = shuffled_rows(len(self.labels), training.batch_size, seeding.derive(seed, "order"))
        self.batches = _batches(_framed(examples.train.images, examples.augment), rows, device)
        self.draw = torch.Generator().manual_seed(seeding.derive(seed, "augmentation"))
        self.best, self.history = _Best(training), list[Look]()

    def go(self, on_look: OnLook | None) -> str:
        """Optimiser steps with their looks until it ends; returns how."""
        n, losses = len(self.labels), list[Tensor]()
        steps, every = budget(n, self.training), look_steps(n, self.training)
        optimiser, schedule = optimiser_of(self.network.parameters(), self.training, steps)
        for step in range(1, steps + 1):
            optimiser.zero_grad(set_to_none=True)
            losses.append(self._loss())
            losses[-1].backward()
            losses[-1] = losses[-1].detach()
            optimiser.step()
            schedule.step()
            if step % every and step != steps:
                continue
            mean = float(torch.stack(losses).mean())
            losses.clear()
            stopped = self._look(step, mean, float(schedule.get_last_lr()[0]), on_look)
            if not math.isfinite(mean):
                return "diverged"
            if step < steps and self.best.gives_up(step):
                return "early_stopped"
            if step < steps and stopped:
                return "stopped"
        return "budget"

    def _loss(self) -> Tensor:
        rows, images = next(self.batches)
        seen = augmented(images, self.examples.augment, self.draw, self.examples.side)
        return F.cross_entropy(self.network(self.network.normalised(seen)), self.labels[rows])

    def _look(
        self, step: int, train_loss: float, learning_rate: float, on_look: OnLook | None
    ) -> bool:
        """Measure the held-out images after ``step``; keep the best weights; whether to stop.

        train_loss: mean since the last look.
        """
        self.network.eval()
        outputs = torch.from_numpy(self._held_out_logits())
        self.network.train()
        labels = torch.tensor(self.examples.held_out.labels)
        accuracy = float((outputs.argmax(1) == labels).double().mean())
        loss = float(F.cross_entropy(outputs.double(), labels))
        self.best.offer(self.network, step, accuracy, loss)
        self.history.append(
            {
                "step": float(step),
                "learning_rate": learning_rate,
                "train_loss": train_loss,
                "held_out_loss": loss,
                "held_out_accuracy": accuracy,
            }
        )
        return on_look is not None and on_look(self.history[-1])

    def _held_out_logits(self) -> Floats:
        images, batch = self.examples.held_out.images, self.training.batch_size
        return logits(self.network, images, batch, self.device)

    def trained(self, name: str, outcome: str) -> Trained:
        if self.best.state is not None:
            self.network.load_state_dict(self.best.state)
        self.network = self.network.to(memory_format=torch.channels_last).eval()
        outputs, labels = self._held_out_logits(), self.examples.held_out.labels
        return Trained(
            network=self.network,
            history=self.history,
            steps=int(self.history[-1]["step"]),
            best_step=self.best.step,
            held_out_accuracy=float((outputs.argmax(1) == labels).mean()),
            outcome=outcome,
            collapsed=collapsed(outputs, labels),
            recipe=self.training.recipe,
            source=weights.source(name, self.training.pretrained),
        )


def train(
    name: str,
    examples: Examples,
    training: Training,
    seed: int,
    device: torch.device,
    on_look: OnLook | None = None,
) -> Trained:
    """Train the network ``name`` from ``seed``.

    Adam on the cross-entropy; the budget is ``budget(n, training)`` optimiser steps, the weights
    kept are the best on the held-out images. Batches are cut from one permutation after another,
    so that all have the same size and every image is shown equally often.
    on_look: told of every look; whether it is there changes no number.
    Raises ConfigError and DataError as ``zoo.build``.
    """
    run = _Run(name, examples, training, seed, device)
    with contextlib.closing(run.batches), zoo.drawing_from(seeding.derive(seed, "dropout"), device):
        outcome = run.go(on_look)
    return run.trained(name, outcome)
