"""The minimum detectable effect: closed forms, monotony, and a simulation of the experiment."""

from dataclasses import replace

import arm_worlds
import numpy as np
import pytest
from scipy.special import expit, logit

from ray_selfloop.config.claims import Claims
from ray_selfloop.config.dataset import (
    Breeds,
    Cifar,
    ColorizedDigits,
    ColorizedMnist,
    HardImageNet,
)
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.dynamics import power
from ray_selfloop.dynamics.contrasts import effect
from ray_selfloop.evaluation import fairness
from ray_selfloop.evaluation.tallies import resampled

SETTINGS = Evaluation(claims=Claims(chain_sd=0.02))


# --- sizes ---------------------------------------------------------------------------------------


def test_known_test_sets_have_their_sizes():
    mnist = power.known_size(ColorizedMnist())
    assert (mnist.images, mnist.crossed, mnist.pooled) == (10_000, True, True)
    assert mnist.counts.shape == (10, 3)
    assert power.known_size(ColorizedMnist(limit_test=2000)).images == pytest.approx(2000)
    cifar = power.known_size(Cifar())
    assert (cifar.images, cifar.crossed, cifar.pooled) == (10_000, False, False)
    assert power.known_size(Cifar(superclasses=("fish", "people"))).counts.shape == (2, 5)
    assert power.known_size(ColorizedDigits()).images == 360
    assert power.known_size(object()) is None


def test_the_pictures_of_imagenet_are_fifty_of_each_class_or_subclass():
    hard = power.known_size(HardImageNet())
    assert (hard.images, hard.counts.shape, hard.masked) == (750, (15, 1), True)
    assert power.known_size(HardImageNet(classes=("ski", "patio"))).images == 100
    assert power.known_size(HardImageNet(limit_test=150)).images == pytest.approx(150)
    for benchmark, classes in (("living17", 17), ("nonliving26", 26)):
        breeds = power.known_size(Breeds(benchmark=benchmark))
        assert (breeds.counts == 50).all()
        assert (breeds.counts.shape, breeds.pooled, breeds.masked) == ((classes, 4), False, False)
    assert power.known_size(Breeds(limit_test=340)).images == pytest.approx(340)


def test_random_colours_have_the_training_shares():
    rotated = power.known_size(ColorizedDigits(initialization="spurious", test_colours="random"))
    assert not rotated.pooled
    assert not rotated.crossed
    shares = rotated.counts / rotated.counts.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.sort(shares, axis=1), np.tile([0.1, 0.2, 0.7], (10, 1)))
    assert len(set(shares.argmax(axis=1))) == 3


def test_the_known_size_of_digits_is_that_of_the_scans():
    from ray_selfloop.data import digits

    _, (_, labels) = digits.scans()
    counts = np.bincount(labels)
    assert counts.sum() == power.known_size(ColorizedDigits()).images
    assert np.abs(counts - power.DIGITS_TEST).max() <= 1


# --- formulas ------------------------------------------------------------------------------------


def test_the_formula_for_accuracy():
    size = power.TestSize(np.full((10, 2), 50.0), False, True)
    settings = Claims(image_correlation=0.3)
    found = power.image_variance(size, 0.8, 2, settings)["accuracy"]
    assert found == pytest.approx(2 * 0.7 * 0.8 * 0.2 / (1000 * 2))


def test_a_drop_has_the_noise_of_two_accuracies():
    size = power.known_size(HardImageNet())
    settings = Claims(image_correlation=0.3, ablated_accuracy=0.6)
    found = power.image_variance(size, 0.9, 2, settings)
    assert set(found) == {"accuracy", power.DROP}  # no subgroups, no gaps
    assert found[power.DROP] == pytest.approx(2 * 0.7 * (0.9 * 0.1 + 0.6 * 0.4) / (750 * 2))
    assert found["accuracy"] == pytest.approx(2 * 0.7 * 0.9 * 0.1 / (750 * 2))


def test_the_sentences_speak_of_the_drop_where_there_are_masks_and_of_gaps_in_subgroups():
    hard, breeds = (
        power.sentences(power.known_size(data), 0.9, 3, 1, SETTINGS)
        for data in (HardImageNet(), Breeds())
    )
    assert "ablation drop 0.0" in hard[0]
    assert "md" not in hard[0]
    assert "assumed: accuracy 0.900, without the object 0.700, sd between" in hard[2]
    assert all(f"{metric} 0.0" in breeds[0] for metric in ("accuracy", "md", "meo"))
    assert "object" not in breeds[2]


def test_more_chains_seeds_and_images_detect_less():
    size = power.known_size(Cifar())
    quarter = power.known_size(Cifar(limit_test=2500))

    def md(size, chains, seeds):
        found = power.plan_effects(size, 0.6, chains, seeds, SETTINGS)
        return {one.metric: one.mde for one in found}["md"]

    assert md(size, 10, 1) < md(size, 3, 1) < md(quarter, 3, 1)
    assert md(size, 3, 3) < md(size, 3, 1)
    assert md(size, 1, 1) == float("inf")


def test_the_chains_needed_are_the_fewest_that_do():
    size = power.known_size(ColorizedMnist())
    for found in power.plan_effects(size, 0.98, 3, 1, SETTINGS):
        v = power.image_variance(size, 0.98, 1, SETTINGS.claims, SETTINGS.seed)[found.metric]
        needed = found.chains_needed
        assert power.mde(v, needed, SETTINGS) <= found.margin < power.mde(v, needed - 1, SETTINGS)
    few = Evaluation(claims=Claims(chain_sd=0.02, most_chains=5))
    assert power.plan_effects(size, 0.98, 3, 1, few)[0].chains_needed is None


def test_the_sentences_name_effects_chains_and_assumptions():
    said = power.sentences(power.known_size(Cifar()), 0.6, 3, 2, SETTINGS)
    assert len(said) == 3
    assert said[0].startswith("minimum detectable effect (3 chains; treatment - no_synthetic")
    assert all(metric in said[0] for metric in ("accuracy 0.0", "md 0.", "meo 0."))
    assert "sd between chains 0.02" in said[2]
    assert "10000 test images, 2 classifier seeds" in said[2]
    assert "1 chain gives no verdict" in power.sentences(power.known_size(Cifar()), 0.6, 1, 2,
                                                         SETTINGS)[0]  # fmt: skip
    assert power.sentences(None, 0.6, 3, 2, SETTINGS) == [
        "minimum detectable effect: not known, the test set's size is not known yet"
    ]


# --- the experiment itself -----------------------------------------------------------------------

IMAGES, BEST, CHAINS = 900, 0.8, 4  # images of 4 classes and 3 subgroups, rate of the best subgroup
CENTRE = 1.17 * logit(BEST)  # mean logit of an image where difficulties have sd 1


@pytest.fixture(scope="module")
def world():
    """The test set, and what is assumed of it: the correlation is that of such difficulties."""
    rows = np.arange(IMAGES)
    crossed = arm_worlds.crossed(IMAGES // 3, 3)
    test = replace(crossed, crossed=False, units=rows)
    p = expit(CENTRE + np.random.default_rng(0).standard_normal(100_000))
    assert p.mean() == pytest.approx(BEST, abs=0.01)
    correlation = p.var() / (p.mean() * (1 - p.mean()))
    settings = Evaluation(claims=Claims(chain_sd=0.02, image_correlation=correlation))
    return test, power.TestSize(np.full((4, 3), IMAGES / 12), False, True), settings


def test_a_drop_of_the_planned_size_is_found_at_the_planned_power():
    rng, n, chains, hits, settings = np.random.default_rng(2), 750, 4, [], SETTINGS
    size = power.known_size(HardImageNet())
    planned = {one.metric: one.mde for one in power.plan_effects(size, 0.9, chains, 1, settings)}

    def right(image, accuracy):
        """Correctness of correlation 1/2 between classifiers: half of it is the image's own."""
        own = rng.random((chains, n)) < accuracy
        return np.where(rng.random((chains, n)) < 0.5**0.5, image < accuracy, own)

    for _ in range(400):
        easy, gone = rng.random(n), rng.random(n)
        wander = 0.02 * rng.standard_normal((chains, 1))
        lower = 0.7 - planned[power.DROP] - wander
        plus, less = (right(easy, 0.9) * 1.0 - right(gone, a) for a in (lower, 0.7))
        drawn = [np.arange(n), *rng.integers(n, size=(40, n))]
        draws = np.stack([(plus[:, d] - less[:, d]).mean(axis=1) for d in drawn])
        hits.append(effect(draws, 0.95).p_change() <= 0.05)
    assert 0.74 <= np.mean(hits) <= 0.87


def experiment(rng, test, shift):
    """Pooled MD, treatment minus control, ``(1 + R, chains)`` each.

    Rates are 0.8, 0.75, 0.7 but for ``shift``, by which the treatment lowers the last one. The gap
    is then about the assumed 0.2 in the treatment.
    """
    image = expit(CENTRE + rng.standard_normal(len(test.labels))) - 0.05 * test.subgroups
    correct = []
    for arm in (1, 0):
        for _ in range(CHAINS):
            lowered = arm * (shift + 0.02 * rng.standard_normal())
            p = np.clip(image - lowered * (test.subgroups == 2), 0, 1)
            correct.append(rng.random(len(p)) < p)
    tally = resampled(np.array(correct), test, 60, 0)
    md = fairness.md(fairness.ratio(tally.hits.sum(axis=-2), tally.support.sum(axis=-2)))
    return md[:, :CHAINS] - md[:, CHAINS:]


def test_an_effect_of_the_planned_size_is_found_at_the_planned_power(world):
    test, size, settings = world
    planned = {one.metric: one.mde for one in power.plan_effects(size, 0.75, CHAINS, 1, settings)}
    rng = np.random.default_rng(1)
    draws = [experiment(rng, test, planned["md"]) for _ in range(600)]
    assert 0.75 <= np.mean([effect(d, 0.95).p_change() <= 0.05 for d in draws]) <= 0.85
    assert np.mean([d[0].mean() for d in draws]) == pytest.approx(planned["md"], rel=0.1)
