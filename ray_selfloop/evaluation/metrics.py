"""Every number of the results table: its name, what it means, and the function that computes it.

A metric of subgroup rates or of feature vectors is one function with ``@metric``, and nothing else:
the table, the definitions, ``docs/metrics.md``, the stages' keys and, where ``shown`` says so, the
page's figures and the terminal follow. A number that is counted or made of others is declared here
and written where it is counted (`readings`, `classifier_rows`, `generator_rows`, `equation6.fit`).
No other file names a metric by its string.

A key is ``<metric>[_<reading>][_<change>][_floor]``, ``<metric>/<features>`` or
``<metric>[_<change>]/<ablation>``, where

- reading: ``pooled`` (rates over all classes together) or ``per_class`` (within each class, then
  the mean over classes); without a reading: the one that applies to the dataset.
  ``by_share_rank``: subgroups of all classes pooled by the rank of their training share (rotated
  colours).
- change: ``change`` (since generation 0, within chain, seed and image), ``change_level`` (the part
  that the accuracy of each class explains, see `split`: every image's logit of a class moved
  alike, on the scale of ``difficulty``; with the noise of the test images, of which there is more
  or less at another accuracy; of ``ablation_drop`` the part that clean accuracy explains: the
  change at generation 0's relative drop) and ``change_distribution`` (the rest).
- floor: the same number with subgroup labels permuted: value = mean, low and high = band.

Feature metrics (distances, precision to coverage, copies, q) move with the number of images. They
use ``evaluation.samples`` images of split ``generated``; of ``kept`` and ``queue`` at most as many
as one generation keeps, so that a filling queue moves none of them. ``samples`` says how many.

``ranked_cross_fitted_slope`` belongs to no generation. Its subgroup, beside the ranks, is `GAP` for
their difference.

Rows with an empty ``seed`` are means over seeds, then over chains. Their interval covers chains and
test images where there are several chains. **With one chain it covers the test images of these
classifiers alone: neither chains nor classifier seeds, however many of these there are.** An
interval over test images alone is left out (low and high missing) where a cell has fewer of them
than `Metric.least`.

Means of ``accuracy`` and of its change take all trials (intention to treat); of fairness those that
did not collapse.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum, Flag, auto
from functools import cache, partial
from math import inf
from typing import Any, Generic, ParamSpec, TypeVar, cast

from ray_selfloop.evaluation import fairness, fidelity
from ray_selfloop.evaluation.predictions import Floats

P = ParamSpec("P")
T = TypeVar("T")
READINGS = ("pooled", "per_class", "by_share_rank")
CHANGES = ("change_level", "change_distribution", "change")
FEWEST = 20  # test images in a cell: see `Metric.least`
GAP = "best minus worst"  # subgroup of the last rank less the first


class Shown(Flag):
    """Where a person meets a metric; all of them stand in the table and among the definitions."""

    NOWHERE = 0
    HEADLINE = auto()  # one line a classifier: the terminal's overview of many settings
    TERMINAL = auto()  # the terminal's tables of each generation, with the floor of a headline
    FIGURES = auto()  # a panel of its own, and a column of the page's table of both ends
    ARMS = auto()  # a panel where the arms are compared
    QUALITY = auto()  # a row of the generated data's block (table 1), in order of registration
    KEPT = auto()  # there for the kept images and the queue too: what a next generation learns from


class About(Enum):
    """What a metric is measured of, as the stage that measures it is called."""

    CLASSIFIERS = "fairness"
    GENERATORS = "generator_metrics"
    EQUATION_6 = "dynamics"


class Reads(Enum):
    """What a function gets, where the table calls it by itself; else the code beside it does.

    RATES: true positive rates of subgroups ``(..., G) -> (...)``, pooled, per class and by share
    rank. LOG_ODDS: the same on their log odds. AGAINST_REST: rates of each class against all
    others, ``fairness.AgainstRest -> (..., C)``, where subgroups mean the same in every class.
    FEATURES: ``(real, drawn, neighbours) -> float`` of each feature set.
    """

    RATES = auto()
    LOG_ODDS = auto()
    AGAINST_REST = auto()
    FEATURES = auto()
    NOTHING = auto()


@dataclass(frozen=True)
class Metric(Generic[P, T]):
    """One name of the table. Calling it calls its function.

    unit: of the value; ideal: best value, None where none is better; range: closed bounds.
    title: short, over a figure; long: in a sentence; axis: at a figure's axis.
    least: fewest test images in the smallest cell behind the number (of a subgroup and class; of a
    subgroup where pooled) at which an interval over test images alone, of one trial or one chain,
    covers what it says (benchmarks/interval_coverage.py); with fewer it is left out.
    pairs: a mean over pairs of subgroups, whose function takes ``ordered`` (eq. 2 and 3 as printed
    count each pair twice). within_class: its pooled reading never applies.
    version: raised when the meaning of the number changes.
    """

    name: str
    unit: str
    ideal: float | None
    range: tuple[float, float]
    definition: str
    title: str = ""
    long: str = ""
    axis: str = ""
    shown: Shown = Shown.NOWHERE
    about: About = About.CLASSIFIERS
    reads: Reads = Reads.NOTHING
    least: int = 0
    pairs: bool = False
    within_class: bool = False
    version: int = 1
    function: Callable[P, T] | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        assert self.function is not None, self.name
        return self.function(*args, **kwargs)

    @property
    def heading(self) -> str:
        """`long` over a figure or table."""
        return self.long[:1].upper() + self.long[1:]

    def of(self, rates: Floats, ordered: bool) -> Floats:
        """Of subgroup rates or their log odds ``(..., G) -> (...)``; ordered: see ``pairs``."""
        gap = cast(Callable[..., Floats], self)
        return gap(rates, ordered) if self.pairs else gap(rates)

    def read(self, reading: str) -> str:
        """The key of one reading of it."""
        return f"{self.name}_{reading}"


METRICS: dict[str, Metric[..., Any]] = {}
"""Every metric by name, in the order of its definition below."""


def declared(name: str, unit: str, ideal: float | None, **about: Any) -> Metric[..., Any]:
    """Register a metric that is counted or made of others where its rows are written."""
    if name in METRICS:
        raise ValueError(f"two metrics are called {name!r}; rename one")
    if about.get("reads") is Reads.FEATURES:
        about.setdefault("about", About.GENERATORS)
    title = about.pop("title", name)
    long = about.pop("long", title)
    equal = "" if ideal is None else f", {ideal:g} = equal"
    axis = about.pop("axis", f"{unit}{equal}")
    METRICS[name] = Metric(name, unit, ideal, title=title, long=long, axis=axis, **about)
    return METRICS[name]


def metric(
    name: str, unit: str, ideal: float | None, **about: Any
) -> Callable[[Callable[P, T]], Metric[P, T]]:
    """``@metric("md", "fraction", 0.0, range=(0, 1), definition=...)`` on its function: fields as
    those of `Metric`."""

    def register(function: Callable[P, T]) -> Metric[P, T]:
        return cast(Metric[P, T], declared(name, unit, ideal, function=function, **about))

    return register


def reading(what: Reads) -> list[Metric[..., Any]]:
    """The metrics whose functions the table calls by itself, in order of registration."""
    return [m for m in METRICS.values() if m.reads is what]


def shown(where: Shown) -> list[Metric[..., Any]]:
    """The metrics that a person meets there, in order of registration."""
    return [m for m in METRICS.values() if where & m.shown]


# --- keys of the table ---------------------------------------------------------------------------


def with_suffix(key: str, suffix: str) -> str:
    """``ablation_drop_change/object_gray``: a suffix, if any, stands before the slash."""
    stem, slash, kind = key.partition("/")
    return f"{stem}_{suffix}{slash}{kind}" if suffix else key


@cache
def base(key: str) -> str:
    """The metric behind a key of the table; raises KeyError for an unknown one."""
    name = key.split("/")[0].removesuffix("_floor")
    stem = re.sub(f"_({'|'.join(CHANGES)})$", "", name)
    for candidate in (name, stem, re.sub(f"_({'|'.join(READINGS)})$", "", stem)):
        if candidate in METRICS:
            return candidate
    raise KeyError(f"{key!r} is no metric of the results table")


@cache
def describe(key: str) -> Metric[..., Any]:
    """Unit, ideal value, range and definition of a key; a change has ideal None and wider range."""
    metric = METRICS[base(key)]
    if any(f"_{change}" in key for change in CHANGES):
        low, high = metric.range
        spread = (low - high, high - low)
        return replace(metric, ideal=None, range=spread, definition=f"change: {metric.definition}")
    return metric


# --- of classifiers ------------------------------------------------------------------------------

_rate = partial(declared, unit="fraction", range=(0.0, 1.0))
_count = partial(declared, ideal=None, range=(0.0, inf))

ACCURACY = _rate(
    "accuracy",
    ideal=1.0,
    definition="share of test rows classified correctly (eq. 1); means are over all trials, "
    "collapsed or not; with one chain the interval covers the test images of these classifiers "
    "alone",
    title="Acc",
    long="accuracy",
    axis="fraction correct",
    shown=Shown.HEADLINE | Shown.TERMINAL | Shown.FIGURES | Shown.ARMS,
)
ACCURACY_REWEIGHTED = _rate(
    "accuracy_reweighted",
    ideal=1.0,
    definition="sum over classes of class share x sum over subgroups of training share x TPR",
)
TPR = _rate("tpr", ideal=1.0, definition="share of a subgroup's test rows classified correctly")
SUPPORT = _count("support", "test rows", definition="test rows of a class and subgroup")
MEO = metric(
    "meo",
    "fraction",
    1.0,
    range=(-1.0, 1.0),
    definition="1 - mean over subgroup pairs of |TPR_i - TPR_j| (eq. 2)",
    title="MEO",
    shown=Shown.TERMINAL | Shown.FIGURES | Shown.ARMS,
    reads=Reads.RATES,
    pairs=True,
)(fairness.meo)
DI = metric(
    "di",
    "ratio",
    1.0,
    range=(-inf, 1.0),
    definition="1 - mean over ordered pairs of |TPR_i / TPR_j - 1| (eq. 3)",
    title="DI",
    shown=Shown.FIGURES,
    reads=Reads.RATES,
    pairs=True,
    least=FEWEST,
)(fairness.di)
DI_MIN_MAX = metric(
    "di_min_max",
    "ratio",
    1.0,
    range=(0.0, 1.0),
    definition="smallest over largest subgroup TPR",
    reads=Reads.RATES,
)(fairness.di_min_max)
DI_UNDEFINED = declared(
    "di_undefined",
    "classes",
    0.0,
    range=(0.0, inf),
    definition="classes without a DI because a subgroup's TPR is zero",
)
MD = metric(
    "md",
    "fraction",
    0.0,
    range=(0.0, 1.0),
    definition="largest minus smallest subgroup TPR (eq. 4)",
    title="MD",
    shown=Shown.HEADLINE | Shown.TERMINAL | Shown.FIGURES | Shown.ARMS,
    reads=Reads.RATES,
)(fairness.md)
RANKED_ACCURACY = _rate(
    "ranked_accuracy",
    ideal=None,
    definition="accuracy at rank k within each class, ascending, mean over classes (eq. 5)",
)
RANKED_CROSS_FITTED = _rate(
    "ranked_cross_fitted",
    ideal=None,
    definition="eq. 5 with ranks from one half of the test images at generation 0, accuracy on the "
    "other, halves swapped and averaged",
)
RANKED_CROSS_FITTED_SLOPE = declared(
    "ranked_cross_fitted_slope",
    "fraction per generation",
    None,
    range=(-1.0, 1.0),
    definition="least-squares slope of ranked_cross_fitted over generations, within chain and "
    "seed; a run that lacks a generation (collapsed there) is left out",
)
WORST_SUBGROUP = metric(
    "worst_subgroup",
    "fraction",
    1.0,
    range=(0.0, 1.0),
    definition="smallest subgroup TPR",
    title="worst subgroup's accuracy",
    least=FEWEST,
)(fairness.worst)
LOG_ODDS_GAP = metric(
    "log_odds_gap",
    "logit",
    0.0,
    range=(0.0, inf),
    definition="largest minus smallest subgroup log((s + 1/2)/(n - s + 1/2))",
    reads=Reads.LOG_ODDS,
)(fairness.md)
LOG_ODDS_GAP_MEAN = metric(
    "log_odds_gap_mean",
    "logit",
    0.0,
    range=(0.0, inf),
    definition="mean over subgroup pairs of the difference of those log odds",
    reads=Reads.LOG_ODDS,
)(fairness.mean_gap)
_of_rest = partial(metric, reads=Reads.AGAINST_REST, range=(0.0, 1.0))
EQUALIZED_ODDS_DIFFERENCE = _of_rest(
    "equalized_odds_difference",
    "fraction",
    0.0,
    definition="larger of the gaps (largest minus smallest subgroup) of true and of false positive "
    "rate of a class against the rest; mean over classes. Of two classes both have the same: "
    "fairlearn's number",
)(fairness.equalized_odds_difference)
DEMOGRAPHIC_PARITY_DIFFERENCE = _of_rest(
    "demographic_parity_difference",
    "fraction",
    0.0,
    definition="largest minus smallest share of a subgroup's test rows that a class is predicted "
    "for; mean over classes. A class's own: fairlearn's with that class as the positive one",
)(fairness.demographic_parity_difference)
DEMOGRAPHIC_PARITY_RATIO = _of_rest(
    "demographic_parity_ratio",
    "ratio",
    1.0,
    definition="smallest over largest of these shares; mean over classes. A class's own: "
    "fairlearn's",
)(fairness.demographic_parity_ratio)
DBA_AT = metric(
    "dba_at",
    "fraction",
    0.0,
    range=(-1.0, 1.0),
    definition="directional bias amplification from subgroup to class (A->T, Wang and Russakovsky "
    "2021): mean over classes t and subgroups a of y (P(predicted t | a) - P(t | a)) over test "
    "rows, y = 1 where t and a come together more often than apart in the original training data, "
    "else -1; not there where they hold no such association (shares within .02)",
    title="DBA A->T",
    reads=Reads.AGAINST_REST,
)(fairness.dba_at)
GAP_VARIANCE = declared(
    "gap_variance",
    "fraction^2",
    0.0,
    range=(-1.0, 1.0),
    definition="unbiased estimate of gap_rms squared; may be negative",
    within_class=True,
    least=FEWEST,
)
GAP_RMS = _rate(
    "gap_rms",
    ideal=0.0,
    definition="standard deviation of the true subgroup TPR within a class, by variance "
    "components; root of the mean variance",
    within_class=True,
    least=FEWEST,
)
ABLATION_ACCURACY = _rate(
    "ablation_accuracy",
    ideal=None,
    definition="accuracy with the object taken out of the test images, over those where it can be",
    long="accuracy under ablation",
    axis="fraction correct",
)
ABLATION_DROP = declared(
    "ablation_drop",
    "fraction",
    None,
    range=(-1.0, 1.0),
    definition="clean minus ablated accuracy on the same images; the larger, the less a classifier "
    "relies on spurious cues, but a lower clean accuracy alone shrinks it",
    title="Drop",
    long="drop",
    axis="clean minus ablated",
)
ABLATION_DROP_RELATIVE = declared(
    "ablation_drop_relative",
    "ratio",
    None,
    range=(-inf, inf),
    definition="ablation_drop over clean accuracy less chance 1/C; 1: at chance without the object",
    title="Rel. drop",
    long="relative drop",
    axis="drop / (clean − chance)",
)
ABLATION_UNDEFINED = _count(
    "ablation_undefined",
    "test rows",
    definition="test images in which an ablation is not defined",
)
RELATIVE_FOREGROUND_SENSITIVITY = declared(
    "relative_foreground_sensitivity",
    "ratio",
    1.0,
    range=(-1.0, 1.0),
    definition="accuracy with noise beside the object minus with noise on it, over the largest "
    "such difference at their mean",
)
FLIPS_LOST = _rate(
    "flips_lost",
    ideal=None,
    definition="share of test rows correct at generation 0 and wrong now",
)
FLIPS_GAINED = _rate(
    "flips_gained",
    ideal=None,
    definition="share of test rows wrong at generation 0 and correct now",
)
MCNEMAR_P = declared(
    "mcnemar_p",
    "probability",
    None,
    range=(0.0, 1.0),
    definition="exact McNemar test of lost = gained",
)
COLLAPSED = _rate(
    "collapsed",
    ideal=0.0,
    definition="1 where the classifier is at chance; in means: share collapsed",
)
_state = partial(_rate, ideal=0.0)
BY_SHORTCUT = _state(
    "by_shortcut",
    definition="1 where a trial decides by the shortcut: the largest total variation between the "
    "predictions of two subgroups of a class is above .8, in one of two classes or in the mean of "
    "more (`end_states`); in means: share of trials",
)
ONE_CLASS = _state(
    "one_class",
    definition="1 where a trial predicts one class for 95 % of the test rows; in means: share",
)
AT_CHANCE = _state(
    "at_chance",
    definition="1 where a trial's mean rate over classes is what guessing reaches, and it is in no "
    "other end state; in means: share. A trial in none of the three is working",
)
TRIALS = _count("trials", "trials", definition="trials behind a mean of fairness (not collapsed)")
TRIALS_ACCURACY = _count(
    "trials_accuracy",
    "trials",
    definition="trials behind a mean of accuracy (collapsed or not)",
)
CHAINS = _count(
    "chains",
    "chains",
    definition="chains with a trial behind a mean of fairness (not collapsed)",
)
DIFFICULTY = _count(
    "difficulty",
    "logit",
    definition="standard deviation of the test images' own logits, from generation 0: the scale on "
    "which the level part of a change is taken; missing where nothing shows it (one trial, each "
    "image shown once), and then 0 is used",
)

# --- of generators -------------------------------------------------------------------------------

_of_generators = partial(declared, about=About.GENERATORS)
_share = partial(_of_generators, unit="fraction", range=(0.0, 1.0))

SAMPLES = _of_generators(
    "samples",
    "images",
    None,
    range=(0.0, inf),
    definition="generated images behind a generator metric",
)
FID = _of_generators(
    "fid",
    "distance",
    0.0,
    range=(0.0, inf),
    definition="Frechet distance on Inception-V3, published weights (eq. 1)",
    shown=Shown.QUALITY,
)
FRECHET_DISTANCE = _of_generators(
    "frechet_distance",
    "distance",
    0.0,
    range=(0.0, inf),
    definition="Frechet distance on named features",
    shown=Shown.QUALITY,
)
KID = _of_generators(
    "kid",
    "distance",
    0.0,
    range=(-inf, inf),
    definition="unbiased cubic-kernel MMD^2 on Inception-V3, published weights; over the full sets",
    shown=Shown.QUALITY,
)
KERNEL_DISTANCE = _of_generators(
    "kernel_distance",
    "distance",
    0.0,
    range=(-inf, inf),
    definition="cubic-kernel MMD^2, named features",
    shown=Shown.QUALITY,
)
FRECHET_RELATIVE = metric(
    "frechet_relative",
    "fraction",
    1.0,
    range=(0.0, 1.0),
    definition="Frechet distance of held-out real images to the original ones, over that of as "
    "many generated images, cut at 1",
    reads=Reads.FEATURES,
)(fidelity.frechet_relative)
LABEL_FIDELITY = _share(
    "label_fidelity",
    ideal=1.0,
    definition="share of generated images that the judge gives their label",
    long="label fidelity",
    shown=Shown.QUALITY | Shown.KEPT,
)
PRECISION = _share(
    "precision",
    ideal=None,
    definition="share of generated images inside the real k-NN balls",
    shown=Shown.QUALITY,
)
RECALL = _share(
    "recall",
    ideal=None,
    definition="share of real images inside the generated k-NN balls",
    shown=Shown.QUALITY,
)
DENSITY = _of_generators(
    "density",
    "ratio",
    1.0,
    range=(0.0, inf),
    definition="mean real balls around a generated image, / k",
    shown=Shown.QUALITY,
)
COVERAGE = _share(
    "coverage",
    ideal=1.0,
    definition="share of real k-NN balls that hold a generated image",
    shown=Shown.QUALITY,
)
JUDGE_ACCURACY = _share(
    "judge_accuracy",
    ideal=None,
    definition="the judge's own accuracy on held-out real images: what label fidelity can reach",
)
CAS = _share(
    "cas",
    ideal=1.0,
    definition="classification accuracy score: accuracy on held-out real images of the judge's "
    "network trained on generated images alone",
)
CAS_RELATIVE = _share(
    "cas_relative",
    ideal=1.0,
    definition="the same over the judge's own accuracy there, cut at 1",
)
MEMORISED = _share(
    "memorised",
    ideal=0.01,
    definition="share of generated images nearer to a training image than 99 % of held-out ones "
    "are",
    shown=Shown.QUALITY,
)
NEAREST_NEIGHBOUR_RATIO = _of_generators(
    "nearest_neighbour_ratio",
    "ratio",
    1.0,
    range=(0.0, inf),
    definition="median distance to the nearest training image, over held-out's",
    shown=Shown.QUALITY,
)
SUBGROUP_SHARE = _share(
    "subgroup_share",
    ideal=None,
    definition="share of a subgroup within a class of generated images",
)
NONE_CLEAR = _share(
    "none_clear",
    ideal=0.0,
    definition="share of generated images with no clear subgroup; they are left out of all shares",
    shown=Shown.QUALITY,
)
Q = _share(
    "q",
    ideal=1.0,
    definition="F1 of precision and coverage, each relative to held-out real images, cut at 1; a "
    "perfect generator reads .97 +- .03, so that 1 - q of .03 is noise",
    shown=Shown.QUALITY | Shown.KEPT,
)
U = _of_generators(
    "u",
    "total variation",
    0.0,
    range=(-1.0, 1.0),
    definition="mean over classes of the total variation (TV) between within-class subgroup shares "
    "of readable generated images and of the original data, less what sampling adds to it at the "
    "true TV; 0 on average for a perfect generator, and negative as often as positive. Shares "
    "that are set by design (queue.tilt) have no sampling: plain TV, no interval",
    shown=Shown.QUALITY | Shown.KEPT,
)
U_SIGNED = _of_generators(
    "u_signed",
    "fraction",
    0.0,
    range=(-1.0, 1.0),
    definition="change of the majority subgroup's share, mean over classes",
    shown=Shown.QUALITY | Shown.KEPT,
)
U_TOTAL_VARIATION = _share(
    "u_total_variation",
    ideal=0.0,
    definition="TV as it is counted, sampling included",
)
DBA_TA = _of_generators(
    "dba_ta",
    "fraction",
    0.0,
    range=(-1.0, 1.0),
    definition="directional bias amplification from class to subgroup (T->A): mean over classes t "
    "and subgroups a of y (P(a | t) of readable generated images - P(a | t) of original ones), y "
    "and when it is there as of dba_at",
    title="DBA T->A",
)
KEPT_FRACTION = _share(
    "kept_fraction",
    ideal=None,
    definition="share of generated images that the filter kept",
)

# --- of equation 6 -------------------------------------------------------------------------------

_growth = partial(declared, unit="ratio", ideal=None, range=(0.0, inf), about=About.EQUATION_6)

AMPLIFICATION = _growth(
    "A",
    definition="bias amplification of eq. 6: B(t+1)/B(t) at generation t; without generation its "
    "geometric mean",
)
AMPLIFICATION_RATIO = _growth(
    "A_ratio",
    definition="A over that of the arm no_synthetic, by chain; 1: no difference",
)
AMPLIFICATION_FILLED = _growth(
    "A_filled",
    definition="A over the steps whose queue is filled: the dose stays the same",
)
REST_POINT = declared(
    "rest_point",
    "fraction",
    None,
    range=(0.0, 1.0),
    definition="B* = a / (1 - b) of B(t+1) = a + b B(t): where B would come to rest; not there "
    "where the interval of b does not lie below 1",
    title="rest point",
    about=About.EQUATION_6,
)

# --- keys of stages ------------------------------------------------------------------------------

FOUNDING: Mapping[About, tuple[str, ...]] = {
    About.CLASSIFIERS: (
        "accuracy", "accuracy_reweighted", "tpr", "support", "meo", "di", "di_min_max",
        "di_undefined", "md", "ranked_accuracy", "ranked_cross_fitted", "ranked_cross_fitted_slope",
        "worst_subgroup", "log_odds_gap", "log_odds_gap_mean", "gap_variance", "gap_rms",
        "ablation_accuracy", "ablation_drop", "ablation_drop_relative", "ablation_undefined",
        "relative_foreground_sensitivity", "flips_lost", "flips_gained", "mcnemar_p", "collapsed",
        "trials", "trials_accuracy", "chains", "difficulty",
    ),
    About.GENERATORS: (
        "samples", "fid", "kid", "frechet_distance", "kernel_distance", "frechet_relative",
        "precision", "recall", "density", "coverage", "label_fidelity", "judge_accuracy", "cas",
        "cas_relative", "memorised", "nearest_neighbour_ratio", "subgroup_share", "none_clear", "u",
        "u_total_variation", "u_signed", "q", "kept_fraction",
    ),
    About.EQUATION_6: ("A", "A_ratio", "A_filled"),
}  # fmt: skip
"""The metrics, all at version 1, that the stages' own versions stood for when metrics entered keys:
what was published before must keep its name. Never to be added to."""


def in_key(*about: About) -> dict[str, Any]:
    """What a stage that computes these adds to its key: ``metrics``, name -> version (0: gone) of
    those that are not as its own version stands for; nothing where all are."""
    now = {m.name: m.version for m in METRICS.values() if m.about in about}
    known = {name: 1 for kind in about for name in FOUNDING[kind]}
    changed = {n: now.get(n, 0) for n in {**known, **now} if now.get(n, 0) != known.get(n)}
    return {"metrics": changed} if changed else {}


# --- the page of documentation -------------------------------------------------------------------

_PAGE = """# Metrics

Every number of `results.parquet`, by the name in its column `metric`. Written from the registry,
`ray_selfloop/evaluation/metrics.py`, by

    python -m ray_selfloop.evaluation.metrics > docs/metrics.md

*shown*: where a person meets it beside the table and the report's definitions: in the terminal's
overview (headline) and its tables of each generation (terminal), as a panel and a column of the
report (figures), where arms are compared (arms), in the report's block on generated data (quality),
there for kept and queued images too (kept). *version*: raised when the number's meaning changes,
which gives the stage that computes it another key.
"""
_HEADINGS = {
    About.CLASSIFIERS: "Of classifiers",
    About.GENERATORS: "Of generated images",
    About.EQUATION_6: "Of equation 6",
}


def page() -> Iterator[str]:
    yield from _PAGE.splitlines()
    for about, heading in _HEADINGS.items():
        yield from ("", f"## {heading} (stage `{about.value}`)", "")
        yield "| metric | unit | ideal | range | what it is | shown | version |"
        yield "|---|---|---|---|---|---|---|"
        yield from (_line(m) for m in METRICS.values() if m.about is about)
    yield from ("", "## Keys and intervals", "", *(__doc__ or "").split("\n\n", 2)[2].splitlines())


def _line(one: Metric[..., Any]) -> str:
    low, high = (f"{end:g}" for end in one.range)
    ideal = "" if one.ideal is None else f"{one.ideal:g}"
    where = ", ".join(part.name.lower() for part in Shown if part & one.shown and part.name)
    name = f"`{one.name}`" + (f" ({one.long})" if one.long != one.name else "")
    what = one.definition.replace("|", "\\|")
    return f"| {name} | {one.unit} | {ideal} | {low} to {high} | {what} | {where} | {one.version} |"


if __name__ == "__main__":
    sys.stdout.write("\n".join(page()) + "\n")
