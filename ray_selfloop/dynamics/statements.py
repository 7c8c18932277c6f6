"""The paper's empirical claims as statements, declared before any sweep has run.

Sections 1, 4.2 to 4.4, 5 and 6, appendices A and B. Decides what each claim says in terms of a
metric, a direction and an estimand; knows nothing of how a statement is tested. Texts are quoted or
shortened, never strengthened. Where the paper contradicts itself, both statements stand here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from ray_selfloop.dynamics.contrasts import LAST_MINUS_FIRST, SLOPE
from ray_selfloop.evaluation.names import GAP
from ray_selfloop.evaluation.outcomes import KINDS

Direction = Literal["increases", "decreases", "does not change"]
Compare = Literal["", "initialization", "pretrained", "size", "generator"]
UP: Direction = "increases"
DOWN: Direction = "decreases"
SAME: Direction = "does not change"

MOBILENET = ("mobilenet_v3_small", "mobilenet_v3_large")
LARGE = ("vgg19", "resnet50")
SMALL = ("lenet", "alexnet")
WORST = "rank 1"  # of eq. 5
RANK_GAP = GAP  # the last rank less the first
RANK_MEAN = "mean of best and worst"
DISTANCE = "fid"
KIN = ("fid", "kid", "frechet_distance/", "kernel_distance/")  # each tested under its own name
FAIRER: tuple[tuple[str, Direction], ...] = (("meo", UP), ("di", UP), ("md", DOWN))


@dataclass(frozen=True)
class Statement:
    """One claim about one metric.

    family: claims that are tested together (Holm). dataset: a dataset's name, ``cifar`` for every
    variant, ``any``; initialization and pretrained: "" and None for all. classifiers: (): all;
    without: but these. subgroup: of a ranked metric. estimand: the one that the words name; both
    are always tested. compare: difference of two contrasts, first minus second: biased - unbiased,
    pretrained - scratch, mean of the large - mean of the small networks; ``generator``: change of
    the treatment's generator since generation 1, without a control.
    steeper: of `RANK_GAP`: says that the worst subgroup's slope is the steeper one, whichever way
        both go. Both falling, the gap grows; both rising, it shrinks.
    untestable: why no change over generations tests it; "" otherwise.
    """

    id: str
    section: str
    text: str
    family: str
    metric: str
    direction: Direction
    dataset: str
    initialization: str = ""
    pretrained: bool | None = None
    classifiers: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    subgroup: str = ""
    estimand: str = SLOPE
    compare: Compare = ""
    steeper: bool = False
    untestable: str = ""


def _each(metrics: tuple[tuple[str, Direction], ...], common: Statement) -> Iterator[Statement]:
    """The same statement about several metrics; the metric ends its id."""
    for metric, direction in metrics:
        yield replace(common, id=f"{common.id}-{metric}", metric=metric, direction=direction)


SCATTER = "speaks of the scatter over generations, not of a change"
BETWEEN = "says that effects differ, and names no direction"
MNIST = "colorized_mnist"
RANKED = "ranked_cross_fitted"


def _introduction() -> Iterator[Statement]:
    text = "Intuitively, the bias issue is probably to be amplified (the hypothesis)"
    worse: tuple[tuple[str, Direction], ...] = (("meo", DOWN), ("md", UP), ("gap_variance", UP))
    family = "introduction: bias amplifies"
    yield from _each(worse, Statement("amplifies", "1", text, family, "", UP, "any"))


def _mnist_unbiased() -> Iterator[Statement]:
    section = "4.2 unbiased"
    said = partial(Statement, dataset=MNIST, initialization="unbiased")
    yield said(
        "mnist-unbiased-accuracy", section,
        "Most models benefit from data augmentation across generations (but MobileNet-V3)",
        "mnist accuracy", "accuracy", UP, without=MOBILENET,
    )  # fmt: skip
    yield from _each(FAIRER, said(
        "mnist-unbiased-single", section,
        "All single-bias evaluations also show slight improvements",
        "mnist single bias", "", UP,
    ))  # fmt: skip
    yield said(
        "mnist-unbiased-mobilenet", section,
        "MobileNet-V3 experiences significant performance variations across generations",
        "mnist accuracy", "accuracy", SAME, classifiers=MOBILENET, untestable=SCATTER,
    )  # fmt: skip
    yield said(
        "mnist-unbiased-large", section,
        "VGG-19 and ResNet-50 show significant improvements in multi-bias evaluations",
        "mnist subgroups", RANKED, UP, classifiers=LARGE, subgroup=WORST,
    )  # fmt: skip
    yield said(
        "mnist-unbiased-small", section,
        "SimpleNet, AlexNet and MobileNet-V3 exhibit a noticeable decline in subgroup performance",
        "mnist subgroups", RANKED, DOWN, classifiers=(*SMALL, *MOBILENET), subgroup=WORST,
    )  # fmt: skip


def _mnist_biased() -> Iterator[Statement]:
    section = "4.2 biased"
    said = partial(Statement, dataset=MNIST, initialization="biased")
    yield said(
        "mnist-biased-accuracy", section,
        "Classification accuracy improves continuously across generations",
        "mnist accuracy", "accuracy", UP,
    )  # fmt: skip
    yield from _each(FAIRER, said(
        "mnist-biased-single", section,
        "Single-bias evaluation improves continuously across generations",
        "mnist single bias", "", UP,
    ))  # fmt: skip
    ranked = (
        ("vgg19", DOWN, ("vgg19",), "VGG-19 experiences substantial degradation across subgroups"),
        ("alexnet", UP, ("alexnet",), "AlexNet performs better (subgroups) as generations pass"),
        ("mobilenet", SAME, MOBILENET, "MobileNet-V3 presents stable performance (subgroups)"),
    )
    for name, direction, classifiers, text in ranked:
        yield said(
            f"mnist-biased-{name}", section, text, "mnist subgroups", RANKED, direction,
            classifiers=classifiers, subgroup=WORST,
        )  # fmt: skip
    yield said(
        "mnist-biased-variation", section, "Both AlexNet and VGG-19 show large variation",
        "mnist subgroups", RANKED, SAME, classifiers=("alexnet", "vgg19"),
        subgroup=WORST, untestable=SCATTER,
    )  # fmt: skip


def _mnist_takeaways() -> Iterator[Statement]:
    section = "4.2 takeaways"
    same = tuple((metric, SAME) for metric, _ in FAIRER)
    yield Statement(
        "mnist-fid", section, "Similar results on the FID evolution across generations (table 1)",
        "mnist generator", DISTANCE, SAME, MNIST, compare="generator",
    )  # fmt: skip
    yield Statement(
        "mnist-accuracy", section,
        "Models can be consistently improved by augmenting with generated data",
        "mnist accuracy", "accuracy", UP, MNIST,
    )  # fmt: skip
    yield from _each(same, Statement(
        "mnist-single", section,
        "Generated data does not significantly affect the models' single-bias performance",
        "mnist single bias", "", SAME, MNIST, estimand=LAST_MINUS_FIRST,
    ))  # fmt: skip
    yield Statement(
        "mnist-subgroup-variation", section,
        "It can lead to substantial variations in subgroup performance",
        "mnist subgroups", RANKED, SAME, MNIST, subgroup=WORST, untestable=SCATTER,
    )  # fmt: skip
    yield Statement(
        "mnist-architectures", section,
        "The impact varies between models but remains consistent within the same architecture",
        "mnist subgroups", RANKED, SAME, MNIST, subgroup=WORST, untestable=BETWEEN,
    )  # fmt: skip
    yield Statement(
        "mnist-bias-degrades", section,
        "Bias in the original dataset does not cause the model to degrade rapidly",
        "mnist initialisations", "accuracy", SAME, MNIST, compare="initialization",
    )  # fmt: skip
    yield from _each(same, Statement(
        "mnist-trends", section,
        "Both initialization types exhibit similar trends in single-bias performance",
        "mnist initialisations", "", SAME, MNIST, compare="initialization",
    ))  # fmt: skip
    yield Statement(
        "mnist-trends-ranked", section,
        "Both initialization types exhibit similar trends in multi-bias performance",
        "mnist initialisations", RANKED, SAME, MNIST, subgroup=WORST, compare="initialization",
    )  # fmt: skip
    yield Statement(
        "mnist-bias-amplified", section,
        "Dataset bias does not significantly amplify model bias",
        "mnist initialisations", "gap_variance", SAME, MNIST, compare="initialization",
        estimand=LAST_MINUS_FIRST,
    )  # fmt: skip


def _cifar_scratch() -> Iterator[Statement]:
    section = "4.3 without pre-trained weights"
    said = partial(Statement, dataset="cifar", pretrained=False)
    yield said(
        "cifar-scratch-accuracy", section,
        "Augmenting CIFAR-20/100 with generated data can lead to degradation",
        "cifar scratch accuracy", "accuracy", DOWN,
    )  # fmt: skip
    yield said(
        "cifar-scratch-lenet", section, "LeNet: up to a 20 % drop after 10 generations",
        "cifar scratch accuracy", "accuracy", DOWN, classifiers=("lenet",),
        estimand=LAST_MINUS_FIRST,
    )  # fmt: skip
    improved: tuple[tuple[str, Direction], ...] = (("meo", UP), ("md", DOWN))
    yield from _each(improved, said(
        "cifar-scratch-single", section,
        "Equality of Opportunity and Maximum Disparity are significantly improved, all models",
        "cifar scratch single bias", "", UP,
    ))  # fmt: skip
    yield said(
        "cifar-scratch-di", section, "Most models show similar Disparate Impact (but LeNet)",
        "cifar scratch single bias", "di", SAME, without=("lenet",),
    )  # fmt: skip
    yield said(
        "cifar-scratch-di-lenet", section, "LeNet exhibits a larger bias in Disparate Impact",
        "cifar scratch single bias", "di", DOWN, classifiers=("lenet",),
    )  # fmt: skip
    yield said(
        "cifar-scratch-ranks", section, "Models perform more consistently across subgroups",
        "cifar scratch subgroups", RANKED, DOWN, subgroup=RANK_GAP,
    )  # fmt: skip
    yield said(
        "cifar-scratch-vgg19", section, "VGG-19: decreasing performance over generations",
        "cifar scratch subgroups", "accuracy", DOWN, classifiers=("vgg19",),
    )  # fmt: skip
    yield said(
        "cifar-scratch-vgg19-gap", section, "VGG-19 bridges the gap between subgroups better",
        "cifar scratch subgroups", RANKED, DOWN, classifiers=("vgg19",), subgroup=RANK_GAP,
    )  # fmt: skip
    yield said(
        "cifar-scratch-resnet50", section,
        "ResNet-50 without pretraining shows no significant drop in multi-bias evaluation",
        "cifar scratch subgroups", RANKED, SAME, classifiers=("resnet50",), subgroup=WORST,
    )  # fmt: skip


def _cifar_pretrained() -> Iterator[Statement]:
    section = "4.3 with pre-trained weights"
    said = partial(Statement, dataset="cifar", pretrained=True)
    yield said(
        "cifar-pretrained-accuracy", section, "Declines in classification accuracy",
        "cifar pretrained accuracy", "accuracy", DOWN,
    )  # fmt: skip
    worse: tuple[tuple[str, Direction], ...] = (("meo", DOWN), ("di", DOWN))
    yield from _each(worse, said(
        "cifar-pretrained-single", section,
        "Declines in fairness metrics such as Equality of Opportunity and Disparate Impact",
        "cifar pretrained single bias", "", DOWN,
    ))  # fmt: skip
    yield said(
        "cifar-pretrained-resnet50", section,
        "Pre-trained ResNet-50 experiences substantial degradation in multi-bias evaluation",
        "cifar pretrained subgroups", RANKED, DOWN, classifiers=("resnet50",),
        subgroup=WORST,
    )  # fmt: skip
    yield Statement(
        "cifar-faster", section, "Faster performance degradation with pre-trained weights",
        "cifar scratch against pretrained", "accuracy", DOWN, "cifar", compare="pretrained",
    )  # fmt: skip


def _cifar_takeaways() -> Iterator[Statement]:
    section = "4.3 takeaways"
    yield Statement(
        "cifar-fid", section, "Slight improvement in generative performance: decreasing FID",
        "cifar generator", DISTANCE, DOWN, "cifar", compare="generator",
    )  # fmt: skip
    decline: tuple[tuple[str, Direction], ...] = (("accuracy", DOWN), ("meo", DOWN), ("md", UP))
    yield from _each(decline, Statement(
        "cifar-decline", section,
        "Models still decline in both the classification task and bias evaluations",
        "cifar decline", "", DOWN, "cifar",
    ))  # fmt: skip
    yield Statement(
        "cifar-level", section,
        "With pre-trained weights models show significant improvement over training from scratch",
        "cifar scratch against pretrained", "accuracy", UP, "cifar", compare="pretrained",
        untestable="compares levels of accuracy, not changes",
    )  # fmt: skip
    susceptible: tuple[tuple[str, Direction], ...] = (("meo", DOWN), ("md", UP))
    yield from _each(susceptible, Statement(
        "cifar-susceptible", section,
        "Models with pre-trained weights are more susceptible to integration bias",
        "cifar scratch against pretrained", "", DOWN, "cifar", compare="pretrained",
    ))  # fmt: skip


def _imagenet() -> Iterator[Statement]:
    section = "4.4"
    said = partial(Statement, dataset="hard_imagenet")
    yield said(
        "hard-accuracy", section, "Generated data can degrade model performance",
        "hard imagenet", "accuracy", DOWN,
    )  # fmt: skip
    yield said(
        "hard-small", section,
        "Smaller models improve in the first two generations, then stabilise",
        "hard imagenet", "accuracy", UP, classifiers=("alexnet", *MOBILENET),
        estimand=LAST_MINUS_FIRST,
    )  # fmt: skip
    for kind in KINDS:  # "the performance drop caused by masking the image": clean minus ablated
        yield said(
            f"hard-spurious-{kind}", section,
            "All models tend to rely less on spurious correlations (a larger drop when masked)",
            "hard imagenet: spurious cues", f"ablation_drop/{kind}", UP,
        )  # fmt: skip
    yield said(
        "hard-fid", "appendix B", "Quality decreases significantly for Hard ImageNet",
        "generators", DISTANCE, UP, compare="generator",
    )  # fmt: skip
    yield Statement(
        "breeds-ranks", "appendix A",
        "Greater impact on the worst-performing subgroups: a steeper slope than the best's",
        "breeds subgroups", RANKED, UP, "breeds", subgroup=RANK_GAP, steeper=True,
    )  # fmt: skip
    for dataset in (MNIST, "cifar"):
        yield Statement(
            f"{dataset.removeprefix('colorized_')}-quality", "appendix B",
            "The quality of generated data does not change a lot",
            "generators", DISTANCE, SAME, dataset, compare="generator", estimand=LAST_MINUS_FIRST,
        )  # fmt: skip


def _why() -> Iterator[Statement]:
    better: tuple[tuple[str, Direction], ...] = (("accuracy", UP), *FAIRER)
    yield from _each(better, Statement(
        "why-simple", "5",
        "Simple data: generated data helps to improve accuracy continuously and to reduce bias",
        "section 5: simple data", "", UP, MNIST,
    ))  # fmt: skip
    for dataset in (MNIST, "cifar"):
        yield Statement(
            f"why-size-{dataset.removeprefix('colorized_')}", "5",
            "Larger models (VGG-19, ResNet-50) handle bias better than small (LeNet, AlexNet)",
            "section 5: capacity", "md", DOWN, dataset, compare="size",
        )  # fmt: skip
    others = (
        ("why-variability", "5", "Small models: greater performance variability", SCATTER),
        ("why-exposure", "5", "Harder biases: greater fluctuations in performance", SCATTER),
        ("why-unbalanced", "5", "Generative models over-represent high-density regions",
         "is about u of the generated data: see its intervals in the report"),
        ("why-quality", "5", "Lower-quality data may mitigate biased performance",
         "needs an intervention on quality: see d_Q of the designed experiment (eq. 6)"),
        ("end-factors", "6", "Bias changes depend on dataset, architecture and generator", BETWEEN),
        ("end-multiple", "6", "Models are more sensitive to multiple biases than to a single one",
         "compares metrics that share no unit"),
    )  # fmt: skip
    for id_, section, text, why in others:
        yield Statement(id_, section, text, f"section {section}", "", SAME, "any", untestable=why)


STATEMENTS: tuple[Statement, ...] = (
    *_introduction(),
    *_mnist_unbiased(),
    *_mnist_biased(),
    *_mnist_takeaways(),
    *_cifar_scratch(),
    *_cifar_pretrained(),
    *_cifar_takeaways(),
    *_imagenet(),
    *_why(),
)
"""Every claim of the paper."""
