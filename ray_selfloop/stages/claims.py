"""The paper's claims, judged on the predictions of all scenarios."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ray_selfloop import arms, told
from ray_selfloop.config.sweep import Scenario, Sweep
from ray_selfloop.evaluation.metrics import About, in_key
from ray_selfloop.stages.evaluated import Evaluated, judged_with
from ray_selfloop.stages.inputs import save_json
from ray_selfloop.stages.kind import Held, Kind, Summary, Work

if TYPE_CHECKING:
    from ray_selfloop.claims.paired import Arm


class Described(Held):
    """What a claim must know of a scenario to tell whether it speaks of it.

    group: scenarios that differ in the arm alone. dataset: its name, where it is the paper's and
    the loop is. classifiers: those that start as the scenario says.
    """

    name: str
    group: str
    arm: str
    dataset: str
    initialization: str
    pretrained: bool
    compat: str = "paper"
    classifiers: tuple[str, ...]
    generations: int
    subgroups: int
    regime: str

    def judged(self, **found: Any) -> "Arm":
        """With what of it is found, as it is judged."""
        from ray_selfloop.claims.paired import Arm

        return Arm(self.name, **{**self.model_dump(exclude={"name", "compat"}), **found})


class Looked(Held):
    """Of a sweep that is judged at several numbers of chains: which, the loop seeds so far, and
    whether the last look is complete."""

    declared: tuple[int, ...]
    seeds: tuple[int, ...]
    settled: bool


class Settings(Evaluated):
    """declared: whether the statements were frozen before the data that they are judged on."""

    scenarios: tuple[Described, ...]
    declared: bool
    looks: Looked | None = None


def settings(
    sweep: Sweep, scenarios: Sequence[Scenario], declared: bool, settled: bool
) -> Settings:
    found = Settings(
        evaluation=judged_with(sweep),
        scenarios=tuple(described(scenario) for scenario in scenarios),
        declared=declared,
        **in_key(About.CLASSIFIERS),
    )
    if sweep.decide is None:
        return found
    seeds = sweep.loop.loop_seeds
    looks = Looked(declared=sweep.decide.looks, seeds=seeds, settled=settled)
    return found.model_copy(update={"looks": looks})


def described(scenario: Scenario) -> Described:
    sweep, pretrained = scenario.sweep, bool(scenario.sweep.training.pretrained)
    as_published = _as_in_the_paper(sweep) and told.of_the_paper(sweep.dataset)
    return Described(
        name=scenario.name,
        group=arms.group(scenario),
        arm=sweep.loop.arm,
        dataset=sweep.dataset.name if as_published else f"other: {sweep.dataset.name}",
        initialization=sweep.dataset.start,
        pretrained=pretrained,
        compat=sweep.evaluation.ablation.compat,
        classifiers=tuple(
            name
            for name in sweep.classifiers
            if bool(sweep.training_for(name).pretrained) == pretrained
        ),
        generations=sweep.loop.generations,
        subgroups=sweep.dataset.groups,
        regime=sweep.loop.regime,
    )


def _as_in_the_paper(sweep: Sweep) -> bool:
    """Whether the loop is the paper's: another one is no evidence on what it says of its own."""
    generator, queue = sweep.generator, sweep.queue
    plain = queue.tilt is None and queue.balance == "none" and sweep.filter.keep == "best"
    own = generator.traits.paper and generator.fully_trained
    return sweep.loop.regime == "stack" and plain and own


def run(work: Work[Settings]) -> Summary:
    """Verdicts, decomposition, other readings, what `a_a` shows and the scatter; also written as
    ``claims.json``."""
    from ray_selfloop.claims.measured import Looks
    from ray_selfloop.claims.verdicts import claims as judge
    from ray_selfloop.stages.judged import arm

    settings = work.settings.how
    bound = settings.dynamics.least_fidelity
    found = work.settings.looks
    looks = Looks(found.declared, found.seeds, found.settled) if found else None
    seen = [looks.seeds[:chains] for chains in looks.made] if looks else []
    arms = [arm(scenario, work.inputs, bound, seen) for scenario in work.settings.scenarios]
    summary = judge(arms, settings, work.settings.declared, looks).summary()
    save_json(work.folder, "claims", summary)
    return summary


KIND = Kind("claims", version=7, holds=Settings, run="ray_selfloop.stages.claims:run")
