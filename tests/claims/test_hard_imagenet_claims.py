"""What the paper says of Hard ImageNet and Breeds, on worlds whose truth is known."""

import arm_worlds
import cue_worlds
import numpy as np
import pytest

from ray_selfloop.claims.decomposition import DROPS
from ray_selfloop.claims.verdicts import claims
from ray_selfloop.config.claims import Claims
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.evaluation.predictions import KINDS

SETTINGS = Evaluation(resamples=100, permutations=20)
LOOSE = SETTINGS.model_copy(update={"claims": Claims(gap_margin=0.05)})
STILL = (0.0, 0.0)
RELATIVE = "performance drop under ablation"


def row(result, id_):
    (found,) = (c for c in result.claims if c.id == id_)
    return found


def judged(treatment, settings=SETTINGS, seed=0, **about):
    """Claims where the treatment adds this to (clean accuracy, B) per generation."""
    steps = {"treatment": treatment, "no_synthetic": STILL}
    return claims(cue_worlds.arms(seed, steps, **about), settings)


# --- reliance on spurious cues -------------------------------------------------------------------


@pytest.fixture(scope="module")
def object_needed():
    """Accuracy stays, and more and more of it needs the object."""
    return judged((0.0, -0.1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_drop_that_grows_is_less_reliance_on_spurious_cues(object_needed, kind):
    found = row(object_needed, f"hard-spurious-{kind}")
    assert (found.verdict, found.metric) == ("supported", f"ablation_drop/{kind}")
    assert found.low <= 0.1 * (0.9 - 1 / 15) <= found.high


def test_a_drop_that_shrinks_is_more_reliance():
    assert row(judged((0.0, 0.1)), "hard-spurious-object_gray").verdict == "contradicted"


def test_a_drop_that_clean_accuracy_alone_shrinks_is_explained_and_contradicts_nothing():
    found = judged((-0.08, 0.0), LOOSE, chains=4, per_class=200, kinds=("object_gray",))
    drop = row(found, "hard-spurious-object_gray")
    assert drop.high < 0
    assert drop.verdict == "ruled out"  # that it grows by the margin; it is no contradiction
    assert drop.level_high < 0 < drop.rest_high
    relative = {r.claim: r for r in found.readings if r.definition == RELATIVE}
    relative = relative["hard-spurious-object_gray (base)"]
    assert relative.verdict_other in ("undecided", "ruled out")


def test_the_relative_reading_sees_what_falling_accuracy_hides():
    # (a - 1/C)(1 - B) is 0.333 before and three generations later
    found = judged((-0.08, -0.054), chains=4, per_class=200, kinds=("object_gray",))
    drop = row(found, "hard-spurious-object_gray")
    assert abs(drop.value) < 0.01
    relative = {r.claim: r for r in found.readings if r.definition == RELATIVE}
    relative = relative["hard-spurious-object_gray (base)"]
    assert relative.verdict_used in ("undecided", "ruled out")
    assert relative.verdict_other == "supported"


def test_every_statement_on_hard_imagenet_is_tested(object_needed):
    quality = {"fid": {("", k, t): 50.0 + 30 * t + k for k in range(3) for t in (1, 2, 3)}}
    names = ("alexnet", "resnet50")
    found = judged((-0.05, 0.0), classifiers=names, quality=quality)
    accuracy = row(found, "hard-accuracy")  # "however, for smaller models ...": not of these
    assert [network.name for network in accuracy.networks] == ["resnet50"]
    assert accuracy.verdict == "supported"
    rise, stable = (row(found, f"hard-small-{part}") for part in ("rise", "stable"))
    assert [network.name for network in rise.networks] == ["alexnet"]
    assert (rise.estimand, stable.estimand) == ("2_minus_0", "last_minus_2")
    assert rise.verdict == "contradicted"
    fid = row(found, "hard_imagenet-images")
    assert (fid.verdict, fid.control) == ("supported", "")
    untested = row(object_needed, "hard_imagenet-images")
    assert untested.reason == "fid was not measured in this sweep"
    assert row(object_needed, "breeds-ranks").reason == "dataset not in this sweep: breeds"


def test_without_masks_there_is_no_drop_to_test():
    found = row(judged((0.0, -0.1), kinds=()), "hard-spurious-box_gray")
    assert (found.verdict, found.reason) == ("not tested", "no such reading of this dataset")


def test_the_parts_of_a_drop_add_up_to_its_total():
    steps = {
        "treatment": (0.0, -0.1),
        "no_synthetic": STILL,
        "held_out_real": (0.02, 0.0),
        "real_skewed": (0.0, 0.05),
        "unfiltered": (-0.02, -0.05),
    }
    found = claims(cue_worlds.arms(1, steps), SETTINGS)
    for metric in ("accuracy", *DROPS):
        each = {p.part: p.value for p in found.decomposition if p.metric == metric}
        rest = sum(value for part, value in each.items() if part != "total")
        assert rest == pytest.approx(each["total"], abs=1e-12)
    assert not any(p.metric in ("md", "meo") for p in found.decomposition)


# --- the worst subgroup of Breeds ----------------------------------------------------------------

SUBCLASSES = 4


def of_breeds(steps, seed=0, level=1.2):
    """The claim where the treatment adds this per generation to the logits of the four subclasses;
    the last one is the worst from the start."""
    world = arm_worlds.World(seed, images=800, groups=SUBCLASSES, level=level, gap=0.5)
    about = {"dataset": "breeds", "initialization": "", "pretrained": True, "chains": 4}
    found = claims(world.arms({"treatment": steps, "no_synthetic": 0.0}, **about), SETTINGS)
    return row(found, "breeds-ranks"), found


def slopes(claim):
    """Worst and best of the reason's end."""
    words = claim.reason.rpartition("; ")[2].replace(",", "").split()
    assert words[0::2][:2] == ["worst", "best"]
    return float(words[1]), float(words[3])


def test_the_worst_subgroup_falling_faster_is_the_steeper_slope():
    found, _ = of_breeds((-0.1, -0.1, -0.1, -0.5))
    assert found.verdict == "supported"
    worst, best = slopes(found)
    assert worst < best < 0 < found.value
    assert best - worst == pytest.approx(found.value, abs=2e-4)


def test_the_worst_subgroup_rising_faster_is_steeper_too_though_the_gap_shrinks():
    found, _ = of_breeds((0.1, 0.1, 0.1, 0.5))
    assert found.verdict == "supported"
    worst, best = slopes(found)
    assert worst > best > 0 > found.value


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_best_subgroup_moving_faster_contradicts(sign):
    found, _ = of_breeds((sign * 0.9, 0.0, 0.0, sign * 0.05))
    assert found.verdict == "contradicted"


def test_opposite_slopes_of_one_size_decide_nothing_however_fast_the_gap_grows():
    found, _ = of_breeds((0.6, 0.0, 0.0, -0.25), seed=1)
    worst, best = slopes(found)
    assert found.low > 0  # the gap alone would say: supported
    assert worst < 0 < best
    assert found.verdict == "undecided"


def test_equal_shifts_of_all_logits_are_steeper_for_the_worst_only_on_the_scale_of_rates():
    found, result = of_breeds((-0.4, -0.4, -0.4, -0.4), seed=2, level=2.8)
    assert found.verdict == "supported"
    (scale,) = (r for r in result.readings if r.definition == "scale of gaps" and
                r.claim.startswith("breeds-ranks"))  # fmt: skip
    assert scale.other == "log odds"
    assert scale.verdict_other != "supported"
    assert scale.changes


def test_both_slopes_stand_beside_a_verdict_that_is_not_there():
    found, _ = of_breeds((0.0, 0.0, 0.0, 0.0))
    assert found.verdict == "undecided"
    assert np.isfinite(slopes(found)).all()
