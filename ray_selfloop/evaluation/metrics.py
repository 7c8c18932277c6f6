"""Every metric key of the results table: its unit, ideal value, range and definition.

How keys are put together, in this order:
    ``<metric>[_<reading>][_<change>][_floor]``, ``<metric>/<features>`` or
    ``<metric>[_<change>]/<ablation>``
reading: ``pooled`` (rates over all classes together) or ``per_class`` (within each class, then the
    mean over classes); without a reading: the one that applies to the dataset. ``by_share_rank``:
    subgroups of all classes pooled by the rank of their training share (rotated colours).
change: ``change`` (since generation 0, within chain, seed and image), ``change_level`` (the part
    that the accuracy of each class explains, see `split`: every image's logit of a class moved
    alike, on the scale of ``difficulty``; with the noise of the test images, of which there is more
    or less at another accuracy; of ``ablation_drop`` the part that clean accuracy
    explains: the change at generation 0's relative drop) and ``change_distribution`` (the rest).
floor: the same number with subgroup labels permuted: value = mean, low and high = band.

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
from dataclasses import dataclass, replace
from functools import cache
from math import inf

READINGS = ("pooled", "per_class", "by_share_rank")
CHANGES = ("change_level", "change_distribution", "change")
FEWEST = 20  # test images in a cell: see `Metric.least`
GAP = "best minus worst"  # subgroup of the last rank less the first


@dataclass(frozen=True)
class Metric:
    """unit: of the value; ideal: best value, None where none is better; range: closed bounds.

    least: fewest test images in the smallest cell behind the number (of a subgroup and class; of a
    subgroup where pooled) at which an interval over test images alone, of one trial or one chain,
    covers what it says (benchmarks/interval_coverage.py); with fewer it is left out.
    """

    unit: str
    ideal: float | None
    range: tuple[float, float]
    definition: str
    least: int = 0


def _rate(ideal: float | None, definition: str) -> Metric:
    return Metric("fraction", ideal, (0.0, 1.0), definition)


METRICS: dict[str, Metric] = {
    "accuracy": _rate(
        1.0,
        "share of test rows classified correctly (eq. 1); means are over all trials, collapsed or "
        "not; with one chain the interval covers the test images of these classifiers alone",
    ),
    "accuracy_reweighted": _rate(
        1.0, "sum over classes of class share x sum over subgroups of training share x TPR"
    ),
    "tpr": _rate(1.0, "share of a subgroup's test rows classified correctly"),
    "support": Metric("test rows", None, (0.0, inf), "test rows of a class and subgroup"),
    "meo": Metric(
        "fraction", 1.0, (-1.0, 1.0), "1 - mean over subgroup pairs of |TPR_i - TPR_j| (eq. 2)"
    ),
    "di": Metric(
        "ratio",
        1.0,
        (-inf, 1.0),
        "1 - mean over ordered pairs of |TPR_i / TPR_j - 1| (eq. 3)",
        least=FEWEST,
    ),
    "di_min_max": Metric("ratio", 1.0, (0.0, 1.0), "smallest over largest subgroup TPR"),
    "di_undefined": Metric(
        "classes", 0.0, (0.0, inf), "classes without a DI because a subgroup's TPR is zero"
    ),
    "md": _rate(0.0, "largest minus smallest subgroup TPR (eq. 4)"),
    "ranked_accuracy": _rate(
        None, "accuracy at rank k within each class, ascending, mean over classes (eq. 5)"
    ),
    "ranked_cross_fitted": _rate(
        None,
        "eq. 5 with ranks from one half of the test images at generation 0, accuracy on the "
        "other, halves swapped and averaged",
    ),
    "ranked_cross_fitted_slope": Metric(
        "fraction per generation",
        None,
        (-1.0, 1.0),
        "least-squares slope of ranked_cross_fitted over generations, within chain and seed; a run "
        "that lacks a generation (collapsed there) is left out",
    ),
    "worst_subgroup": replace(_rate(1.0, "smallest subgroup TPR"), least=FEWEST),
    "log_odds_gap": Metric(
        "logit", 0.0, (0.0, inf), "largest minus smallest subgroup log((s + 1/2)/(n - s + 1/2))"
    ),
    "log_odds_gap_mean": Metric(
        "logit", 0.0, (0.0, inf), "mean over subgroup pairs of the difference of those log odds"
    ),
    "gap_variance": Metric(
        "fraction^2",
        0.0,
        (-1.0, 1.0),
        "unbiased estimate of gap_rms squared; may be negative",
        least=FEWEST,
    ),
    "gap_rms": Metric(
        "fraction",
        0.0,
        (0.0, 1.0),
        "standard deviation of the true subgroup TPR within a class, "
        "by variance components; root of the mean variance",
        least=FEWEST,
    ),
    "ablation_accuracy": _rate(
        None, "accuracy with the object taken out of the test images, over those where it can be"
    ),
    "ablation_drop": Metric(
        "fraction",
        None,
        (-1.0, 1.0),
        "clean minus ablated accuracy on the same images; the larger, the less a classifier relies "
        "on spurious cues, but a lower clean accuracy alone shrinks it",
    ),
    "ablation_drop_relative": Metric(
        "ratio",
        None,
        (-inf, inf),
        "ablation_drop over clean accuracy less chance 1/C; 1: at chance without the object",
    ),
    "ablation_undefined": Metric(
        "test rows", None, (0.0, inf), "test images in which an ablation is not defined"
    ),
    "relative_foreground_sensitivity": Metric(
        "ratio",
        1.0,
        (-1.0, 1.0),
        "accuracy with noise beside the object minus with noise on it, over the largest such "
        "difference at their mean",
    ),
    "flips_lost": _rate(None, "share of test rows correct at generation 0 and wrong now"),
    "flips_gained": _rate(None, "share of test rows wrong at generation 0 and correct now"),
    "mcnemar_p": Metric("probability", None, (0.0, 1.0), "exact McNemar test of lost = gained"),
    "collapsed": _rate(0.0, "1 where the classifier is at chance; in means: share collapsed"),
    "trials": Metric(
        "trials", None, (0.0, inf), "trials behind a mean of fairness (not collapsed)"
    ),
    "trials_accuracy": Metric(
        "trials", None, (0.0, inf), "trials behind a mean of accuracy (collapsed or not)"
    ),
    "chains": Metric(
        "chains", None, (0.0, inf), "chains with a trial behind a mean of fairness (not collapsed)"
    ),
    "difficulty": Metric(
        "logit",
        None,
        (0.0, inf),
        "standard deviation of the test images' own logits, from generation 0: the scale on which "
        "the level part of a change is taken; missing where nothing shows it (one trial, each "
        "image shown once), and then 0 is used",
    ),
    "samples": Metric("images", None, (0.0, inf), "generated images behind a generator metric"),
    "fid": Metric(
        "distance", 0.0, (0.0, inf), "Frechet distance on Inception-V3, published weights (eq. 1)"
    ),
    "kid": Metric(
        "distance",
        0.0,
        (-inf, inf),
        "unbiased cubic-kernel MMD^2 on Inception-V3, published weights; over the full sets",
    ),
    "frechet_distance": Metric("distance", 0.0, (0.0, inf), "Frechet distance on named features"),
    "kernel_distance": Metric("distance", 0.0, (-inf, inf), "cubic-kernel MMD^2, named features"),
    "frechet_relative": _rate(
        1.0,
        "Frechet distance of held-out real images to the original ones, over that of as many "
        "generated images, cut at 1",
    ),
    "precision": _rate(None, "share of generated images inside the real k-NN balls"),
    "recall": _rate(None, "share of real images inside the generated k-NN balls"),
    "density": Metric("ratio", 1.0, (0.0, inf), "mean real balls around a generated image, / k"),
    "coverage": _rate(1.0, "share of real k-NN balls that hold a generated image"),
    "label_fidelity": _rate(1.0, "share of generated images that the judge gives their label"),
    "judge_accuracy": _rate(
        None, "the judge's own accuracy on held-out real images: what label fidelity can reach"
    ),
    "cas": _rate(
        1.0,
        "classification accuracy score: accuracy on held-out real images of the judge's "
        "network trained on generated images alone",
    ),
    "cas_relative": _rate(1.0, "the same over the judge's own accuracy there, cut at 1"),
    "memorised": _rate(
        0.01, "share of generated images nearer to a training image than 99 % of held-out ones are"
    ),
    "nearest_neighbour_ratio": Metric(
        "ratio", 1.0, (0.0, inf), "median distance to the nearest training image, over held-out's"
    ),
    "subgroup_share": _rate(None, "share of a subgroup within a class of generated images"),
    "none_clear": _rate(
        0.0, "share of generated images with no clear subgroup; they are left out of all shares"
    ),
    "u": Metric(
        "total variation",
        0.0,
        (-1.0, 1.0),
        "mean over classes of the total variation (TV) between within-class subgroup shares of "
        "readable generated images and of the original data, less what sampling adds to it at the "
        "true TV; 0 on average for a perfect generator, and negative as often as positive. Shares "
        "that are set by design (queue.tilt) have no sampling: plain TV, no interval",
    ),
    "u_total_variation": _rate(0.0, "TV as it is counted, sampling included"),
    "u_signed": Metric(
        "fraction", 0.0, (-1.0, 1.0), "change of the majority subgroup's share, mean over classes"
    ),
    "q": _rate(
        1.0,
        "F1 of precision and coverage, each relative to held-out real images, cut at 1; a perfect "
        "generator reads .97 +- .03, so that 1 - q of .03 is noise",
    ),
    "kept_fraction": _rate(None, "share of generated images that the filter kept"),
    "A": Metric(
        "ratio",
        None,
        (0.0, inf),
        "bias amplification of eq. 6: B(t+1)/B(t) at generation t; "
        "without generation its geometric mean",
    ),
    "A_ratio": Metric(
        "ratio", None, (0.0, inf), "A over that of the arm no_synthetic, by chain; 1: no difference"
    ),
    "A_filled": Metric(
        "ratio", None, (0.0, inf), "A over the steps whose queue is filled: the dose stays the same"
    ),
}


@cache
def base(key: str) -> str:
    """The METRICS entry behind a key of the table; raises KeyError for an unknown one."""
    name = key.split("/")[0].removesuffix("_floor")
    stem = re.sub(f"_({'|'.join(CHANGES)})$", "", name)
    for candidate in (name, stem, re.sub(f"_({'|'.join(READINGS)})$", "", stem)):
        if candidate in METRICS:
            return candidate
    raise KeyError(f"{key!r} is no metric of the results table")


@cache
def describe(key: str) -> Metric:
    """Unit, ideal value, range and definition of a key; a change has ideal None and wider range."""
    metric = METRICS[base(key)]
    if any(f"_{change}" in key for change in CHANGES):
        low, high = metric.range
        spread = (low - high, high - low)
        return replace(metric, ideal=None, range=spread, definition=f"change: {metric.definition}")
    return metric
