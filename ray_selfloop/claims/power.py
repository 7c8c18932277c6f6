"""What a sweep of some size can find, before anything is spent.

Of the change that a primary statement is about: treatment minus control, last minus first
generation, mean over the K networks of a setting. Both arms share generation 0 and the test images,
so that what the images have in common cancels; left are what differs between chains, between
classifier seeds, and each classifier's own noise on the images:
    error^2 = (chain + (seed + image) / (seeds K)) / m,  freedom = m - 1
with m chains, all three variances of a change: ``chain`` is common to a chain's classifiers,
``seed`` and ``image`` are each classifier's own. For accuracy a and correlation r between two
classifiers' correctness on an image, ``image = 2 (1 - r) a (1 - a) / n``. For the drop under an
ablation, with a' the ablated accuracy, ``a (1 - a) + a' (1 - a')`` stands for ``a (1 - a)``: a
classifier's noise on a picture and on its ablation counts as independent, the cautious choice.
For gaps and the worst subgroup it is simulated at that correlation. A statement is found where its
p is at most alpha / n, of n statements judged together: the first step of Holm. Knows sizes,
assumptions and measured scatter, no data.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ray_selfloop import seeding
from ray_selfloop.claims import chances
from ray_selfloop.claims.noise import A_A, Scatter
from ray_selfloop.claims.tested import margin_of
from ray_selfloop.config.claims import Claims
from ray_selfloop.config.datasets.base import DatasetSettings
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.evaluation import fairness
from ray_selfloop.evaluation.metrics import ACCURACY, MD, MEO, WORST_SUBGROUP
from ray_selfloop.evaluation.predictions import Floats
from ray_selfloop.inference.chains import chi_square_quantile
from ray_selfloop.inference.power import detectable, power_of

DROP = "ablation drop"
CHAINS, SEEDS, IMAGES = (3, 5, 8, 12), (1, 2, 4), (1, 4)  # rows of the table
MOST_SEEDS = 8  # of a chain, that a budget is split into
ONE_LOOK = ", with one look"  # beside what is said of several
UNKNOWN = (
    "; what some stage takes is not known: a generator counts as one training of a classifier, all "
    "else as nothing"
)


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
class Design:
    """How much is run and tested. networks: K. images: multiple of the test set that there is."""

    chains: int
    seeds: int
    networks: int = 1
    images: int = 1


@dataclass(frozen=True)
class Noise:
    """Variances of a change, see the module. measured: what they come from; None where assumed."""

    chain: float
    seed: float
    image: float
    measured: Scatter | None = None

    def error(self, design: Design) -> float:
        """Standard error of the mean over chains."""
        own = (self.seed + self.image / design.images) / (design.seeds * design.networks)
        return float(((self.chain + own) / design.chains) ** 0.5)


@dataclass(frozen=True)
class Costs:
    """Of m chains with s classifier seeds each: ``fixed + m (chain + s trials)``.

    known: in core-hours; else in trials, a generator counted as one, all else as nothing.
    """

    fixed: float
    chain: float
    trials: float
    known: bool

    def of(self, design: Design) -> float:
        return self.at(design.chains, design.seeds)

    def at(self, chains: float, seeds: int) -> float:
        """Of a mean number of chains, too."""
        return self.fixed + chains * (self.chain + seeds * self.trials)

    def chains_within(self, budget: float, seeds: int) -> int:
        """Most chains for this much."""
        each = max(self.chain + seeds * self.trials, 1e-12)
        return int((budget - self.fixed) / each * (1 + 1e-9))


@dataclass(frozen=True)
class Setting:
    """What is planned: scenarios that differ in the arm alone.

    together: primary statements of the sweep. scatter: as measured here, empty before. controlled:
    whether the sweep has the arm that it is compared with. looks: numbers of chains of a sweep with
    `decide`, ``design`` being one of them; the table is of sweeps with one look all the same.
    """

    size: TestSize
    accuracy: float
    design: Design
    together: int
    scatter: Sequence[Scatter] = ()
    controlled: bool = True
    looks: tuple[int, ...] = ()


# --- sizes ---------------------------------------------------------------------------------------


def known_size(dataset: DatasetSettings) -> TestSize | None:
    """The test set's size by the dataset's settings alone; None where they do not tell."""
    counts = dataset.test_images
    if counts is None:
        return None
    return TestSize(np.array(counts, np.float64), dataset.crossed, dataset.pooled, dataset.masked)


# --- noise ---------------------------------------------------------------------------------------


def image_variance(
    size: TestSize, accuracy: float, settings: Claims, seed: int = 0, classifiers: int = 1
) -> dict[str, float]:
    """The image part by metric, of the mean over so many classifiers of one chain (see module).

    Crossed images: one classifier's correctness on the same image in two colours counts as the same
    for accuracy and as independent for gaps, the cautious choice in both.
    """
    own, ablated = 1 - settings.image_correlation, settings.ablated_accuracy
    noise = {ACCURACY.name: own * accuracy * (1 - accuracy)}
    if size.masked:
        noise[DROP] = noise[ACCURACY.name] + own * ablated * (1 - ablated)
    variance = {metric: 2 * value / (size.images * classifiers) for metric, value in noise.items()}
    if size.counts.shape[1] > 1:
        rates = _simulated_rates(size, accuracy, classifiers, settings, seed)
        cells = rates.reshape(*rates.shape[:3], 1, -1)
        for metric, read in (
            (MD.name, MD(rates)),
            (MEO.name, MEO(rates, ordered=False)),
            (WORST_SUBGROUP.name, WORST_SUBGROUP(cells)),
        ):
            values = fairness.mean_defined(read).mean(axis=2)  # (S, 2)
            variance[metric] = float((values[:, 0] - values[:, 1]).var(ddof=1))
    return variance


def _simulated_rates(
    size: TestSize, accuracy: float, classifiers: int, settings: Claims, seed: int
) -> Floats:
    """Subgroup rates of two arms without an effect, ``(S, 2, classifiers, C or 1, G)``.

    ``rate = a + offset_g + image part (common to arms and classifiers) + classifier part``, normal
    with variances ``r a (1 - a) / n`` and ``(1 - r) a (1 - a) / n`` in a cell of n images.
    """
    rng, counts = seeding.rng(seed, "power"), size.counts
    weights = np.where(counts > 0, counts, np.nan)
    spread = np.sqrt(accuracy * (1 - accuracy) / weights)
    share, draws, (classes, groups) = settings.image_correlation, settings.simulations, counts.shape
    shape = (draws, 1, 1, classes, 1 if size.crossed else groups)
    image = share**0.5 * spread * rng.standard_normal(shape)
    own = rng.standard_normal((draws, 2, classifiers, classes, groups))
    offset = np.linspace(0.5, -0.5, groups) * min(settings.gap, 1 - accuracy)
    rates = np.clip(accuracy + offset + image + (1 - share) ** 0.5 * spread * own, 0.0, 1.0)
    if not size.pooled:
        return rates
    filled = np.where(counts > 0, counts * rates, 0.0).sum(axis=-2, keepdims=True)
    return np.asarray(filled / counts.sum(axis=0))


def noises(setting: Setting, settings: Evaluation) -> dict[str, Noise]:
    """By metric: as measured where it was, else as assumed."""
    images = image_variance(setting.size, setting.accuracy, settings.claims, settings.seed)
    return {
        metric: _noise(metric, image, setting.scatter, settings.claims)
        for metric, image in images.items()
    }


def _noise(metric: str, image: float, scatter: Sequence[Scatter], claims: Claims) -> Noise:
    """Measured scatter between seeds holds the image part; with one seed the chains' holds both,
    and all but the image part counts as the chains', the cautious choice."""
    own = (row for row in scatter if row.metric == metric)
    found = min(own, key=lambda row: row.source == A_A, default=None)
    if found is None:
        of_seeds = claims.accuracy_seed_sd if metric == ACCURACY.name else claims.gap_seed_sd
        return Noise(claims.chain_sd**2, of_seeds**2, image)
    if math.isnan(found.seed_sd):
        image = min(image, found.chain_sd**2)
        return Noise(found.chain_sd**2 - image, 0.0, image, found)
    image = min(image, found.seed_sd**2)
    return Noise(found.chain_sd**2, found.seed_sd**2 - image, image, found)


# --- what is found -------------------------------------------------------------------------------


def level_each(together: int, settings: Evaluation) -> float:
    """The level of the first of n statements judged together: Holm's first step."""
    return (1 - settings.level) / max(together, 1)


def smallest(noise: Noise, design: Design, alpha: float, power: float) -> float:
    """The smallest effect found with this power; inf with one chain."""
    return detectable(noise.error(design), design.chains, alpha, power)


def chains_needed(
    noise: Noise, design: Design, margin: float, together: int, settings: Evaluation
) -> int | None:
    """The fewest chains that find an effect of the margin; None where `most_chains` do not."""
    alpha, power = level_each(together, settings), settings.claims.power
    for chains in range(2, settings.claims.most_chains + 1):
        if smallest(noise, replace(design, chains=chains), alpha, power) <= margin:
            return chains
    return None


def cheapest(
    noise: Noise, setting: Setting, costs: Costs, budget: float, settings: Evaluation
) -> Design | None:
    """The chains and seeds within the budget that find the smallest effect, the cheaper of two that
    find the same; None where two chains cost more."""
    alpha, power = level_each(setting.together, settings), settings.claims.power
    most = settings.claims.most_chains
    designs = [
        replace(setting.design, chains=min(costs.chains_within(budget, seeds), most), seeds=seeds)
        for seeds in range(1, MOST_SEEDS + 1)
    ]
    return min(
        (design for design in designs if design.chains > 1),
        key=lambda design: (smallest(noise, design, alpha, power), costs.of(design)),
        default=None,
    )


# --- what is said --------------------------------------------------------------------------------


def sentences(setting: Setting, settings: Evaluation, costs: Costs) -> Iterator[str]:
    """What `plan` prints for one setting: table, chains needed, split of the cost, assumptions."""
    by_metric = noises(setting, settings)
    wanted = settings.claims.primary
    primary = wanted if wanted in by_metric else DROP if DROP in by_metric else ACCURACY.name
    shown = {metric: by_metric[metric] for metric in dict.fromkeys((primary, ACCURACY.name))}
    yield _asked(setting, settings)
    yield from _table(setting, shown, settings, costs)
    if setting.looks:
        yield from chances.sentences(primary, by_metric[primary], setting, settings, costs)
    yield _needed(setting, shown, settings)
    yield _split(setting, primary, by_metric[primary], settings, costs)
    yield from (_origin(metric, noise) for metric, noise in shown.items())
    yield _assumed(setting, settings, any(noise.measured is None for noise in shown.values()))


def _asked(setting: Setting, settings: Evaluation) -> str:
    n, networks, power = setting.together, setting.design.networks, settings.claims.power
    alpha = 100 * level_each(n, settings)
    level = f"{alpha:.3g} %, two-sided"
    if n > 1:
        total = 100 * (1 - settings.level)
        level = (
            f"the level that {n} statements judged together need ({total:.3g} % / {n} = {level})"
        )
    return (
        f"minimum detectable effect: the smallest true change that {100 * power:.3g} of 100 such "
        f"sweeps would find at {level}; treatment - no_synthetic, last - first generation, "
        f"{f'mean over {networks} networks' if networks > 1 else 'one network'}"
        f"{ONE_LOOK if setting.looks else ''}"
    )


def _designs(own: Design, note: str) -> dict[Design, str]:
    base = own if own.chains > 1 else replace(own, chains=CHAINS[0])
    rows = [replace(own, chains=m) for m in sorted({*CHAINS, own.chains})]
    rows += [replace(base, seeds=s) for s in SEEDS] + [replace(base, images=i) for i in IMAGES]
    return {row: note if row == own else "" for row in rows}


def _table(
    setting: Setting, shown: Mapping[str, Noise], settings: Evaluation, costs: Costs
) -> Iterator[str]:
    claims, alpha = settings.claims, level_each(setting.together, settings)
    primary, noise = next(iter(shown.items()))
    sizes = [times * margin_of(primary, "", claims) for times in (1, 2)]
    heads = [*shown, *(f"finds {primary} {size:g}" for size in sizes), "core-hours"]
    widths = [max(len(head), 8) + 2 for head in heads]
    cells = zip(heads, widths, strict=True)
    yield f"{'chains':>6}{'seeds':>7}{'test images':>13}" + "".join(f"{h:>{w}}" for h, w in cells)
    own = "at this look" if setting.looks else "this sweep"
    for design, note in _designs(setting.design, own).items():
        found = [_effect(smallest(of, design, alpha, claims.power)) for of in shown.values()]
        error, m = noise.error(design), design.chains
        finds = (power_of(size, error, m, alpha) for size in sizes)
        found += [f"{100 * share:.0f} %" if m > 1 else "-" for share in finds]
        found.append(f"{costs.of(design):.3g}" if costs.known else "not known")
        images = f"{setting.size.images * design.images:.0f}"
        cells = zip(found, widths, strict=True)
        row = f"{m:6}{design.seeds:7}{images:>13}" + "".join(f"{c:>{w}}" for c, w in cells)
        yield f"{row}  {note}".rstrip()


def _effect(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "none"


def _needed(setting: Setting, shown: Mapping[str, Noise], settings: Evaluation) -> str:
    told = []
    for metric, noise in shown.items():
        margin = margin_of(metric, "", settings.claims)
        chains = chains_needed(noise, setting.design, margin, setting.together, settings)
        most = f"over {settings.claims.most_chains}"
        told.append(f"{metric} {margin:g}: {most if chains is None else chains}")
    once = ONE_LOOK if setting.looks else ""
    return f"chains needed to find the smallest effect of interest{once}: {', '.join(told)}"


def _split(setting: Setting, metric: str, noise: Noise, settings: Evaluation, costs: Costs) -> str:
    if not setting.controlled:
        return "best split into chains and seeds: not known before the sweep has that arm"
    hours = settings.claims.plan_hours if costs.known else None
    budget = costs.of(setting.design) if hours is None else hours
    whole = "this look" if setting.looks else "this sweep"
    whose = f"what {whole} costs" if hours is None else "evaluation.claims.plan_hours"
    unit = "core-hours" if costs.known else "trainings"
    best = cheapest(noise, setting, costs, budget, settings)
    alpha, power = level_each(setting.together, settings), settings.claims.power

    def said(design: Design) -> str:
        found = _effect(smallest(noise, design, alpha, power))
        chains, seeds = _count(design.chains, "chain"), _count(design.seeds, "seed")
        size = f"{chains} x {seeds} of each network"
        return f"{size} (smallest {metric} {found}, for {costs.of(design):.3g})"

    if best is None:
        told = "none, two chains cost more"
    elif best == setting.design:
        told = f"as configured, {said(best)}"
    else:
        told = f"{said(best)}; as configured {said(setting.design)}"
    return f"best split of {budget:.3g} {unit}, {whose}: {told}{'' if costs.known else UNKNOWN}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _origin(metric: str, noise: Noise) -> str:
    chain, seed, image = (value**0.5 for value in (noise.chain, noise.seed, noise.image))
    images = f"by the test images {image:.3f} (computed)"
    sds = f"{metric} scatters (sd) between chains by {chain:.3f}"
    found = noise.measured
    if found is None:
        return f"{sds}, between seeds by {seed:.3f} (both assumed), {images}"
    over = f"(measured: {found.source}, {found.chains} chains, {_known_within(found.chains)})"
    if math.isnan(found.seed_sd):
        return f"{sds} {over}, seeds included: there was one; {images}"
    return f"{sds} {over}, between seeds by {seed:.3f} (measured), {images}"


def _known_within(chains: int) -> str:
    """How far an sd over so few chains may be off, 95 %."""
    freedom = chains - 1
    low, high = ((freedom / float(chi_square_quantile(p, freedom))) ** 0.5 for p in (0.975, 0.025))
    return f"the true one may be {low:.2g} to {high:.2g} times that"


def _assumed(setting: Setting, settings: Evaluation, any_assumed: bool) -> str:
    claims, images = settings.claims, setting.size.images
    ablated = f", without the object {claims.ablated_accuracy:.3f}" if setting.size.masked else ""
    ask = "; a run of two chains or more measures the scatter" if any_assumed else ""
    return (
        f"assumed: accuracy {setting.accuracy:.3f}{ablated} on {images:.0f} test images, "
        f"correlation of two classifiers on an image {claims.image_correlation:g}, scatter between "
        f"chains common to a chain's networks{ask}"
    )
