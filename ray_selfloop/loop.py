"""The self-consuming loop of one chain: what is trained on what, generation after generation.

    D0 -> generator n -> samples n -> kept n -> queue -> classifiers n -> generator n + 1 ...

Nothing runs here: every line adds a stage to a graph, and names the stages that it reads. What a
stage's key holds, what it computes and what it asks of Ray stand in its own file,
`stages/<kind>.py`.
"""

from dataclasses import replace
from typing import Any

from ray_selfloop.graph import Graph, Stage
from ray_selfloop.stages import (
    classifier,
    dataset,
    generator,
    generator_metrics,
    kept,
    latents,
    probe,
    reference,
    samples,
    scorer,
    search,
)
from ray_selfloop.stages.chain import NOBODY, Chain, Who
from ray_selfloop.stages.kind import Kind
from ray_selfloop.stages.names import numbered

Inputs = dict[str, Stage]
"""The name under which a stage reads another -> that stage."""


def add_chain(chain: Chain, source: str, graph: Graph) -> None:
    """Add every stage of ``chain``; ``source`` is the digest of the original data's files."""
    loop = Loop(replace(chain, source=source), graph)
    generations = range(1, chain.sweep.loop.generations + 1)
    first = trials = loop.trials(0)
    if not chain.generates:  # the original data alone, again and again
        for n in generations:
            loop.trials(n)
        return
    trained_scorer = loop.where_needed("scorer", scorer.KIND)
    judges = loop.judges()
    references = loop.references(judges)
    shown = loop.shown()
    for n in generations:
        experts = loop.experts(first if chain.arm.expert == "first" else trials)
        shares = shown.shares(n) if shown else {}
        drawn = loop.draw(n, {**trained_scorer, **experts, **shares})
        trials = loop.trials(n)
        loop.measure(n, drawn, {**references, **judges})


class Loop:
    """A chain on its way into a graph: the original data, and what its generations gave so far."""

    def __init__(self, chain: Chain, graph: Graph, beside: "Loop | None" = None) -> None:
        """beside: a loop on the same data."""
        self.chain, self.graph = chain, graph
        self.data: Stage = beside.data if beside else self.add(dataset.KIND, 0, {})
        self.probe: Inputs = beside.probe if beside else self.where_needed("probe", probe.KIND)
        self.generator: Inputs = {}
        self.kept: list[Stage] = []  # of generation n at n - 1

    def add(self, kind: Kind[Any], n: int, inputs: Inputs, who: Who = NOBODY) -> Stage:
        return kind.add(self.graph, self.chain, n, inputs, who)

    def where_needed(self, name: str, kind: Kind[Any], who: Who = NOBODY) -> Inputs:
        """A stage on the original data, as an input; nothing where the chain needs none."""
        if not kind.needed(self.chain):
            return {}
        return {name: self.add(kind, 0, {"dataset": self.data}, who)}

    def trained_on(self, n: int) -> Inputs:
        """The training set after generation ``n``: the original data, and the queue."""
        queue = {numbered("kept", g): self.kept[g - 1] for g in self.chain.queued(n)}
        return {"dataset": self.data, **queue}

    def draw(self, n: int, scoring: Inputs) -> Stage:
        """Train generation ``n``'s generator, draw and score its samples, keep the best."""
        if generator.KIND.needed(self.chain):
            inputs = self.trained_on(n - 1)
            inputs |= self.latents(inputs)
            if self.generator and generator.goes_on(self.chain):
                inputs["previous"] = self.generator["generator"]
            self.generator = {"generator": self.add(generator.KIND, n, inputs)}
        drawn = self.add(samples.KIND, n, {"dataset": self.data, **self.generator, **scoring})
        best = {"dataset": self.data, "samples": drawn, **self.probe}
        self.kept.append(self.add(kept.KIND, n, best))
        return drawn

    def latents(self, sets: Inputs) -> Inputs:
        """What the generator reads of each training image, computed before: a stage a set."""
        if not latents.KIND.needed(self.chain):
            return {}
        found: Inputs = {}
        for name, of in sets.items():
            what, _, n = name.partition(".")
            found[f"latents.{n or what}"] = self.add(latents.KIND, int(n or 0), {what: of})
        return found

    def trials(self, n: int) -> dict[Who, Stage]:
        """Every classifier and seed, trained on what there is after generation ``n``."""
        training_set = self.trained_on(n)
        return {who: self.trial(n, who, training_set) for who in self.chain.trials}

    def trial(self, n: int, who: Who, training_set: Inputs) -> Stage:
        """One classifier, tested on the test images."""
        found = self.where_needed("search", search.KIND, Who(who.network))
        stage = self.add(classifier.KIND, n, {**training_set, **found}, who)
        self.graph.nodes[stage.key].awaited |= self.chain.reads(n, who)
        return stage

    def experts(self, trials: dict[Who, Stage]) -> Inputs:
        """The trials whose uncertainty the filter reads."""
        if not self.chain.sweep.filter.uses_expert:
            return {}
        return {numbered("expert", who.seed): trials[who] for who in self.chain.expert}

    def judges(self) -> Inputs:
        """The trials of generation 0 that label every generation's samples."""
        data = {"dataset": self.data}
        return {numbered("judge", who.seed): self.trial(0, who, data) for who in self.chain.judges}

    def references(self, judges: Inputs) -> Inputs:
        """The real side of the generator's metrics: of the data, and as the judge sees them."""
        data, judge = {"dataset": self.data}, Who(self.chain.judges[0].network)
        return {
            "reference": self.add(reference.KIND, 0, data),
            "judge_reference": self.add(reference.KIND, 0, {**data, **judges}, judge),
        }

    def shown(self) -> "Loop | None":
        """The loop of another arm, whose subgroup shares this arm's images are drawn with."""
        of = self.chain.arm.shares_of
        return Loop(self.chain.under(of), self.graph, beside=self) if of else None

    def shares(self, n: int) -> Inputs:
        """What this loop has kept up to generation ``n``, and what reads its subgroups."""
        self.draw(n, {})
        return {**self.probe, **{numbered("shares", g): of for g, of in enumerate(self.kept, 1)}}

    def measure(self, n: int, drawn: Stage, against: Inputs) -> None:
        """The generator's metrics: of all that was drawn, of what was kept, and of the queue."""
        inputs = {**self.trained_on(n), "samples": drawn, "kept": self.kept[n - 1]}
        self.add(generator_metrics.KIND, n, {**inputs, **self.generator, **self.probe, **against})
