"""The loop as stages: which depend on what, and what changes a key."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import TWO_STARTS

from ray_selfloop import loop, measurements
from ray_selfloop.config import load
from ray_selfloop.config.datasets.coloured import ColorizedDigits
from ray_selfloop.datasets.colours import COLOURS
from ray_selfloop.graph import Graph, Node, Stage
from ray_selfloop.stages.chain import chains
from ray_selfloop.stages.kinds import VERSIONS

SOURCE = "digest of the scans"
SEQUENCE = (
    "dataset",
    "scorer",
    "reference",
    "classifier",
    "generator",
    "samples",
    "kept",
    "generator_metrics",
)


def graph(*words: str, versions: Mapping[str, int] = VERSIONS, source: str = SOURCE) -> Graph:
    """The stages of two settings with overrides."""
    found = Graph(versions)
    for scenario in load.load(TWO_STARTS, words)[1]:
        for chain in chains(scenario):
            loop.add_chain(chain, source, found)
    return found


def keys(*words: str) -> set[str]:
    return set(graph(*words).nodes)


def kind_of(key: str) -> str:
    return key.rpartition("-")[0]


def counts(found: set[str]) -> dict[str, int]:
    """Number of stages of each kind."""
    return {kind: n for kind in SEQUENCE if (n := sum(kind_of(key) == kind for key in found))}


def at(found: Graph, kind: str, **where: Any) -> Stage:
    """The one stage of a kind whose places include one with these values."""
    stages = {
        node.stage.key: node.stage
        for node in found.of_kind(kind)
        for place in node.places
        if all(getattr(place, name) == value for name, value in where.items())
    }
    assert len(stages) == 1, f"{len(stages)} stages of kind {kind} at {where}"
    return next(iter(stages.values()))


def below(found: Graph, start: set[str]) -> set[str]:
    """``start`` and everything that depends on it."""
    reached = set(start)
    for node in found:
        if reached & set(node.stage.inputs.values()):
            reached.add(node.stage.key)
    return reached


ONE = "axes={}"  # one scenario instead of two


# --- what does not change a key, and what does -------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("storage=/somewhere/else",),
        ("name=another",),
        ("resources.num_cpus=1",),
        ("resources.sampling_workers=4", "resources.nice=5"),
        ("tracking.uri=http://localhost:5000",),
        ("dataset.root=/somewhere/else",),
        ("axes={dataset.initialization: [biased, unbiased]}",),
        ("axes.dataset.seed=[0]",),
        ("queue.volume=D0/3",),  # the default of a queue of three
        ("training_of.lenet.recipe=default",),
        ("loop.classifier_seeds=[1, 0]",),
        ("classifiers=[mobilenet_v3_small, lenet]",),
        ("filter.drop=1e-1",),
        ("evaluation.dynamics.growth_limit=2",),
    ],
)
def test_what_changes_no_result_changes_no_key(words: tuple[str, ...]) -> None:
    assert keys(*words) == keys()


def test_where_files_lie_is_a_hint() -> None:
    (node,) = graph(ONE, "dataset.root=/data").of_kind("dataset")
    assert node.stage.hints == {"root": "/data"}


@pytest.mark.parametrize(
    ("word", "origins"),
    [
        ("dataset.seed=1", {"dataset"}),
        ("filter.clip.steps=7", {"scorer", "samples", "kept"}),
        ("filter.clip.score_batch=7", {"scorer", "samples", "kept"}),
        ("filter.drop=0.2", {"samples", "kept"}),
        ("filter.uncertainty.passes=3", {"samples", "kept"}),
        ("queue.volume=100", {"samples"}),
        ("compute.sample_batch=64", {"samples"}),
        ("generator.max_steps=1001", {"generator", "samples", "generator_metrics"}),
        ("training.batch_size=47", {"classifier"}),
        ("evaluation.resamples=77", {"generator_metrics"}),
        ("evaluation.samples=77", {"generator_metrics"}),
        ("compute.threads=2", set(SEQUENCE) - {"dataset", "kept"}),
    ],
)
def test_a_setting_changes_its_own_stages_and_what_follows(word: str, origins: set[str]) -> None:
    old, new = graph(), graph(word)
    start = {node.stage.key for node in old if node.stage.kind in origins}
    for before, after in zip(old, new, strict=True):
        assert before.places == after.places
        changed = before.stage.key != after.stage.key
        assert changed == (before.stage.key in below(old, start)), str(before.places[0])


def test_other_files_make_another_dataset() -> None:
    assert not keys() & set(graph(source="digest of other scans").nodes)


def test_training_of_a_network_that_has_no_role_changes_its_trials_alone() -> None:
    old, new = keys(), keys("training_of.mobilenet_v3_small.batch_size=16")
    assert counts(old - new) == counts(new - old) == {"classifier": 16}


@pytest.mark.parametrize("kind", SEQUENCE)
def test_a_raised_version_changes_its_kind_and_what_follows_and_nothing_else(kind: str) -> None:
    old = graph()
    new = graph(versions={**VERSIONS, kind: VERSIONS[kind] + 1})
    start = {node.stage.key for node in old.of_kind(kind)}
    assert start
    for before, after in zip(old, new, strict=True):
        changed = before.stage.key != after.stage.key
        assert changed == (before.stage.key in below(old, start)), str(before.places[0])


# --- growing a sweep -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "added"),
    [
        (("loop.classifier_seeds=[0, 1, 2]",), {"classifier": 16}),
        (("classifiers=[lenet, mobilenet_v3_small, alexnet]",), {"classifier": 16}),
        (
            ("loop.generations=4",),
            {"classifier": 8, "generator": 2, "samples": 2, "kept": 2, "generator_metrics": 2},
        ),
        (
            ("loop.generations=6",),
            {"classifier": 24, "generator": 6, "samples": 6, "kept": 6, "generator_metrics": 6},
        ),
        (
            ("loop.loop_seeds=[0, 7]",),
            {
                "scorer": 2,
                "reference": 2,
                "classifier": 32,
                "generator": 6,
                "samples": 6,
                "kept": 6,
                "generator_metrics": 6,
            },
        ),
        (
            ("axes.dataset.initialization=[unbiased, biased, spurious]",),
            {
                "dataset": 1,
                "scorer": 1,
                "reference": 2,
                "classifier": 16,
                "generator": 3,
                "samples": 3,
                "kept": 3,
                "generator_metrics": 3,
            },
        ),
    ],
)
def test_growing_a_sweep_only_adds(words: tuple[str, ...], added: dict[str, int]) -> None:
    old, new = keys(), keys(*words)
    assert old < new
    assert counts(new - old) == added


def test_the_quickstart_is_of_the_size_that_it_says() -> None:
    found = Graph()
    for scenario in load.load(None, ())[1]:
        for chain in chains(scenario):
            loop.add_chain(chain, SOURCE, found)
    assert counts(set(found.nodes)) == {
        "dataset": 1,
        "scorer": 5,
        "reference": 6,
        "classifier": 5 * (1 + 3 * 2) * 2,
        "generator": 5 * (1 + 2),
        "samples": 5 * (1 + 2),
        "kept": 5 * (2 + 2),
        "generator_metrics": 5 * (2 + 2),
    }


def test_a_sweep_has_as_many_stages_as_its_settings_say() -> None:
    assert counts(keys()) == {
        "dataset": 2,
        "scorer": 2,
        "reference": 4,
        "classifier": 32,
        "generator": 6,
        "samples": 6,
        "kept": 6,
        "generator_metrics": 6,
    }


def test_a_sweep_without_generations_trains_on_original_data_alone() -> None:
    assert counts(keys("loop.generations=0")) == {
        "dataset": 2,
        "scorer": 2,
        "reference": 4,
        "classifier": 8,
    }
    assert keys("loop.generations=0") < keys()


# --- who needs what ------------------------------------------------------------------------------


@pytest.mark.parametrize("chain", ["shared", "per_classifier"])
@pytest.mark.parametrize("score", ["none", "clip", "uncertainty", "combined"])
@pytest.mark.parametrize("generator", ["conditional_gan", "duplicate_real", "held_out_real"])
def test_inputs_stand_before_the_stages_that_need_them(
    chain: str, score: str, generator: str
) -> None:
    found = graph(f"loop.chain={chain}", f"filter.score={score}", f"generator.name={generator}")
    seen: set[str] = set()
    for node in found:
        assert set(node.stage.inputs.values()) <= seen
        seen.add(node.stage.key)
        assert node.places == sorted(set(node.places), key=node.places.index)


@pytest.mark.parametrize(
    ("regime", "generations"),
    [
        ("stack", {0: [], 1: [1], 2: [1, 2], 3: [2, 3], 4: [3, 4]}),
        ("accumulate", {0: [], 1: [1], 2: [1, 2], 3: [1, 2, 3], 4: [1, 2, 3, 4]}),
        ("accumulate_subsample", {0: [], 1: [1], 2: [1, 2], 3: [1, 2, 3], 4: [1, 2, 3, 4]}),
        ("replace", {0: [], 1: [1], 2: [2], 3: [3], 4: [4]}),
    ],
)
def test_classifiers_and_the_next_generator_train_on_the_queue(
    regime: str, generations: dict[int, list[int]]
) -> None:
    found = graph(ONE, f"loop.regime={regime}", "queue.capacity=2", "loop.generations=4")
    for n, expected in generations.items():
        wanted = {f"kept.{g}": at(found, "kept", generation=g).key for g in expected}
        wanted["dataset"] = at(found, "dataset").key
        assert at(found, "classifier", generation=n, classifier="lenet", seed=1).inputs == wanted
        if n < 4:
            assert at(found, "generator", generation=n + 1).inputs == wanted


def test_while_the_queue_fills_stacking_and_accumulating_share_their_stages() -> None:
    words = (ONE, "loop.generations=5", "queue.capacity=3")
    stack, accumulate = graph(*words), graph(*words, "loop.regime=accumulate")
    for one, other in zip(stack, accumulate, strict=True):
        (place,) = {place.generation for place in one.places}
        last = {"classifier": 3, "generator_metrics": 3, "generator": 4, "samples": 4, "kept": 4}
        shared = place <= last.get(one.stage.kind, 0)
        assert (one.stage.key == other.stage.key) == shared, str(one.places)
    assert keys("loop.regime=accumulate") == keys()


def test_replacing_shares_only_what_has_seen_no_generated_data() -> None:
    shared = graph(ONE).nodes.keys() & graph(ONE, "loop.regime=replace").nodes.keys()
    found = graph(ONE)
    for key in shared:
        stage, places = found.nodes[key].stage, found.nodes[key].places
        assert all(place.generation == 0 for place in places) or stage.kind == "generator"
        assert not any(name.startswith("kept") for name in stage.inputs)


def test_the_filter_reads_the_expert_of_the_generation_before() -> None:
    found = graph(ONE, "filter.expert.seeds=[0, 1]")
    for n in (1, 2, 3):
        inputs = at(found, "samples", generation=n).inputs
        for seed in (0, 1):
            expert = at(found, "classifier", generation=n - 1, classifier="lenet", seed=seed)
            assert inputs[f"expert.{seed}"] == expert.key
        assert inputs["generator"] == at(found, "generator", generation=n).key
        assert inputs["scorer"] == at(found, "scorer").key


@pytest.mark.parametrize(
    ("score", "names"),
    [
        ("none", {"dataset", "generator"}),
        ("clip", {"dataset", "generator", "scorer"}),
        ("uncertainty", {"dataset", "generator", "expert.0"}),
        ("combined", {"dataset", "generator", "scorer", "expert.0"}),
    ],
)
def test_samples_need_what_their_score_needs(score: str, names: set[str]) -> None:
    found = graph(ONE, f"filter.score={score}")
    assert set(at(found, "samples", generation=2).inputs) == names
    assert len(found.of_kind("scorer")) == ("scorer" in names)


def test_a_published_clip_model_is_not_trained_here() -> None:
    found = graph(ONE, "filter.clip.kind=open_clip")
    assert found.of_kind("scorer") == []
    assert at(found, "samples", generation=1).config["clip"]["kind"] == "open_clip"


@pytest.mark.parametrize("start", ["scratch", "previous"])
def test_a_generator_starts_from_the_previous_one_where_asked(start: str) -> None:
    found = graph(ONE, f"generator.start={start}")
    for n in (2, 3):
        previous = at(found, "generator", generation=n).inputs.get("previous")
        before = at(found, "generator", generation=n - 1).key
        assert previous == (before if start == "previous" else None)
    assert "previous" not in at(found, "generator", generation=1).inputs


@pytest.mark.parametrize("control", ["duplicate_real", "held_out_real"])
def test_control_generators_are_not_trained(control: str) -> None:
    found = graph(ONE, f"generator.name={control}")
    assert found.of_kind("generator") == []
    samples = [node.stage for node in found.of_kind("samples")]
    assert len({stage.key for stage in samples}) == 3
    assert all("generator" not in stage.inputs for stage in samples)
    turns = [stage.config["reserve"] for stage in samples]
    if control == "held_out_real":
        assert [turn["generation"] for turn in turns] == [1, 2, 3]
        assert len({turn["seed"] for turn in turns}) == 1, "one order for a whole chain"
    else:
        assert turns == [None, None, None]


def test_generator_metrics_see_what_the_generation_trains_on_and_its_judge() -> None:
    found = graph(ONE, "evaluation.judge={classifier: mobilenet_v3_small, seeds: [1]}")
    inputs = at(found, "generator_metrics", generation=3).inputs
    judge = at(found, "classifier", generation=0, classifier="mobilenet_v3_small", seed=1)
    assert inputs["judge.1"] == judge.key
    assert inputs["kept"] == inputs["kept.3"] == at(found, "kept", generation=3).key
    assert {"kept.1", "kept.2", "samples", "generator", "dataset"} <= inputs.keys()


# --- roles and chains ----------------------------------------------------------------------------


def awaited(found: Graph) -> set[tuple[int, str, int]]:
    """Generation, classifier and seed of the trials that something waits for."""
    places = [
        place for node in found.of_kind("classifier") if node.awaited for place in node.places
    ]
    return {(place.generation, place.classifier, place.seed) for place in places}


def test_expert_and_judge_are_awaited_and_publish_their_weights() -> None:
    found = graph(ONE, "evaluation.judge={classifier: mobilenet_v3_small, seeds: [0, 1]}")
    assert awaited(found) == {
        *((n, "lenet", 0) for n in range(4)),
        (0, "mobilenet_v3_small", 0),
        (0, "mobilenet_v3_small", 1),
    }
    assert not any(node.awaited for node in found if node.stage.kind != "classifier")
    for node in found.of_kind("classifier"):
        assert node.stage.config["weights"] == node.awaited


def test_without_uncertainty_only_the_judge_is_awaited() -> None:
    assert awaited(graph(ONE, "filter.score=clip")) == {(0, "lenet", 0)}


def test_each_classifier_has_a_chain_of_its_own_where_asked() -> None:
    found = graph(ONE, "loop.chain=per_classifier")
    networks = ("lenet", "mobilenet_v3_small")
    assert awaited(found) == {(n, name, 0) for n in range(4) for name in networks}
    for n in (2, 3):
        stages = {at(found, "generator", generation=n, classifier=name).key for name in networks}
        assert len(stages) == 2
    first = {at(found, "generator", generation=1, classifier=name).key for name in networks}
    assert len(first) == 1, "it has seen original data alone"
    for name in networks:
        for n in (1, 2, 3):
            samples = at(found, "samples", generation=n, classifier=name)
            expert = at(found, "classifier", generation=n - 1, classifier=name, seed=0)
            assert samples.inputs["expert.0"] == expert.key
            kept = at(found, "kept", generation=n, classifier=name)
            assert kept.inputs["samples"] == samples.key
            trial = at(found, "classifier", generation=n, classifier=name, seed=1)
            assert trial.inputs[f"kept.{n}"] == kept.key


def test_the_experts_own_chain_is_the_shared_one() -> None:
    shared, own = graph(ONE), graph(ONE, "loop.chain=per_classifier")
    for node in own:
        if {place.classifier for place in node.places} == {"lenet"}:
            assert node.stage.key in shared.nodes


def test_the_judge_is_one_for_all_chains() -> None:
    found = graph(ONE, "loop.chain=per_classifier")
    judges = {node.stage.inputs["judge.0"] for node in found.of_kind("generator_metrics")}
    assert judges == {at(found, "classifier", generation=0, classifier="lenet", seed=0).key}


def test_unfiltered_chains_of_different_classifiers_are_one() -> None:
    shared = graph(ONE, "filter.score=none")
    own = graph(ONE, "filter.score=none", "loop.chain=per_classifier")
    assert own.nodes.keys() == shared.nodes.keys()


def test_loop_seeds_share_the_dataset_and_its_reference_alone() -> None:
    found = graph(ONE, "loop.loop_seeds=[0, 1]")
    for node in found:
        seeds = {place.loop_seed for place in node.places}
        of_data = node.stage.kind == "dataset" or (
            set(node.stage.inputs) == {"dataset"} and (node.stage.kind == "reference")
        )
        assert seeds == ({0, 1} if of_data else {min(seeds)})


def test_every_stage_draws_from_a_seed_of_its_own() -> None:
    stages = [node.stage for node in graph(ONE, "loop.loop_seeds=[0, 1]")]
    seeds = [s.config["seed"] for s in stages if "seed" in s.config and s.kind != "dataset"]
    assert len(seeds) == len(set(seeds)) > 30


def test_scenarios_draw_from_the_same_seeds() -> None:
    found = graph()
    for place in {place for node in found for place in node.places}:
        other = place._replace(scenario="initialization=biased")
        for node in (n for n in found if place in n.places):
            (twin,) = (t for t in found.of_kind(node.stage.kind) if other in t.places)
            assert twin.stage.config.get("seed") == node.stage.config.get("seed")


# --- what a config may hold ----------------------------------------------------------------------


def texts(value: Any) -> Iterator[str]:
    """All texts in a JSON value, keys too."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value


def everything(tmp_path: Path) -> list[Node]:
    """All stages of a sweep whose folders all have telling names."""
    found = graph(
        f"storage={tmp_path / 'telltale'}",
        "dataset.name=colorized_mnist",
        f"dataset.root={tmp_path / 'telltale'}",
        "tracking.uri=sqlite:////telltale/mlflow.db",
        "name=telltale",
        "loop.loop_seeds=[0, 1]",
    )
    return list(found)


def test_no_config_holds_a_path_a_name_or_a_scenario(tmp_path: Path) -> None:
    for node in everything(tmp_path):
        for text in texts(node.stage.config):
            assert "telltale" not in text
            assert "=" not in text
            assert "/" not in text or text in ("D0/3",)


def test_no_stage_that_trains_is_told_of_subgroups(tmp_path: Path) -> None:
    values = {*COLOURS, "unbiased", "biased", "spurious"}
    words = values | ColorizedDigits.model_fields.keys() - {"name", "seed", "reserve"}
    for node in everything(tmp_path):
        if node.stage.kind != "dataset":
            told = set(texts(node.stage.config))
            assert not told & words
            assert not any("subgroup" in text or "colour" in text for text in told)


# --- weights from a file -------------------------------------------------------------------------


def test_weights_are_known_by_their_content_not_their_place(tmp_path: Path) -> None:
    def trials(name: str, content: bytes) -> set[str]:
        path = tmp_path / name
        path.write_bytes(content)
        found = graph(ONE, f"training.pretrained={path}")
        for node in found.of_kind("classifier"):
            assert node.stage.hints["pretrained"] == str(path)
            assert not any(name in text for text in texts(node.stage.config))
        return set(found.nodes)

    first = trials("first.safetensors", b"weights")
    assert trials("moved.safetensors", b"weights") == first
    shared = trials("first.safetensors", b"others") & first
    assert counts(shared) == {"dataset": 1, "scorer": 1, "reference": 1, "generator": 1}


# --- the measurements ----------------------------------------------------------------------------


def test_fairness_is_measured_on_the_trials_by_place_whatever_their_order() -> None:
    _, (scenario,) = load.load(TWO_STARTS, [ONE])
    found = graph(ONE)
    trials = {place: n.stage for n in found.of_kind("classifier") for place in n.places}
    data = at(found, "dataset")
    stage = measurements.add_fairness(scenario, trials, data, found)
    again = measurements.add_fairness(scenario, dict(reversed(trials.items())), data, found)
    assert again is stage
    assert len(stage.inputs) == 1 + 16
    assert (
        stage.inputs["0/2/lenet/1"]
        == at(found, "classifier", generation=2, classifier="lenet", seed=1).key
    )
    fewer = dict(list(trials.items())[1:])
    assert measurements.add_fairness(scenario, fewer, data, found).key != stage.key
