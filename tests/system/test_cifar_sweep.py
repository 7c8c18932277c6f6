"""Real CIFAR-100, from the shipped small sweep with overrides for size."""

import pytest

from ray_selfloop.planning import prepare
from sweeps import records, results, run_alone

pytestmark = pytest.mark.slow
WORDS = (
    "cifar20_100_small",
    "dataset.superclasses=[flowers, vehicles_1]",
    "dataset.limit_train=1500",
    "dataset.limit_test=500",
    "loop.generations=1",
    "loop.loop_seeds=[0, 1]",
    "classifiers=[lenet]",
    "training.max_epochs=4",
    "generator.max_steps=4",
    "generator.min_steps=0",
    "generator.generator_width=32",
    "generator.check_every=2",
    "filter.clip.steps=50",
    "evaluation.samples=400",
    "evaluation.probe.max_epochs=3",
    "evaluation.resamples=200",
    "evaluation.permutations=200",
)


@pytest.fixture(scope="module")
def ran(data_root: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    words = [*WORDS, f"dataset.root={data_root}", f"storage={tmp_path_factory.mktemp('cifar')}"]
    run_alone(words)
    return words


def test_the_fine_classes_are_the_subgroups_and_read_per_class(ran: list[str]) -> None:
    table = results(ran)
    test = table[(table["split"] == "test") & (table["scenario"] == "arm=treatment")]
    assert set(test["class"]) == {"all", "flowers", "vehicles 1"}
    ranks = test[(test["metric"] == "ranked_accuracy") & test["loop_seed"].isna()]
    assert ranks.groupby("generation").size().to_dict() == {0: 5, 1: 5}
    means = test[test["loop_seed"].isna() & (test["class"] == "all") & (test["subgroup"] == "all")]
    value = means.set_index(["metric", "generation"])["value"]
    for generation in (0, 1):
        assert value["md", generation] == value["md_per_class", generation]


def test_shares_of_generated_images_are_read_by_a_probe(ran: list[str]) -> None:
    (probe,) = [r for r in records(ran).values() if r.kind == "probe"]
    assert probe.summary["held_out"] == 150
    table = results(ran)
    shares = table[(table["metric"] == "subgroup_share") & (table["split"] == "generated")]
    totals = shares.groupby(["loop_seed", "class"])["value"].sum()
    assert len(totals) == 4
    assert totals.to_numpy() == pytest.approx(1.0)


def test_a_poor_generator_gets_no_verdict_on_bias_and_the_page_says_why(ran: list[str]) -> None:
    folder = prepare(ran).folder
    table = results(ran)
    of = table[(table["split"] == "generated") & (table["class"] == "all")].set_index("metric")[
        "value"
    ]
    if of["label_fidelity"].mean() >= 0.8 * of["judge_accuracy"].mean():
        pytest.fail("the generator of this test is meant to be poor")
    page = (folder / "report.html").read_text()
    assert "generator too poor to ask" in page
    assert "label fidelity of the images generated at generation 1" in page


def test_the_control_is_the_treatment_at_generation_0(ran: list[str]) -> None:
    table = results(ran)
    start = table[(table["generation"] == 0) & (table["metric"] == "accuracy")]
    start = start[start["seed"].notna() & (start["class"] == "all") & (start["subgroup"] == "all")]
    by_arm = start.groupby("scenario")["value"].apply(list)
    assert by_arm["arm=treatment"] == by_arm["arm=no_synthetic"]
