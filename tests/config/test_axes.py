"""Axes: every setting either acts in its scenario or is refused, and scenarios are told apart."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import TWO_STARTS
from PIL import Image
from schema_cases import BASES, FIELDS, GROUPS, ROOT, Field, members, merged, text

from ray_selfloop import declaration, loop, measurements
from ray_selfloop.config import load
from ray_selfloop.config.sweep import Scenario, short_keys, why_no_axis
from ray_selfloop.errors import ConfigError
from ray_selfloop.graph import Graph
from ray_selfloop.stages import equation6
from ray_selfloop.stages.chain import chains
from ray_selfloop.stages.evaluated import judged_with

REFUSED = " cannot differ between scenarios: "
LEAVES = [field for field in FIELDS if field not in GROUPS]
SHORT = {"loop": {"generations": 2}}
BESIDE: dict[str, dict[str, Any]] = {
    "queue.capacity": {"loop": {"generations": 3}},
    "queue.mixing.of": {"queue": {"mixing": {"ratio": 0.5}}},
    "dataset.minority": {"dataset": {"variant": "imbalanced", "superclasses": ["fish", "trees"]}},
    "dataset.minority_kept": {"dataset": {"variant": "imbalanced"}},
    "filter.uncertainty.method": {"filter": {"expert": {"seeds": [0, 1]}}},
    "evaluation.judge.seeds": {"loop": {"classifier_seeds": [0, 1]}},
    "digits:dataset.root": BASES["mnist"],
    "dataset.frame": {"dataset": {"side": 8}},
    "training.backbone": {"training": {"pretrained": __file__}},
    "training_of.lenet.backbone": {"training_of": {"lenet": {"pretrained": __file__}}},
    "evaluation.probe.backbone": {"evaluation": {"probe": {"pretrained": True}}},
}
"""Settings under which another one has a meaning."""
VALUES: dict[str, tuple[Any, ...]] = {
    "dataset.name": ("colorized_digits", "colorized_mnist"),
    "generator.name": ("conditional_gan", "duplicate_real"),
    "filter.clip.kind": ("domain", "open_clip"),
    "filter.clip.prompt": ("a {}", "the {}"),
    "filter.clip.model": ("ViT-B-32", "ViT-L-14"),
    "filter.expert.classifier": ("lenet", "mobilenet_v3_small"),
    "generator.prompt": ("a {}", "the {}"),
    "generator.base": ("one/base", "another/base"),
    "generator.revision": ("main", "fp16"),
    "generator.batch_size": (64, 128),
    "generator.group_size": (2, 4),
    "generator.accumulation": (1, 2),
    "generator.workers": (1, 2),
    "generator.betas": ([0.0, 0.99], [0.5, 0.9]),
    "classifiers": (["lenet"], ["lenet", "alexnet"]),
    "loop.loop_seeds": ([0], [1]),
    "loop.classifier_seeds": ([0], [0, 1]),
    "filter.expert.seeds": ([0], [1]),
    "evaluation.judge.classifier": ("lenet", "mobilenet_v3_small"),
    "evaluation.judge.seeds": ([0], [1]),
    "evaluation.features": (["pixels8"], ["gray8"]),
    "folder:dataset.subgroups": (["sex"], ["age"]),
    "folder:dataset.mask_column": ("mask", "box"),
    "dataset.ratios": ([0.7, 0.2, 0.1], [0.5, 0.3, 0.2]),
    "cifar:dataset.superclasses": (["fish", "trees"], ["people", "trees"]),
    "breeds:dataset.superclasses": (["dog", "wolf"], ["dog", "bear"]),
    "dataset.classes": (["ski", "patio"], ["ski", "snorkel"]),
    "dataset.minority": (
        {"fish": ["ray", "shark"], "trees": ["oak_tree", "palm_tree"]},
        {"fish": ["ray", "trout"], "trees": ["oak_tree", "palm_tree"]},
    ),
    "dataset.benchmark": ("living17", "nonliving26"),
    "dataset.limit_train": (3_000, 4_000),
    "dataset.limit_test": (3_000, 4_000),
    "evaluation.level": (0.9, 0.95),
    "evaluation.claims.power": (0.8, 0.9),
    "tune.learning_rates.low": (0.1, 0.15),
    "tune.learning_rates.high": (0.2, 0.3),
    "tune.weight_decays.low": (0.1, 0.15),
    "tune.weight_decays.high": (0.2, 0.3),
}
"""Two values, where the schema tells too little of what is valid."""
ONE_VALUE = {"filter.review", "generator.targets"}  # nothing to choose
OWN_TEST = {"generator.generation"}  # in tests/generators/test_generator_folder.py: it needs images
TAGS = {"dataset.name", "generator.name", "filter.clip.kind"}  # of several bases; tried in one
PLACES = ("root", "masks", "hierarchy", "pretrained", "inception")


def fields() -> Iterator[Field]:
    """Every setting that has two values."""
    for field in LEAVES:
        other = field.dotted in TAGS and field.base != (
            "open_clip" if "clip" in field.dotted else "digits"
        )
        if field.dotted not in ONE_VALUE | OWN_TEST and not other:
            yield field


def where_it_acts(field: Field) -> dict[str, Any]:
    """A sweep under which the setting has a meaning."""
    groups = {
        ("evaluation", "probe"): BASES["cifar"],
        ("evaluation", "ablation"): BASES["hard_imagenet"],
    }
    beside = (
        groups.get(field.path[:2], {}),
        BESIDE.get(field.dotted, {}),
        BESIDE.get(f"{field.base}:{field.dotted}", {}),
    )
    return merged(BASES[field.base], SHORT, *beside)


def two_values(field: Field, folder: Path) -> tuple[Any, ...]:
    known = VALUES.get(field.dotted) or VALUES.get(f"{field.base}:{field.dotted}")
    if known:
        return known
    if field.dotted == "generator.root":
        for name, generation, number in itertools.product("ab", (1, 2), range(10)):
            images = folder / name / f"gen_{generation}" / str(number)
            images.mkdir(parents=True)
            Image.new("RGB", (8, 8), (generation, number, ord(name))).save(images / "a.png")
        return str(folder / "a"), str(folder / "b")
    if field.path[-1] in PLACES:
        for name in "ab":
            (folder / name).write_text(name)
        return str(folder / "a"), str(folder / "b")
    whole = jsonschema.Draft202012Validator({**field.schema, "$defs": ROOT["$defs"]})
    listed = [v for member in members(field.schema) for v in member.get("enum", ())]
    tried = [
        *listed,
        False,
        True,
        0.3,
        0.6,
        16,
        32,
        2,
        3,
        1.5,
        500,
        600,
        "a",
        "b",
        {},
        {"lenet": 0.5},
    ]
    return tuple(value for value in tried if whole.is_valid(value))[:2]


def depends_on(scenario: Scenario) -> frozenset[str]:
    """The keys of a scenario's stages, and where its files lie, whose content is in a key."""
    graph = Graph()
    for chain in chains(scenario):
        loop.add_chain(chain, "digest of the files", graph)
    data = graph.of_kind("dataset")[0].stage
    trials = {p: n.stage for n in graph.of_kind("classifier") for p in n.places}
    measurements.add_fairness(scenario, trials, data, graph)
    return frozenset({*graph.nodes, str(data.hints)})


@pytest.mark.parametrize("field", list(fields()), ids=lambda f: f"{f.base}:{f.dotted}")
def test_what_is_an_axis_acts_in_its_scenario_or_is_refused(field: Field, tmp_path: Path) -> None:
    first, second = two_values(field, tmp_path)
    file = tmp_path / "sweep.yaml"
    file.write_text(text({**where_it_acts(field), "axes": {field.dotted: [first, second]}}))
    if why_no_axis(field.dotted):
        with pytest.raises(ConfigError, match=rf"yaml:\d+: axes: {field.dotted}{REFUSED}..."):
            load.load(str(file), ())
        return
    one, other = load.load(str(file), ())[1]
    assert depends_on(one) != depends_on(other)


@pytest.mark.parametrize(
    "axes",
    [
        {"evaluation": [{"samples": 20}, {"samples": 30}]},
        {"design": [{"evaluation.level": 0.9}, {"evaluation.level": 0.95}]},
        {
            "design": [
                {"filter.drop": 0, "evaluation.dynamics": {"bias": "md"}},
                {"filter.drop": 0.1},
            ]
        },
        {"evaluation.claims": [{}, {"power": 0.9}]},
        {"resources.gpus_of.lenet": [0, 1]},
        {"tracking": [None, {}]},
    ],
)
def test_what_judges_all_scenarios_is_refused_in_any_spelling(axes: Any, tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(text({**BASES["digits"], "axes": axes}))
    with pytest.raises(ConfigError, match=rf"yaml:\d+: axes: .*{REFUSED}"):
        load.load(str(file), ())


def test_what_a_judgement_depends_on_is_one_for_a_sweep() -> None:
    sweep = load.load(None, ())[0]
    free = {name for name in judged_with(sweep) if not why_no_axis(f"evaluation.{name}")}
    assert free == {"cas_epochs"}, "which bounds `dynamics.quality` and is read by no judgement"


def test_chains_of_all_scenarios_are_declared() -> None:
    sweep, scenarios = load.load(None, ["axes={loop.loop_seeds: [[0, 1], [5]]}"])
    assert declaration.declared(sweep, scenarios).content["chains"] == [0, 1, 5]


def test_the_distance_that_each_scenario_measures_is_declared() -> None:
    words = ["axes={loop.arm: [treatment, no_synthetic], evaluation.inception: [null, w]}"]
    content = declaration.declared(*load.load("colorized_mnist", words)).content
    found = [case for cases in content["families"].values() for case in cases]
    metrics = {c["setting"]: c["metric"] for c in found if c["id"] == "mnist-fid"}
    assert metrics == {"inception=None": "frechet_distance/any", "inception=w": "fid"}


# --- what a scenario is called -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "short"),
    [
        (("filter.drop",), ("drop",)),
        (("filter.drop", "queue.tilt"), ("drop", "tilt")),
        (
            ("generator.max_steps", "training.max_steps"),
            ("generator.max_steps", "training.max_steps"),
        ),
        (
            ("training.max_steps", "training_of.lenet.max_steps", "training_of.alexnet.max_steps"),
            ("training.max_steps", "lenet.max_steps", "alexnet.max_steps"),
        ),
        (("generator.seed", "tune", "a.tune"), ("seed", "tune", "a.tune")),
        (("a.b.c", "b.c", "c"), ("a.b.c", "b.c", "c")),
    ],
)
def test_keys_are_short_as_far_as_they_differ(
    keys: tuple[str, ...], short: tuple[str, ...]
) -> None:
    assert tuple(short_keys(keys)[key] for key in keys) == short


def named(axes: str) -> list[str]:
    return [scenario.name for scenario in load.load(None, [f"axes={axes}"])[1]]


def test_names_tell_keys_apart_that_end_alike() -> None:
    assert named("{generator.max_steps: [10], training.max_steps: [20]}") == [
        "generator.max_steps=10,training.max_steps=20"
    ]
    assert named("{a: [{generator.max_steps: 10}, {training.max_steps: 10}]}") == [
        "generator.max_steps=10",
        "training.max_steps=10",
    ]


def test_groups_may_set_the_same_keys_in_either_order() -> None:
    one = "{generator.max_steps: 10, training.max_steps: 20}"
    other = "{training.max_steps: 10, generator.max_steps: 20}"
    assert named(f"{{design: [{one}, {other}]}}") == [
        "generator.max_steps=10,training.max_steps=20",
        "training.max_steps=10,generator.max_steps=20",
    ]


def test_one_setting_under_two_names_is_refused() -> None:
    one, other = "{filter.drop: 0, queue.tilt: 1}", "{queue.tilt: 1, filter.drop: 0}"
    for axes in (
        f"{{design: [{one}, {other}]}}",
        "{design: [{queue.tilt: 1, filter.drop: 0.1}, {queue.tilt: 1}]}",
    ):
        with pytest.raises(ConfigError, match=r"^axes: two scenarios have the same settings: "):
            named(axes)


def test_models_and_datasets_are_labelled_by_every_axis_that_changes_them() -> None:
    """Eq. 6 shares what scenarios of one label have in common."""

    def labels(axes: str) -> set[str]:
        _, scenarios = load.load(TWO_STARTS, [f"axes={axes}", "classifiers=[lenet]"])
        models = [equation6._model_labels(scenario)["lenet"] for scenario in scenarios]
        return {
            f"{equation6._dataset_label(s)} {model}"
            for s, model in zip(scenarios, models, strict=True)
        }

    for axes in (
        "{dataset: [{initialization: biased}, {initialization: unbiased}]}",
        "{training: [{max_steps: 1}, {max_steps: 2}]}",
        "{a: [{training.max_steps: 7}, {training_of.lenet.max_steps: 7, training.max_steps: 9}]}",
        "{a: [{training.max_steps: 7}, {training_of.lenet.max_steps: 7}]}",
        "{tune: [null, {}]}",
        "{tune.samples: [2, 3]}",
    ):
        assert len(labels(axes)) == 2, axes
