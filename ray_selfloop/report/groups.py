"""Which scenarios belong together, and which of the paper's figures they are.

Decides names and order only; must not know the results table.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ray_selfloop.config.arms import ARMS, AXIS
from ray_selfloop.report.view import ScenarioView
from ray_selfloop.told import FEWER, OTHER

# axes that a title says in words
SAID = (
    AXIS,
    *(f"dataset.{field}" for field in ("name", "initialization", "variant", *OTHER, *FEWER)),
)
DATASETS = {
    "colorized_digits": "Colorized digits",
    "colorized_mnist": "Colorized MNIST",
    "cifar20_100": "CIFAR-20/100",
    "hard_imagenet": "Hard ImageNet",
    "breeds": "Breeds",
}
BENCHMARKS = {"living17": "LIVING-17", "nonliving26": "NONLIVING-26"}  # of Breeds
FINE_TUNED = ("hard_imagenet", "breeds")  # the paper's classifiers start from ImageNet weights here
# Part of a group -> the paper's figure, where the two parts of one figure are not meant.
FIGURES = {
    "hard_imagenet": {"overall": "9", "ablations": "8", "grid": "12"},
    "breeds": {"ranked": "7"},
}


@dataclass(frozen=True)
class Group:
    """Scenarios that differ in the arm alone, the treatment first.

    paper, grid: number of the paper's figure for the curves (several: "8 and 9") and for the sample
        grid; "" if none.
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
    def heading(self) -> str:
        """``Figure 5``, ``Figures 8 and 9``, or ""."""
        return f"Figure{'s' if ' and ' in self.paper else ''} {self.paper}" if self.paper else ""

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
    order = tuple(ARMS)
    ranked = sorted(members, key=lambda s: order.index(s.arm) if s.arm in order else len(order))
    main = ranked[0]
    return Group(name, _title(main, len(members)), tuple(ranked), _figure(main), _grid(main))


def _title(main: ScenarioView, members: int) -> str:
    """The scenario's own title, or dataset, start and further axes where several arms share it."""
    if main.dataset in FINE_TUNED:
        start = [] if main.pretrained else [initialization(main)]
        return ", ".join([dataset(main), *start, *other_axes(main)])
    if not main.dataset or (members == 1 and AXIS not in main.axes):
        return main.title
    return ", ".join([dataset(main), initialization(main), *other_axes(main)])


def other_axes(scenario: ScenarioView) -> list[str]:
    """``queue.tilt 0.5``: the axes that dataset, initialisation and arm do not say."""
    said = {*SAID}
    if _has_start(scenario):
        said.add("training.pretrained")
    if scenario.dataset == "breeds":
        said.add("dataset.benchmark")
    return [f"{key} {value}" for key, value in scenario.axes.items() if key not in said]


def titles(scenarios: Sequence[ScenarioView]) -> dict[str, str]:
    """Scenario name -> its title on the page: the group's, and of a control the arm."""
    return {
        s.name: group.title if s is group.main else f"{group.title}: {s.arm}"
        for group in groups(scenarios)
        for s in group.scenarios
    }


def dataset(scenario: ScenarioView) -> str:
    """The dataset as the paper writes it, Breeds with its benchmark, and what is not as there."""
    name = DATASETS.get(scenario.dataset, scenario.dataset)
    if scenario.dataset == "breeds":
        name = f"{name} {BENCHMARKS.get(scenario.initialization, scenario.initialization)}".strip()
    return f"{name} ({'; '.join(scenario.differences)})" if scenario.differences else name


def _has_start(scenario: ScenarioView) -> bool:
    """Whether the classifiers' start tells its scenarios apart."""
    return scenario.dataset.startswith("cifar") or scenario.dataset in FINE_TUNED


def initialization(scenario: ScenarioView) -> str:
    """Table 1's second column: how the original data or the weights start."""
    if _has_start(scenario):
        start = "ImageNet weights" if scenario.pretrained else "from scratch"
        uneven = scenario.initialization == "imbalanced"
        return f"{start}, imbalanced" if uneven else start
    return scenario.initialization or "N/A"


def labels(scenario: ScenarioView, paper: str = "") -> dict[str, str]:
    """Part (overall, ranked, ablations) -> how its caption starts; paper: its group's figure."""
    if scenario.dataset in FINE_TUNED:
        own = FIGURES[scenario.dataset] if paper else {}
        parts = ("overall", "ranked", "ablations")
        return {part: f"Figure {own[part]}: " if part in own else "" for part in parts}
    name = f"Figure {paper} " if paper else ""
    return {"overall": f"{name}(a) ", "ranked": f"{name}(b) ", "ablations": ""}


def _figure(scenario: ScenarioView) -> str:
    if not scenario.of_the_paper:
        return ""
    if scenario.dataset == "colorized_mnist":
        return {"unbiased": "3", "biased": "4"}.get(scenario.initialization, "")
    if scenario.dataset.startswith("cifar"):
        return "6" if scenario.pretrained else "5"
    curves = (n for part, n in FIGURES.get(scenario.dataset, {}).items() if part != "grid")
    return " and ".join(sorted(curves))


def _grid(scenario: ScenarioView) -> str:
    if not scenario.of_the_paper:
        return ""
    if scenario.dataset in FIGURES:
        return FIGURES[scenario.dataset].get("grid", "")
    if scenario.dataset.startswith("cifar"):
        return "11"
    return "10" if scenario.dataset == "colorized_mnist" else ""
