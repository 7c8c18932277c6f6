"""Eq. 6 over all scenarios of a sweep: bias from one generation to the next."""

from collections.abc import Sequence

from pydantic import Field

from ray_selfloop import arms, told
from ray_selfloop.config.sweep import Scenario, Sweep, scenario_name
from ray_selfloop.evaluation.metrics import About, in_key
from ray_selfloop.stages.evaluated import Evaluated, judged_with
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.kind import Kind, Summary, Work


class Settings(Evaluated):
    """scenarios: their names; the others are by name.

    compat: which reading of the ablations is taken. experts: the classifier whose bias acts on the
    next generation of a shared chain, or "". datasets, models: labels; scenarios with the same have
    their d_D in common, whatever is done to their generators and queues. groups: scenarios that
    differ in the arm alone. declared: whether what is judged was frozen before the data. looked:
    whether the sweep is judged at several numbers of chains.
    """

    scenarios: tuple[str, ...]
    compat: dict[str, str] = Field(default_factory=dict)
    experts: dict[str, str]
    datasets: dict[str, str] = Field(default_factory=dict)
    models: dict[str, dict[str, str]] = Field(default_factory=dict)
    arms: dict[str, str] = Field(default_factory=dict)
    groups: dict[str, str] = Field(default_factory=dict)
    generations: dict[str, int] = Field(default_factory=dict)
    declared: bool = True
    looked: bool = False

    @property
    def exploratory(self) -> str:
        """Why no A has a verdict, or ""."""
        if not self.declared:
            return "declared after the data"
        return "the primary statements alone are judged at several looks" if self.looked else ""


def settings(sweep: Sweep, scenarios: Sequence[Scenario], declared: bool) -> Settings:
    found = Settings(
        evaluation=judged_with(sweep),
        scenarios=tuple(s.name for s in scenarios),
        compat={s.name: s.sweep.evaluation.ablation.compat for s in scenarios},
        experts={s.name: _shared_expert(s) for s in scenarios},
        datasets={s.name: _dataset_label(s) for s in scenarios},
        models={s.name: _model_labels(s) for s in scenarios},
        arms={s.name: s.sweep.loop.arm for s in scenarios},
        groups={s.name: arms.group(s) for s in scenarios},
        generations={s.name: s.sweep.loop.generations for s in scenarios},
        declared=declared,
        **in_key(About.CLASSIFIERS, About.EQUATION_6),
    )
    return found.model_copy(update={"looked": True}) if sweep.decide else found


def _shared_expert(scenario: Scenario) -> str:
    sweep = arms.adapted(scenario.sweep)
    shared = sweep.loop.chain == "shared" and sweep.filter.uses_expert
    return str(sweep.expert.classifier) if shared and arms.generates(sweep) else ""


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
    return {str(name): _label(name + start, rest, *groups) for name, start in starts.items()}


def _label(name: str, scenario: Scenario, *groups: str) -> str:
    changed = {path: v for path, v in scenario.values.items() if path.split(".")[0] in groups}
    return f"{name}, {scenario_name(changed, scenario.short)}" if changed else name


def run(work: Work[Settings]) -> Summary:
    """Rows of A and rest points; verdicts, parameters, laws and rests in the summary."""
    import pandas as pd

    from ray_selfloop.equation6.bias import Labels, bias_series, filled_from, not_converged
    from ray_selfloop.equation6.fit import fit
    from ray_selfloop.equation6.steps import steps
    from ray_selfloop.stages.measures import ROWS, metric_rows, outcome, test_set, trials_of

    held, settings, inputs = work.settings, work.settings.how, work.inputs
    series, contents = [], {}
    for scenario in held.scenarios:
        trials, compat = trials_of(inputs, scenario), held.compat.get(scenario, "paper")
        outcomes = [outcome(inputs, name, compat) for name in trials]
        series += bias_series(scenario, outcomes, test_set(inputs, f"{scenario}/dataset"), settings)
        contents[scenario] = {
            (place.classifier, place.loop_seed, place.generation): _contents(inputs, name)
            for name, place in trials.items()
        }
    tables = [metric_rows(inputs, scenario) for scenario in held.scenarios]
    table = pd.concat(tables, ignore_index=True)
    bound = settings.dynamics.least_fidelity
    labels = Labels(
        datasets=held.datasets,
        models=held.models,
        experts=held.experts,
        arms=held.arms,
        groups=held.groups,
        filled={scenario: filled_from(content) for scenario, content in contents.items()},
        gated={scenario: not_converged(table, scenario, bound) for scenario in contents},
        generations=held.generations,
        exploratory=held.exploratory,
    )
    acting = steps(table, contents, settings.dynamics, settings.level)
    found = fit(series, acting, settings, labels)
    found.rows().to_parquet(work.folder / ROWS, index=False)
    return found.summary()


def _contents(inputs: Inputs, name: str) -> dict[int, int]:
    """Generated images in a trial's training set: generation they come from -> how many."""
    mixed = inputs.record(name).summary["training_set"]
    return {int(generation): count for generation, count in mixed["by_generation"].items()}


KIND = Kind("dynamics", version=5, holds=Settings, run="ray_selfloop.stages.equation6:run")
