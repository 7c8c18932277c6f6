"""The loop of a diffusion generator as a graph: latents once per set, keys without places."""

from pathlib import Path

import pytest
from conftest import TWO_STARTS

from ray_selfloop import loop
from ray_selfloop.config import load
from ray_selfloop.config.generators.diffusion import STREAMED
from ray_selfloop.errors import ConfigError
from ray_selfloop.graph import Graph
from ray_selfloop.stages.chain import chains

TINY = ("hard_imagenet", "loop.loop_seeds=[0]", "axes={}", "training.pretrained=false")


def graph(*words: str) -> Graph:
    """All stages of the sweep, for original data whose digest is given."""
    _, scenarios = load.load(TINY[0], [*TINY[1:], "filter.clip.kind=domain", *words])
    found = Graph()
    for scenario in scenarios:
        for chain in chains(scenario):
            loop.add_chain(chain, "digest", found)
    return found


def keys(found: Graph) -> set[str]:
    return set(found.nodes)


def test_latents_are_computed_once_for_every_set_that_a_generator_sees() -> None:
    found = graph("loop.generations=4", "queue.capacity=2")
    latents = {node.stage.key: node.stage for node in found.of_kind("latents")}
    of = [set(stage.inputs) for stage in latents.values()]
    assert of.count({"dataset"}) == 1
    assert of.count({"kept"}) == 3  # generation 4's are seen by no generator
    generators = sorted(found.of_kind("generator"), key=lambda node: node.places[0].generation)
    seen = [[n for n in node.stage.inputs if n.startswith("latents.")] for node in generators]
    assert seen == [
        ["latents.dataset"],
        ["latents.dataset", "latents.1"],
        ["latents.dataset", "latents.1", "latents.2"],
        ["latents.dataset", "latents.2", "latents.3"],
    ]


def test_what_the_training_of_a_lora_says_is_not_in_the_key_of_latents() -> None:
    plain = {n.stage.key for n in graph().of_kind("latents") if "dataset" in n.stage.inputs}
    other = graph("generator.rank=2", "generator.steps=7", "generator.guidance=3.0")
    assert plain == {n.stage.key for n in other.of_kind("latents") if "dataset" in n.stage.inputs}
    small = graph("generator.resolution=256")
    assert plain.isdisjoint(n.stage.key for n in small.of_kind("latents"))


def test_sampling_settings_leave_a_fine_tune_its_key() -> None:
    def of(kind: str, *words: str) -> set[str]:
        return {node.stage.key for node in graph("loop.generations=1", *words).of_kind(kind)}

    sampling = ("guidance=3.0", "sampler_steps=7", "sampler=euler", "picture_format=png")
    for word in (f"generator.{word}" for word in sampling):
        assert of("generator", word) == of("generator")
        assert of("samples", word) != of("samples")
    assert of("generator", "generator.steps=7") != of("generator")
    assert of("generator", "generator.prompt=a {}") != of("generator")


def test_how_often_a_fine_tune_is_saved_is_in_no_key() -> None:
    assert keys(graph("generator.checkpoint_every=7")) == keys(graph())
    for node in graph("generator.checkpoint_every=7").of_kind("generator"):
        assert node.stage.hints["generator"]["checkpoint_every"] == 7


def test_without_a_cache_there_is_no_stage_of_latents() -> None:
    found = graph("generator.cache_latents=false")
    assert not found.of_kind("latents")
    assert all("latents.dataset" not in n.stage.inputs for n in found.of_kind("generator"))


@pytest.mark.parametrize(
    "word",
    [
        "resources.decoding_threads=8",
        "resources.sampling_workers=4",
        "dataset.root=/elsewhere",
        "dataset.masks=/elsewhere",
    ],
)
def test_where_a_sweep_runs_is_in_no_key(word: str) -> None:
    assert keys(graph(word)) == keys(graph())


@pytest.mark.parametrize(
    "word", ["generator.workers=2", "generator.precision=float16", "dataset.side=192"]
)
def test_what_changes_numbers_is_in_the_keys(word: str) -> None:
    assert keys(graph(word)) != keys(graph())


def test_workers_find_data_and_base_by_absolute_paths(tmp_path: Path) -> None:
    found = graph("dataset.root=data/imagenet", "dataset.masks=data/masks")
    (dataset,) = found.of_kind("dataset")
    assert dataset.stage.hints["root"] == str(Path("data/imagenet").absolute())
    assert dataset.stage.hints["masks"] == str(Path("data/masks").absolute())
    for node in [*found.of_kind("generator"), *found.of_kind("samples")]:
        assert node.stage.hints["generator"]["base"].startswith("stable-diffusion-v1-5/")


def test_a_row_of_the_stream_is_whole_batches_of_the_sampler() -> None:
    found = graph("generator.sample_memory=8")
    _, (scenario,) = load.load(TINY[0], [*TINY[1:], "generator.sample_memory=8"])
    own = scenario.sweep.generator.sample_batch  # type: ignore[union-attr]
    for node in found.of_kind("samples"):
        assert node.stage.config["batch"] >= STREAMED
        assert node.stage.config["batch"] % own == 0


def test_the_reading_of_the_ablations_is_in_no_key_of_the_loop() -> None:
    assert keys(graph("evaluation.ablation.compat=reference")) == keys(graph())
    assert keys(graph("evaluation.ablation.noise_std=0.5")) != keys(graph())


def test_trials_on_masks_are_also_tested_without_the_object() -> None:
    assert all("ablation" in node.stage.config for node in graph().of_kind("classifier"))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("loop.arm=subgroup_matched", "loop.arm: subgroup_matched resamples by subgroup, and"),
        ("loop.arm=real_skewed", "loop.arm: real_skewed resamples by subgroup, and"),
        ("queue.tilt=0.5", "queue.tilt: 0.5 resamples by subgroup, and hard_imagenet has no"),
    ],
)
def test_what_needs_subgroups_is_refused_where_there_are_none(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        graph(word)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["generator.name=stable_diffusion"],
            "generator.name: stable_diffusion does not draw the images of dataset "
            "colorized_digits; write generator.name=conditional_gan, or one of duplicate_real, "
            "held_out_real, folder",
        ),
        (
            ["dataset.name=hard_imagenet"],
            "generator.name: conditional_gan does not draw the images of dataset hard_imagenet; "
            "write generator.name=stable_diffusion, or one of duplicate_real, held_out_real, "
            "folder",
        ),
    ],
)
def test_a_generator_that_does_not_fit_the_dataset_is_refused(
    words: list[str], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        load.load(TWO_STARTS, words)
    assert message in str(error.value)
