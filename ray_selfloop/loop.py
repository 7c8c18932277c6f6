"""The self-consuming loop of one chain as stages: what is trained on what in each generation.

The whole loop stands here on one screen. Nothing runs here: every stage is added to a graph, and
its key follows from its settings and inputs alone.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray_selfloop import queue, seeding
from ray_selfloop.classifiers import weights
from ray_selfloop.config.filter import Filter
from ray_selfloop.config.sweep import Scenario, Sweep
from ray_selfloop.graph import Graph, Place, Stage

Named = dict[str, Stage]
DATA = "data"  # where original data lie unless the sweep says otherwise
AUGMENTATION = {"colorized_digits": "none", "colorized_mnist": "none"}


@dataclass(frozen=True)
class Chain:
    """One scenario at one loop seed; ``architecture`` is set where each has a chain of its own."""

    scenario: str
    sweep: Sweep
    loop_seed: int
    architecture: str = ""

    def place(self, generation: int, classifier: str = "", seed: int = -1) -> Place:
        """Where a stage of this chain stands."""
        return Place(
            self.scenario, self.loop_seed, generation, classifier or self.architecture, seed
        )

    def seed(self, *purpose: str | int) -> int:
        """A seed of this chain; the same for all scenarios, so that they differ by design alone."""
        return seeding.derive(self.loop_seed, *purpose)

    @property
    def classifiers(self) -> tuple[str, ...]:
        """The networks trained on this chain's data."""
        return (self.architecture,) if self.architecture else self.sweep.classifiers

    @property
    def expert(self) -> tuple[str, tuple[int, ...]]:
        """Whose uncertainty the filter reads."""
        expert = self.sweep.filter.expert
        return self.architecture or expert.classifier, expert.seeds

    @property
    def judge(self) -> tuple[str, tuple[int, ...]]:
        """Whose generation-0 predictions label the samples."""
        judge = self.sweep.evaluation.judge
        return judge.classifier, judge.seeds


def chains(scenario: Scenario) -> list[Chain]:
    """All chains of one scenario."""
    sweep = scenario.sweep
    own = sweep.classifiers if sweep.loop.chain == "per_classifier" else ("",)
    return [
        Chain(scenario.name, sweep, loop_seed, architecture)
        for loop_seed in sweep.loop.loop_seeds
        for architecture in own
    ]


def add_chain(chain: Chain, source: str, graph: Graph) -> None:
    """Add every stage of ``chain``; ``source`` is the digest of the original data's files."""
    sweep = chain.sweep
    where = {"root": os.path.abspath(sweep.dataset.root or DATA)}
    data = graph.add("dataset", dataset_config(sweep, source), {}, chain.place(0), where)
    scorer = _scorer(chain, data, graph)
    kept: list[Stage] = []
    generator: Stage | None = None
    trials = _trials(chain, 0, data, kept, graph)
    judges = _judges(chain, data, graph)
    for n in range(1, sweep.loop.generations + 1):
        generator = _generator(chain, n, data, kept, generator, graph)
        experts = _experts(chain, trials)
        samples = _samples(
            chain, n, data, {**generator_input(generator), **scorer, **experts}, graph
        )
        kept.append(_kept(chain, n, data, samples, graph))
        trials = _trials(chain, n, data, kept, graph)
        _metrics(
            chain,
            n,
            {"dataset": data, "samples": samples, **generator_input(generator)},
            kept,
            judges,
            graph,
        )


def dataset_config(sweep: Sweep, source: str) -> dict[str, Any]:
    """What the dataset's content depends on."""
    settings = sweep.dataset.model_dump(mode="json", exclude={"root", "download"})
    return {**settings, "source": source}


def clip_identity(settings: Filter) -> dict[str, Any]:
    """What the CLIP score depends on: a checkpoint file counts by its content."""
    identity = settings.clip.model_dump(mode="json")
    checkpoint = identity.get("pretrained", "")
    if os.path.isfile(checkpoint):
        identity["pretrained"] = weights.source("", checkpoint)
    return identity


def located(pretrained: bool | str) -> bool | str:
    """Where weights lie for a worker in another folder: a file's absolute path, else the tag."""
    path = str(pretrained)
    return os.path.abspath(path) if os.path.isfile(path) else pretrained


def default_volume(sweep: Sweep) -> str:
    """S where the sweep names none, as a share of |D0|."""
    return "D0" if sweep.loop.regime == "replace" else f"D0/{sweep.queue.capacity}"


def generator_input(generator: Stage | None) -> Named:
    """The trained generator as an input; control generators have none."""
    return {"generator": generator} if generator else {}


def _training_set(
    chain: Chain, n: int, data: Stage, kept: list[Stage]
) -> tuple[dict[str, Any], Named]:
    """Config and inputs of the training set after generation ``n`` (queue, regime, mixing).

    While a queue fills, `stack` is `accumulate`: written so, the regimes share those stages.
    """
    regime, settings = chain.sweep.loop.regime, chain.sweep.queue
    inputs = {"dataset": data}
    if n == 0:
        return {}, inputs
    generations = queue.parts(regime, n, settings.capacity).kept
    inputs |= {f"kept.{g}": kept[g - 1] for g in generations}
    filling = regime == "stack" and n <= settings.capacity
    drawn = settings.mixing.ratio != "all" or regime == "accumulate_subsample"
    config = {
        "generation": n,
        "regime": "accumulate" if filling else regime,
        "capacity": settings.capacity if regime == "stack" and not filling else None,
        "mixing": settings.mixing.model_dump(mode="json"),
        "seed": chain.seed("draw") if drawn else None,
    }
    return config, inputs


def _scorer(chain: Chain, data: Stage, graph: Graph) -> Named:
    settings = chain.sweep.filter
    if not settings.uses_clip or settings.clip.kind != "domain":
        return {}
    config = {
        "clip": settings.clip.model_dump(mode="json"),
        "seed": chain.seed("scorer"),
        "threads": chain.sweep.compute.threads,
    }
    return {"scorer": graph.add("scorer", config, {"dataset": data}, chain.place(0))}


def _generator(
    chain: Chain, n: int, data: Stage, kept: list[Stage], previous: Stage | None, graph: Graph
) -> Stage | None:
    settings = chain.sweep.generator
    if settings.name != "conditional_gan":
        return None
    training_set, inputs = _training_set(chain, n - 1, data, kept)
    if previous and settings.start == "previous":
        inputs["previous"] = previous
    config = {
        "generator": settings.model_dump(mode="json"),
        "training_set": training_set,
        "seed": chain.seed("generator", n),
        "threads": chain.sweep.compute.threads,
    }
    return graph.add("generator", config, inputs, chain.place(n))


def _samples(chain: Chain, n: int, data: Stage, inputs: Named, graph: Graph) -> Stage:
    sweep = chain.sweep
    filters = sweep.filter
    clip = filters.clip.model_dump()
    real = sweep.generator.name == "held_out_real"
    config = {
        "generator": sweep.generator.model_dump(mode="json"),
        "reserve": {"generation": n, "seed": chain.seed("reserve")} if real else None,
        "volume": sweep.queue.volume or default_volume(sweep),
        "count": sweep.queue.count,
        "drop": 0.0 if filters.score == "none" else filters.drop,
        "cut": filters.cut,
        "clip": clip_identity(filters) if filters.uses_clip else None,
        "uncertainty": (
            filters.uncertainty.model_dump(mode="json") if filters.uses_uncertainty else None
        ),
        "expert": chain.expert[0] if filters.uses_uncertainty else None,
        "seed": chain.seed("samples", n),
        "batch": sweep.compute.sample_batch,
        "threads": sweep.compute.threads,
    }
    hints = {name: located(value) for name, value in clip.items() if name == "pretrained"}
    return graph.add("samples", config, {"dataset": data, **inputs}, chain.place(n), hints)


def _kept(chain: Chain, n: int, data: Stage, samples: Stage, graph: Graph) -> Stage:
    filters = chain.sweep.filter
    config = filters.model_dump(mode="json", exclude={"expert", "review", "clip"})
    config["clip"] = clip_identity(filters)
    return graph.add("kept", config, {"dataset": data, "samples": samples}, chain.place(n))


def _trials(
    chain: Chain, n: int, data: Stage, kept: list[Stage], graph: Graph
) -> Mapping[tuple[str, int], Stage]:
    training_set, inputs = _training_set(chain, n, data, kept)
    return {
        (name, seed): _trial(chain, n, (name, seed), (training_set, inputs), graph)
        for name in chain.classifiers
        for seed in chain.sweep.loop.classifier_seeds
    }


def _trial(
    chain: Chain,
    n: int,
    who: tuple[str, int],
    training_set: tuple[dict[str, Any], Named],
    graph: Graph,
) -> Stage:
    sweep = chain.sweep
    name, seed = who
    training = sweep.training_for(name)
    expert = sweep.filter.uses_uncertainty and name == chain.expert[0] and seed in chain.expert[1]
    judge = n == 0 and name == chain.judge[0] and seed in chain.judge[1]
    config = {
        "network": name,
        "training": training.model_dump(mode="json", exclude={"pretrained"}),
        "source": weights.source(name, training.pretrained),
        "training_set": training_set[0],
        "augment": AUGMENTATION[sweep.dataset.name],
        "seed": chain.seed("classifier", n, name, seed),
        "weights": expert or judge,
        "threads": sweep.compute.threads,
    }
    place, hints = chain.place(n, name, seed), {"pretrained": located(training.pretrained)}
    stage = graph.add("classifier", config, training_set[1], place, hints)
    graph.nodes[stage.key].awaited |= expert or judge
    return stage


def _experts(chain: Chain, trials: Mapping[tuple[str, int], Stage]) -> Named:
    if not chain.sweep.filter.uses_uncertainty:
        return {}
    name, seeds = chain.expert
    return {f"expert.{seed}": trials[name, seed] for seed in seeds}


def _judges(chain: Chain, data: Stage, graph: Graph) -> Named:
    """The judge's trials at generation 0; in a chain of another architecture they are added."""
    name, seeds = chain.judge
    training_set = _training_set(chain, 0, data, [])
    return {f"judge.{seed}": _trial(chain, 0, (name, seed), training_set, graph) for seed in seeds}


def _metrics(
    chain: Chain, n: int, inputs: Named, kept: list[Stage], judges: Named, graph: Graph
) -> None:
    parts = queue.parts(chain.sweep.loop.regime, n, chain.sweep.queue.capacity)
    queued = {f"kept.{g}": kept[g - 1] for g in parts.kept}
    config = {
        "evaluation": measured_with(chain.sweep),
        "generator": chain.sweep.generator.model_dump(mode="json"),
        "generation": n,
        "seed": chain.seed("metrics", n),
        "threads": chain.sweep.compute.threads,
    }
    everything = {**inputs, **queued, **judges, "kept": kept[n - 1]}
    graph.add("generator_metrics", config, everything, chain.place(n))


def measured_with(sweep: Sweep) -> dict[str, Any]:
    """The evaluation settings that a measurement depends on."""
    return sweep.evaluation.model_dump(mode="json", exclude={"judge", "dynamics"})


def add_fairness(
    scenario: Scenario, trials: Mapping[Place, Stage], data: Stage, graph: Graph
) -> Stage:
    """The measurement of one scenario's published trials."""
    inputs = {_trial_name(place): stage for place, stage in sorted(trials.items())}
    config = {"evaluation": measured_with(scenario.sweep)}
    return graph.add("fairness", config, {"dataset": data, **inputs}, _end(scenario))


def add_dynamics(sweep: Sweep, measured: list[tuple[Scenario, Named]], graph: Graph) -> Stage:
    """Eq. 6 over all scenarios; ``measured`` is what each has published, from `measurements`."""
    config = {
        "evaluation": sweep.evaluation.model_dump(mode="json", exclude={"judge"}),
        "scenarios": [scenario.name for scenario, _ in measured],
        "experts": {scenario.name: _shared_expert(scenario.sweep) for scenario, _ in measured},
    }
    inputs = {
        f"{scenario.name}/{name}": stage
        for scenario, named in measured
        for name, stage in named.items()
    }
    return graph.add("dynamics", config, inputs, _end(measured[0][0]))


def measurements(
    data: Stage, trials: Mapping[Place, Stage], metrics: Mapping[Place, Stage]
) -> Named:
    """One scenario's dataset, trials and generator metrics, as inputs of the dynamics stage."""
    named = {f"trial/{_trial_name(place)}": stage for place, stage in sorted(trials.items())}
    named |= {
        f"metrics/{place.loop_seed}/{place.generation}/{place.classifier}": stage
        for place, stage in sorted(metrics.items())
    }
    return {"dataset": data, **named}


def _trial_name(place: Place) -> str:
    return f"{place.loop_seed}/{place.generation}/{place.classifier}/{place.seed}"


def _shared_expert(sweep: Sweep) -> str:
    """The classifier whose bias acts on the next generation of a shared chain; else empty."""
    shared = sweep.loop.chain == "shared" and sweep.filter.uses_uncertainty
    return sweep.filter.expert.classifier if shared else ""


def _end(scenario: Scenario) -> Place:
    return Place(scenario.name, 0, scenario.sweep.loop.generations)
