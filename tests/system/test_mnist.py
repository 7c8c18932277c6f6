"""Real MNIST, from the shipped sweep file with overrides for size."""

from pathlib import Path

import pytest

from sweeps import records, results, run_alone

pytestmark = pytest.mark.slow
SMALL = (
    "colorized_mnist",
    "loop.loop_seeds=[0]",
    "classifiers=[lenet]",
    "filter.expert.classifier=lenet",
    "axes.dataset.initialization=[biased]",
)


def test_lenet_reaches_98_percent_on_the_full_training_set(data_root: str, tmp_path: Path) -> None:
    words = [
        *SMALL,
        f"dataset.root={data_root}",
        "loop.generations=0",
        "filter.score=none",
        "training.max_epochs=6",
        f"storage={tmp_path}",
    ]
    run_alone(words)
    (lenet,) = [r for r in records(words).values() if r.kind == "classifier"]
    assert lenet.summary["training_set"]["original"] == 54_000
    assert lenet.summary["accuracy"] >= 0.98


def test_the_loop_runs_end_to_end(data_root: str, tmp_path: Path) -> None:
    words = [
        *SMALL,
        f"dataset.root={data_root}",
        "dataset.limit_train=1000",
        "dataset.limit_test=500",
        "loop.generations=1",
        "training.max_epochs=1",
        "generator.max_steps=40",
        "generator.min_steps=0",
        "generator.check_every=20",
        "generator.generator_width=32",
        "filter.clip.steps=40",
        "evaluation.samples=400",
        f"storage={tmp_path}",
    ]
    run_alone(words)
    table = results(words)
    assert set(table["generation"].dropna()) == {0, 1}
    kept = [r for r in records(words).values() if r.kind == "kept"]
    assert [r.summary["kept"] for r in kept] == [300]
