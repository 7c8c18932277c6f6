"""Every purpose has its own stream, and nothing else decides it."""

import itertools
import subprocess
import sys

import numpy as np

from ray_selfloop import seeding


def test_a_seed_depends_on_its_words_alone() -> None:
    assert seeding.derive(3, "noise", 7) == seeding.derive(3, "noise", 7)
    assert seeding.derive(3, "noise", 7) == seeding.derive(3, "noise", "7")


def test_seeds_are_the_same_in_another_process() -> None:
    program = "from ray_selfloop import seeding; print(seeding.derive(3, 'noise', 7))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PYTHONHASHSEED": "17", "PATH": ""},
    )
    assert int(done.stdout) == seeding.derive(3, "noise", 7)


def test_the_first_seeds_are_pinned() -> None:
    """A change here changes every key and every published number."""
    assert seeding.derive(0) == 3456079177858693020
    assert seeding.derive(0, "generator", 1) == 2793958790591795882


def test_different_purposes_give_different_seeds_of_63_bits() -> None:
    words = [
        (seed, *purpose)
        for seed in range(5)
        for length in range(3)
        for purpose in itertools.product(("noise", "mask", 0, 1, 11), repeat=length)
    ]
    seeds = {seeding.derive(*word) for word in words}
    assert len(seeds) == len(words)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62


def test_no_draw_changes_another() -> None:
    alone = seeding.rng(1, "a").random(5)
    np.random.default_rng().random(3)
    seeding.rng(1, "b").random(100)
    assert np.array_equal(seeding.rng(1, "a").random(5), alone)


def test_streams_of_neighbouring_purposes_are_uncorrelated() -> None:
    draws = np.stack([seeding.rng(0, "noise", i).standard_normal(2_000) for i in range(20)])
    correlations = np.corrcoef(draws)[np.triu_indices(20, 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(2_000)


def test_the_global_generator_is_left_alone() -> None:
    before = np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
    seeding.rng(0, "a").random(5)
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index, union-attr]
