"""Which scenarios belong together, and which of the paper's figures they are.

Decides names and order only; must not know the results table.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ray_selfloop.arms import DESCRIPTIONS
from ray_selfloop.report.view import ScenarioView

ARM_AXIS = "loop.arm"
SAID = (ARM_AXIS, "dataset.name", "dataset.initialization")  # axes that a title says in words
DATASETS = {
    "colorized_digits": "Colorized digits",
    "colorized_mnist": "Colorized MNIST",
    "cifar20_100": "CIFAR-20/100",
}


@dataclass(frozen=True)
class Group:
    """Scenarios that differ in the arm alone, the treatment first.

    paper, grid: number of the paper's figure for the curves and for the sample grid; "" if none.
    """

    name: str
    title: str
    scenarios: tuple[ScenarioView, ...]
    paper: str
    grid: str

    @property
    def main(self) -> ScenarioView:
        """The treatment; a control where the sweep has no treatment."""
        return self.scenarios[0]

    @property
    def controls(self) -> tuple[ScenarioView, ...]:
        """The other arms; empty where the first one is itself a control."""
        return self.scenarios[1:]


def groups(scenarios: Sequence[ScenarioView]) -> list[Group]:
    """Groups in the order in which their first scenario stands in the sweep."""
    found: dict[str, list[ScenarioView]] = defaultdict(list)
    for scenario in scenarios:
        found[scenario.group or scenario.name].append(scenario)
    return [_group(name, members) for name, members in found.items()]


def _group(name: str, members: Sequence[ScenarioView]) -> Group:
    order = tuple(DESCRIPTIONS)
    ranked = sorted(members, key=lambda s: order.index(s.arm) if s.arm in order else len(order))
    main = ranked[0]
    return Group(name, _title(main, len(members)), tuple(ranked), _figure(main), _grid(main))


def _title(main: ScenarioView, members: int) -> str:
    """The scenario's own title, or dataset, start and further axes where several arms share it."""
    if not main.dataset or (members == 1 and ARM_AXIS not in main.axes):
        return main.title
    return ", ".join([dataset(main), initialization(main), *other_axes(main)])


def other_axes(scenario: ScenarioView) -> list[str]:
    """``queue.tilt 0.5``: the axes that dataset, initialisation and arm do not say."""
    said = (*SAID, "training.pretrained") if scenario.dataset.startswith("cifar") else SAID
    return [f"{key} {value}" for key, value in scenario.axes.items() if key not in said]


def titles(scenarios: Sequence[ScenarioView]) -> dict[str, str]:
    """Scenario name -> its title on the page: the group's, and of a control the arm."""
    return {
        s.name: group.title if s is group.main else f"{group.title}: {s.arm}"
        for group in groups(scenarios)
        for s in group.scenarios
    }


def dataset(scenario: ScenarioView) -> str:
    """The dataset as the paper writes it."""
    return DATASETS.get(scenario.dataset, scenario.dataset)


def initialization(scenario: ScenarioView) -> str:
    """Table 1's second column: how the original data or the weights start."""
    if scenario.dataset.startswith("cifar"):
        start = "ImageNet weights" if scenario.pretrained else "from scratch"
        uneven = scenario.initialization == "imbalanced"
        return f"{start}, imbalanced" if uneven else start
    return scenario.initialization or "N/A"


def _figure(scenario: ScenarioView) -> str:
    if scenario.dataset == "colorized_mnist":
        return {"unbiased": "3", "biased": "4"}.get(scenario.initialization, "")
    if scenario.dataset.startswith("cifar") and scenario.initialization != "imbalanced":
        return "6" if scenario.pretrained else "5"
    return ""


def _grid(scenario: ScenarioView) -> str:
    if scenario.dataset.startswith("cifar"):
        return "11"
    return "10" if scenario.dataset == "colorized_mnist" else ""
