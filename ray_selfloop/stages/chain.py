"""A chain, one scenario at one loop seed, and what the kinds of stages ask of it.

Everything that many stages of a chain ask is worked out once for the chain. Knows nothing of
stages: what a key holds stands in the file of its kind.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from ray_selfloop import arms, queue, seeding
from ray_selfloop.config.arms import Arm
from ray_selfloop.config.sweep import Scenario, Sweep
from ray_selfloop.config.training import Training
from ray_selfloop.graph import Place


class Who(NamedTuple):
    """A network and the seed of its training; without a seed every one of its trainings."""

    network: str = ""
    seed: int = -1


NOBODY = Who()


SHARES = " (its shares)"  # behind a scenario's name: the chain whose subgroup shares it takes


@dataclass(frozen=True, eq=False)  # each is equal to itself alone: what is worked out is cached
class Chain:
    """One scenario at one loop seed; ``architecture`` is set where each has a chain of its own.

    sweep: the settings that the scenario's arm runs with. treatment: those of its treatment.
    source: digest of the original data's files.
    """

    scenario: str
    sweep: Sweep
    loop_seed: int
    treatment: Sweep
    architecture: str = ""
    source: str = ""

    def place(self, generation: int, who: Who = NOBODY) -> Place:
        network = who.network or self.architecture
        return Place(self.scenario, self.loop_seed, generation, network, who.seed)

    def seed(self, *purpose: str | int) -> int:
        """A seed of this chain; the same for all scenarios, so that they differ by design alone."""
        return seeding.derive(self.loop_seed, *purpose)

    @cached_property
    def arm(self) -> Arm:
        return arms.of(self.sweep)

    @property
    def generates(self) -> bool:
        """Whether images are generated at all; else the original data alone is trained on."""
        return self.arm.generates

    @cached_property
    def trials(self) -> tuple[Who, ...]:
        networks = (self.architecture,) if self.architecture else self.sweep.classifiers
        seeds = self.sweep.loop.classifier_seeds
        return tuple(Who(network, seed) for network in networks for seed in seeds)

    @cached_property
    def expert(self) -> tuple[Who, ...]:
        """Whose uncertainty the filter reads, if it reads any."""
        expert = self.sweep.expert
        network = self.architecture or str(expert.classifier)
        return tuple(Who(network, seed) for seed in expert.seeds)

    @cached_property
    def judges(self) -> tuple[Who, ...]:
        """Whose generation-0 predictions label the samples."""
        judge = self.sweep.evaluation.judge
        return tuple(Who(judge.classifier, seed) for seed in judge.seeds)

    def reads(self, n: int, who: Who) -> bool:
        """Whether this chain's filter or its judge reads the weights of a trial."""
        filters = self.generates and self.sweep.filter.uses_expert
        return (filters and who in self.expert) or (n == 0 and who in self.judges)

    def queued(self, n: int) -> tuple[int, ...]:
        """The generations whose kept sets generation ``n``'s classifiers are trained on."""
        if not self.generates:
            return ()
        return queue.kept(self.sweep.loop.regime, n, self.sweep.queue.capacity)

    @cached_property
    def networks(self) -> Mapping[str, Training]:
        names = {who.network for who in (*self.trials, *self.judges)}
        return {name: self.sweep.training_for(name) for name in names}

    @cached_property
    def volume(self) -> int | str:
        """S, images per generation, or which share of the original data it is."""
        return volume(self.sweep)

    @cached_property
    def places(self) -> Mapping[str, Any]:
        """What every stage of the chain is told beside its key: see `kind.Places`."""
        found: dict[str, Any] = {}
        if self.sweep.resources.decoding_threads > 1:
            found["decoders"] = self.sweep.resources.decoding_threads
        generator = self.sweep.generator.places()
        return {**found, "generator": generator} if generator else found

    def under(self, arm: Arm) -> "Chain":
        """The chain that another arm has in the place of this one."""
        loop = self.sweep.loop.model_copy(update={"arm": arm.name})
        changed = {"loop": loop, "generator": self.treatment.generator}
        sweep = self.sweep.model_copy(update=changed)
        known = (self.loop_seed, self.treatment, self.architecture, self.source)
        return Chain(f"{self.scenario}{SHARES}", sweep, *known)


def volume(sweep: Sweep) -> int | str:
    """`queue.volume`; where the sweep names none, the share of |D0| that it stands for."""
    default = "D0" if sweep.loop.regime == "replace" else f"D0/{sweep.queue.capacity}"
    return sweep.queue.volume or default


def located(pretrained: bool | str) -> bool | str:
    """Where weights lie for a worker in another folder: a file's absolute path, else the tag."""
    if isinstance(pretrained, str) and os.path.isfile(pretrained):
        return os.path.abspath(pretrained)
    return pretrained


def chains(scenario: Scenario) -> list[Chain]:
    sweep = arms.adapted(scenario.sweep)
    own = sweep.classifiers if sweep.loop.chain == "per_classifier" else ("",)
    return [
        Chain(scenario.name, sweep, loop_seed, scenario.sweep, architecture)
        for loop_seed in sweep.loop.loop_seeds
        for architecture in own
    ]
