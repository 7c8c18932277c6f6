"""The self-consuming loop of one chain as stages: what is trained on what in each generation.

The whole loop stands here on one screen. Nothing runs here: every stage is added to a graph, and
its key follows from its settings and inputs alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ray_selfloop import arms, identity, queue, seeding, told
from ray_selfloop.classifiers import weights
from ray_selfloop.config.sweep import Scenario, Sweep, scenario_name
from ray_selfloop.graph import Graph, Place, Stage

Named = dict[str, Stage]
AUGMENTATION = {
    "colorized_digits": "none",
    "colorized_mnist": "none",
    "cifar20_100": "crop_flip",
    "hard_imagenet": "frame_crop_flip",
    "breeds": "frame_crop_flip",
}
PROBED = ("cifar20_100", "breeds")  # subgroups of generated images come from a probe
MASKED = ("hard_imagenet",)  # classifiers are tested on pictures without their objects too
SUBGROUPS = {
    "colorized_digits": 3, "colorized_mnist": 3, "cifar20_100": 5, "breeds": 4, "hard_imagenet": 0
}  # fmt: skip


@dataclass(frozen=True)
class Chain:
    """One scenario at one loop seed; ``architecture`` is set where each has a chain of its own.

    sweep: the settings that the scenario's arm runs with. treatment: those of its treatment.
    """

    scenario: str
    sweep: Sweep
    loop_seed: int
    treatment: Sweep
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
        expert = self.sweep.expert
        return self.architecture or str(expert.classifier), expert.seeds

    @property
    def judge(self) -> tuple[str, tuple[int, ...]]:
        """Whose generation-0 predictions label the samples."""
        judge = self.sweep.evaluation.judge
        return judge.classifier, judge.seeds


def chains(scenario: Scenario) -> list[Chain]:
    """All chains of one scenario."""
    sweep = arms.adapted(scenario.sweep)
    own = sweep.classifiers if sweep.loop.chain == "per_classifier" else ("",)
    return [
        Chain(scenario.name, sweep, loop_seed, scenario.sweep, architecture)
        for loop_seed in sweep.loop.loop_seeds
        for architecture in own
    ]


def add_chain(chain: Chain, source: str, graph: Graph) -> None:
    """Add every stage of ``chain``; ``source`` is the digest of the original data's files."""
    data = graph.add(
        "dataset",
        identity.dataset_config(chain.sweep, source),
        {},
        chain.place(0),
        identity.located_data(chain.sweep),
    )
    trials = first = _trials(chain, 0, data, [], graph)
    if not arms.generates(chain.sweep):
        for n in range(1, chain.sweep.loop.generations + 1):
            _trials(chain, n, data, [], graph)
        return
    scorer, probe = _scorer(chain, data, graph), _probe(chain, data, graph)
    judges = _judges(chain, data, graph)
    references = _references(chain, data, judges, graph)
    shares = _shares_of_the_unfiltered(chain, data, probe, graph)
    kept: list[Stage] = []
    latents, generator = _Latents(chain, graph), None
    for n in range(1, chain.sweep.loop.generations + 1):
        generator = _generator(chain, n, (data, kept), generator, latents, graph)
        experts = _experts(chain, first if chain.sweep.loop.arm == "frozen_expert" else trials)
        drawn_from = {**generator_input(generator), **scorer, **experts, **shares(n)}
        samples = _samples(chain, n, data, drawn_from, graph)
        kept.append(_kept(chain, n, {"dataset": data, "samples": samples, **probe}, graph))
        trials = _trials(chain, n, data, kept, graph)
        measured = {"dataset": data, "samples": samples, **generator_input(generator), **probe}
        _metrics(chain, n, {**measured, **references, **judges}, kept, graph)


def _shares_of_the_unfiltered(
    chain: Chain, data: Stage, probe: Named, graph: Graph
) -> Callable[[int], Named]:
    """Arm `real_skewed`: the unfiltered chain's kept sets, whose subgroup shares it copies.

    Generation -> inputs ``shares.<g>`` for every generation up to it; nothing in other arms.
    """
    if chain.sweep.loop.arm != "real_skewed":
        return lambda n: {}
    loop = chain.sweep.loop.model_copy(update={"arm": "unfiltered"})
    sweep = chain.sweep.model_copy(update={"loop": loop, "generator": chain.treatment.generator})
    other = replace(chain, scenario=f"{chain.scenario} (its shares)", sweep=sweep)
    kept: list[Stage] = []
    latents, generator = _Latents(other, graph), None
    for n in range(1, sweep.loop.generations + 1):
        generator = _generator(other, n, (data, kept), generator, latents, graph)
        samples = _samples(other, n, data, generator_input(generator), graph)
        kept.append(_kept(other, n, {"dataset": data, "samples": samples, **probe}, graph))
    return lambda n: {**probe, **{f"shares.{g}": kept[g - 1] for g in range(1, n + 1)}}


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
    if n == 0 or not arms.generates(chain.sweep):
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
    hints = identity.hints_of(chain.sweep)
    return {"scorer": graph.add("scorer", config, {"dataset": data}, chain.place(0), hints)}


def _probe(chain: Chain, data: Stage, graph: Graph) -> Named:
    """What reads subgroups of generated images where pixels do not tell them."""
    if chain.sweep.dataset.name not in PROBED:
        return {}
    probe = chain.sweep.evaluation.probe
    config = {
        "probe": probe.identity(),
        "source": weights.source(probe.network, probe.pretrained),
        "seed": seeding.derive(chain.sweep.evaluation.seed, "probe"),
        "threads": chain.sweep.compute.threads,
    }
    hints = {"pretrained": identity.located(probe.pretrained), **identity.hints_of(chain.sweep)}
    return {"probe": graph.add("probe", config, {"dataset": data}, chain.place(0), hints)}


def _references(chain: Chain, data: Stage, judges: Named, graph: Graph) -> Named:
    """The real side of every generator metric: once for a dataset, and once for a judge on it."""
    settings = chain.sweep.evaluation
    only = {"features", "reference", "neighbours", "seed"}
    config = {
        "evaluation": settings.model_dump(mode="json", include=only),
        "inception": identity.inception_identity(settings.inception),
        "threads": chain.sweep.compute.threads,
    }
    hints = identity.inception_hint(settings.inception) | identity.hints_of(chain.sweep)
    place, inputs = chain.place(0), {"dataset": data}
    of_judge = {**config, "inception": None}
    return {
        "reference": graph.add("reference", config, inputs, place, hints),
        "judge_reference": graph.add(
            "reference", of_judge, {**inputs, **judges}, chain.place(0, chain.judge[0])
        ),
    }


class _Latents:
    """The latents of a chain's picture sets, each set once; nothing for other generators."""

    def __init__(self, chain: Chain, graph: Graph) -> None:
        self.chain, self.graph = chain, graph
        self.wanted = chain.sweep.generator.caches

    def of(self, inputs: Named) -> Named:
        """``latents.dataset``, ``latents.<g>`` for those sets among ``inputs``."""
        if not self.wanted:
            return {}
        sets = {n: s for n, s in inputs.items() if n == "dataset" or n.startswith("kept.")}
        return {f"latents.{n.removeprefix('kept.')}": self._stage(n, s) for n, s in sets.items()}

    def _stage(self, name: str, of: Stage) -> Stage:
        sweep, kept = self.chain.sweep, name.removeprefix("kept.")
        n = int(kept) if kept.isdigit() else 0
        generator = identity.generator_identity(sweep.generator, frozenset(), n)
        what = {"content", *sweep.generator.CACHED} & generator.keys()
        config = {
            "generator": {name: generator[name] for name in sorted(what)},
            "threads": sweep.compute.threads,
        }
        place = self.chain.place(n)
        inputs = {name.partition(".")[0]: of}
        return self.graph.add("latents", config, inputs, place, identity.hints_of(sweep))


def _generator(
    chain: Chain,
    n: int,
    sets: tuple[Stage, list[Stage]],
    previous: Stage | None,
    latents: _Latents,
    graph: Graph,
) -> Stage | None:
    """Of generation ``n``; ``sets``: the dataset and the kept sets so far."""
    settings = chain.sweep.generator
    if not settings.traits.trained:
        return None
    training_set, inputs = _training_set(chain, n - 1, *sets)
    inputs |= latents.of(inputs)
    if previous and settings.continues:
        inputs["previous"] = previous
    config = {
        "generator": identity.generator_identity(settings, settings.SAMPLING, n),
        "training_set": training_set,
        "seed": chain.seed("generator", n),
        "threads": chain.sweep.compute.threads,
    }
    return graph.add("generator", config, inputs, chain.place(n), identity.hints_of(chain.sweep))


def _samples(chain: Chain, n: int, data: Stage, inputs: Named, graph: Graph) -> Stage:
    sweep = chain.sweep
    filters = sweep.filter
    clip = filters.clip.model_dump()
    generator = sweep.generator
    skewed = {"skewed": True} if sweep.loop.arm == "real_skewed" else {}
    config = {
        "generator": identity.generator_identity(generator, generator.TRAINING, n),
        "reserve": {"generation": n, "seed": chain.seed("reserve")}
        if generator.traits.by_turn
        else None,
        "volume": sweep.queue.volume or identity.default_volume(sweep),
        "count": sweep.queue.count,
        "drop": 0.0 if filters.score == "none" else filters.drop,
        "cut": filters.cut,
        "clip": identity.clip_identity(filters) if filters.uses_clip else None,
        "uncertainty": (
            filters.uncertainty.model_dump(mode="json") if filters.uses_uncertainty else None
        ),
        "expert": chain.expert[0] if filters.uses_uncertainty else None,
        "seed": chain.seed("samples", n),
        "batch": identity.sample_batch(sweep),
        "threads": sweep.compute.threads,
        **skewed,
    }
    hints = {name: identity.located(value) for name, value in clip.items() if name == "pretrained"}
    hints |= identity.hints_of(sweep)
    return graph.add("samples", config, {"dataset": data, **inputs}, chain.place(n), hints)


def _kept(chain: Chain, n: int, inputs: Named, graph: Graph) -> Stage:
    filters, tilt = chain.sweep.filter, chain.sweep.queue.tilt
    config = filters.model_dump(mode="json", exclude={"expert", "review", "clip"})
    config["clip"] = identity.clip_identity(filters)
    if tilt is not None:
        config["tilt"] = {"tilt": tilt, "seed": chain.seed("tilt", n)}
    return graph.add("kept", config, inputs, chain.place(n), identity.hints_of(chain.sweep))


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
    expert = _is_expert(chain, who)
    judge = n == 0 and name == chain.judge[0] and seed in chain.judge[1]
    kept = n == 0 and name == chain.expert[0] and seed in chain.expert[1]  # in some arm
    config = {
        "network": name,
        "training": training.identity(sweep.tune.searched if sweep.tune else ()),
        "source": weights.source(name, training.pretrained),
        "training_set": training_set[0],
        "augment": AUGMENTATION[sweep.dataset.name],
        "seed": chain.seed("classifier", n, name, seed),
        "weights": expert or judge or (kept and chain.treatment.filter.uses_uncertainty),
        "threads": sweep.compute.threads,
    }
    if sweep.dataset.name in MASKED:
        config["ablation"] = sweep.evaluation.ablation.model_dump(mode="json", exclude={"compat"})
    place = chain.place(n, name, seed)
    hints = {"pretrained": identity.located(training.pretrained), **identity.hints_of(sweep)}
    if n and chain.sweep.loop.arm == "no_synthetic":
        config["schedule"] = _schedule(chain.sweep, n)
    inputs = {**training_set[1], **_search(chain, name, training_set[1]["dataset"], graph)}
    stage = graph.add("classifier", config, inputs, place, hints)
    graph.nodes[stage.key].awaited |= expert or judge
    return stage


def _is_expert(chain: Chain, who: tuple[str, int]) -> bool:
    """Whether the filter of this chain reads a trial's weights."""
    sweep, (classifier, seeds) = chain.sweep, chain.expert
    reads = arms.generates(sweep) and sweep.filter.uses_uncertainty
    return reads and who[0] == classifier and who[1] in seeds


def _search(chain: Chain, name: str, data: Stage, graph: Graph) -> Named:
    """The search for a network's learning rate and weight decay: one for a dataset."""
    sweep = chain.sweep
    if sweep.tune is None:
        return {}
    training = sweep.training_for(name)
    config = {
        "network": name,
        "training": training.identity(sweep.tune.searched),
        "tune": sweep.tune.model_dump(mode="json"),
        "source": weights.source(name, training.pretrained),
        "augment": AUGMENTATION[sweep.dataset.name],
        "seed": seeding.derive(sweep.tune.seed, "search", name),
        "threads": sweep.compute.threads,
    }
    hints = {"pretrained": identity.located(training.pretrained), **identity.hints_of(sweep)}
    return {"search": graph.add("search", config, {"dataset": data}, chain.place(0, name), hints)}


def _schedule(sweep: Sweep, n: int) -> dict[str, Any]:
    """What decides the size of the treatment's training set, and so its optimiser steps."""
    return {
        "generation": n,
        "regime": sweep.loop.regime,
        "capacity": sweep.queue.capacity,
        "volume": sweep.queue.volume or identity.default_volume(sweep),
        "mixing": sweep.queue.mixing.model_dump(mode="json"),
    }


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


def _metrics(chain: Chain, n: int, inputs: Named, kept: list[Stage], graph: Graph) -> None:
    parts = queue.parts(chain.sweep.loop.regime, n, chain.sweep.queue.capacity)
    queued = {f"kept.{g}": kept[g - 1] for g in parts.kept}
    generator = chain.sweep.generator
    config = {
        "evaluation": identity.measured_with(chain.sweep),
        "generator": identity.generator_identity(generator, generator.TRAINING, n),
        "generation": n,
        "seed": chain.seed("metrics", n),
        "threads": chain.sweep.compute.threads,
    }
    everything = {**inputs, **queued, "kept": kept[n - 1]}
    hints = identity.inception_hint(chain.sweep.evaluation.inception) | identity.hints_of(
        chain.sweep
    )
    graph.add("generator_metrics", config, everything, chain.place(n), hints)


def add_fairness(
    scenario: Scenario, trials: Mapping[Place, Stage], data: Stage, graph: Graph
) -> Stage:
    """The measurement of one scenario's published trials."""
    inputs = {_trial_name(place): stage for place, stage in sorted(trials.items())}
    inputs |= {"dataset": data}
    return graph.add("fairness", measurement(scenario), inputs, _end(scenario))


def measurement(scenario: Scenario) -> dict[str, Any]:
    """The settings by which a scenario's trials are measured."""
    config: dict[str, Any] = {"evaluation": identity.measured_with(scenario.sweep)}
    if scenario.sweep.dataset.name in MASKED:
        config["compat"] = _compat(scenario)
    return config


def add_dynamics(
    sweep: Sweep, measured: list[tuple[Scenario, Named]], graph: Graph, declared: bool = True
) -> Stage:
    """Eq. 6 over all scenarios; ``measured`` is what each has published, from `measurements`.

    Scenarios of one dataset share its d_D, whatever is done to their generators and queues.
    """
    config = {
        "evaluation": identity.judged_with(sweep),
        "scenarios": [scenario.name for scenario, _ in measured],
        "compat": {scenario.name: _compat(scenario) for scenario, _ in measured},
        "experts": {scenario.name: _shared_expert(scenario) for scenario, _ in measured},
        "datasets": {scenario.name: _dataset_label(scenario) for scenario, _ in measured},
        "models": {scenario.name: _model_labels(scenario) for scenario, _ in measured},
        "arms": {scenario.name: scenario.sweep.loop.arm for scenario, _ in measured},
        "groups": {scenario.name: arms.group(scenario) for scenario, _ in measured},
        "generations": {s.name: s.sweep.loop.generations for s, _ in measured},
        "declared": declared,
    }
    return graph.add("dynamics", config, _by_scenario(measured), _end(measured[0][0]))


def add_claims(
    sweep: Sweep, measured: list[tuple[Scenario, Named]], graph: Graph, declared: bool = True
) -> Stage:
    """Declared statements, decomposition by arms and other readings, over all scenarios.

    declared: whether they were frozen before the data that they are judged on.
    """
    config = {
        "evaluation": identity.judged_with(sweep),
        "scenarios": [described(scenario) for scenario, _ in measured],
        "declared": declared,
    }
    return graph.add("claims", config, _by_scenario(measured), _end(measured[0][0]))


def _compat(scenario: Scenario) -> str:
    """Which reading of the ablations a scenario's numbers take."""
    return scenario.sweep.evaluation.ablation.compat


def _by_scenario(measured: list[tuple[Scenario, Named]]) -> Named:
    return {
        f"{scenario.name}/{name}": stage
        for scenario, named in measured
        for name, stage in named.items()
    }


def described(scenario: Scenario) -> dict[str, Any]:
    """What a claim must know of a scenario to tell whether it speaks of it."""
    sweep = scenario.sweep
    return {
        "name": scenario.name,
        "group": arms.group(scenario),
        "arm": sweep.loop.arm,
        "dataset": sweep.dataset.name
        if _as_in_the_paper(sweep) and told.of_the_paper(sweep.dataset)
        else f"other: {sweep.dataset.name}",
        "initialization": told.initialization(sweep.dataset),
        "pretrained": bool(sweep.training.pretrained),
        "compat": _compat(scenario),
        "classifiers": [name for name in sweep.classifiers if _starts_alike(sweep, name)],
        "generations": sweep.loop.generations,
        "subgroups": SUBGROUPS[sweep.dataset.name],
        "regime": sweep.loop.regime,
    }


def _as_in_the_paper(sweep: Sweep) -> bool:
    """Whether the loop is the paper's: another one is no evidence on what it says of its own."""
    generator, plain = sweep.generator, sweep.queue.tilt is None
    own = generator.traits.paper and generator.fully_trained
    return sweep.loop.regime == "stack" and plain and own


def _starts_alike(sweep: Sweep, network: str) -> bool:
    """Whether a network starts as the sweep says: LeNet has no ImageNet weights to start from."""
    return bool(sweep.training_for(network).pretrained) == bool(sweep.training.pretrained)


def _dataset_label(scenario: Scenario) -> str:
    """The dataset, what makes it another than the paper's, and the axes that change it."""
    dataset, axes = scenario.sweep.dataset, [p.removeprefix("dataset.") for p in scenario.values]
    name = ", ".join([dataset.name, *told.others(dataset, axes)])
    return _label(name, scenario, "dataset")


def _model_labels(scenario: Scenario) -> dict[str, str]:
    """Network -> the network, whether it is pretrained, and the axes that change its training."""
    sweep = scenario.sweep
    starts = {
        n: ", pretrained" if sweep.training_for(n).pretrained else "" for n in sweep.classifiers
    }
    others = {p: v for p, v in scenario.values.items() if p != "training.pretrained"}
    rest = scenario.model_copy(update={"values": others})
    groups = ("training", "training_of", "tune")
    return {name: _label(name + start, rest, *groups) for name, start in starts.items()}


def _label(name: str, scenario: Scenario, *groups: str) -> str:
    changed = {path: v for path, v in scenario.values.items() if path.split(".")[0] in groups}
    return f"{name}, {scenario_name(changed, scenario.short)}" if changed else name


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


def _shared_expert(scenario: Scenario) -> str:
    """The classifier whose bias acts on the next generation of a shared chain; else empty."""
    sweep = arms.adapted(scenario.sweep)
    if not arms.generates(sweep):
        return ""
    shared = sweep.loop.chain == "shared" and sweep.filter.uses_uncertainty
    return str(sweep.expert.classifier) if shared else ""


def _end(scenario: Scenario) -> Place:
    return Place(scenario.name, 0, scenario.sweep.loop.generations)
