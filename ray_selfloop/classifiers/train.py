"""Training one classifier on images in memory, and reading logits and features from it.

Decides schedule, early stopping, best weights and what counts as collapsed. Knows nothing of where
images come from, of subgroups or of the loop. At one thread the result is bit-identical for a seed.
"""

import math
from collections.abc import Callable, Iterable, Iterator
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
    augment: one of `augment.AUGMENTATIONS`.
    """

    train: LabeledImages
    held_out: LabeledImages
    num_classes: int
    augment: str

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


class _OnDevice:
    """Batches of images that all lie on the device: ``next(rows)``."""

    def __init__(self, images: Images, rows: Iterator[Tensor], device: torch.device) -> None:
        self.images, self.rows = tensor_of(images, device), rows

    def next(self) -> tuple[Tensor, Tensor]:
        """Rows ``(b,)`` and their images, uint8, both on the device."""
        rows = next(self.rows).to(self.images.device)
        return rows, self.images[rows]

    def close(self) -> None:
        """Nothing is under way."""


class _Decoded:
    """Batches of pictures that are decoded as they are asked for, one batch ahead."""

    def __init__(self, images: ImageSource, rows: Iterator[Tensor], device: torch.device) -> None:
        self.images, self.rows, self.device = images, rows, device
        self._ahead = ThreadPoolExecutor(1, "decoding")
        self._coming = self._ahead.submit(self._read)

    def _read(self) -> tuple[Tensor, Images]:
        rows = next(self.rows)
        return rows, self.images[rows.numpy()]

    def next(self) -> tuple[Tensor, Tensor]:
        """Rows ``(b,)`` and their images, uint8, both on the device."""
        rows, images = self._coming.result()
        self._coming = self._ahead.submit(self._read)
        return rows.to(self.device), tensor_of(images, self.device)

    def close(self) -> None:
        """Give up the batch under way."""
        self._ahead.shutdown(cancel_futures=True)


class _Batches:
    """Training batches on the device, without end: shuffled and augmented."""

    def __init__(
        self, examples: Examples, batch_size: int, seed: int, device: torch.device
    ) -> None:
        self.labels = torch.tensor(examples.train.labels, device=device)
        self.augment, self.side = examples.augment, examples.side
        rows = shuffled_rows(len(self.labels), batch_size, seeding.derive(seed, "order"))
        images = _framed(examples.train.images, examples.augment)
        self.source = (
            _OnDevice(images, rows, device)
            if isinstance(images, np.ndarray)
            else _Decoded(images, rows, device)
        )
        self.draw = torch.Generator().manual_seed(seeding.derive(seed, "augmentation"))

    def next(self) -> tuple[Tensor, Tensor]:
        """uint8 ``(b, 3, H, W)`` and labels ``(b,)``."""
        rows, images = self.source.next()
        return augmented(images, self.augment, self.draw, self.side), self.labels[rows]


def _framed(images: ImageSource, augment: str) -> ImageSource:
    """Pictures with the frame that a random crop is cut from; arrays as they are."""
    view = view_of(images)
    return seen(images, view.uncropped) if view and augment == "frame_crop_flip" else images


def _held_out(
    network: zoo.Classifier,
    held_out: LabeledImages,
    batch_size: int,
    device: torch.device,
) -> tuple[float, float]:
    """Accuracy and mean cross-entropy on the held-out images; back in training mode after."""
    network.eval()
    outputs = torch.from_numpy(logits(network, held_out.images, batch_size, device))
    network.train()
    labels = torch.tensor(held_out.labels)
    accuracy = float((outputs.argmax(1) == labels).double().mean())
    return accuracy, float(F.cross_entropy(outputs.double(), labels))


class Run:
    """One seed's training apart from its steps: the network, and how it stands by its looks.

    steps, every: the budget, and steps between two looks. outcome: empty while it goes on.
    """

    def __init__(
        self,
        name: str,
        examples: Examples,
        training: Training,
        seed: int,
        device: torch.device,
    ) -> None:
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
        n = len(examples.train.labels)
        self.name, self.examples, self.training = name, examples, training
        self.device, self.outcome = device, ""
        self.steps, self.every = budget(n, training), look_steps(n, training)
        self.best, self.history = _Best(training), list[Look]()

    def due(self, step: int) -> bool:
        """Whether the held-out images are looked at after ``step``."""
        return step % self.every == 0 or step == self.steps

    def look(
        self,
        step: int,
        train_loss: float,
        learning_rate: float,
        on_look: OnLook | None = None,
    ) -> None:
        """Measure the held-out images after ``step``; keep the best weights, see whether it ends.

        train_loss: mean since the last look. Nothing happens once the run has ended.
        """
        if self.outcome:
            return
        held_out, batch = self.examples.held_out, self.training.batch_size
        accuracy, loss = _held_out(self.network, held_out, batch, self.device)
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
        told_to_stop = on_look is not None and on_look(self.history[-1])
        if not math.isfinite(train_loss):
            self.outcome = "diverged"
        elif step == self.steps:
            self.outcome = "budget"
        elif self.best.gives_up(step):
            self.outcome = "early_stopped"
        elif told_to_stop:
            self.outcome = "stopped"

    def trained(self) -> Trained:
        """The best weights and how they came about."""
        if self.best.state is not None:
            self.network.load_state_dict(self.best.state)
        network = self.network.to(memory_format=torch.channels_last).eval()
        held_out = self.examples.held_out
        outputs = logits(network, held_out.images, self.training.batch_size, self.device)
        return Trained(
            network=network,
            history=self.history,
            steps=int(self.history[-1]["step"]),
            best_step=self.best.step,
            held_out_accuracy=float((outputs.argmax(1) == held_out.labels).mean()),
            outcome=self.outcome,
            collapsed=collapsed(outputs, held_out.labels),
            recipe=self.training.recipe,
            source=weights.source(self.name, self.training.pretrained),
        )


def _steps(run: Run, batches: _Batches, on_look: OnLook | None) -> None:
    """Optimiser steps on one network, with its looks, until it ends."""
    optimiser, schedule = optimiser_of(run.network.parameters(), run.training, run.steps)
    losses: list[Tensor] = []
    for step in range(1, run.steps + 1):
        images, labels = batches.next()
        loss = F.cross_entropy(run.network(run.network.normalised(images)), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.detach())
        if run.due(step):
            mean = float(torch.stack(losses).mean())
            losses.clear()
            run.look(step, mean, float(schedule.get_last_lr()[0]), on_look)
            if run.outcome:
                return


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
    run = Run(name, examples, training, seed, device)
    batches = _Batches(examples, training.batch_size, seed, device)
    try:
        with zoo.drawing_from(seeding.derive(seed, "dropout"), device):
            _steps(run, batches, on_look)
    finally:
        batches.source.close()
    return run.trained()
