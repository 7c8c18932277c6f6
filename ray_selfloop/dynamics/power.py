"""The minimum detectable effect of a sweep, before anything is spent.

Of the change of accuracy, MD, MEO and the drop under an ablation: treatment minus control, last
minus first generation. Both arms share generation 0 and the test images, so that what the images
have in common cancels; left are the classifiers' own noise on the images and what differs between
chains:
    error^2 = (chain_sd^2 + v) / m,  freedom = m - 1,
    MDE = (t_{1 - alpha/2} + t_{power}) * error
with m chains and v the image part of one chain. For accuracy a and correlation r between two
classifiers' correctness on an image, ``v = 2 (1 - r) a (1 - a) / (n * seeds)``. For the drop, with
a' the ablated accuracy, ``a (1 - a) + a' (1 - a')`` stands for ``a (1 - a)``: a classifier's own
noise on a picture and on its ablation counts as independent, the cautious choice. For MD and MEO v
is simulated at that correlation. Knows sizes and assumptions, no data.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from ray_selfloop import seeding
from ray_selfloop.config.claims import Claims
from ray_selfloop.config.dataset import (
    Breeds,
    Cifar,
    ColorizedDigits,
    ColorizedMnist,
    HardImageNet,
)
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.dynamics.contrasts import detectable
from ray_selfloop.evaluation import fairness
from ray_selfloop.evaluation.outcomes import Floats

MNIST_TEST = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)  # images by digit
DIGITS_TEST = (36,) * 10  # a fifth of scikit-learn's scans, to within one image
CIFAR_TEST = 100  # images of each fine class
IMAGENET_TEST = 50  # ImageNet's validation images of each class
BREEDS_SUBCLASSES = 4
DROP = "ablation drop"


@dataclass(frozen=True)
class TestSize:
    """Test images per class and subgroup, ``(C, G)``.

    crossed: each image is shown in every subgroup (``counts`` then has equal columns). pooled:
    rates are pooled over the classes, else taken per class. masked: there are ablations.
    """

    __test__ = False  # not a test case

    counts: Floats
    crossed: bool
    pooled: bool
    masked: bool = False

    @property
    def images(self) -> float:
        """Test images, each counted once."""
        return float(self.counts[:, 0].sum() if self.crossed else self.counts.sum())


@dataclass(frozen=True)
class Detectable:
    """mde: in fractions; infinite with one chain. chains_needed: for an MDE within the margin, the
    smallest effect of interest with so many chains; None where `most_chains` are too few."""

    metric: str
    mde: float
    margin: float
    chains_needed: int | None


def known_size(dataset: object) -> TestSize | None:
    """The test set's size by the dataset's settings alone; None where they do not tell."""
    if isinstance(dataset, Cifar):
        classes = len(dataset.superclasses or range(20))
        whole = np.full((classes, 5), float(CIFAR_TEST))
        return TestSize(_limited(whole, dataset.limit_test), False, False)
    if isinstance(dataset, HardImageNet | Breeds):
        masked = isinstance(dataset, HardImageNet)
        groups = 1 if masked else BREEDS_SUBCLASSES
        whole = np.full((len(dataset.class_names), groups), float(IMAGENET_TEST))
        return TestSize(_limited(whole, dataset.limit_test), False, False, masked)
    if not isinstance(dataset, ColorizedDigits):
        return None
    mnist = isinstance(dataset, ColorizedMnist)
    images = np.array(MNIST_TEST if mnist else DIGITS_TEST, np.float64)
    images = _limited(images, dataset.limit_test if isinstance(dataset, ColorizedMnist) else None)
    crossed = dataset.test_colours == "crossed"
    shares = np.ones((10, 3)) if crossed else _colour_shares(dataset)
    return TestSize(images[:, None] * shares, crossed, dataset.initialization != "spurious")


def _limited(counts: Floats, limit: int | None) -> Floats:
    return counts if limit is None else counts * min(1.0, limit / counts.sum())


def _colour_shares(dataset: ColorizedDigits) -> Floats:
    if dataset.initialization == "unbiased":
        return np.full((10, 3), 1 / 3)
    turns = range(10) if dataset.initialization == "spurious" else [0] * 10
    return np.stack([np.roll(dataset.ratios, turn) for turn in turns])


def image_variance(
    size: TestSize, accuracy: float, seeds: int, settings: Claims, seed: int = 0
) -> dict[str, float]:
    """v of one chain's contrast, by metric; classifiers' own noise alone (see module).

    Crossed images: one classifier's correctness on the same image in two colours counts as the same
    for accuracy and as independent for gaps, the cautious choice in both.
    """
    own, ablated = 1 - settings.image_correlation, settings.ablated_accuracy
    noise = {"accuracy": own * accuracy * (1 - accuracy)}
    if size.masked:
        noise[DROP] = noise["accuracy"] + own * ablated * (1 - ablated)
    variance = {metric: 2 * value / (size.images * seeds) for metric, value in noise.items()}
    if size.counts.shape[1] > 1:
        rates = _simulated_rates(size, accuracy, seeds, settings, seed)
        for metric, gap in (("md", fairness.md), ("meo", fairness.mean_gap)):
            values = fairness.mean_defined(gap(rates)).mean(axis=2)  # (S, 2)
            variance[metric] = float((values[:, 0] - values[:, 1]).var(ddof=1))
    return variance


def _simulated_rates(
    size: TestSize, accuracy: float, seeds: int, settings: Claims, seed: int
) -> Floats:
    """Subgroup rates of two arms without an effect, ``(S, 2, seeds, C or 1, G)``.

    ``rate = a + offset_g + image part (common to arms and seeds) + classifier part``, normal with
    variances ``r a (1 - a) / n`` and ``(1 - r) a (1 - a) / n`` in a cell of n images.
    """
    rng, counts = seeding.rng(seed, "power"), size.counts
    weights = np.where(counts > 0, counts, np.nan)
    spread = np.sqrt(accuracy * (1 - accuracy) / weights)
    share, draws, (classes, groups) = settings.image_correlation, settings.simulations, counts.shape
    shape = (draws, 1, 1, classes, 1 if size.crossed else groups)
    image = share**0.5 * spread * rng.standard_normal(shape)
    own = (1 - share) ** 0.5 * spread * rng.standard_normal((draws, 2, seeds, classes, groups))
    offset = np.linspace(0.5, -0.5, groups) * min(settings.gap, 1 - accuracy)
    rates = np.clip(accuracy + offset + image + own, 0.0, 1.0)
    if not size.pooled:
        return rates
    filled = np.where(counts > 0, counts * rates, 0.0).sum(axis=-2, keepdims=True)
    return np.asarray(filled / counts.sum(axis=0))


def plan_effects(
    size: TestSize, accuracy: float, chains: int, seeds: int, settings: Evaluation
) -> list[Detectable]:
    """What a sweep of this size can find, for each metric."""
    variances = image_variance(size, accuracy, seeds, settings.claims, settings.seed)
    return [_detectable(metric, v, chains, settings) for metric, v in variances.items()]


def _detectable(metric: str, v: float, chains: int, settings: Evaluation) -> Detectable:
    mdes = {m: mde(v, m, settings) for m in range(2, settings.claims.most_chains + 1)}
    margins = {m: _margin(metric, v, m, settings) for m in mdes}
    needed = next((m for m, value in mdes.items() if value <= margins[m]), None)
    margin = margins[needed or settings.claims.most_chains]
    return Detectable(metric, mde(v, chains, settings), margin, needed)


def mde(v: float, chains: int, settings: Evaluation) -> float:
    """The minimum detectable effect with image part v in each chain; infinite with one chain."""
    if chains < 2:
        return float("inf")
    error = ((settings.claims.chain_sd**2 + v) / chains) ** 0.5
    return detectable(error, chains - 1, 1 - settings.level, settings.claims.power)


def _margin(metric: str, v: float, chains: int, settings: Evaluation) -> float:
    """The margin of `claims`: the floor's expected width, from the image part alone."""
    if metric in ("accuracy", DROP):  # which have no floor
        return settings.claims.margin
    width = 2 * float(norm.ppf(0.5 + settings.level / 2)) * (v / chains) ** 0.5
    return max(settings.claims.margin, width)


def sentences(
    size: TestSize | None, accuracy: float, chains: int, seeds: int, settings: Evaluation
) -> list[str]:
    """What `plan` prints for one group: effects, chains needed, assumptions."""
    if size is None:
        return ["minimum detectable effect: not known, the test set's size is not known yet"]
    found = plan_effects(size, accuracy, chains, seeds, settings)
    alpha, power = 100 * (1 - settings.level), 100 * settings.claims.power
    effects = {one.metric: "none" if chains < 2 else f"{one.mde:.3f}" for one in found}
    most = settings.claims.most_chains
    needed = {one.metric: _needed(one, most) for one in found}
    chain = "1 chain gives no verdict" if chains < 2 else f"{chains} chains"
    return [
        f"minimum detectable effect ({chain}; treatment - no_synthetic, last - first generation, "
        f"two-sided {alpha:.3g} %, power {power:.3g} %): {_listed(effects)}",
        f"chains needed for the smallest effect of interest: {_listed(needed)}",
        f"assumed: accuracy {accuracy:.3f}, {_ablated(size, settings)}"
        f"sd between chains {settings.claims.chain_sd:g}, "
        f"correlation of two classifiers on an image {settings.claims.image_correlation:g}, "
        f"{size.images:.0f} test images, {seeds} classifier seeds; one test, no Holm adjustment",
    ]


def _ablated(size: TestSize, settings: Evaluation) -> str:
    ablated = settings.claims.ablated_accuracy
    return f"without the object {ablated:.3f}, " if size.masked else ""


def _needed(found: Detectable, most: int) -> str:
    chains = f"over {most}" if found.chains_needed is None else str(found.chains_needed)
    return f"{chains} (for {found.margin:.3f})"


def _listed(values: Mapping[str, str]) -> str:
    return ", ".join(f"{metric} {value}" for metric, value in values.items())
