"""The cut: exact counts, stable ties, and an audit that adds up."""

import json

import numpy as np
import pytest
from scipy.stats import rankdata

from ray_selfloop.config.filter import Filter
from ray_selfloop.errors import StageError
from ray_selfloop.filtering import cut


def settings(**values: object) -> Filter:
    return Filter.model_validate(values)


def sample(n: int, seed: int, classes: int = 4):
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, n, p=rng.dirichlet(np.ones(classes)))
    scores = {"domain_clip_score": rng.normal(size=n), "uncertainty": rng.gamma(1, 1, n)}
    return scores, labels, rng.permutation(10 * n)[:n]


@pytest.mark.parametrize("drop", [0.0, 0.1, 0.3, 0.6, 0.97])
@pytest.mark.parametrize("score", ["clip", "uncertainty", "combined"])
def test_exactly_the_asked_number_goes_in_each_class_or_in_all(drop: float, score: str) -> None:
    for seed in range(5):
        scores, labels, ids = sample(317, seed)
        mask = cut.keep(scores, labels, ids, settings(score=score, drop=drop))
        for label in np.unique(labels):
            n = int((labels == label).sum())
            assert (~mask[labels == label]).sum() == round(drop * n)
        everywhere = cut.keep(scores, labels, ids, settings(score=score, drop=drop, cut="global"))
        assert (~everywhere).sum() == round(drop * 317)


def test_what_is_kept_scores_no_lower_than_what_is_dropped() -> None:
    scores, labels, ids = sample(300, 0)
    mask = cut.keep(scores, labels, ids, settings(score="clip", drop=0.3))
    for label in np.unique(labels):
        clip = scores["domain_clip_score"][labels == label]
        kept = mask[labels == label]
        assert clip[kept].min() >= clip[~kept].max()
    mask = cut.keep(scores, labels, ids, settings(score="uncertainty", drop=0.3, cut="global"))
    assert scores["uncertainty"][mask].max() <= scores["uncertainty"][~mask].min()


def test_the_order_of_the_rows_changes_nothing_even_with_ties() -> None:
    scores, labels, ids = sample(200, 1)
    scores = {name: np.round(column) for name, column in scores.items()}  # many ties
    order = np.random.default_rng(0).permutation(200)
    for kind in ("per_class", "global", "range"):
        chosen = settings(drop=0.3, cut=kind)
        mask = cut.keep(scores, labels, ids, chosen)
        shuffled = {name: column[order] for name, column in scores.items()}
        assert np.array_equal(cut.keep(shuffled, labels[order], ids[order], chosen), mask[order])


def test_among_equals_the_higher_sample_ids_go() -> None:
    ids = np.array([7, 3, 9, 1])
    flat = {"domain_clip_score": np.zeros(4)}
    mask = cut.keep(flat, np.zeros(4, int), ids, settings(score="clip", drop=0.5))
    assert sorted(ids[mask]) == [1, 3]


def test_combined_is_the_mean_of_both_ranks() -> None:
    scores, labels, _ = sample(120, 2)
    scores["uncertainty"] = np.round(scores["uncertainty"], 1)
    everywhere = cut.ranking(scores, labels, settings(cut="global"))
    clip, sure = scores["domain_clip_score"], -scores["uncertainty"]
    expected = (rankdata(clip) + rankdata(sure)) / 2 / 120
    assert np.allclose(everywhere, expected)
    within = cut.ranking(scores, labels, settings(cut="per_class"))
    for label in np.unique(labels):
        rows = labels == label
        expected = (rankdata(clip[rows]) + rankdata(sure[rows])) / 2 / rows.sum()
        assert np.allclose(within[rows], expected)


def test_an_increasing_transformation_of_a_score_changes_no_rank_cut() -> None:
    scores, labels, ids = sample(150, 3)
    other = dict(scores, domain_clip_score=np.exp(scores["domain_clip_score"]))
    for kind in ("per_class", "global"):
        chosen = settings(drop=0.4, cut=kind)
        first = cut.keep(scores, labels, ids, chosen)
        assert np.array_equal(first, cut.keep(other, labels, ids, chosen))


def test_the_range_cut_drops_whole_bins() -> None:
    values = np.linspace(0, 1, 98)  # none of them on an edge but the ends
    labels, ids = np.zeros(98, int), np.arange(98)
    mask = cut.keep({"domain_clip_score": values}, labels, ids,
                    settings(score="clip", drop=0.3, cut="range"))  # fmt: skip
    edges = np.linspace(0, 1, 11)
    assert np.array_equal(mask, np.digitize(values, edges[1:-1]) >= 3)
    skewed = np.array([0.0, 0.95, 0.96, 1.0])
    mask = cut.keep({"domain_clip_score": skewed}, labels[:4], ids[:4],
                    settings(score="clip", drop=0.9, cut="range"))  # fmt: skip
    assert mask.tolist() == [False, True, True, True]


def test_a_score_on_the_edge_of_a_dropped_bin_stays() -> None:
    values = np.array([0.0, 29.0, 30.0, 100.0])  # ten bins of 10, three of them go
    mask = cut.keep({"domain_clip_score": values}, np.zeros(4, int), np.arange(4),
                    settings(score="clip", drop=0.3, cut="range"))  # fmt: skip
    assert mask.tolist() == [False, False, True, True]


def test_no_score_keeps_everything() -> None:
    _, labels, ids = sample(50, 4)
    unfiltered = settings(score="none", drop=0.6)
    assert cut.keep({}, labels, ids, unfiltered).all()
    assert cut.drop_share(unfiltered) == 0.0
    assert unfiltered.scores == ()


@pytest.mark.parametrize("kind", ["per_class", "global", "range"])
def test_the_worst_and_a_draw_are_as_many_as_the_best(kind: str) -> None:
    scores, labels, ids = sample(300, 3)
    best = cut.keep(scores, labels, ids, settings(score="clip", drop=0.3, cut=kind))
    worst = cut.keep(scores, labels, ids, settings(score="clip", drop=0.3, cut=kind, keep="worst"))
    drawn = cut.keep(scores, labels, ids, settings(score="clip", drop=0.3, cut=kind, keep="random"))
    clip = scores["domain_clip_score"]
    assert worst.sum() == best.sum()
    np.testing.assert_array_equal(np.bincount(labels[drawn]), np.bincount(labels[best]))
    groups = labels if kind == "per_class" else np.zeros_like(labels)
    for group in np.unique(groups):
        own = groups == group
        assert worst[own].sum() == best[own].sum()
        assert clip[own & worst].max() <= clip[own & ~worst].min()


def test_at_a_half_the_worst_are_what_the_best_are_not() -> None:
    scores, _, ids = sample(300, 4)
    labels = np.arange(300) % 3
    scores = {name: np.round(column) for name, column in scores.items()}  # many ties
    best = cut.keep(scores, labels, ids, settings(drop=0.5))
    np.testing.assert_array_equal(
        cut.keep(scores, labels, ids, settings(drop=0.5, keep="worst")), ~best
    )


def test_a_draw_is_of_its_seed_and_not_of_scores_or_the_order_of_rows() -> None:
    scores, labels, ids = sample(400, 5)
    chosen, order = settings(drop=0.4, keep="random"), np.random.default_rng(0).permutation(400)
    mask = cut.keep(scores, labels, ids, chosen, 7)
    shuffled = {name: column[order] for name, column in scores.items()}
    np.testing.assert_array_equal(
        cut.keep(shuffled, labels[order], ids[order], chosen, 7), mask[order]
    )
    others = {name: np.roll(column, 1) for name, column in scores.items()}
    np.testing.assert_array_equal(cut.keep(others, labels, ids, chosen, 7), mask)
    assert (cut.keep(scores, labels, ids, chosen, 8) != mask).any()
    often = np.mean([cut.keep(scores, labels, ids, chosen, seed) for seed in range(400)], axis=0)
    assert np.abs(often - 0.6).max() < 0.12


def test_nothing_is_drawn_where_nothing_is_dropped() -> None:
    scores, labels, ids = sample(60, 6)
    for keep in ("random", "worst"):
        assert cut.keep(scores, labels, ids, settings(drop=0.0, keep=keep)).all()
        assert settings(drop=0.0, keep=keep).read.keep == "best"  # an axis of it is idle


def test_the_score_keeps_the_name_of_its_scorer() -> None:
    assert [s.name for s in settings().scores] == ["domain_clip_score", "uncertainty"]
    published = settings(score="clip", clip={"kind": "open_clip"})
    assert [s.name for s in published.scores] == ["clip_score"]


@pytest.mark.parametrize("drop", [0.0, 0.1, 0.3, 1 / 3, 0.5, 0.6, 0.9, 0.99])
def test_draws_needed_is_the_smallest_number_that_keeps_the_volume(drop: float) -> None:
    for volume in [0, 1, 2, 3, 10, 43, 144, 431, 18_000]:
        n = cut.draws_needed(volume, drop)
        assert n - round(drop * n) == volume
        assert n == 0 or (n - 1) - round(drop * (n - 1)) < volume


def test_a_missing_or_non_finite_score_is_named() -> None:
    scores, labels, ids = sample(20, 5)
    with pytest.raises(StageError, match="no score 'uncertainty'; there are"):
        cut.keep({"domain_clip_score": scores["domain_clip_score"]}, labels, ids, settings())
    scores["uncertainty"][3] = np.nan
    with pytest.raises(StageError, match="1 of 20 values of uncertainty are not finite"):
        cut.keep(scores, labels, ids, settings())


def test_the_audit_adds_up_and_is_json() -> None:
    scores, labels, ids = sample(400, 6)
    chosen = settings(drop=0.3)
    mask = cut.keep(scores, labels, ids, chosen)
    report = cut.audit(scores, mask, labels, 5, chosen)  # class 4 does not occur
    assert report["kept"] == sum(report["kept_per_class"]) == mask.sum()
    assert report["generated"] == sum(report["generated_per_class"]) == 400
    assert report["kept_fraction_per_class"][4] is None
    assert report["domain_clip_score_kept"] > report["domain_clip_score_dropped"]
    assert report["uncertainty_kept"] < report["uncertainty_dropped"]
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_the_subgroup_audit_by_hand() -> None:
    """Class 0: 3 and 1 of its subgroups, of which 1 and 1 stay; class 1 stays in none; class 2 has
    a single known image; 9 is no subgroup."""
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    subgroups = np.array([0, 0, 0, 1, 0, 1, 1, 9])
    mask = np.array([True, False, False, True, False, False, True, True])
    report = cut.audit_subgroups(mask, labels, subgroups, (3, 2))
    assert report["subgroup_unknown"] == 1
    assert report["generated_per_subgroup"] == [4, 3]
    assert report["kept_per_subgroup"] == [1, 2]
    assert report["kept_fraction_per_cell"] == [[1 / 3, 1.0], [0.0, 0.0], [None, 1.0]]
    assert report["shares_before"] == [[0.75, 0.25], [0.5, 0.5], [0.0, 1.0]]
    assert report["shares_after"] == [[0.5, 0.5], [None, None], [0.0, 1.0]]
    assert report["share_shift"] == pytest.approx((0.25 + 0.0) / 2)


def test_the_subgroup_audit_sees_a_cut_that_prefers_a_subgroup() -> None:
    labels = np.repeat([0, 1], 100)
    subgroups = np.tile([0, 1], 100)
    subgroups[:4] = [-1, 2, -1, 2]  # unknown, none clear
    fair = np.tile([True, True, False, False], 50)
    report = cut.audit_subgroups(fair, labels, subgroups, (2, 2))
    assert report["subgroup_unknown"] == 4
    assert report["share_shift"] == pytest.approx(0.0, abs=0.02)
    unfair = subgroups == 0
    report = cut.audit_subgroups(unfair, labels, subgroups, (2, 2))
    assert report["kept_fraction_per_subgroup"] == [1.0, 0.0]
    assert report["shares_after"] == [[1.0, 0.0], [1.0, 0.0]]
    assert report["share_shift"] == pytest.approx(0.5, abs=0.02)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
