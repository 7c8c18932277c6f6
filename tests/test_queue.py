"""Data stacking and mixing: which images are trained on after each generation."""

import numpy as np
import pytest
from pydantic import ValidationError

from ray_selfloop import queue
from ray_selfloop.config.loop import Loop, Queue

ORIGINAL = np.repeat(np.arange(10), 90)  # |D0| = 900
KEPT = np.repeat(np.arange(10), 30)  # S = 300


def rows(regime: str, generation: int, seed: int = 0, **values: object) -> queue.TrainingRows:
    settings = Queue.model_validate(values)
    kept = {g: KEPT for g in range(1, generation + 1)}
    return queue.training_rows(regime, settings, generation, ORIGINAL, kept, seed)


def test_stack_is_a_first_in_first_out_queue_beside_all_original_data() -> None:
    fifo: list[int] = []
    for generation in range(8):
        if generation:
            fifo = [*fifo, generation][-3:]
        found = rows("stack", generation)
        assert found.original.tolist() == list(range(900))
        assert list(found.kept) == fifo
        assert all(part.tolist() == list(range(300)) for part in found.kept.values())
    assert found.supplied == 900  # a full queue equals the original set


def test_stack_of_unlimited_capacity_is_accumulate_and_generation_0_is_d0_in_all() -> None:
    for generation in range(6):
        assert queue.kept("stack", generation, 99) == queue.kept("accumulate", generation, 3)
    for regime in ("stack", "replace", "accumulate", "accumulate_subsample"):
        assert queue.kept(regime, 0, 3) == ()
        assert rows(regime, 0).original.tolist() == list(range(900))


def test_replace_is_the_last_kept_set_alone() -> None:
    found = rows("replace", 4)
    assert len(found.original) == 0
    assert list(found.kept) == [4]
    assert found.supplied == 300


def test_accumulate_subsample_draws_d0s_size_with_its_class_shares() -> None:
    found = rows("accumulate_subsample", 5)
    assert len(found.original) + found.supplied == 900
    labels = np.concatenate([ORIGINAL[found.original], *(KEPT[r] for r in found.kept.values())])
    assert np.bincount(labels).tolist() == [90] * 10
    assert 0.5 < found.supplied / 900 < 0.75  # 1,500 of 2,400 in expectation
    for part in (found.original, *found.kept.values()):
        assert len(np.unique(part)) == len(part)


def test_gaussian_loop_replace_shrinks_and_accumulate_does_not() -> None:
    """The 'generator' is a fitted Gaussian: FIFO-1 without real data loses its variance."""
    variances = {"replace": [], "accumulate": []}
    for regime, found in variances.items():
        for repeat in range(40):
            rng = np.random.default_rng(repeat)
            real = rng.normal(size=20)
            kept: dict[int, np.ndarray] = {}
            zeros = np.zeros(20, int)
            for generation in range(1, 41):
                taken = queue.training_rows(
                    regime, Queue(), generation - 1, zeros,
                    dict.fromkeys(kept, zeros), 0,
                )  # fmt: skip
                data = [real[taken.original], *(kept[g][r] for g, r in taken.kept.items())]
                pool = np.concatenate(data)
                kept[generation] = rng.normal(pool.mean(), pool.std(ddof=1), 20)
            found.append(kept[40].var(ddof=1))
    assert np.median(variances["replace"]) < 0.4
    assert np.median(variances["accumulate"]) > 0.6


@pytest.mark.parametrize(
    ("mixing", "supplied"),
    [
        ({"ratio": 0.5}, 450),
        ({"ratio": 1.0}, 900),
        ({"ratio": 0.25, "of": "total"}, 300),
        ({"ratio": 0.5, "of": "total"}, 900),
    ],
)
def test_a_mixing_ratio_is_met_exactly(mixing: dict, supplied: int) -> None:
    found = rows("stack", 5, mixing=mixing)
    assert (found.supplied, found.asked, found.statement) == (supplied, supplied, "")
    labels = np.concatenate([KEPT[part] for part in found.kept.values()])
    assert np.bincount(labels).tolist() == [supplied // 10] * 10


def test_what_the_queue_cannot_supply_is_said_and_not_topped_up() -> None:
    found = rows("stack", 1, mixing={"ratio": 1.0})
    assert (found.asked, found.supplied, len(found.original)) == (900, 300, 900)
    assert "asks for 900 generated images, the queue holds 300" in found.statement


def test_the_draw_depends_on_the_seed_and_the_generation_alone() -> None:
    def drawn(seed: int, generation: int) -> list[int]:
        found = rows("stack", generation, seed, mixing={"ratio": 0.2})
        return np.concatenate(list(found.kept.values())).tolist()

    assert drawn(0, 4) == drawn(0, 4)
    assert drawn(0, 4) != drawn(1, 4)
    assert drawn(0, 4) != drawn(0, 5)


@pytest.mark.parametrize(
    ("volume", "regime", "expected"),
    [
        (None, "stack", 431), (None, "accumulate", 431), (None, "replace", 1293),
        ("D0", "stack", 1293), ("D0/3", "stack", 431), ("D0/9", "stack", 144), (7, "stack", 7),
    ],
)  # fmt: skip
def test_the_volume_follows_d0(volume, regime: str, expected: int) -> None:
    assert queue.volume(Queue(volume=volume), regime, 1293) == expected


@pytest.mark.parametrize("regime", ["stack", "replace", "accumulate", "accumulate_subsample"])
@pytest.mark.parametrize("mixing", [{}, {"ratio": 0.5}, {"ratio": 0.25, "of": "total"}])
def test_the_control_counts_the_images_that_the_treatment_trains_on(regime, mixing) -> None:
    """By settings alone what `training_rows` then makes of kept sets of S images."""
    values = {"volume": 300, "mixing": mixing}
    for generation in range(6):
        found = rows(regime, generation, **values)
        expected = len(found.original) + found.supplied
        settings = Queue.model_validate(values)
        assert queue.images(regime, settings, generation, 900) == expected


@pytest.mark.parametrize("drop", [0.0, 0.1, 0.3, 0.6])
def test_enough_is_drawn_to_keep_the_volume_with_d0s_class_shares(drop: float) -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    draws = queue.class_draws(Queue(), 33, labels, 4, drop, "per_class")
    kept = [int(n) - round(drop * int(n)) for n in draws]
    assert kept == queue.class_volume(33, labels, 4).tolist() == [16, 10, 7, 0]
    total = queue.class_draws(Queue(), 33, labels, 4, drop, "global").sum()
    assert total - round(drop * int(total)) == 33
    before = queue.class_draws(Queue(count="before_filtering"), 33, labels, 4, drop, "per_class")
    assert before.sum() == 33


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        (Queue, {"volume": "D1/3"}, "D0"),
        (Queue, {"volume": 0}, "greater than or equal to 1"),
        (Queue, {"capacity": 0}, "greater than or equal to 1"),
        (Queue, {"mixing": {"ratio": 1.0, "of": "total"}}, "must be below 1"),
        (Loop, {"loop_seeds": [1, 1]}, "each seed may be listed once"),
        (Loop, {"classifier_seeds": []}, "at least 1 item"),
        (Loop, {"regime": "stacked"}, "'stack', 'replace', 'accumulate'"),
    ],
)
def test_settings_out_of_range_are_refused(model, values, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        model.model_validate(values)
