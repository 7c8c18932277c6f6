"""Prediction uncertainty of the expert: Monte Carlo predictions and the three measures of them.

Takes networks as arguments; knows nothing of how they were trained, of the cut or of the loop.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ray_selfloop import seeding
from ray_selfloop.config.filter import Uncertainty
from ray_selfloop.filtering.scores.base import Floats, Given, Network, Opened
from ray_selfloop.images.imageset import Ids, ImageSource

Measure = NDArray[np.float64]
WORD = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio: splitmix64's increment


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of splitmix64 (Steele, Lea and Flood 2014): 64 bits to 64 bits."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def kept_units(ids: Ids, units: int, rate: float, seed: int) -> NDArray[np.bool_]:
    """Dropout masks bool ``(n, units)``: each unit stays with probability ``1 - rate``.

    Row i depends on ``seed`` and ``ids[i]`` alone: a hash of the two counts up over the units, 16
    bits for each, so that the mask is the same in any batch, on any worker and device.
    """
    start = _mix(ids.astype(np.uint64) * WORD + np.uint64(seed))  # (n,)
    count = np.arange(1, -(-units // 4) + 1, dtype=np.uint64) * WORD
    words = _mix(start[:, None] + count[None, :]).astype("<u8")
    draws = words.view("<u2")[:, :units]  # four draws from each word
    return draws >= round(rate * 2**16)


def _dropout_rates(tail: nn.Sequential, rate: float) -> list[float]:
    """Dropout rate before each module of ``tail`` (0: none).

    The network's own dropout where it has any; else ``rate`` before the last layer.
    """
    own = [float(m.p) if isinstance(m, nn.Dropout) else 0.0 for m in tail]
    return own if any(own) else [*own[:-1], rate]


def _masked_tail(
    tail: nn.Sequential, hidden: Tensor, ids: Ids, rates: Sequence[float], seed: int
) -> Tensor:
    """Logits ``(n, L)`` of one pass through the tail with the masks of ``seed``."""
    for place, (module, rate) in enumerate(zip(tail, rates, strict=True)):
        if rate > 0:
            kept = kept_units(ids, hidden.shape[1], rate, seeding.derive(seed, place))
            hidden = hidden * torch.from_numpy(kept).to(hidden) / (1 - rate)
        if not isinstance(module, nn.Dropout):
            hidden = module(hidden)
    return hidden


def _passes(
    network: Network, images: Tensor, ids: Ids, settings: Uncertainty, seed: int
) -> Iterator[Tensor]:
    """Logits ``(n, L)`` of each pass: one (``ensemble``) or ``settings.passes``."""
    hidden = network.embed(network.normalised(images))
    if settings.method == "ensemble":
        yield network.tail(hidden)
        return
    rates = _dropout_rates(network.tail, settings.rate)
    for number in range(settings.passes):
        derived = seeding.derive(seed, "pass", number)
        yield _masked_tail(network.tail, hidden.clone(), ids, rates, derived)


@torch.no_grad()
def probabilities(
    networks: Sequence[Network],
    images: ImageSource,
    ids: Ids,
    settings: Uncertainty,
    seed: int,
    device: torch.device,
) -> Floats:
    """Class probabilities float32 ``(T, n, L)`` of uint8 ``(n, 3, H, W)``.

    networks: the expert's seeds, on ``device``, in eval mode. T: ``passes`` for each network
    (``mc_dropout``, Gal and Ghahramani 2016: dropout masks at prediction time), or one for each
    (``ensemble``). ids: sample ids; a mask depends on the seed, the pass and the sample's id.
    Batches have one shape, the last filled up, so that a sample's result does not depend on the
    number asked for.
    """
    batch, n = settings.score_batch, len(images)
    parts = []
    for start in range(0, n, batch):
        rows = np.minimum(np.arange(start, start + batch), n - 1)
        inputs = torch.from_numpy(np.ascontiguousarray(images[rows])).to(device)
        outputs = [
            logits.float().softmax(dim=1)
            for number, network in enumerate(networks)
            for logits in _passes(
                network, inputs, ids[rows], settings, seeding.derive(seed, "network", number)
            )
        ]
        parts.append(torch.stack(outputs)[:, : n - start].cpu().numpy())
    return np.concatenate(parts, axis=1)


def _entropy(p: NDArray[np.float64]) -> Measure:
    """Entropy in nats over the last axis; 0 log 0 = 0."""
    return -(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=-1)


def entropy(p: Floats) -> Measure:
    """``(T, n, L)`` -> ``(n,)``: H[mean_t p_t] in nats, 0..log L."""
    return _entropy(p.astype(np.float64).mean(axis=0))


def bald(p: Floats) -> Measure:
    """``(T, n, L)`` -> ``(n,)``: H[mean_t p_t] - mean_t H[p_t] in nats, at least 0.

    The mutual information between prediction and weights (Houlsby et al. 2011).
    """
    return np.maximum(entropy(p) - _entropy(p.astype(np.float64)).mean(axis=0), 0.0)


def variance(p: Floats) -> Measure:
    """``(T, n, L)`` -> ``(n,)``: variance over t of each class's probability, summed, 0..1."""
    return p.astype(np.float64).var(axis=0).sum(axis=-1)


MEASURES: dict[str, Callable[[Floats], Measure]] = {
    "entropy": entropy,
    "bald": bald,
    "variance": variance,
}


def opened(given: Given) -> Opened:
    """The experts of the last generation, with the masks of the stage's seed."""
    experts, settings = given.experts(), given.settings

    def score(images: ImageSource, labels: Ids, ids: Ids) -> Measure:
        passes = probabilities(experts, images, ids, settings, given.seed, given.device)
        return MEASURES[settings.measure](passes)

    return score
