"""Uncertainty: closed forms of the measures, and dropout masks that belong to the sample."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy

from ray_selfloop.classifiers import zoo
from ray_selfloop.config.filter import Uncertainty
from ray_selfloop.filtering.scores import uncertainty as u

CPU = torch.device("cpu")
rng = np.random.default_rng(0)
IMAGES = rng.integers(0, 256, (50, 3, 8, 8), dtype=np.uint8)
IDS = rng.permutation(10_000)[:50].astype(np.int64)


def network(name: str = "lenet", seed: int = 0) -> zoo.Classifier:
    return zoo.build(name, 10, 8, False, 0.1, seed)


def test_measures_equal_their_closed_forms() -> None:
    p = np.random.default_rng(1).dirichlet(np.ones(5), size=(7, 40)).astype(np.float32)
    mean = p.mean(0)
    assert np.allclose(u.entropy(p), scipy_entropy(mean, axis=1), atol=1e-6)
    information = scipy_entropy(p.astype(float), mean[None].astype(float), axis=2).mean(0)
    assert np.allclose(u.bald(p), information, atol=1e-6)  # mean KL to the mean
    assert np.allclose(u.variance(p), ((p - mean) ** 2).mean(0).sum(1), atol=1e-6)


def test_measures_at_the_ends_of_their_ranges() -> None:
    sure = np.tile(np.eye(4, dtype=np.float32)[[0]], (3, 1, 1))
    assert (u.entropy(sure), u.bald(sure), u.variance(sure)) == (0.0, 0.0, 0.0)
    even = np.full((3, 1, 4), 0.25, np.float32)
    assert u.entropy(even) == pytest.approx(np.log(4))
    assert (u.bald(even), u.variance(even)) == (0.0, 0.0)
    at_odds = np.eye(4, dtype=np.float32)[:, None]
    assert u.entropy(at_odds) == u.bald(at_odds) == pytest.approx(np.log(4))
    assert u.variance(at_odds) == pytest.approx(0.75)


@pytest.mark.parametrize("name", ["lenet", "mobilenet_v3_small", "alexnet"])
def test_a_samples_result_does_not_depend_on_the_batch_it_is_in(name: str) -> None:
    settings = Uncertainty(passes=3, score_batch=16)
    net = [network(name)]
    whole = u.probabilities(net, IMAGES, IDS, settings, 0, CPU)
    assert whole.shape == (3, 50, 10)
    assert np.allclose(whole.sum(2), 1, atol=1e-5)
    part = u.probabilities(net, IMAGES[16:40], IDS[16:40], settings, 0, CPU)
    assert np.array_equal(part, whole[:, 16:40])
    order = np.random.default_rng(2).permutation(50)
    mixed = u.probabilities(net, IMAGES[order], IDS[order], settings, 0, CPU)
    assert np.allclose(mixed, whole[:, order], atol=1e-6)


def test_masks_change_with_seed_pass_and_sample_and_with_nothing_else() -> None:
    settings = Uncertainty(passes=4, score_batch=50)
    net = [network()]
    first = u.probabilities(net, IMAGES, IDS, settings, 0, CPU)
    torch.manual_seed(5)
    assert np.array_equal(first, u.probabilities(net, IMAGES, IDS, settings, 0, CPU))
    assert not np.array_equal(first, u.probabilities(net, IMAGES, IDS, settings, 1, CPU))
    assert not np.array_equal(first[0], first[1])
    same = np.repeat(IMAGES[:1], 50, axis=0)
    spread = u.probabilities(net, same, IDS, settings, 0, CPU)[0].std(axis=0)
    assert (spread > 0).all()


def test_units_are_kept_independently_at_the_asked_rate() -> None:
    kept = u.kept_units(np.arange(2000), 101, 0.3, 12345)
    assert kept.shape == (2000, 101)
    assert kept.mean() == pytest.approx(0.7, abs=0.005)
    assert np.abs(kept.mean(0) - 0.7).max() < 0.05
    correlation = np.corrcoef(kept.T) - np.eye(101)
    assert np.abs(correlation).max() < 0.12  # 5 standard errors of 1 / sqrt(2000)
    rows = np.corrcoef(kept[:200]) - np.eye(200)
    assert np.abs(rows).max() < 0.6
    assert len(np.unique(kept, axis=0)) == 2000


def test_many_masks_average_to_the_network_without_dropout() -> None:
    """Inverted dropout before a linear layer is unbiased in the logits."""
    tail = torch.nn.Sequential(torch.nn.Linear(64, 5))
    hidden = torch.rand(1, 64)
    ids = np.arange(4000)
    with torch.no_grad():
        many = u._masked_tail(tail, hidden.repeat(4000, 1), ids, [0.5], 3)
        plain = tail(hidden)
    error = many.std(0) / np.sqrt(4000)
    assert bool(((many.mean(0) - plain[0]).abs() < 5 * error).all())


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("lenet", {0.25: 1}),
        ("resnet50", {0.25: 1}),
        ("deit_s", {0.25: 1}),
        ("mobilenet_v3_small", {0.2: 1}),
        ("alexnet", {0.5: 2}),
        ("vgg19", {0.5: 2}),
    ],
)
def test_dropout_is_inserted_only_where_a_network_has_none(name: str, rates: dict) -> None:
    found = u._dropout_rates(network(name).tail, 0.25)
    assert {rate: found.count(rate) for rate in found if rate} == rates


def test_an_ensemble_is_one_plain_prediction_of_each_seed() -> None:
    nets = [network(seed=0), network(seed=1)]
    settings = Uncertainty(method="ensemble", score_batch=50)
    p = u.probabilities(nets, IMAGES, IDS, settings, 0, CPU)
    assert p.shape == (2, 50, 10)
    with torch.no_grad():
        for net, found in zip(nets, p, strict=True):
            x = net.normalised(torch.from_numpy(IMAGES))
            assert np.allclose(found, net(x).softmax(1).numpy(), atol=1e-6)
    two = Uncertainty(method="mc_dropout", passes=3, score_batch=50)
    assert u.probabilities(nets, IMAGES, IDS, two, 0, CPU).shape == (6, 50, 10)


def test_the_measure_is_the_named_one() -> None:
    p = np.random.default_rng(3).dirichlet(np.ones(3), size=(4, 9)).astype(np.float32)
    for name, function in (("entropy", u.entropy), ("bald", u.bald), ("variance", u.variance)):
        assert np.array_equal(u.MEASURES[Uncertainty(measure=name).measure](p), function(p))
