"""B of eq. 6 where there are masks and no subgroups: its definition, its floor, and the law behind
simulated predictions found again."""

from dataclasses import replace

import cue_worlds
import laws
import numpy as np
import pytest
from scipy.stats import binom

from ray_selfloop.config.evaluation import Dynamics, Evaluation
from ray_selfloop.equation6 import without_object
from ray_selfloop.equation6.amplification import NO_BIAS, Images, amplification
from ray_selfloop.equation6.bias import Labels, bias_series
from ray_selfloop.equation6.fit import CUES, fit
from ray_selfloop.equation6.laws import compare
from ray_selfloop.equation6.parameters import NO_U, parameters
from ray_selfloop.equation6.steps import Step
from ray_selfloop.evaluation.ablation.readings import defined, removed
from ray_selfloop.evaluation.classifier_rows import fairness_rows
from ray_selfloop.evaluation.predictions import without_subgroups

SETTINGS = Evaluation(resamples=60, permutations=40)
LIMIT = 4.0


def series_of(test, outcomes, settings=SETTINGS):
    (found,) = bias_series("hard", outcomes, test, settings)
    return found


def fitted(test, outcomes):
    return amplification(series_of(test, outcomes), 0.95, LIMIT)


# --- the definition ------------------------------------------------------------------------------


def test_b_is_one_minus_the_relative_drop():
    test, found = cue_worlds.law(0, 0.95, 0.6, chains=2, steps=2)
    signed, _, _ = without_object.squared(found, without_subgroups(test), SETTINGS)
    table = fairness_rows("hard", found, test, SETTINGS)
    drops = table[(table["metric"] == "ablation_drop_relative/object_gray") & table["seed"].notna()]
    drops = drops.sort_values(["loop_seed", "generation"])["value"]
    np.testing.assert_allclose(signed, 1 - drops, atol=1e-12)


def test_b_squared_is_unbiased_where_the_plain_square_is_not():
    settings, values, raw = Evaluation(resamples=20, permutations=20), [], []
    for seed in range(300):
        test, found = cue_worlds.law(
            seed, 1.0, 0.5, chains=1, steps=0, clean=0.7, classes=5, per_class=12
        )
        signed, squared, _ = without_object.squared(found, without_subgroups(test), settings)
        values.append(squared[0, 0])
        raw.append(signed[0] ** 2)
    error = np.std(values) / 300**0.5
    assert np.mean(values) == pytest.approx(0.25, abs=3 * error)
    assert np.mean(raw) > 0.25 + 3 * error


def test_pictures_in_which_the_object_cannot_be_taken_out_count_in_neither_accuracy():
    test, found = cue_worlds.law(1, 1.0, 0.6, chains=1, steps=0)
    lost = np.arange(len(test.labels)) % 7 == 0
    (o,) = found
    some = replace(o, ablated={"object_gray": np.where(lost, -1, o.ablated["object_gray"])})
    signed, _, _ = without_object.squared([some], without_subgroups(test), SETTINGS)
    clean, gone = (
        (p == test.labels)[~lost].mean() - 1 / 15 for p in (o.predictions, o.ablated["object_gray"])
    )
    assert signed[0] == pytest.approx(gone / clean)


def test_the_noise_of_accuracies_is_that_of_their_bootstrap():
    test, found = cue_worlds.law(2, 1.0, 0.6, chains=1, steps=0)
    settings = Evaluation(resamples=4000, permutations=20)
    where = defined(found, ["object_gray"])
    counts = removed("object_gray", found, without_subgroups(test), settings, where)
    drawn = np.cov(counts.ablated_accuracy[1:, 0], counts.clean_accuracy[1:, 0])
    size, gone, clean, both = (
        getattr(counts, name)[0, 0] for name in ("defined", "ablated", "clean", "both")
    )
    parts = {(0, 0): (gone, gone, gone), (1, 1): (clean, clean, clean), (0, 1): (both, gone, clean)}
    for at, rates in parts.items():
        assert float(without_object._noise(size, *rates)) == pytest.approx(drawn[at], rel=0.12)


def test_it_is_b_by_itself_where_there_are_no_subgroups_and_by_choice_elsewhere():
    test, found = cue_worlds.law(3, 1.0, 0.6, chains=2, steps=1)
    plain = series_of(test, found)
    assert not plain.subgroups
    assert not plain.inflated
    floored = SETTINGS.model_copy(update={"dynamics": Dynamics(bias="md")})
    np.testing.assert_array_equal(series_of(test, found, floored).squared, plain.squared)
    grouped = replace(
        test, subgroups=np.arange(len(test.labels)) // 15 % 2, subgroup_names=("l", "r"),
        train_shares=np.ones((15, 2)),
    )  # fmt: skip
    assert series_of(grouped, found).subgroups
    chosen = SETTINGS.model_copy(update={"dynamics": Dynamics(bias="without_object")})
    by_choice = series_of(grouped, found, chosen)
    np.testing.assert_allclose(by_choice.mean, plain.mean, rtol=0.01)
    assert not by_choice.subgroups


def test_without_ablated_predictions_there_is_no_series():
    test, found = cue_worlds.law(0, 1.0, 0.6, chains=2, steps=1)
    assert bias_series("hard", [replace(o, ablated={}) for o in found], test, SETTINGS) == []


def test_a_classifier_near_chance_has_no_b():
    test, found = cue_worlds.law(4, 1.0, 0.6, chains=2, steps=1)
    useless = found[-1].ablated["object_gray"] * 0 + (test.labels + 1) % 15
    last = replace(found[-1], predictions=useless)
    one = series_of(test, [*found[:-1], last])
    np.testing.assert_array_equal(one.seeds, [[1, 1], [1, 0]])
    assert np.isnan(one.squared[0, 1, 1])
    nobody = [replace(o, predictions=useless) for o in found]
    assert bias_series("hard", nobody, test, SETTINGS) == []


def test_the_order_of_images_and_trials_does_not_matter():
    test, found = cue_worlds.law(5, 0.9, 0.6, chains=2, steps=1)
    shuffle = np.random.default_rng(0).permutation(len(test.labels))
    moved = replace(test, labels=test.labels[shuffle], units=test.units[shuffle])
    turned = [
        replace(
            o,
            predictions=o.predictions[shuffle],
            ablated={kind: p[shuffle] for kind, p in o.ablated.items()},
        )
        for o in reversed(found)
    ]
    one, other = series_of(test, found), series_of(moved, turned)
    for part in ("squared", "square", "floor", "seeds"):
        np.testing.assert_allclose(getattr(one, part), getattr(other, part), atol=1e-9)


# --- the floor -----------------------------------------------------------------------------------


def test_at_chance_without_the_object_there_is_no_measurable_bias():
    nothing = [fitted(*cue_worlds.law(seed, 1.0, 0.0, steps=2)).verdict for seed in range(60)]
    assert nothing.count(NO_BIAS) >= 54


def test_the_floor_is_the_binomial_noise_of_an_accuracy_at_chance():
    test, found = cue_worlds.law(6, 1.0, 0.0, chains=1, steps=0)
    null = without_object.null(found, test, Evaluation(permutations=4000))[:, 0]
    clean = (found[0].predictions == test.labels).mean() - 1 / 15
    hits = np.arange(751)
    squares = ((hits / 750 - 1 / 15) ** 2 - (14 / 225) / 749) / clean**2
    order = np.argsort(squares)
    mass = binom.pmf(hits, 750, 1 / 15)[order].cumsum()
    for share in (0.8, 0.9, 0.975):
        expected = squares[order][np.searchsorted(mass, share)]
        assert np.mean(null <= expected * 1.001) == pytest.approx(share, abs=0.02)
    assert np.mean(null) == pytest.approx(0.0, abs=4 * null.std() / 4000**0.5)


def test_one_answer_to_every_picture_is_chance_without_noise():
    test, found = cue_worlds.law(7, 1.0, 0.6, chains=1, steps=0)
    always = replace(found[0], ablated={"object_gray": np.full(750, 3)})
    np.testing.assert_allclose(without_object.null([always], test, SETTINGS), 0.0, atol=1e-12)
    assert not series_of(test, [always]).measurable[0]


def test_seeds_and_chains_have_one_floor_between_them():
    """The same predictions in every trial: the floor of their mean is that of one of them."""
    test, found = cue_worlds.law(7, 1.0, 0.6, chains=1, steps=0)
    many = [replace(found[0], loop_seed=k, seed=s) for k in range(3) for s in range(2)]
    alone, mean = series_of(test, found), series_of(test, many)
    np.testing.assert_allclose(mean.floor, alone.floor)


def test_less_than_chance_is_no_bias():
    test, found = cue_worlds.law(8, 1.0, 0.6, chains=2, steps=0)
    never = [replace(o, ablated={"object_gray": (test.labels + 1) % 15}) for o in found]
    one = series_of(test, never)
    assert one.mean[0] > 0.005
    assert not one.measurable[0]


# --- A -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("growth", [pytest.param(0.95, marks=pytest.mark.slow), 1.05])
def test_the_true_a_is_recovered_and_covered(growth):
    """100 studies of Hard ImageNet's size: 3 chains, 4 generations, clean accuracy falling."""
    studies = 100
    found = [fitted(*cue_worlds.law(seed, growth, 0.6, fade=0.02)) for seed in range(studies)]
    assert np.mean([f.a for f in found]) == pytest.approx(growth, abs=0.003)
    covered = sum(f.low <= growth <= f.high for f in found)
    assert 0.89 * studies <= covered <= 0.99 * studies  # nominal 0.95
    right = "A > 1" if growth > 1 else "A < 1"
    assert sum(f.verdict == right for f in found) >= 0.75 * studies
    assert all(f.verdict in (right, "undecided") for f in found)


def test_without_amplification_the_verdict_is_undecided():
    found = [fitted(*cue_worlds.law(seed, 1.0, 0.6, steps=2)).verdict for seed in range(50)]
    assert found.count("undecided") >= 44


def test_the_images_part_is_that_of_new_test_images():
    """A resample moves B^2 by a linear and a square part; what is made of them is the variance of
    B^2 over new test images, for a single chain with no noise of its own."""
    settings, values, parts = Evaluation(resamples=200, permutations=20), [], []
    for seed in range(150):
        test, found = cue_worlds.law(
            seed, 1.0, 0.3, chains=1, steps=0, clean=0.8, classes=5, per_class=20
        )
        one = series_of(test, found, settings)
        values.append(one.squared[0, 0, 0])
        images = Images.of(one, np.ones(1, bool))
        parts.append(images.variance(np.ones((1, 1, 1)))[0])
    assert np.mean(parts) == pytest.approx(np.var(values), rel=0.3)


# --- the parameters of eq. 6 ---------------------------------------------------------------------

DQ, D = 0.6, {"hard": 0.1, "other": 0.2}
G = {"a": 0.25, "b": 0.33}


def law(seed, known_q=True, other_has_u=False):
    """Two models on Hard ImageNet, and on a dataset with subgroups where wanted."""
    rng, factors, found = np.random.default_rng(seed), {}, []
    for i, (name, d) in enumerate(D.items() if other_has_u else [("hard", D["hard"])]):
        q, u = 1 - rng.uniform(0, 0.4, (3, 8)), rng.uniform(0, 0.3, (3, 8)) * (name == "other")
        for k, t in np.ndindex(3, 8):
            u_known = float(u[k, t]) if name == "other" else np.nan
            factors[(name, "", k, t)] = Step(float(q[k, t]) if known_q else np.nan, u_known)
        for j, (model, g) in enumerate(G.items()):
            a = (1 - g) * (1 + d + DQ * (1 - q) + 0.8 * u)
            bias = 0.5 * np.concatenate([np.ones((3, 1)), np.cumprod(a, axis=1)], axis=1)
            one = laws.series(name, model, bias, 10 * seed + 2 * i + j, noise=1e-4)
            found.append(replace(one, subgroups=name == "other"))
    return found, factors


def numbers(found, factors):
    return {(n.quantity, n.scope): n for n in parameters(found, factors, 0.95, Labels())}


def test_with_q_alone_d_q_is_identified_and_d_u_is_not_defined():
    hits, truth = 0, DQ / (1 + D["hard"])
    for seed in range(20):
        found = numbers(*law(seed))
        d_q, d_u = found["d_Q/(1+d_D)", "hard"], found["d_U/(1+d_D)", "hard"]
        hits += d_q.low <= truth <= d_q.high
        assert (d_u.note, np.isnan(d_u.value)) == (NO_U, True)
    assert hits >= 17


def test_with_neither_q_nor_u_models_are_still_compared():
    found = numbers(*law(0, known_q=False))
    ratio = found["(1-g[b])/(1-g[a])", "b"]
    assert ratio.low <= 0.67 / 0.75 <= ratio.high
    d_q = found["d_Q/(1+d_D)", "hard"]
    assert d_q.note == "not identified: q is not known for every observed step"
    assert found["d_U/(1+d_D)", "hard"].note == NO_U


def test_a_dataset_without_the_u_term_does_not_hide_that_of_another():
    found = numbers(*law(1, other_has_u=True))
    d_u = found["d_U/(1+d_D)", "other"]
    assert d_u.low <= 0.8 / 1.2 <= d_u.high
    assert found["d_U/(1+d_D)", "hard"].note == NO_U
    ratio = found["(1+d_D)/(1+d_D[hard])", "other"]
    assert ratio.low <= 1.2 / 1.1 <= ratio.high


def test_the_fit_says_what_b_is_and_that_there_is_no_u():
    found, factors = law(2)
    result = fit(found, factors, Evaluation(), Labels())
    assert all(CUES in v.note for v in result.verdicts)
    (eq6,) = (law for law in compare(found[0], factors, Evaluation()) if law.law == "eq6")
    assert "u is not defined: no subgroups" in eq6.note
    assert set(eq6.parameters) == {"(1-g)(1+d_D)", "d_Q/(1+d_D)"}


def test_a_fit_without_q_still_has_a_and_says_what_is_lost():
    test, outcomes = cue_worlds.law(9, 0.9, 0.7)
    result = fit([series_of(test, outcomes)], {}, SETTINGS, Labels())
    (verdict,) = result.verdicts
    assert verdict.found.low <= 0.9 <= verdict.found.high
    notes = {n.quantity: n.note for n in result.numbers}
    assert notes["d_U/(1+d_D)"] == NO_U
    assert "q is not known" in notes["d_Q/(1+d_D)"]
