"""The paper's empirical claims as statements, each with the one estimand that its sentence has.

Sections 1, 2, 3, 4.2 to 4.4, 5 and 6, appendices A to C. Decides what each claim says in terms of a
metric, a direction, an estimand and of how many networks; knows nothing of how a statement is
tested. Texts are quoted or shortened, never strengthened. Where the paper contradicts itself, both
statements stand here; where it says a thing twice, the second names the first.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from ray_selfloop.claims.contrasts import AFTER, LAST_MINUS_FIRST, LEVEL, RISE, SCATTER, SLOPE
from ray_selfloop.config.datasets.breeds import Breeds
from ray_selfloop.config.datasets.cifar import Cifar
from ray_selfloop.config.datasets.coloured import ColorizedMnist
from ray_selfloop.config.datasets.hard_imagenet import HardImageNet
from ray_selfloop.evaluation.metrics import (
    FID,
    FRECHET_DISTANCE,
    GAP,
    KERNEL_DISTANCE,
    KID,
    RANKED_ACCURACY,
    RANKED_CROSS_FITTED,
    U_SIGNED,
    Q,
)
from ray_selfloop.evaluation.predictions import KINDS
from ray_selfloop.inference.verdicts import (
    DIFFERS,
    DOWN,
    NOT_DOWN,
    NOT_UP,
    SAME,
    UP,
    Direction,
    Quantifier,
)

Compare = Literal[
    "", "initialization", "pretrained", "size", "networks", "generator", "filter", "count"
]

MOBILENET = ("mobilenet_v3_small", "mobilenet_v3_large")
LARGE = ("vgg19", "resnet50")
SMALL = ("lenet", "alexnet")
WORST = "rank 1"  # of eq. 5
RANK_GAP = GAP  # the last rank less the first
RANK_MEAN = "mean of best and worst"
DISTANCE = FID.name
# each tested under its own name
KIN = (FID.name, KID.name, f"{FRECHET_DISTANCE.name}/", f"{KERNEL_DISTANCE.name}/")
BALANCE, POORNESS = U_SIGNED.name, f"1 - {Q.name}"
OF_GENERATORS = (*KIN, BALANCE, POORNESS)
FAIRER: tuple[tuple[str, Direction], ...] = (("meo", UP), ("di", UP), ("md", DOWN))
HYPOTHESIS = "hypothesis"
MEAN = "mean"


@dataclass(frozen=True)
class Statement:
    """One claim about one metric under one estimand; a family is a section.

    dataset: a dataset's name, ``cifar`` for every variant, ``any``; regime: ``loop.regime``;
    initialization and pretrained: "" and None for all. classifiers: (): all; without: but these.
    networks: of how many of these it has to hold; ``mean``: of their mean. subgroup: of a ranked
    metric. compare: difference of two contrasts, first minus second: biased - unbiased, pretrained
    - scratch, mean of the large - mean of the small networks, ``networks``: any two; ``count``:
    more networks change so when pretrained than from scratch; ``filter``: treatment - unfiltered;
    ``generator``: of the treatment's generator, without a control.
    controlled: the treatment minus `no_synthetic`; else of the treatment alone.
    steeper: of `RANK_GAP`: says that the worst subgroup's slope is the steeper one, whichever way
        both go. Both falling, the gap grows; both rising, it shrinks.
    size: the claimed size of a change; 0 for any.
    elsewhere: id of the statement that says the same; untestable: why nothing here tests it.
    """

    id: str
    section: str
    text: str
    metric: str
    direction: Direction
    dataset: str
    initialization: str = ""
    pretrained: bool | None = None
    regime: str = "stack"
    classifiers: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    networks: Quantifier | Literal["mean"] = "all"
    subgroup: str = ""
    estimand: str = SLOPE
    compare: Compare = ""
    controlled: bool = True
    steeper: bool = False
    size: float = 0.0
    elsewhere: str = ""
    untestable: str = ""


def _each(metrics: tuple[tuple[str, Direction], ...], common: Statement) -> Iterator[Statement]:
    """The same statement about several metrics; the metric ends its id."""
    for metric, direction in metrics:
        yield replace(common, id=f"{common.id}-{metric}", metric=metric, direction=direction)


MNIST, CIFAR, HARD, BREEDS = (
    kind.traits.paper for kind in (ColorizedMnist, Cifar, HardImageNet, Breeds)
)
RANKED = RANKED_CROSS_FITTED.name
RANKED_IN_SAMPLE = RANKED_ACCURACY.name
GROWTH: dict[str, Direction] = {"md": UP, "meo": DOWN, "worst_subgroup": DOWN, "accuracy": DOWN}
"""Metric of the primary statement -> the way that it goes where bias grows."""


def primary(metric: str) -> Statement:
    """The introduction's hypothesis as the primary statement of a setting."""
    return Statement(
        HYPOTHESIS, "primary", "Bias is amplified: the introduction's hypothesis", metric,
        GROWTH[metric], "any", networks="mean", estimand=LAST_MINUS_FIRST,
    )  # fmt: skip


def _introduction() -> Iterator[Statement]:
    said = partial(
        Statement, section="1", dataset="any", networks="mean", estimand=LAST_MINUS_FIRST
    )
    worst = "The model's behaviour gets worse in the worst-performing subgroups"
    for metric, subgroup, text in (
        ("di", "", "Bias is amplified (disparate impact)"),
        ("worst_subgroup", "", worst),
        (RANKED, WORST, worst),
    ):
        yield said(
            f"amplifies-{metric}", text=text, metric=metric, direction=DOWN, subgroup=subgroup
        )


def _contributions() -> Iterator[Statement]:
    yield Statement(
        "filter-quality", "1 contributions",
        "Data stacking and expert-guided filtering overcome inconsistent data quality",
        "accuracy", UP, "any", networks="mean", compare="filter", estimand=LAST_MINUS_FIRST,
    )  # fmt: skip
    yield Statement(
        "replace-fails", "3.1", "Training on generated data alone degrades performance",
        "accuracy", DOWN, "any", regime="replace", networks="all", estimand=LAST_MINUS_FIRST,
    )  # fmt: skip


def _mnist_unbiased() -> Iterator[Statement]:
    section = "4.2 unbiased"
    said = partial(Statement, dataset=MNIST, initialization="unbiased")
    yield said(
        "mnist-unbiased-accuracy", section,
        "Most models benefit from data augmentation across generations (but MobileNet-V3)",
        "accuracy", UP, without=MOBILENET, networks="most",
    )  # fmt: skip
    yield from _each(FAIRER, said(
        "mnist-unbiased-single", section,
        "All single-bias evaluations also show slight improvements", "", UP, networks="most",
    ))  # fmt: skip
    yield said(
        "mnist-unbiased-mobilenet", section,
        "MobileNet-V3 experiences significant performance variations across generations",
        "accuracy", UP, classifiers=MOBILENET, estimand=SCATTER, networks="some",
    )  # fmt: skip
    yield said(
        "mnist-unbiased-large", section,
        "VGG-19 and ResNet-50 show significant improvements in multi-bias evaluations",
        RANKED, UP, classifiers=LARGE, subgroup=WORST,
    )  # fmt: skip
    yield said(
        "mnist-unbiased-small", section,
        "SimpleNet, AlexNet and MobileNet-V3 exhibit a noticeable decline in subgroup performance "
        "with continued large generations",
        RANKED, DOWN, classifiers=(*SMALL, *MOBILENET), subgroup=RANK_MEAN,
        estimand=LAST_MINUS_FIRST,
    )  # fmt: skip


def _mnist_biased() -> Iterator[Statement]:
    section = "4.2 biased"
    said = partial(Statement, dataset=MNIST, initialization="biased")
    yield said(
        "mnist-biased-accuracy", section,
        "Classification accuracy improves continuously across generations", "accuracy", UP,
    )  # fmt: skip
    yield from _each(FAIRER, said(
        "mnist-biased-single", section,
        "Single-bias evaluation improves continuously across generations", "", UP,
    ))  # fmt: skip
    ranked = (
        ("vgg19", DOWN, ("vgg19",), "VGG-19 experiences substantial degradation across subgroups"),
        ("alexnet", UP, ("alexnet",), "AlexNet performs better (subgroups) as generations pass"),
        ("mobilenet", SAME, MOBILENET, "MobileNet-V3 presents stable performance (subgroups)"),
    )
    for name, direction, classifiers, text in ranked:
        yield said(
            f"mnist-biased-{name}", section, text, RANKED, direction, classifiers=classifiers,
            subgroup=WORST,
        )  # fmt: skip
    yield said(
        "mnist-biased-variation", section, "Both AlexNet and VGG-19 show large variation",
        RANKED_IN_SAMPLE, UP, classifiers=("alexnet", "vgg19"), subgroup=WORST, estimand=SCATTER,
    )  # fmt: skip


def _mnist_takeaways() -> Iterator[Statement]:
    section = "4.2 takeaways"
    said = partial(Statement, section=section, dataset=MNIST)
    same = tuple((metric, SAME) for metric, _ in FAIRER)
    yield said(
        "mnist-fid", text="Similar results on the FID evolution across generations (table 1)",
        metric=DISTANCE, direction=SAME, compare="generator", controlled=False,
    )  # fmt: skip
    yield said(
        "mnist-quality", text="We can omit the impact of the quality of the generated data (q ~ 1)",
        metric=POORNESS, direction=NOT_UP, compare="generator", controlled=False, estimand=LEVEL,
    )  # fmt: skip
    yield said(
        "mnist-accuracy",
        text="Models can be consistently improved by augmenting with generated data",
        metric="accuracy", direction=UP, networks="some",
    )  # fmt: skip
    yield from _each(same, said(
        "mnist-single",
        text="Generated data does not significantly affect the models' single-bias performance",
        metric="", direction=SAME, estimand=LAST_MINUS_FIRST,
    ))  # fmt: skip
    yield said(
        "mnist-subgroup-variation",
        text="It can lead to substantial variations in subgroup performance",
        metric=RANKED_IN_SAMPLE, direction=UP, subgroup=WORST, estimand=SCATTER, networks="some",
    )  # fmt: skip
    yield said(
        "mnist-architectures",
        text="The impact (on subgroups) varies between models",
        metric=RANKED, direction=DIFFERS, subgroup=WORST, compare="networks", networks="some",
    )  # fmt: skip
    yield said(
        "mnist-bias-degrades",
        text="Bias in the original dataset does not cause the model to degrade rapidly",
        metric="accuracy", direction=NOT_DOWN, compare="initialization",
    )  # fmt: skip
    yield from _each(same, said(
        "mnist-trends",
        text="Both initialization types exhibit similar trends in single-bias performance",
        metric="", direction=SAME, compare="initialization",
    ))  # fmt: skip
    yield said(
        "mnist-trends-ranked",
        text="Both initialization types exhibit similar trends in multi-bias performance",
        metric=RANKED, direction=SAME, subgroup=WORST, compare="initialization",
    )  # fmt: skip
    yield said(
        "mnist-bias-amplified", text="Dataset bias does not significantly amplify model bias",
        metric="md", direction=NOT_UP, compare="initialization", estimand=LAST_MINUS_FIRST,
    )  # fmt: skip


def _cifar_scratch() -> Iterator[Statement]:
    section = "4.3 without pre-trained weights"
    said = partial(Statement, dataset=CIFAR, pretrained=False)
    yield said(
        "cifar-scratch-accuracy", section,
        "Augmenting CIFAR-20/100 with generated data can lead to degradation",
        "accuracy", DOWN, networks="some", estimand=LAST_MINUS_FIRST,
    )  # fmt: skip
    yield said(
        "cifar-scratch-lenet", section, "LeNet: up to a 20 % drop after 10 generations",
        "accuracy", DOWN, classifiers=("lenet",), estimand=LAST_MINUS_FIRST, size=0.2,
    )  # fmt: skip
    improved: tuple[tuple[str, Direction], ...] = (("meo", UP), ("md", DOWN))
    yield from _each(improved, said(
        "cifar-scratch-single", section,
        "Equality of Opportunity and Maximum Disparity are significantly improved, all models",
        "", UP,
    ))  # fmt: skip
    yield said(
        "cifar-scratch-di", section, "Most models show similar Disparate Impact (but LeNet)",
        "di", SAME, without=("lenet",), networks="most",
    )  # fmt: skip
    yield said(
        "cifar-scratch-di-lenet", section, "LeNet exhibits a larger bias in Disparate Impact",
        "di", DOWN, classifiers=("lenet",),
    )  # fmt: skip
    yield said(
        "cifar-scratch-ranks", section, "Models perform more consistently across subgroups",
        RANKED, DOWN, subgroup=RANK_GAP, networks="most",
    )  # fmt: skip
    yield said(
        "cifar-scratch-vgg19", section, "VGG-19: decreasing performance over generations",
        "accuracy", DOWN, classifiers=("vgg19",),
    )  # fmt: skip
    yield said(
        "cifar-scratch-vgg19-gap", section, "VGG-19 bridges the gap between subgroups better",
        RANKED, DOWN, classifiers=("vgg19",), subgroup=RANK_GAP,
    )  # fmt: skip
    yield said(
        "cifar-scratch-resnet50", section,
        "ResNet-50 without pretraining shows no significant drop in multi-bias evaluation",
        RANKED, NOT_DOWN, classifiers=("resnet50",), subgroup=WORST, estimand=LAST_MINUS_FIRST,
    )  # fmt: skip


def _cifar_pretrained() -> Iterator[Statement]:
    section = "4.3 with pre-trained weights"
    said = partial(Statement, dataset=CIFAR, pretrained=True)
    more = partial(Statement, dataset=CIFAR, compare="count", estimand=LAST_MINUS_FIRST)
    declines: tuple[tuple[str, Direction], ...] = (("accuracy", DOWN), ("meo", DOWN), ("di", DOWN))
    yield from _each(declines, more(
        "cifar-pretrained-more", section,
        "A greater number of models decline in accuracy and fairness (MEO, DI) than from scratch",
        "", DOWN,
    ))  # fmt: skip
    yield said(
        "cifar-pretrained-resnet50", section,
        "Pre-trained ResNet-50 experiences substantial degradation in multi-bias evaluation",
        RANKED, DOWN, classifiers=("resnet50",), subgroup=WORST,
    )  # fmt: skip
    yield Statement(
        "cifar-faster", section, "Faster performance degradation with pre-trained weights",
        "accuracy", DOWN, CIFAR, compare="pretrained", networks="most",
    )  # fmt: skip


def _cifar_takeaways() -> Iterator[Statement]:
    section = "4.3 takeaways"
    yield Statement(
        "cifar-fid", section, "Slight improvement in generative performance: decreasing FID",
        DISTANCE, DOWN, CIFAR, compare="generator", controlled=False,
    )  # fmt: skip
    decline: tuple[tuple[str, Direction], ...] = (("accuracy", DOWN), ("meo", DOWN), ("md", UP))
    yield from _each(decline, Statement(
        "cifar-decline", section,
        "Models still decline in both the classification task and bias evaluations",
        "", DOWN, CIFAR, networks="most",
    ))  # fmt: skip
    yield Statement(
        "cifar-level", section,
        "With pre-trained weights models show significant improvement over training from scratch",
        "accuracy", UP, CIFAR, compare="pretrained", estimand=LEVEL, controlled=False,
    )  # fmt: skip
    susceptible: tuple[tuple[str, Direction], ...] = (("meo", DOWN), ("md", UP))
    yield from _each(susceptible, Statement(
        "cifar-susceptible", section,
        "Models with pre-trained weights are more susceptible to integration bias",
        "", DOWN, CIFAR, compare="pretrained", networks="most",
    ))  # fmt: skip


def _imagenet() -> Iterator[Statement]:
    section, small = "4.4", ("alexnet", *MOBILENET)
    said = partial(Statement, dataset=HARD)
    yield said(
        "hard-accuracy", section, "Generated data can degrade model performance (larger models)",
        "accuracy", DOWN, without=small, networks="some", estimand=LAST_MINUS_FIRST,
    )  # fmt: skip
    yield said(
        "hard-small-rise", section, "Smaller models improve in the first two generations ...",
        "accuracy", UP, classifiers=small, estimand=RISE,
    )  # fmt: skip
    yield said(
        "hard-small-stable", section, "... after which they stabilise",
        "accuracy", SAME, classifiers=small, estimand=AFTER,
    )  # fmt: skip
    for kind in KINDS:  # "the performance drop caused by masking the image": clean minus ablated
        yield said(
            f"hard-spurious-{kind}", section,
            "All models tend to rely less on spurious correlations (a larger drop when masked)",
            f"ablation_drop/{kind}", UP,
        )  # fmt: skip


def _appendices() -> Iterator[Statement]:
    yield Statement(
        "breeds-accuracy", "appendix A",
        "Consistent with Hard ImageNet: generated data can degrade performance on Breeds",
        "accuracy", DOWN, BREEDS, networks="some", estimand=LAST_MINUS_FIRST,
    )  # fmt: skip
    yield Statement(
        "breeds-ranks", "appendix A",
        "Greater impact on the worst-performing subgroups: a steeper slope than the best's",
        RANKED, UP, BREEDS, subgroup=RANK_GAP, steeper=True, networks="most",
    )  # fmt: skip
    changed: tuple[tuple[str, Direction, str], ...] = (
        (HARD, UP, "Quality decreases significantly for Hard ImageNet"),
        (MNIST, SAME, "The quality of generated data does not change a lot"),
        (CIFAR, SAME, "The quality of generated data does not change a lot"),
    )
    for dataset, direction, text in changed:
        yield Statement(
            f"{dataset.removeprefix('colorized_')}-images", "appendix B", text, DISTANCE, direction,
            dataset, compare="generator", controlled=False, estimand=LAST_MINUS_FIRST,
        )  # fmt: skip
    yield Statement(
        "drop-optimal", "appendix C", "r of 10, 30 and 60 % is optimal", "accuracy", UP, "any",
        untestable="needs filter.drop as an axis and the images' quality judged by people",
    )  # fmt: skip


def _why() -> Iterator[Statement]:
    better: tuple[tuple[str, Direction], ...] = (("accuracy", UP), ("md", DOWN))
    for metric, direction in better:
        judged = "mnist-accuracy" if metric == "accuracy" else "mnist-biased-single-md"
        yield Statement(
            f"why-simple-{metric}", "5",
            "Simple data: generated data helps to improve accuracy continuously and to reduce bias",
            metric, direction, MNIST, elsewhere=judged,
        )  # fmt: skip
    for dataset in (MNIST, CIFAR):
        name = dataset.removeprefix("colorized_")
        yield Statement(
            f"why-size-{name}", "5",
            "Larger models (VGG-19, ResNet-50) handle bias better than small (LeNet, AlexNet)",
            "md", DOWN, dataset, compare="size",
        )  # fmt: skip
        yield Statement(
            f"why-variability-{name}", "5",
            "Small models: greater performance variability (large less small: less)",
            "accuracy", DOWN, dataset, compare="size", estimand=SCATTER, controlled=False,
        )  # fmt: skip
    yield Statement(
        "why-exposure", "5", "Harder biases: greater fluctuations in performance",
        RANKED_IN_SAMPLE, UP, MNIST, subgroup=WORST, compare="initialization", estimand=SCATTER,
        networks="most", controlled=False,
    )  # fmt: skip
    yield Statement(
        "why-unbalanced", "5", "Generative models over-represent high-density regions",
        BALANCE, UP, "any", compare="generator", estimand=LEVEL, controlled=False,
    )  # fmt: skip
    yield Statement(
        "why-quality", "5", "Lower-quality data may mitigate biased performance", "md", DOWN, "any",
        untestable="needs an intervention on quality: see d_Q of the designed experiment (eq. 6)",
    )  # fmt: skip
    yield Statement(
        "end-factors", "6", "Bias changes depend on the architecture", "md", DIFFERS, "any",
        compare="networks", networks="some", estimand=LAST_MINUS_FIRST,
    )  # fmt: skip
    yield Statement(
        "end-multiple", "6", "Models are more sensitive to multiple biases than to a single one",
        "md", UP, "any", untestable="compares metrics that share no unit",
    )  # fmt: skip


STATEMENTS: tuple[Statement, ...] = (
    *_introduction(),
    *_contributions(),
    *_mnist_unbiased(),
    *_mnist_biased(),
    *_mnist_takeaways(),
    *_cifar_scratch(),
    *_cifar_pretrained(),
    *_cifar_takeaways(),
    *_imagenet(),
    *_appendices(),
    *_why(),
)
"""Every claim of the paper beside the primary one."""
