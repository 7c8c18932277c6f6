"""From words to a plan: what is refused before anything runs or is written."""

import errno
import fcntl
import os
import re
from pathlib import Path

import pytest
from other_user import as_other, needs_root

from ray_selfloop import declaration
from ray_selfloop.__main__ import main
from ray_selfloop.config import load
from ray_selfloop.config.words import arguments
from ray_selfloop.errors import ConfigError, DataError, StorageError
from ray_selfloop.graph import Graph, Stage
from ray_selfloop.planning import (
    JOB_MARK,
    TRACKING_MARK,
    Plan,
    prepare,
    storage,
    tracking_uri,
)
from ray_selfloop.running import Run
from ray_selfloop.stages.kinds import VERSIONS
from ray_selfloop.store.records import Record, check_storage


def publish(plan: Plan, stage: Stage) -> Record:
    """A record for a stage of the plan."""
    with plan.store.attempt(stage.key) as folder:
        (folder / "a.txt").write_text("abc")
        return plan.store.publish(stage, folder, {}, 1.0)


# --- the command line ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "config", "overrides"),
    [
        ([], None, []),
        (["sweeps/a.yaml"], "sweeps/a.yaml", []),
        (["a=1", "b.c=x=y"], None, ["a=1", "b.c=x=y"]),
        (["a=1", "quickstart", "b=[1, 2]"], "quickstart", ["a=1", "b=[1, 2]"]),
    ],
)
def test_a_command_line_is_one_config_and_overrides(
    words: list[str], config: str | None, overrides: list[str]
) -> None:
    assert arguments(words) == (config, overrides)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["quickstart", "b.yaml"], "b.yaml"),
        (["--storage"], "--storage"),
        (["-v"], "-v"),
        (["quickstart", "loop.generations", "3"], "loop.generations"),
    ],
)
def test_other_words_are_refused_with_the_usage(words: list[str], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load.load(*arguments([*words, "name=a b"]))
    assert str(caught.value).startswith("name=a b: must be ")
    usage = "usage: python -m ray_selfloop.sweep [CONFIG] [a.b=value ...]"
    assert f"\n'{named}' is not understood; {usage}" in str(caught.value)


# --- storage -------------------------------------------------------------------------------------


def test_a_storage_folder_is_made_absolute_and_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert storage("results/deep") == tmp_path / "results" / "deep"
    assert storage("./a/../b") == tmp_path / "b"
    assert storage("~/results") == tmp_path / "home" / "results"
    assert storage(str(tmp_path)) == tmp_path
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "uri", ["file:///tmp/x", "s3://", "s3:///x", "az://bucket/x", "s3://bucket/a//b", "gs://b/a#b"]
)
def test_what_is_neither_a_folder_nor_a_bucket_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError) as caught:
        storage(uri)
    assert str(caught.value).startswith(f"storage: {uri}: give a folder, s3://BUCKET/PREFIX or gs")


def test_a_relative_folder_is_refused_inside_a_ray_job_and_only_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(JOB_MARK, '{"runtime_env": {}}')
    with pytest.raises(ConfigError, match=r"^storage: \./results is relative, and a Ray job's"):
        storage("./results")
    assert storage(str(tmp_path / "results")) == tmp_path / "results"
    monkeypatch.delenv(JOB_MARK)
    assert storage("./results") == tmp_path / "results"


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "deep" / "er"):
        with pytest.raises(StorageError) as caught:
            storage(str(path))
        assert str(caught.value) == f"storage: {path} cannot be written: Not a directory"


def test_a_folder_where_nothing_can_be_made_is_refused() -> None:
    with pytest.raises(StorageError, match=r"^storage: /proc/.*/results cannot be written: "):
        storage("/proc/self/results")


def test_what_a_run_will_ask_of_a_folder_is_tried_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    assert storage(str(tmp_path / "deep" / "er")) == tmp_path / "deep" / "er"
    assert storage(str(tmp_path), writes=False, shared=True) == tmp_path
    with pytest.raises(StorageError) as caught:
        storage(str(tmp_path / "deep"), shared=True)
    assert str(caught.value) == (
        f"storage: {tmp_path} has no hard links, by which several machines agree on who was first;"
        " give a file system that has them (NFS has), or an address s3:// or gs://"
    )
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StorageError, match="needs hard links or locks of files"):
        storage(str(tmp_path / "deep"))
    assert list(tmp_path.iterdir()) == []


@needs_root
@pytest.mark.parametrize("closed", ["", "stages", "stages/kept", "drivers", "leases", "mine"])
def test_a_folder_of_another_user_is_refused_before_anything_is_computed(
    seen: Path, closed: str
) -> None:
    for name in ("stages/kept", "drivers", "leases", "mine", "of others"):
        (seen / name).mkdir(parents=True)
    for folder in (seen, *seen.rglob("*")):
        folder.chmod(0o777)
    (seen / "of others").chmod(0o700)
    assert as_other(storage, str(seen), True, False, "mine") == seen
    (seen / closed).chmod(0o755)
    with pytest.raises(StorageError) as caught:
        as_other(storage, str(seen), True, False, "mine")
    assert str(caught.value) == f"storage: {seen / closed} cannot be written: Permission denied"
    assert as_other(storage, str(seen), False) == seen


def test_what_is_no_path_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(StorageError, match=r"^storage: .*(loop|links)"):
        storage(str(tmp_path / "loop" / "deep"))
    with pytest.raises(StorageError, match="File name too long"):
        storage(str(tmp_path / ("a" * 300)))
    with pytest.raises(StorageError, match="null byte"):
        storage("a\0b")
    with pytest.raises(ConfigError, match=r"^storage: ~no-such-user/x: there is no such user"):
        storage("~no-such-user/x")


def test_a_folder_of_one_node_is_refused_for_several(tmp_path: Path) -> None:
    check_storage("s3://bucket/sweep", shared=False, nodes=3)
    check_storage(str(tmp_path), shared=True, nodes=3)
    check_storage(str(tmp_path), shared=False, nodes=1)
    with pytest.raises(StorageError) as caught:
        check_storage(str(tmp_path), shared=False, nodes=3)
    assert str(caught.value).startswith(f"storage: {tmp_path} is a folder, and the cluster has 3 ")
    assert "storage_shared=true" in str(caught.value)


@pytest.mark.parametrize("uri", ["http://127.0.0.1:5000", "sqlite:////tmp/runs.db"])
def test_numbers_of_a_sweep_in_a_bucket_go_where_the_user_says(
    micro: list[str], monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    sweep, _ = load.load(*arguments(micro))
    named, _ = load.load(*arguments([*micro, f"tracking.uri={uri}"]))
    monkeypatch.delenv(TRACKING_MARK, raising=False)
    assert tracking_uri(named, "s3://bucket/sweep") == uri
    with pytest.raises(ConfigError) as caught:
        tracking_uri(sweep, "s3://bucket/sweep")
    assert "s3://bucket/sweep is a bucket; name a server" in str(caught.value)
    monkeypatch.setenv(TRACKING_MARK, uri)
    assert tracking_uri(sweep, "s3://bucket/sweep") == uri
    assert tracking_uri(sweep, "/data") == "sqlite:////data/mlflow.db"
    monkeypatch.setenv(TRACKING_MARK, "./mlruns")
    with pytest.raises(
        ConfigError, match=r"^MLFLOW_TRACKING_URI: \./mlruns is not a tracking URI$"
    ):
        tracking_uri(sweep, "s3://bucket/sweep")


# --- the plan ------------------------------------------------------------------------------------


def test_making_a_plan_writes_nothing(micro: list[str]) -> None:
    plan = prepare(micro)
    assert plan.records == {}
    assert plan.corrupt == {}
    assert not plan.store.root.exists()
    assert plan.folder == plan.store.root / "micro"


def test_a_plan_knows_what_is_published(micro: list[str]) -> None:
    plan = prepare(micro)
    trials = [node.stage for node in plan.graph.of_kind("classifier")]
    record = publish(plan, trials[0])
    again = prepare(micro)
    assert again.records == {trials[0].key: record}
    assert list(again.published("classifier", "base").values()) == [trials[0]]
    assert again.published("classifier", "another") == {}
    assert again.dataset("base") == plan.graph.of_kind("dataset")[0].stage


def test_a_damaged_record_is_named_and_counts_as_missing(micro: list[str]) -> None:
    plan = prepare(micro)
    damaged, sound = (node.stage for node in plan.graph.of_kind("classifier")[:2])
    for stage in (damaged, sound):
        publish(plan, stage)
    record = plan.store.folder(damaged.key) / "record.json"
    record.write_text(record.read_text()[:50])
    again = prepare(micro)
    assert list(again.records) == [sound.key]
    assert record.exists(), "looking changes nothing"
    (sentence,) = again.set_aside()
    assert sentence.startswith(f"{damaged.key}: {record} is not a record")
    publish(again, damaged)
    final = prepare(micro)
    assert set(final.records) == {damaged.key, sound.key}
    assert final.corrupt == {}


def test_what_another_driver_has_published_again_is_left_alone(micro: list[str]) -> None:
    plan = prepare(micro)
    repaired, damaged = (node.stage for node in plan.graph.of_kind("classifier")[:2])
    for stage in (repaired, damaged):
        record = publish(plan, stage)
        (plan.store.folder(stage.key) / record.attempt / "a.txt").write_text("abd")
    first, other = prepare(micro), prepare(micro)
    assert set(first.corrupt) == {repaired.key, damaged.key}
    assert len(other.set_aside()) == 2
    again = publish(other, repaired)
    assert first.set_aside() == []
    assert prepare(micro).records == {repaired.key: again}


def below(graph: Graph, kind: str) -> set[str]:
    """The stages of one kind, and all that depends on them."""
    reached: set[str] = set()
    for node in graph:
        if node.stage.kind == kind or reached & set(node.stage.inputs.values()):
            reached.add(node.stage.key)
    return reached


@pytest.mark.parametrize("kind", ["scorer", "samples", "classifier"])
def test_a_raised_version_leaves_the_records_of_everything_else(
    micro: list[str], kind: str
) -> None:
    plan = prepare(micro)
    for node in plan.graph:
        publish(plan, node.stage)
    assert len(prepare(micro).records) == len(plan.graph)
    raised = prepare(micro, {**VERSIONS, kind: VERSIONS[kind] + 1})
    assert set(raised.records) == set(plan.graph.nodes) - below(plan.graph, kind)
    assert 0 < len(raised.records) < len(plan.graph)


def test_the_place_of_the_storage_is_in_no_key(micro: list[str], tmp_path: Path) -> None:
    moved = prepare([*micro, f"storage={tmp_path / 'other'}", "resources.num_cpus=3", "name=other"])
    assert list(moved.graph.nodes) == list(prepare(micro).graph.nodes)


# --- axes ----------------------------------------------------------------------------------------

COUNTED = "one result is counted as several cases"
SAME = f"make no difference here: {COUNTED}"


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ("{filter.drop: [0, 0.1]}", ""),
        ("{evaluation.samples: [20, 30]}", ""),
        ("{loop.arm: [treatment, no_synthetic], filter.drop: [0, 0.1]}", ""),
        ("{loop.arm: [no_synthetic, a_a], filter.drop: [0, 0.1]}", "axes: filter.drop: 0 and 0.1"),
        ("{loop.regime: [stack, replace, accumulate]}", "axes: loop.regime: stack and accumulate"),
        ("{loop.arm: [treatment, frozen_expert]}", ""),
        ("{filter: [{score: none, drop: 0}, {score: none, drop: 0.3}]}", "axes: filter: {'score'"),
        (
            "{a: [{filter.score: clip, filter.uncertainty.rate: 0.1}, {filter.score: clip}]}",
            "axes: a",
        ),
        ("{queue.mixing.of: [original, total]}", "axes: queue.mixing.of: original and total"),
        ("{loop.chain: [shared, per_classifier], classifiers: [[lenet, alexnet]]}", ""),
        ("{loop.loop_seeds: [[0], [0, 1]]}", ""),
        ("{loop.chain: [shared, per_classifier]}", "axes: loop.chain: shared and"),
        ("{training_of.alexnet.max_steps: [5, 6]}", "axes: training_of.alexnet.max_steps: 5 and 6"),
        (
            "{filter.drop: [0, 0.1], evaluation.probe.max_epochs: [5, 6]}",
            "axes: evaluation.probe.max_epochs: 5 and 6",
        ),
        (
            "{a: [{loop.arm: treatment, filter.drop: 0}, {loop.arm: treatment, filter.drop: 0.1},"
            "{loop.arm: a_a, filter.drop: 0}, {loop.arm: a_a, filter.drop: 0.1}]}",
            "",
        ),
    ],
)
def test_an_axis_that_changes_no_stage_is_said(micro: list[str], axes: str, said: str) -> None:
    warnings = prepare([*micro, f"axes={axes}"], writes=False).warnings
    assert len(warnings) == bool(said), warnings
    assert all(one.startswith(said) and one.endswith(SAME) for one in warnings)


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        (
            "{filter.score: [none, clip], filter.drop: [0.1, 0.2]}",
            "score=none,drop=0.1 and score=none,drop=0.2",
        ),
        (
            "{loop.regime: [stack, accumulate], loop.arm: [treatment, no_synthetic]}",
            "regime=stack,arm=treatment and regime=accumulate,arm=treatment",
        ),
        (
            "{filter.score: [none, clip, uncertainty], filter.uncertainty.rate: [0.1, 0.2]}",
            "score=none,rate=0.1 and score=none,rate=0.2; "
            "score=clip,rate=0.1 and score=clip,rate=0.2",
        ),
    ],
)
def test_scenarios_that_are_the_same_beside_others_that_differ_are_said(
    micro: list[str], axes: str, said: str
) -> None:
    (warning,) = prepare([*micro, f"axes={axes}"], writes=False).warnings
    assert warning == f"axes: {said} have the same results: {COUNTED}"


def test_what_an_axis_says_already_is_not_said_of_its_scenarios(micro: list[str]) -> None:
    axes = (
        "{filter.score: [none, clip], filter.drop: [0.1, 0.2], queue.mixing.of: [original, total]}"
    )
    first, second = prepare([*micro, f"axes={axes}"], writes=False).warnings
    assert first == f"axes: queue.mixing.of: original and total {SAME}"
    names = [f"score=none,drop={drop},of=original" for drop in (0.1, 0.2)]
    assert second == f"axes: {' and '.join(names)} have the same results: {COUNTED}"


ENSEMBLE = ("filter.score=uncertainty", "filter.uncertainty.method=ensemble")
TWO = ("loop.classifier_seeds=[0, 1]", "filter.expert.seeds=[0, 1]")


@pytest.mark.parametrize(
    ("axis", "values", "unread", "read"),
    [
        (
            "dataset.ratios",
            "[[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]]",
            ("dataset.initialization=unbiased",),
            ("dataset.initialization=spurious",),
        ),
        (
            "filter.uncertainty.passes",
            "[20, 30]",
            (*TWO, *ENSEMBLE),
            (*TWO, "filter.score=uncertainty"),
        ),
        (
            "filter.uncertainty.rate",
            "[0.1, 0.2]",
            (*TWO, *ENSEMBLE),
            (*TWO, "filter.score=uncertainty"),
        ),
        (
            "queue.count",
            "[after_filtering, before_filtering]",
            ("filter.score=none",),
            ("filter.score=clip",),
        ),
        (
            "queue.count",
            "[after_filtering, before_filtering]",
            ("filter.drop=0",),
            ("filter.drop=0.1",),
        ),
        ("queue.volume", "[D0, D0/1]", (), None),
        ("queue.volume", "[null, D0/3]", (), ("queue.capacity=2",)),
        ("queue.volume", "[null, D0]", ("loop.regime=replace",), ()),
        ("queue.volume", "[null, D0]", ("queue.capacity=1",), ()),
        ("training.learning_rate", "[null, 0.001]", (), ("training.recipe=paper",)),
        ("training.learning_rate", "[null, 0.1]", ("training.recipe=paper",), ()),
        ("training_of.lenet.learning_rate", "[null, 0.001]", (), ("training.recipe=paper",)),
        ("training.batchnorm_momentum", "[0.1, 0.2]", ("training.recipe=paper",), ()),
        (
            "generator.start",
            "[scratch, previous]",
            ("loop.generations=1",),
            ("loop.generations=2",),
        ),
        ("loop.loop_seeds", "[[0, 1], [1, 0]]", (), None),
    ],
)
def test_settings_that_nothing_reads_are_said_where_nothing_reads_them(
    micro: list[str], axis: str, values: str, unread: tuple[str, ...], read: tuple[str, ...] | None
) -> None:
    def said(words: tuple[str, ...]) -> list[str]:
        return prepare([*micro, *words, f"axes.{axis}={values}"], writes=False).warnings

    (warning,) = said(unread)
    assert warning.startswith(f"axes: {axis}: ")
    assert warning.endswith(SAME)
    assert read is None or said(read) == []


def test_other_loop_seeds_are_another_result(micro: list[str]) -> None:
    axis = "axes.loop.loop_seeds=[[0, 1], [0, 2], [1, 2], [0]]"
    assert prepare([*micro, axis], writes=False).warnings == []


def test_an_arm_that_changes_nothing_is_said_by_plan_and_report(
    micro: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*micro, "filter.score=none", "axes={loop.arm: [treatment, unfiltered]}"]
    main(["plan", *words])
    assert f"axes: loop.arm: treatment and unfiltered {SAME}" in capsys.readouterr().out
    (warning,) = Run(prepare(words, writes=False)).warnings
    assert warning.startswith("axes: loop.arm: treatment and unfiltered")


# --- data and sizes ------------------------------------------------------------------------------


def test_missing_data_is_refused(micro: list[str], tmp_path: Path) -> None:
    words = [*micro, "dataset.name=colorized_mnist", f"dataset.root={tmp_path / 'nowhere'}"]
    with pytest.raises(DataError, match=r"nowhere/MNIST/raw/train-images-idx3-ubyte\(\.gz\) is mi"):
        prepare(words)
    assert not (tmp_path / "store").exists()


def test_settings_that_contradict_each_other_are_refused(micro: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"^queue\.mixing\.ratio: 0\.5 has no meaning under"):
        prepare([*micro, "queue.mixing.ratio=0.5", "loop.regime=replace"])


def test_a_reserve_that_leaves_no_original_images_is_refused(micro: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"^dataset\.reserve: 0\.999 of 1293 images leaves no or"):
        prepare([*micro, "dataset.reserve=0.999"])


RESERVE = ("generator={name: held_out_real}", "dataset.reserve=0.5", "filter.score=none")


def test_a_reserve_too_small_names_the_largest_that_is_feasible(micro: list[str]) -> None:
    words = [*micro, *RESERVE, "loop.generations=8", "queue.volume=120"]
    with pytest.raises(ConfigError) as caught:
        prepare(words)
    message = str(caught.value)
    assert message.startswith("dataset.reserve: 8 generations of 120 draws need more images than ")
    generations, draws = re.findall(
        r"Largest feasible: (\d+) generations of 120 draws, or 8 generations of (?:about )?(\d+) ",
        message,
    )[0]
    assert 0 < int(generations) < 8
    prepare([*words, f"loop.generations={generations}"])
    with pytest.raises(ConfigError):
        prepare([*words, f"loop.generations={int(generations) + 1}"])
    prepare([*words, f"queue.volume={int(draws) - 10}"])  # within one image of each class
    with pytest.raises(ConfigError):
        prepare([*words, f"queue.volume={int(draws) + 10}"])


def test_without_a_reserve_nothing_is_feasible(micro: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"the reserve has \(0\)\. Largest feasible: 0 generati"):
        prepare([*micro, "generator={name: held_out_real}"])


def test_over_sampling_for_the_filter_counts_against_the_reserve(micro: list[str]) -> None:
    words = [*micro, "generator={name: held_out_real}", "dataset.reserve=0.5", "queue.volume=300"]
    prepare([*words, "filter.score=none"])
    prepare([*words, "queue.count=before_filtering", "filter.drop=0.2"])
    with pytest.raises(ConfigError, match=r"dataset.reserve: 2 generations of 3[78][0-9] draws"):
        prepare([*words, "filter.drop=0.2"])


# --- what is declared, and what could be found ---------------------------------------------------


def lines_of_plan(words: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What `plan` says of the declaration and of effects."""
    main(["plan", *words])
    lines = capsys.readouterr().out.splitlines()
    return lines[lines.index("declared:") + 1 :]


def row_of_plan(said: list[str]) -> list[str]:
    """The cells of the table's line about the sweep as it is."""
    return next(line for line in said if line.endswith("this sweep")).split()


def line_of_plan(said: list[str], start: str) -> str:
    return next(line.strip() for line in said if line.strip().startswith(start))


ARMS = "axes={loop.arm: [treatment, no_synthetic]}"
CHAINS = "loop.loop_seeds=[0, 1, 2]"


def test_plan_states_what_is_declared_and_what_could_be_found(
    micro: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    said = lines_of_plan([*micro, ARMS, CHAINS], capsys)
    assert said[0].startswith("  primary: base: md increases")
    assert re.search(r"hash [0-9a-f]{20}$", said[1])
    assert said[2] == "  will be frozen when the sweep starts, before anything is trained"
    assert said[3] == "base"
    assert said[4].startswith("  minimum detectable effect: the smallest true change that 80 of ")
    assert "at 5 %, two-sided; treatment - no_synthetic" in said[4]
    row = row_of_plan(said)
    assert row[:3] == ["3", "1", "360"]
    assert all(0.02 < float(value) < 0.5 for value in row[3:5])
    assert "accuracy 0.930" in said[-1], "assumed: nothing is published"


def test_plan_says_at_which_level_several_settings_are_judged(
    micro: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    axes = "axes={dataset.initialization: [unbiased, biased], loop.arm: [treatment, no_synthetic]}"
    said = lines_of_plan([*micro, axes, CHAINS], capsys)
    assert sum(line.startswith("  primary: ") for line in said) == 2
    assert any("2 statements judged together need (5 % / 2 = 2.5 %, two-sided)" in s for s in said)
    alone = row_of_plan(lines_of_plan([*micro, ARMS, CHAINS], capsys))
    assert float(row_of_plan(said)[3]) > float(alone[3])


def test_plan_says_what_stands_in_the_way_of_any_verdict(
    micro: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    said = lines_of_plan(micro, capsys)
    assert row_of_plan(said)[3:5] == ["none", "none"]
    assert "  without the arm no_synthetic (loop.arm) no claim is tested at all; with it:" in said


def test_plan_takes_the_accuracy_that_is_published(
    micro: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    plan = prepare(micro)
    (start,) = [
        node.stage
        for node in plan.graph.of_kind("classifier")
        if any(place.generation == 0 for place in node.places)
    ]
    with plan.store.attempt(start.key) as folder:
        (folder / "a.txt").write_text("abc")
        summary = {"accuracy": 0.875, "collapsed": False}
        plan.store.publish(start, folder, summary, 1.0)
    assert "accuracy 0.875" in lines_of_plan(micro, capsys)[-1]


SCATTER = {
    "scenario_group": "base", "metric": "md", "source": "treatment - no_synthetic",
    "chain_sd": 0.0301, "seed_sd": None, "chains": 3, "seeds": 1, "networks": 1,
}  # fmt: skip


def test_plan_takes_the_scatter_and_the_times_that_are_published_and_writes_nothing(
    micro: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*micro, ARMS, CHAINS]
    plan = prepare(words)
    for node in plan.graph:
        with plan.store.attempt(node.stage.key) as folder:
            plan.store.publish(node.stage, folder, {}, 36.0)
    run = Run(prepare(words))
    run.find_measurements()
    (claims,) = run.plan.graph.of_kind("claims")
    with plan.store.attempt(claims.stage.key) as folder:
        rows = [SCATTER | {"source": "a_a", "chain_sd": 0.5}, SCATTER]
        plan.store.publish(claims.stage, folder, {"scatter": rows}, 1.0)
    before = sorted(plan.store.root.rglob("*"))
    said = lines_of_plan(words, capsys)
    assert sorted(plan.store.root.rglob("*")) == before
    assert said[2] == "  not frozen, and generation 1 has been trained: declared after the data"
    told = line_of_plan(said, "md scatters")
    assert "(measured: treatment - no_synthetic, 3 chains, the true one may be 0.52 to 6.3" in told
    assert "seeds included: there was one" in told
    assert "(both assumed)" in line_of_plan(said, "accuracy scatters")
    hours = len(plan.graph) / 100
    assert float(row_of_plan(said)[-3]) == pytest.approx(hours, rel=0.01)
    assert line_of_plan(said, "best split").startswith(f"best split of {hours:.3g} core-hours, ")


def test_plan_says_when_it_was_frozen(micro: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    plan = prepare(micro)
    declaration.freeze(Run(plan).declaration, plan.sweep.name, plan.store.blobs)
    assert re.fullmatch(r"  frozen 20\d\d-\d\d-\d\d \d\d:\d\d UTC", lines_of_plan(micro, capsys)[2])


def test_weights_of_clip_that_cannot_be_had_are_refused_before_anything_is_written(
    micro: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        DataError, match=r"^filter\.clip: the weights laion2b_s34b_b79k of ViT-B-32"
    ):
        prepare([*micro, "filter.clip={kind: open_clip}"])
    assert list(tmp_path.iterdir()) == []
