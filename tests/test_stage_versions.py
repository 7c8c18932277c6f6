"""A stage whose result moves must have its version raised: pinned numbers of each kind.

A failure here means: either the change was not meant to change results, and it does; or it was, and
its `Kind` has to say so. Then raise the version and pin the new numbers beside it.

What is trained is pinned by a few numbers, within what other processors make of it. What measures
is computed from predictions that stand here, and pinned by every number that it publishes.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ray_selfloop.config.evaluation import Evaluation, Probe
from ray_selfloop.evaluation.rows import Rows, Where
from ray_selfloop.graph import Graph, Place, Stage
from ray_selfloop.planning import Plan, prepare
from ray_selfloop.stages.inputs import Inputs, save_array
from ray_selfloop.stages.kinds import NAMED, VERSIONS
from ray_selfloop.stages.measures import ROWS
from ray_selfloop.stages.run import execute, run_here
from ray_selfloop.stages.samples import read_samples
from ray_selfloop.store.records import Store

TRAINED: Mapping[tuple[str, int], list[float]] = {
    ("probe", 1): [3.3623, 3.3096],
    ("scorer", 1): [
        0.012582,
        25.821,
        66.204,
        0.18192,
        0.020349,
        0.17675,
        0.12155,
        0.126,
        0.12472,
        0.16123,
        0.12782,
        0.12247,
        0.088293,
        0.072072,
        0.072374,
        0.036603,
        0.089039,
        0.071895,
        0.072542,
        0.036679,
    ],
    ("generator", 2): [0.07904, 3.8208, 1.699, 0.77483],
    ("samples", 1): [
        480.0,
        64.783,
        59.614,
        -0.13895,
        0.008694,
        2.2902,
        0.012891,
        431.0,
        25.958,
        66.469,
    ],
    ("kept", 1): [431.0, 62.902, 57.239, -0.13798, 431.0, 25.958, 66.469, 0.0],
    ("classifier", 1): [1.9232, 1.8881, 2.0084, 1.8408, 1.4487, 1.361],
    ("generator_metrics", 4): [
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        2.9727,
        13.493,
        0.11527,
        0.051353,
        0.5625,
        0.185,
        0.28531,
        0.34493,
        0.61,
        0.90977,
        1.0,
        0.98298,
        1.046,
        0.50039,
        1.0,
        7.1521e-08,
        0.61052,
        -0.0001499,
        0.73973,
        0.5625,
        0.59165,
        -0.050665,
        0.079428,
        0.0,
    ],
}
COMPUTED: Mapping[tuple[str, int], list[float]] = {
    ("dataset", 2): [16.0, 0.515935],
    ("reference", 1): [193.0, 18.533356, 1.628767],
    ("fairness", 8): [50109.0, -1338.268966],
    ("dynamics", 5): [40.0, 7.551361, 45.0, 8.677447, 0.0],
    ("claims", 7): [768.0, 584.623397, -4.324737],
    ("axes", 1): [280.0, 27.894954, 0.0],
}
ELSEWHERE = ("search", "latents")  # pinned where they run: test_asha.py, test_picture_stages.py
CLOSE = 0.02  # relative; other processors differ in the last bits, and training amplifies them
TWO_IMAGES = 0.01  # of the 200 that a share is taken of
EXACT = 1e-5
MEASURED = (  # of what was generated
    "q", "precision", "recall", "density", "coverage", "memorised", "nearest_neighbour_ratio",
    "frechet_distance/pixels8", "kernel_distance/pixels8", "frechet_relative", "judge_accuracy",
    "label_fidelity", "u", "u_total_variation", "none_clear",
)  # fmt: skip


# --- what is trained -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A micro-sweep of one generation, of a generator's images and of copies of real ones, which
    have a quality that is not zero."""
    from conftest import MICRO

    storage = tmp_path_factory.mktemp("pinned")
    axes = "axes={loop.arm: [treatment, duplicate_real]}"
    plan = prepare([*MICRO, axes, "loop.generations=1", f"storage={storage}"])
    run_here(plan.graph, plan.store)
    plan.look_up()
    execute(probe_of(plan.dataset(plan.scenarios[0].name), plan), plan.store)
    return plan


def probe_of(data: Stage, plan: Plan) -> Stage:
    """A probe of the colours, which no sweep needs: they are read from pixels."""
    settings = Probe(network="lenet", max_steps=20, augment="none").model_dump(mode="json")
    config = {"probe": settings, "seed": 0, "threads": 1}
    return plan.graph.add(NAMED["probe"], config, {"dataset": data}, Place("base", 0, 0))


def last_look(inputs: Inputs, *names: str) -> list[float]:
    """Of a training's history."""
    history = json.loads(inputs.store.path(inputs.record("self"), "history.json").read_text())
    return [float(history[-1][name]) for name in names]


def of_probe(inputs: Inputs) -> list[float]:
    return last_look(inputs, "train_loss", "held_out_loss")


def of_scorer(inputs: Inputs) -> list[float]:
    """The root mean square of each of its weights' tensors, the biases apart."""
    weights = sorted(inputs.weights("self").items())
    return [float(w.double().square().mean().sqrt()) for _, w in weights if w.ndim > 1]


def of_generator(inputs: Inputs) -> list[float]:
    losses = ("generator_loss", "discriminator_loss", "energy_distance/pixels8", "diversity")
    return last_look(inputs, *losses)


def of_samples(inputs: Inputs) -> list[float]:
    drawn = read_samples(inputs, "self")
    scores = [statistic for _, s in sorted(drawn.scores.items()) for statistic in spread(s)]
    return [float(len(drawn.labels)), *spread(np.asarray(drawn.images)), *scores]


def of_kept(inputs: Inputs) -> list[float]:
    images, summary = inputs.array("self", "images"), inputs.record("self").summary
    return [float(len(images)), *spread(images), float(summary.get("domain_clip_score_kept", 0.0))]


def of_classifier(inputs: Inputs) -> list[float]:
    return last_look(inputs, "train_loss", "held_out_loss")


def of_generator_metrics(inputs: Inputs) -> list[float]:
    rows = pd.read_parquet(inputs.store.path(inputs.record("self"), ROWS))
    whole = rows[(rows["class"] == "") & (rows["subgroup"] == "") & (rows["split"] == "generated")]
    found = whole.set_index("metric")["value"]
    return [float(found[name]) for name in MEASURED]


def spread(values: np.ndarray) -> list[float]:
    """Mean and standard deviation."""
    return [float(values.mean()), float(values.std())]


OF_TRAINED: dict[str, Callable[[Inputs], list[float]]] = {
    "probe": of_probe,
    "scorer": of_scorer,
    "generator": of_generator,
    "samples": of_samples,
    "kept": of_kept,
    "classifier": of_classifier,
    "generator_metrics": of_generator_metrics,
}


@pytest.mark.parametrize("kind", OF_TRAINED)
def test_what_is_trained_moves_only_with_its_version(trained: Plan, kind: str) -> None:
    stages = [node.stage for node in trained.graph.of_kind(kind)]
    read = (OF_TRAINED[kind](Inputs(reader(stage), trained.store)) for stage in stages)
    found = [number for numbers in read for number in numbers]
    least = TWO_IMAGES if kind == "generator_metrics" else 0.0
    assert found == pytest.approx(TRAINED[kind, VERSIONS[kind]], rel=CLOSE, abs=least)


def reader(of: Stage) -> Stage:
    return Stage("reader", 0, {}, {"self": of.key})


# --- what is computed ----------------------------------------------------------------------------

CHAINS, GENERATIONS, SEEDS, NETWORKS = 3, 3, 2, ("lenet", "resnet50")
ARMS = {"treatment": 0.05, "no_synthetic": 0.0}  # lost by a colour's test rows per generation
AXIS = {
    "name": "lost", "setting": "",
    "points": [{"told": f"{lost}", "treatment": arm, "control": ""} for arm, lost in ARMS.items()],
}  # fmt: skip


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Stage], Store]:
    """The measurements of a sweep whose predictions and generator rows are written here."""
    from conftest import MICRO

    plan = prepare([*MICRO, f"storage={tmp_path_factory.mktemp('computed')}"])
    store, graph, data = plan.store, plan.graph, plan.dataset("base")
    execute(data, store)
    inputs = dict(written_sweep(data, store, graph))
    settings = Evaluation(resamples=40, permutations=40).model_dump(mode="json")
    common = {"evaluation": settings, "declared": True}
    place = Place("base", 0, GENERATIONS)
    scenarios = [about(arm) for arm in ARMS]
    of_fairness = {
        name.removeprefix("treatment/trial/"): stage
        for name, stage in inputs.items()
        if name.startswith("treatment/trial/")
    }
    by_arm = {arm: arm for arm in ARMS}
    labels = {
        "scenarios": list(ARMS), "arms": by_arm, "experts": dict.fromkeys(ARMS, "lenet"),
        "groups": dict.fromkeys(ARMS, "base"), "datasets": dict.fromkeys(ARMS, "digits"),
        "models": {arm: {network: network for network in NETWORKS} for arm in ARMS},
        "generations": dict.fromkeys(ARMS, GENERATIONS),
    }  # fmt: skip
    stages = {
        "dataset": data,
        "reference": plan.graph.of_kind("reference")[0].stage,
        "fairness": graph.add(NAMED["fairness"], common, {"dataset": data, **of_fairness}, place),
        "dynamics": graph.add(NAMED["dynamics"], {**common, **labels}, inputs, place),
        "claims": graph.add(NAMED["claims"], {**common, "scenarios": scenarios}, inputs, place),
        "axes": graph.add(
            NAMED["axes"],
            {"evaluation": settings, "scenarios": scenarios, "axes": [AXIS]},
            inputs,
            place,
        ),
    }
    for stage in stages.values():
        execute(stage, store)
    return stages, store


def about(arm: str) -> dict[str, Any]:
    return {
        "name": arm, "group": "base", "arm": arm, "dataset": "colorized_mnist",
        "initialization": "unbiased", "pretrained": False, "classifiers": list(NETWORKS),
        "generations": GENERATIONS, "subgroups": 3, "regime": "stack",
    }  # fmt: skip


def written_sweep(data: Stage, store: Store, graph: Graph) -> Iterator[tuple[str, Stage]]:
    """Name -> stage of every input: the arms share the predictions of generation 0."""
    test = Inputs(Stage("reader", 0, {}, {"self": data.key}), store).split("test", "self")
    for arm, lost in ARMS.items():
        yield f"{arm}/dataset", data
        for chain in range(CHAINS):
            for t in range(GENERATIONS + 1):
                yield from trials(arm, lost, chain, t, test, store, graph)
                if t and arm == "treatment":
                    place = f"{arm}/metrics/{chain}/{t}/"
                    rows = {ROWS: generator_rows(chain, t)}
                    yield place, written(place, rows, {}, store, graph)


def trials(
    arm: str, lost: float, chain: int, t: int, test: Any, store: Store, graph: Graph
) -> Iterator[tuple[str, Stage]]:
    entered = {str(g): 100 for g in range(1, t + 1)} if arm == "treatment" else {}
    summary = {"collapsed": False, "training_set": {"by_generation": entered}}
    for number, network in enumerate(NETWORKS):
        for seed in range(SEEDS):
            stream = [chain, t, number, seed, *([arm == "treatment"] if t else [])]
            right = np.random.default_rng(stream).random(len(test.labels))
            share = 0.9 - (0.04 + lost * t) * np.asarray(test.subgroups) - 0.02 * number
            predictions = np.where(right < share, test.labels, (test.labels + 1) % 10)
            place = f"{arm}/trial/{chain}/{t}/{network}/{seed}"
            files = {"predictions": predictions.astype(np.int16)}
            yield place, written(place, files, summary, store, graph)


def generator_rows(chain: int, t: int) -> pd.DataFrame:
    """Quality and balance of what was drawn and of what was kept."""
    frames = []
    for split in ("generated", "kept"):
        rows, where = Rows("", split), Where(chain, t)
        q, u = 0.8 - 0.03 * t + 0.01 * chain, 0.05 + 0.02 * t * (1 + 0.1 * chain)
        for metric, value in {"q": q, "u": u}.items():
            rows.add(metric, [value, value - 0.02, value + 0.02], where)
        rows.add("fid", [50.0 + 4 * t + chain], where)
        frames.append(rows.frame())
    return pd.concat(frames)


def written(
    name: str, files: Mapping[str, Any], summary: dict[str, Any], store: Store, graph: Graph
) -> Stage:
    """A record with these arrays or tables, under a key of its own."""
    stage = graph.add(NAMED["classifier"], {"name": name}, {}, Place("base", 0, 0))
    with store.attempt(stage.key) as folder:
        for file, content in files.items():
            if isinstance(content, pd.DataFrame):
                content.to_parquet(folder / file, index=False)
            else:
                save_array(folder, file, content)
        store.publish(stage, folder, summary, 1.0)
    return stage


def weight(name: str) -> float:
    """1 to 2 with a sign, of a name: no two numbers can change places or make up for each other."""
    drawn = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
    return (1 + drawn / 16**8) * (-1) ** drawn


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a nested one, by its path."""
    if isinstance(value, Mapping | list):
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, inside in pairs:
            yield from leaves(inside, f"{name}/{key}")
    else:
        yield name, value


def of_numbers(named: Iterator[tuple[str, Any]]) -> list[float]:
    """How many numbers, and their weighted sum: it moves with each of them."""
    numbers = [(n, float(v)) for n, v in named if isinstance(v, float | int) and np.isfinite(v)]
    return [float(len(numbers)), sum(weight(name) * value for name, value in numbers)]


def of_rows(inputs: Inputs) -> list[float]:
    rows = pd.read_parquet(inputs.store.path(inputs.record("self"), ROWS)).astype(object)
    keys = [column for column in rows if column not in ("value", "low", "high")]
    records = rows.to_dict("records")
    return of_numbers(
        (f"{[str(row[key]) for key in keys]}{end}", row[end])
        for row in records
        for end in ("value", "low", "high")
    )


def of_summary(inputs: Inputs) -> list[float]:
    """Its numbers, and its verdicts as numbers; sentences may be reworded."""
    found = dict(leaves(inputs.record("self").summary))
    words = [f"{n} {v}" for n, v in found.items() if n.endswith("/verdict")]
    return [*of_numbers(iter(found.items())), sum(weight(word) for word in words)]


def of_dataset(inputs: Inputs) -> list[float]:
    """Integers alone: every byte counts."""
    names = sorted(n for n in inputs.record("self").files if n.endswith(".npy"))
    digest = hashlib.sha256()
    for name in names:
        values = inputs.array("self", name.removesuffix(".npy"))
        digest.update(f"{name} {values.dtype} {values.shape}".encode() + values.tobytes())
    return [float(len(names)), int(digest.hexdigest()[:12], 16) / 16**12]


def of_reference(inputs: Inputs) -> list[float]:
    mean, factor = (inputs.array("self", f"pixels8_{part}") for part in ("mean", "factor"))
    columns = [f"{i}" for i in range(len(mean))]
    moments = [*zip(columns, mean, strict=True), ("trace", (factor**2).sum())]
    reach = inputs.array("self", "pixels8_reach").mean(axis=0)
    return [*of_numbers(iter(moments)), *np.atleast_1d(reach).astype(float).tolist()]


OF_COMPUTED: dict[str, Callable[[Inputs], list[float]]] = {
    "dataset": of_dataset,
    "reference": of_reference,
    "fairness": of_rows,
    "dynamics": lambda inputs: [*of_rows(inputs), *of_summary(inputs)],
    "claims": of_summary,
    "axes": of_summary,
}


@pytest.mark.parametrize("kind", OF_COMPUTED)
def test_what_is_computed_moves_only_with_its_version(
    computed: tuple[dict[str, Stage], Store], kind: str
) -> None:
    stages, store = computed
    found = OF_COMPUTED[kind](Inputs(reader(stages[kind]), store))
    assert found == pytest.approx(COMPUTED[kind, VERSIONS[kind]], rel=0, abs=EXACT)


def test_every_kind_is_pinned() -> None:
    assert {*OF_TRAINED, *OF_COMPUTED, *ELSEWHERE} == set(VERSIONS)


def test_a_pin_moves_with_each_of_its_numbers() -> None:
    """By more than the tolerance, wherever it stands; and two that change places are seen."""
    values = {f"/claims/{i}/value": 0.1 * i for i in range(500)}
    _, before = of_numbers(iter(values.items()))
    for name in ("/claims/1/value", "/claims/499/value"):
        _, after = of_numbers(iter({**values, name: values[name] + 1e-4}.items()))
        assert abs(after - before) > EXACT
    swapped = dict(zip(values, reversed(values.values()), strict=True))
    assert abs(of_numbers(iter(swapped.items()))[1] - before) > EXACT
