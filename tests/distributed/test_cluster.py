"""What a sweep asks for against what a cluster can hold: one line instead of a wait without end."""

import math
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest

from ray_selfloop.config.sweep import Resources
from ray_selfloop.distributed import nodes
from ray_selfloop.distributed.cluster import Ask, Cluster, joined
from ray_selfloop.distributed.nodes import Machines, NodeType, with_workers
from ray_selfloop.errors import ResourceError
from ray_selfloop.graph import Stage

SHIPPED = Path(__file__).parents[2] / "cluster.yaml"
HEAD = NodeType("head", {"CPU": 2.0, nodes.HEAD: 1.0}, 1, 1)
THERE = Machines((HEAD,))
GPU = NodeType("gpu", {"CPU": 8.0, "GPU": 1.0, "slot": 8.0}, 4)


def stage(kind: str, **config: object) -> Stage:
    return Stage(kind, 1, config, {})


def generator(workers: int = 1) -> Stage:
    asked = {"name": "stable_diffusion", "workers": workers, "batch_size": 4 * workers}
    return stage("generator", generator=asked)


def cluster(*machines: NodeType, **resources: object) -> Cluster:
    return joined(Resources.model_validate(resources), Machines(machines))


@pytest.mark.parametrize(
    ("resources", "asking", "message"),
    [
        (
            {"gpus_per_trial": 2},
            stage("classifier", network="vgg19"),
            "resources.gpus_per_trial: a trial of vgg19 asks one machine for 2 GPU, 1 slot",
        ),
        (
            {"gpus_per_generator": 3},
            generator(),
            "resources.gpus_per_generator: stage generator asks one machine for 0.5 CPU, 3 GPU",
        ),
        (
            {"gpus_per_trial": 2},
            stage("probe"),
            "resources.gpus_per_trial: stage probe asks one machine for 0.5 CPU, 2 GPU",
        ),
    ],
)
def test_what_no_machine_has_ends_in_one_line(
    resources: dict[str, float], asking: Stage, message: str
) -> None:
    with pytest.raises(ResourceError) as error:
        cluster(HEAD, GPU, **resources).check([asking])
    there = "head: 2 CPU; gpu: 8 CPU, 1 GPU, 8 slot, up to 4"
    wanted = f"{message}, and no machine of the cluster has that ({there})"
    assert sorted(str(error.value)) == sorted(wanted)


def test_more_at_once_than_the_cluster_can_hold_ends_in_one_line() -> None:
    asking = cluster(HEAD, GPU, gpus_per_generator=1.0, sampling_workers=5)
    with pytest.raises(ResourceError) as error:
        asking.check([stage("samples")])
    assert str(error.value).startswith(
        "resources.sampling_workers: a stream asks for 10 times (0.25 CPU, 0.5 GPU) at once, and "
        "the cluster can hold that 8 times ("
    )
    fine_tune = generator(workers=5)
    with pytest.raises(ResourceError, match=r"generator\.workers: a fine-tune asks for 5 times"):
        asking.check([fine_tune])


def test_the_largest_request_is_the_one_that_is_named() -> None:
    asking = cluster(HEAD, GPU, gpus_per_generator=2.0, gpus_per_trial=3.0)
    with pytest.raises(ResourceError, match="a trial of lenet"):
        asking.check([generator(), stage("classifier", network="lenet")])


def test_what_fits_is_not_refused() -> None:
    asking = cluster(HEAD, GPU, gpus_per_generator=1.0, gpus_per_trial=0.5, sampling_workers=4)
    kinds = ("dataset", "latents", "samples", "kept", "fairness", "dynamics")
    asking.check([generator(), *map(stage, kinds), stage("classifier", network="lenet")])


def test_machines_that_the_autoscaler_may_bring_count() -> None:
    assert cluster(HEAD, GPU).slots == 32
    assert cluster(HEAD, GPU).gpus == 4
    assert cluster(HEAD, GPU, num_cpus=5).slots == 5
    with pytest.raises(ResourceError, match=r"num_cpus: 33 asked for, the cluster has 32"):
        cluster(HEAD, GPU, num_cpus=33)


def test_one_machine_needs_no_slots_and_several_do() -> None:
    alone = cluster(HEAD)
    assert alone.slots == 2
    assert alone.ask(stage("classifier", network="lenet")).piece == {nodes.HEAD: 1e-3}
    with pytest.raises(ResourceError, match="several nodes but no `slot` resource"):
        cluster(HEAD, NodeType("node", {"CPU": 4.0}, 1))


def test_networks_get_a_trials_share_and_generators_their_own() -> None:
    asking = cluster(HEAD, GPU, gpus_per_generator=1.0, gpus_per_trial=0.25)
    assert asking.gpus_of(generator()) == 1.0
    assert {asking.gpus_of(stage(kind)) for kind in ("latents", "samples")} == {1.0}
    networks = ("probe", "reference", "kept", "scorer", "generator_metrics", "search")
    assert {asking.gpus_of(stage(kind)) for kind in networks} == {0.25}
    measures = ("dataset", "fairness", "dynamics", "claims")
    assert {asking.gpus_of(stage(kind)) for kind in measures} == {0.0}


def test_an_idle_experiment_is_in_the_way_of_who_wants_its_gpu_or_its_memory() -> None:
    roomy = cluster(HEAD, GPU, gpus_per_generator=1.0)
    cramped = replace(cluster(HEAD), cramped=True)
    kinds = [generator(), stage("dataset"), stage("classifier", network="lenet")]
    assert [roomy.in_the_way(of) for of in kinds] == [True, False, False]
    assert [cramped.in_the_way(of) for of in kinds] == [True, True, False]
    assert not cluster(HEAD).in_the_way(stage("dataset"))


def test_where_memory_is_short_samples_are_drawn_and_scored_in_one_process() -> None:
    samples = stage("samples")
    assert cluster(HEAD, sampling_workers=3).ask(samples) == Ask({"CPU": 0.25}, 6)
    cramped = replace(cluster(HEAD, sampling_workers=3), cramped=True)
    assert cramped.how(samples) == "task"
    assert cramped.ask(samples) == Ask({"CPU": 0.5})


def test_of_all_machines_that_may_come_no_more_count_than_may_be_there_at_once() -> None:
    there = with_workers(THERE, SHIPPED)  # 8 workers at once: of 8 spot ones and 4 on demand
    assert (there.total("GPU"), there.count()) == (8, 9)
    assert there.most({"GPU": 0.5, "slot": 1}) == 16
    assert str(there) == (
        "head: 2 CPU; gpu_spot: 8 CPU, 1 GPU, 8 slot, up to 8; "
        "gpu_on_demand: 8 CPU, 1 GPU, 8 slot, up to 4; 9 at once"
    )
    cluster = joined(Resources(), there)
    assert (cluster.slots, cluster.gpus, cluster.nodes) == (64, 8, 9)


def test_what_there_can_be_at_once_is_the_best_choice_of_machines() -> None:
    """Held against every choice that is allowed."""
    chance, names = random.Random(5), ("CPU", "GPU", "slot")
    piece = {"CPU": 1.0, "GPU": 0.5}
    for _ in range(100):
        types = []
        for name in ("a", "b", "c"):
            least = chance.randint(0, 2)
            has = {resource: float(chance.randint(0, 4)) for resource in names}
            types.append(NodeType(name, has, least + chance.randint(0, 2), least))
        surely = sum(kind.least for kind in types)
        there = Machines(tuple(types), surely + chance.randint(0, 4))
        choices = [
            choice
            for choice in product(*(range(kind.least, kind.most + 1) for kind in types))
            if sum(choice) <= there.at_all
        ]

        def best(
            worth: Callable[[NodeType], float],
            types: list[NodeType] = types,
            choices: list[tuple[int, ...]] = choices,
        ) -> float:
            return max(
                sum(worth(kind) * n for kind, n in zip(types, choice, strict=True))
                for choice in choices
            )

        assert there.count() == best(lambda kind: 1)
        assert there.most(piece) == best(lambda kind: kind.room(piece))
        assert [there.total(name) for name in names] == [
            best(lambda kind, name=name: kind.resources[name]) for name in names
        ]


CLUSTER = """
max_workers: 3
head_node_type: head
available_node_types:
  head: {resources: {CPU: 2}, node_config: {}}
  spot: {resources: {CPU: 8, GPU: 1, slot: 8}, max_workers: 10, node_config: {}}
  fallback: {resources: {CPU: 8, GPU: 1, slot: 8}, max_workers: 2, node_config: {}}
  plain: {resources: {CPU: 4, slot: 4}, min_workers: 1, node_config: {}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.yaml"
    path.write_text(CLUSTER)
    return path


def test_worker_types_come_from_the_autoscalers_cluster_file(file: Path) -> None:
    there = with_workers(THERE, file)
    assert [(kind.name, kind.least, kind.most) for kind in there.types] == [
        ("head", 1, 1),
        ("spot", 0, 3),
        ("fallback", 0, 2),
        ("plain", 1, 3),
    ]
    assert (there.at_all, there.open) == (4, False)
    assert there.total("GPU") == 2  # of 3 workers one is always a plain one
    assert there.total("CPU") == 2 + 4 + 2 * 8


def test_machines_that_no_type_explains_count_beside_those_of_the_file(file: Path) -> None:
    mine = NodeType("node", {"CPU": 16.0, "GPU": 2.0, "slot": 16.0}, 2, 2)
    spot = NodeType("node", {"CPU": 8.0, "GPU": 1.0, "slot": 8.0}, 2, 2)
    there = with_workers(Machines((HEAD, mine, spot)), file)
    assert there.count() == 1 + 2 + 3
    assert there.total("GPU") == 2 * 2 + 2


def test_the_heads_type_brings_workers_where_the_file_says_so(file: Path) -> None:
    text = "head: {resources: {CPU: 2}"
    file.write_text(CLUSTER.replace(text, f"{text}, max_workers: 2"))
    kinds = [(kind.name, kind.most) for kind in with_workers(THERE, file).types]
    assert kinds[:2] == [("head", 1), ("head", 2)]


def test_workers_of_an_unknown_shape_refuse_nothing(file: Path) -> None:
    file.write_text(CLUSTER.replace("{CPU: 4, slot: 4}", "{}"))
    cluster = joined(Resources(gpus_per_trial=16), with_workers(THERE, file))
    cluster.check([stage("classifier", network="lenet")])
    assert cluster.gpus == math.inf


def test_a_cluster_file_that_is_not_at_hand_refuses_nothing(tmp_path: Path) -> None:
    assert with_workers(THERE, tmp_path / "none.yaml") == Machines((HEAD,), open=True)


@pytest.mark.parametrize("text", ["[1, 2", "just a word", "available_node_types: {a: 3}"])
def test_a_damaged_cluster_file_is_named(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(ResourceError, match=str(file)):
        with_workers(THERE, file)


def _status(**parts: object) -> SimpleNamespace:
    """A cluster's status with one GPU machine, in the shape of Ray's own."""
    usage = SimpleNamespace(
        ray_node_type_name="spot",
        total_resources=lambda: {"CPU": 8.0, "GPU": 1.0, "memory": 5e9},
        available_resources=lambda: {"CPU": 7.5, "GPU": 0.0, "memory": 5e9},
    )
    bundle = SimpleNamespace(bundle={"CPU": 0.0, "slot": 1.0, "GPU": 0.5}, count=3)
    demands = SimpleNamespace(
        placement_group_demand=[SimpleNamespace(bundles_by_count=[bundle])],
        ray_task_actor_demand=[],
    )
    empty: dict[str, object] = {"idle_nodes": [], "pending_launches": [], "pending_nodes": []}
    return SimpleNamespace(
        **{
            **empty,
            "active_nodes": [usage],
            "failed_launches": [],
            "resource_demands": demands,
            **parts,
        }
    )


def test_a_stall_says_what_waits_and_what_there_is() -> None:
    refused = SimpleNamespace(ray_node_type_name="spot", details="InsufficientCapacity:\n none")
    coming = SimpleNamespace(ray_node_type_name="fallback", count=2)
    said = nodes.waiting(_status(failed_launches=[refused], pending_launches=[coming]))
    assert said == (
        "waiting for 3 x (0.5 GPU, 1 slot); machines: spot 7.5 of 8 CPU, 0 of 1 GPU free; "
        "coming: 2 fallback; the cloud refused: spot (InsufficientCapacity: none)"
    )


def test_nothing_is_said_while_nothing_waits() -> None:
    none = SimpleNamespace(placement_group_demand=[], ray_task_actor_demand=[])
    assert nodes.waiting(_status(resource_demands=none)) == ""
