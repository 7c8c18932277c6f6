"""Sweep files and overrides: what is read, and what is said of each kind of fault."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import TWO_STARTS

from ray_selfloop.config import load
from ray_selfloop.config.sweep import Sweep
from ray_selfloop.errors import ConfigError

SHIPPED = sorted(load.sweep_file(load.QUICKSTART).parent.glob("*.yaml"))


def quickstart(*overrides: str) -> Sweep:
    """The quickstart with overrides."""
    return load.load(None, overrides)[0]


def fault(*overrides: str, config: str | None = None) -> str:
    """The message about a faulty sweep: one line, without the line of the quickstart."""
    (message,) = said(*overrides, config=config)
    return message if config else re.sub(r"^\S*quickstart\.yaml:\d+: ", "", message)


def said(*overrides: str, config: str | None = None) -> list[str]:
    """The lines of the message about a faulty sweep."""
    with pytest.raises(ConfigError) as caught:
        load.load(config, overrides)
    return str(caught.value).split("\n")


def written(folder: Path, text: str) -> str:
    """Path of a sweep file with this text."""
    path = folder / "sweep.yaml"
    path.write_text(text)
    return str(path)


# --- what is read --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SHIPPED, ids=[path.stem for path in SHIPPED])
def test_every_shipped_sweep_is_valid_and_has_its_own_name(path: Path) -> None:
    sweep, scenarios = load.load(str(path), ())
    assert sweep.name == path.stem
    assert len(scenarios) == len({scenario.name for scenario in scenarios}) > 0
    assert load.load(path.stem, ()) == (sweep, scenarios)


def test_without_a_file_the_quickstart_is_read() -> None:
    assert load.load(None, ()) == load.load("quickstart", ())


SMALLEST = "name: a"


def test_what_a_file_leaves_out_is_the_default(tmp_path: Path) -> None:
    sweep, scenarios = load.load(written(tmp_path, SMALLEST), ())
    assert sweep == Sweep(name="a")
    assert [scenario.name for scenario in scenarios] == ["base"]
    assert scenarios[0].sweep == sweep


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("loop.generations=7", "loop.generations", 7),
        ("loop.generations='7'", "loop.generations", 7),
        ("training.learning_rate=1e-4", "training.learning_rate", 1e-4),  # a text in YAML 1.1
        ("training.learning_rate=null", "training.learning_rate", None),
        ("training.learning_rate=", "training.learning_rate", None),
        ("classifiers=[lenet, alexnet]", "classifiers", ("lenet", "alexnet")),
        ("queue.volume=120", "queue.volume", 120),
        ("queue.volume=D0/9", "queue.volume", "D0/9"),
        ("queue.mixing.ratio=all", "queue.mixing.ratio", "all"),
        ("queue.mixing.ratio=1", "queue.mixing.ratio", 1.0),
        ("queue.mixing={ratio: 0.5, of: total}", "queue.mixing.of", "total"),
        ("storage=a=b", "storage", "a=b"),
        ("training.pretrained=true", "training.pretrained", True),
        ("training.pretrained=weights.pth", "training.pretrained", "weights.pth"),
        ("filter.clip.kind=open_clip", "filter.clip.model", "ViT-B-32"),
        ("filter.clip.steps=5", "filter.clip.kind", "domain"),
        ("generator.max_steps=9", "generator.name", "conditional_gan"),
        ("dataset.name=colorized_mnist", "dataset.download", False),
    ],
)
def test_an_override_sets_one_value(override: str, path: str, value: Any) -> None:
    found: Any = quickstart(override)
    for part in path.split("."):
        found = getattr(found, part)
    assert found == value
    assert type(found) is type(value)


def test_the_last_of_two_overrides_wins_and_nothing_else_changes() -> None:
    sweep = quickstart("loop.generations=1", "loop.generations=5")
    plain = quickstart()
    assert sweep.loop.generations == 5
    assert sweep.model_copy(update={"loop": plain.loop}) == plain


def test_training_of_one_network_differs_for_that_network_alone() -> None:
    sweep = quickstart("training_of.lenet.max_steps=7", "training.batch_size=16")
    assert sweep.training_for("lenet").max_steps == 7
    assert sweep.training_for("lenet").batch_size == 16
    assert sweep.training_for("mobilenet_v3_small") == sweep.training
    assert sweep.training_for("lenet").model_copy(
        update={"max_steps": sweep.training.max_steps}
    ) == (sweep.training)


# --- axes ----------------------------------------------------------------------------------------


def test_scenarios_are_the_product_of_the_axes() -> None:
    sweep, scenarios = load.load(
        None, ["axes={loop.regime: [stack, replace], filter.drop: [0, 1e-1]}"]
    )
    assert [scenario.name for scenario in scenarios] == [
        "regime=stack,drop=0.0",
        "regime=stack,drop=0.1",
        "regime=replace,drop=0.0",
        "regime=replace,drop=0.1",
    ]
    for scenario in scenarios:
        assert scenario.sweep.loop.regime == scenario.values["loop.regime"]
        assert scenario.sweep.filter.drop == scenario.values["filter.drop"]
        back = {"loop": sweep.loop, "filter": sweep.filter}
        assert scenario.sweep.model_copy(update=back) == sweep


def test_an_axis_given_as_an_override_joins_those_of_the_file() -> None:
    _, scenarios = load.load(TWO_STARTS, ["axes.loop.regime=[stack, replace]"])
    assert len(scenarios) == 4
    _, scenarios = load.load(TWO_STARTS, ["axes.dataset.initialization=[spurious]"])
    assert [scenario.sweep.dataset.initialization for scenario in scenarios] == ["spurious"]


def test_an_axis_value_is_what_it_was_validated_to() -> None:
    _, (scenario,) = load.load(None, ["axes={training.learning_rate: [1e-4]}"])
    assert scenario.values == {"training.learning_rate": 1e-4}
    assert scenario.name == "learning_rate=0.0001"


def test_an_axis_over_a_group_keeps_the_group_as_written() -> None:
    kinds = "[{name: duplicate_real}, {name: conditional_gan, max_steps: 5}]"
    _, scenarios = load.load(None, [f"axes={{generator: {kinds}}}"])
    assert [scenario.sweep.generator.name for scenario in scenarios] == [
        "duplicate_real",
        "conditional_gan",
    ]
    assert scenarios[1].values["generator"] == {"name": "conditional_gan", "max_steps": 5}


def test_an_axis_can_select_the_kind_that_another_axis_sets(tmp_path: Path) -> None:
    axes = "axes: {filter.clip.score_batch: [8], filter.clip.kind: [domain, open_clip]}"
    _, scenarios = load.load(written(tmp_path, f"{SMALLEST}\n{axes}"), ())
    assert [scenario.sweep.filter.clip.kind for scenario in scenarios] == ["domain", "open_clip"]
    assert {scenario.sweep.filter.clip.score_batch for scenario in scenarios} == {8}


@pytest.mark.parametrize("values", ["[stack, stack]", "[stack, replace, stack]"])
def test_two_scenarios_of_one_name_are_refused(values: str) -> None:
    assert fault(f"axes={{loop.regime: {values}}}") == (
        "axes: two scenarios have the same name: regime=stack"
    )


def test_two_spellings_of_one_value_are_one_scenario_twice() -> None:
    assert "learning_rate=0.0001" in fault("axes={training.learning_rate: [1e-4, 0.0001]}")


# --- what is refused -----------------------------------------------------------------------------

NETWORKS = (
    "'lenet', 'alexnet', 'vgg19', 'resnet50', 'mobilenet_v3_small', 'mobilenet_v3_large', "
    "'deit_s' or 'resnet8', or must be timm/NAME, any network of timm that takes square RGB images"
)
INTEGER = "must be a valid integer, unable to parse string as an integer"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        # unknown keys, at every depth, with the nearest that is known there
        ("lop.generations=3", "lop: unknown key; did you mean loop?"),
        ("loop.generatons=3", "loop.generatons: unknown key; did you mean loop.generations?"),
        ("filter.clip.stepz=3", "filter.clip.stepz: unknown key; did you mean filter.clip.steps?"),
        (
            "queue.mixing.ration=1",
            "queue.mixing.ration: unknown key; did you mean queue.mixing.ratio?",
        ),
        (
            "training_of.lenet.max_stepz=1",
            "training_of.lenet.max_stepz: unknown key; did you mean training_of.lenet.max_steps?",
        ),
        ("generator.xyzzy=1", "generator.xyzzy: unknown key; known keys: name, start, budget"),
        ("sweep=1", "sweep: unknown key; known keys: name, storage, storage_shared"),
        ("loop.xyz=1", "loop.xyz: unknown key; known keys: generations, regime, arm, loop_seeds"),
        # or in another group
        ("generations=3", "generations: unknown key; did you mean loop.generations?"),
        ("queue.drop=0.1", "queue.drop: unknown key; did you mean filter.drop?"),
        ("training.lr=0.1", "training.lr: unknown key; did you mean training.learning_rate?"),
        (
            "max_steps=3",
            "max_steps: unknown key; did you mean generator.max_steps or training.max_steps or ",
        ),
        ("capcity=3", "capcity: unknown key; did you mean queue.capacity?"),
        # wrong types
        ("loop.generations=abc", f"loop.generations: {INTEGER} (found 'abc')"),
        ("loop.generations=2.5", "loop.generations: must be a valid integer, got a number with"),
        ("loop.generations=", "loop.generations: must be a valid integer (found None)"),
        ("loop=3", "loop: must be a group of settings (keys and values) (found 3)"),
        ("dataset=colorized_mnist", "dataset: must be a group of settings (keys and values) (fou"),
        ("classifiers=lenet", "classifiers: must be a list, like [a, b] (found 'lenet')"),
        ("training_of.lenet=3", "training_of.lenet: must be a group of settings"),
        ("loop.generations.x=3", "loop.generations.x: generations is a value, not a group"),
        ("loop.generations=true", "loop.generations: must not be true or false (found True)"),
        ("resources.num_cpus=true", "resources.num_cpus: must not be true or false (found True)"),
        ("loop.loop_seeds=[0, true]", "loop.loop_seeds.1: must not be true or false"),
        ("training_of.lenet.max_steps=true", "training_of.lenet.max_steps: must not be true or f"),
        ("name=a b", "name: must be letters, digits and . _ -, a letter or digit first (found 'a"),
        # out of range
        ("loop.generations=-1", "loop.generations: must be greater than or equal to 0 (found -1)"),
        ("filter.drop=1", "filter.drop: must be less than or equal to 0.999 (found 1)"),
        ("filter.drop=.nan", "filter.drop: must be less than or equal to 0.999 (found nan)"),
        ("training.learning_rate=.inf", "training.learning_rate: must be a finite number (found "),
        ("training.weight_decay=1e999", "training.weight_decay: must be a finite number (found "),
        ("generator.betas=[.nan, 0.9]", "generator.betas.0: must be "),
        ("name=a/b", "name: must be letters, digits and . _ -, a letter or digit first (found 'a"),
        ("classifiers=[]", "classifiers: must have at least 1 item"),
        ("training_of.lenet.max_steps=0", "training_of.lenet.max_steps: must be greater than or e"),
        (
            "queue.volume=D1",
            f"queue.volume: {INTEGER}, or must match pattern '^D0(/[1-9][0-9]*)?$' (found 'D1')",
        ),
        ("queue.mixing.ratio=-1", "queue.mixing.ratio: must be 'all', or must be greater than 0 "),
        ("dataset.ratios=[0.5, 0.5]", "dataset.ratios.2: this entry is required"),
        ("dataset.ratios=[0.5, 0.5, 0.5]", "dataset: ratios must add up to 1, not 1.5"),
        # unknown kinds and names
        (
            "dataset.name=colorized_mnst",
            "dataset.name: must be one of 'colorized_digits', 'colorized_mnist', 'cifar20_100', "
            "'hard_imagenet', 'breeds', 'folder' "
            "(found 'colorized_mnst'); did you mean colorized_mnist?",
        ),
        (
            "dataset.name=3",
            "dataset.name: must be one of 'colorized_digits', 'colorized_mnist', 'cifar20_100', "
            "'hard_imagenet', 'breeds', 'folder' ",
        ),
        (
            "classifiers=[lenett]",
            f"classifiers.0: must be {NETWORKS} (found 'lenett'); did you mean lenet?",
        ),
        ("classifiers=[lenet, lenet]", "classifiers: a classifier is listed twice"),
        (
            "training_of.lenett.max_steps=3",
            f"training_of.lenett: must be {NETWORKS} (found 'lenett'); did you mean lenet?",
        ),
        ("filter.score=clp", "filter.score: must be 'none', 'clip', 'uncertainty' or 'combined' "),
        # values that contradict each other
        (
            "evaluation.judge.classifier=resnet50",
            "evaluation.judge.classifier: resnet50 is not trained; classifiers: lenet, resnet8",
        ),
        (
            "filter.expert.seeds=[5]",
            "filter.expert.seeds: [5] are not trained; loop.classifier_seeds: [0]",
        ),
        (
            "filter.uncertainty.method=ensemble",
            "filter.expert.seeds: [0]; filter.uncertainty.method ensemble needs at least",
        ),
        (
            "evaluation.dynamics.quality=cas",
            "evaluation.dynamics: quality cas is not measured while evaluation.cas_epochs is 0",
        ),
        (
            "evaluation.features=[gray9]",
            "evaluation.features: gray9 is not known; known: pixels8, gray8, lenet (the judge's)",
        ),
        # axes
        ("axes=[1]", "axes: must be a group of settings (keys and values) (found [1])"),
        ("axes.loop.regime=stack", "axes.loop.regime: must be a list, like [a, b] (found 'stack')"),
        ("axes.loop.regime=[]", "axes: axis loop.regime has no values"),
        ("axes.storage=[a, b]", "axes: storage cannot differ between scenarios"),
        (
            "axes={design: [{loop.regime: stack, filter.drop: 0}], filter.drop: [0.1, 0.2]}",
            "axes: filter.drop is set by two axes: design and filter.drop",
        ),
        (
            "axes={a: [{loop.regime: stack}], b: [{loop.regime: replace, filter.drop: 0}]}",
            "axes: loop.regime is set by two axes: a and b",
        ),
        (
            "axes={loop.generations: [1, 2], loop: [{arm: treatment}, {arm: a_a}]}",
            "axes: loop.generations lies inside loop, which is set whole beside it; "
            "write the keys inside loop one by one",
        ),
        (
            "axes={loop: [{arm: treatment}], a: [{loop.generations: 1, filter.drop: 0}]}",
            "axes: loop.generations lies inside loop, which is set whole beside it",
        ),
        (
            "axes={a: [{filter.expert.seeds: [0], filter.expert: {classifier: lenet}}]}",
            "axes: filter.expert.seeds lies inside filter.expert, which is set whole beside it",
        ),
        (
            "axes={loop.regim: [stack]}",
            "loop.regim: unknown key; did you mean loop.regime? (in scenario regim=stack)",
        ),
        (
            "axes={filter.drop: [0.1, 2]}",
            "filter.drop: must be less than or equal to 0.999 (found 2) (in scenario drop=2)",
        ),
        # what is no override
        ("loop.generations", "'loop.generations' is not understood; usage: python -m "),
        ("=3", "'=3' is not an override; write key.key=value"),
        ("loop.=3", "'loop.=3' is not an override; write key.key=value"),
        ("axes.=[3]", "'axes.=[3]' is not an override; write key.key=value"),
        ("loop.loop_seeds=[1", "'loop.loop_seeds=[1': while parsing a flow sequence"),
    ],
)
def test_a_fault_is_named_with_its_path_its_value_and_what_is_allowed(
    override: str, message: str
) -> None:
    assert fault(override).startswith(message)


def test_a_key_of_another_kind_is_not_offered_as_its_own_nearest() -> None:
    message = fault("dataset.limit_train=500")
    assert message == (
        "dataset.limit_train: unknown key; known keys: "
        "name, initialization, ratios, test_colours, reserve, seed, root"
    )
    message = fault("filter.clip.kind=open_clip", "filter.clip.steps=3")
    assert message.endswith("unknown key; known keys: kind, model, pretrained, prompt, score_batch")
    message = fault("dataset.name=colorized_mnist", "dataset.limit_tran=500")
    assert message.endswith("did you mean dataset.limit_train?")


def test_an_expert_seed_that_no_chain_trains_is_refused_in_both_topologies() -> None:
    for chain in ("shared", "per_classifier"):
        message = fault(f"loop.chain={chain}", "filter.expert.seeds=[5]")
        assert message.startswith("filter.expert.seeds: [5] are not trained")
    quickstart("loop.chain=per_classifier", "filter.expert.classifier=resnet50")  # each its own
    quickstart("filter.score=clip", "filter.expert.seeds=[5]")  # no expert is asked


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- name: a\n", "is not a sweep file: its top level must be keys and values"),
        ("just words", "is not a sweep file: its top level must be keys and values"),
        ("", "is not a sweep file: its top level must be keys and values"),
        ("1: 2", "is not a sweep file: its top level must be keys and values"),
        ("name: [a", "cannot be read: while parsing a flow sequence"),
        ("loop: {generations: 1}\nname: a\nloop: {}\n", "the key loop is there twice"),
        ("loop:\n  generations: 1\n  generations: 2\n", "the key generations is there twice"),
        ("name: !!python/object/apply:os.getcwd []", "cannot be read: could not determine a const"),
    ],
)
def test_a_file_that_is_no_sweep_is_refused(tmp_path: Path, text: str, message: str) -> None:
    config = written(tmp_path, text)
    said = fault(config=config)
    assert said.startswith(config)
    assert message in said


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_bytes(b"name: \xff\xfe")
    assert fault(config=str(path)).startswith(f"{path} cannot be read: ")


def test_a_fault_in_a_file_reads_like_one_in_an_override(tmp_path: Path) -> None:
    config = written(tmp_path, "loop: {generatons: 3}")
    assert fault(config=config) == f"{config}:1: {fault('loop.generatons=3')}"


MISTAKES = """\
name: my sweep
extends: quickstart
loop:
  generatons: 3
training: {lr: 0.1,
  batch_size: many}
axes:
  loop.regime: [stack, stak]
  storage: [here, there]
  loop.chain: []
"""


def test_all_mistakes_are_said_at_once_in_the_order_of_the_file_and_the_words(
    tmp_path: Path,
) -> None:
    config = written(tmp_path, MISTAKES)
    lines = said(
        "queue.capcity=3", "filter.drop=2", "loop.=1", "axes.filter.cut=[x]", "lr", config=config
    )
    assert lines == [
        f"{config}:1: name: must be letters, digits and . _ -, a letter or digit first (found "
        "'my sweep')",
        f"{config}:4: loop.generatons: unknown key; did you mean loop.generations?",
        f"{config}:5: training.lr: unknown key; did you mean training.learning_rate?",
        f"{config}:6: training.batch_size: {INTEGER} (found 'many')",
        f"{config}:8: loop.regime: must be 'stack', 'replace', 'accumulate' or "
        "'accumulate_subsample' (found 'stak'); did you mean stack? "
        "(in scenario regime=stak,cut=x)",
        f"{config}:9: axes: storage cannot differ between scenarios: all scenarios share their "
        "stages there",
        f"{config}:10: axes: axis loop.chain has no values",
        "queue.capcity=3: unknown key; did you mean queue.capacity?",
        "filter.drop=2: must be less than or equal to 0.999 (found 2)",
        "axes.filter.cut=[x]: filter.cut: must be 'per_class', 'global' or 'range' (found 'x') "
        "(in scenario regime=stack,cut=x)",
        "'loop.=1' is not an override; write key.key=value",
        "'lr' is not understood; usage: python -m ray_selfloop.sweep [CONFIG] [a.b=value ...]",
    ]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("seeds=1", "loop.loop_seeds or loop.classifier_seeds or filter.expert.seeds or "),
        ("loop.seeds=1", "loop.loop_seeds or loop.classifier_seeds?"),
        ("training_of.lenet.lr=1", "training_of.lenet.learning_rate?"),
        ("clip.steps=1", "filter.clip?"),  # a group is sought among groups
        ("filtr.drop=1", "filter?"),
        ("classifier.max_epochs=1", "training.max_epochs or tune.max_epochs or "),
    ],
)
def test_a_key_is_sought_by_its_whole_name_by_parts_of_it_and_by_what_stands_in_it(
    word: str, meant: str
) -> None:
    assert f": unknown key; did you mean {meant}" in fault(word)


def test_a_mistake_stands_where_it_was_written_last(tmp_path: Path) -> None:
    (tmp_path / "below.yaml").write_text("name: a\nloop:\n  generations: -1\n  loop_seeds: [x]\n")
    config = written(tmp_path, "extends: below\nloop: {generations: -2}\n")
    first, second = said(config=config)
    assert first.startswith(f"{config}:2: loop.generations: must be greater")
    assert second.startswith(f"{tmp_path / 'below.yaml'}:4: loop.loop_seeds.0: must be a valid int")
    assert said("loop.generations=-3", config=config)[-1].startswith("loop.generations=-3: must be")


def test_what_contradicts_a_default_names_the_line_of_its_group(tmp_path: Path) -> None:
    config = written(tmp_path, "name: a\n\nfilter: {expert: {classifier: vgg19}}\n")
    assert fault(config=config).startswith(f"{config}:3: filter.expert.classifier: vgg19 is not")


def test_of_very_many_mistakes_the_rest_are_counted(tmp_path: Path) -> None:
    keys = [f"xyzzy{number}: 1" for number in range(50)]
    *lines, last = said(config=written(tmp_path, "\n".join(keys)))
    assert (len(lines), last) == (20, "and 30 more")


def test_yaml_that_cannot_be_read_is_named_with_line_and_column(tmp_path: Path) -> None:
    config = written(tmp_path, "name: a\nloop: {generations: 1\nfilter: {}\n")
    assert fault(config=config).startswith(f"{config}:3:7 cannot be read: while parsing a flow map")


def test_keys_merged_by_yaml_are_no_duplicates(tmp_path: Path) -> None:
    text = "training_of:\n  lenet: &own {max_steps: 5}\n  alexnet: {<<: *own, max_steps: 6}\n"
    sweep, _ = load.load(written(tmp_path, text + SMALLEST), ())
    assert sweep.training_for("lenet").max_steps == 5
    assert sweep.training_for("alexnet").max_steps == 6


def test_an_unknown_sweep_names_the_shipped_ones(tmp_path: Path) -> None:
    assert fault(config="quikstart") == "no sweep file quikstart; did you mean quickstart?"
    message = fault(config="xyzzy")
    assert message == (
        f"no sweep file xyzzy; shipped sweeps: {', '.join(path.stem for path in SHIPPED)}"
    )
    assert fault(config=str(tmp_path)).startswith(f"no sweep file {tmp_path};")


def test_a_typo_is_answered_without_loading_torch_ray_or_mlflow() -> None:
    program = """
import sys
from ray_selfloop import __main__, sweep
codes = sweep.main(["loop.generatons=3"]), __main__.main(["validate"]), __main__.main(["valdate"])
heavy = {"torch", "ray", "mlflow", "sklearn", "scipy", "pandas", "matplotlib", "open_clip"}
print(codes, sorted(heavy & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "(2, 0, 2) []"
