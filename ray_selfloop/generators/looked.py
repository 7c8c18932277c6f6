"""A training that is looked at: until its samples get no nearer to held-out real images.

Decides its rounds, which weights are kept and how it ends. The weights are those of the average at
the step where the samples were nearest. Knows no network, and never a subgroup.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ray_selfloop.config.generators.looked import LookedAt
from ray_selfloop.generators.base import Trained, TrainingImages
from ray_selfloop.generators.stopping import CRITERION, Look, Stopping, features, look
from ray_selfloop.images.imageset import Images
from ray_selfloop.images.split import apportion


class Trainer(Protocol):
    """What is trained. average: the network that samples are drawn from."""

    average: Any

    def step(self, number: int) -> Tensor:
        """One optimiser step -> its losses, ``()`` or ``(k,)``."""

    def finite(self) -> bool:
        """Whether every weight is a number."""


class Looks:
    """Compares samples with held-out real images; labels in their class shares, each time alike."""

    def __init__(self, held_out: TrainingImages, samples: int) -> None:
        self.real = features(np.asarray(held_out.images))
        self.real_labels = torch.from_numpy(np.asarray(held_out.labels))
        counts = apportion(samples, np.bincount(held_out.labels).astype(np.float64))
        self.labels = np.repeat(np.arange(len(counts)), counts)

    def compared(self, drawn: Sequence[Images]) -> Look:
        """Of images of ``labels``, in their order."""
        seen = features(np.concatenate(drawn))
        return look(self.real, self.real_labels, seen, torch.from_numpy(self.labels))


def trained(
    trainer: Trainer, look: Callable[[Any], Look], settings: LookedAt, losses: Sequence[str]
) -> Trained:
    """Train until the criterion stops improving, or for the budget that ``settings`` grant.

    losses: names of a step's. Of each look: step, mean losses since the last, criterion and
    diversities. Outcome ``converged``, ``budget``, ``diverged`` (a loss or weight is no number; the
    weights are the last good ones) or ``collapsed`` (too little diversity). Facts: steps made, and
    the step of the weights.
    """
    stopping, weights = Stopping(**settings.granted), copied(trainer.average)
    best, history = Look(*[float("nan")] * 3), list[dict[str, float]]()
    outcome = None
    for step, mean in _rounds(trainer, settings):
        if not (bool(mean.isfinite().all()) and trainer.finite()):
            outcome = "diverged"
            break
        seen = look(trainer.average)
        history.append(
            {
                "step": float(step),
                **dict(zip(losses, mean.reshape(-1).tolist(), strict=True)),
                CRITERION: seen.distance,
                "diversity": seen.diversity,
                "least_diversity": seen.least_diversity,
            }
        )
        if stopping.improved(step, seen.distance):
            best, weights = seen, copied(trainer.average)
        outcome = stopping.verdict(step)
        if outcome is not None:
            break
    assert outcome is not None, "the last round is the budget's"
    if outcome != "diverged" and best.diversity < settings.collapse_ratio:
        outcome = "collapsed"
    return Trained(weights, history, outcome, {"steps": step, "best_step": stopping.best_step})


def _rounds(trainer: Trainer, settings: LookedAt) -> Iterator[tuple[int, Tensor]]:
    """Train, and stop for a look: number of steps made, and the mean losses since the last."""
    losses: list[Tensor] = []
    last = settings.granted["budget"]
    for step in range(1, last + 1):
        losses.append(trainer.step(step))
        if step % settings.check_every == 0 or step == last:
            yield step, torch.stack(losses).mean(dim=0)
            losses = []


def copied(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in net.state_dict().items()}
