"""Which scenarios belong together, and which of the paper's figures they are.

Decides names and order only; must not know the results table.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ray_selfloop import told
from ray_selfloop.config.arms import ARMS, AXIS
from ray_selfloop.config.datasets.known import traits_of
from ray_selfloop.report.view import ScenarioView

SAID = {AXIS, "dataset.name", *(f"dataset.{field}" for field in told.fields())}
"""The axes that a title says in words."""


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
    grid = traits_of(main.dataset).figures.get("grid", "") if main.of_the_paper else ""
    return Group(name, _title(main, len(members)), tuple(ranked), _figure(main), grid)


def _title(main: ScenarioView, members: int) -> str:
    """The scenario's own title, or dataset, start and further axes where several arms share it."""
    if _fine_tuned(main):
        start = [] if main.pretrained else [initialization(main)]
        return ", ".join([dataset(main), *start, *other_axes(main)])
    if not main.dataset or (members == 1 and AXIS not in main.axes):
        return main.title
    return ", ".join([dataset(main), initialization(main), *other_axes(main)])


def other_axes(scenario: ScenarioView) -> list[str]:
    """``queue.tilt 0.5``: the axes that dataset, initialisation and arm do not say."""
    said = SAID | ({"training.pretrained"} if _has_start(scenario) else set())
    return [f"{key} {value}" for key, value in scenario.axes.items() if key not in said]


def titles(scenarios: Sequence[ScenarioView]) -> dict[str, str]:
    """Scenario name -> its title on the page: the group's, and of a control the arm."""
    return {
        s.name: group.title if s is group.main else f"{group.title}: {s.arm}"
        for group in groups(scenarios)
        for s in group.scenarios
    }


def dataset(scenario: ScenarioView) -> str:
    """The dataset as the paper writes it, or its benchmark, and what is not as there."""
    traits = traits_of(scenario.dataset)
    start = traits.start_titles.get(scenario.initialization, scenario.initialization)
    name = f"{traits.title} {start}".strip() if traits.start_titles else traits.title
    return f"{name} ({'; '.join(scenario.differences)})" if scenario.differences else name


def _has_start(scenario: ScenarioView) -> bool:
    """Whether the classifiers' start tells its scenarios apart."""
    return traits_of(scenario.dataset).weights != "scratch"


def _fine_tuned(scenario: ScenarioView) -> bool:
    """Whether the paper's classifiers start from ImageNet weights here."""
    return traits_of(scenario.dataset).weights == "imagenet"


def initialization(scenario: ScenarioView) -> str:
    """Table 1's second column: how the original data or the weights start."""
    if _has_start(scenario):
        start = "ImageNet weights" if scenario.pretrained else "from scratch"
        other = scenario.initialization in traits_of(scenario.dataset).unpublished
        return f"{start}, {scenario.initialization}" if other else start
    return scenario.initialization or "N/A"


def labels(scenario: ScenarioView, paper: str = "") -> dict[str, str]:
    """Part (overall, ranked, ablations) -> how its caption starts; paper: its group's figure."""
    if _fine_tuned(scenario):
        own = traits_of(scenario.dataset).figures if paper else {}
        parts = ("overall", "ranked", "ablations")
        return {part: f"Figure {own[part]}: " if part in own else "" for part in parts}
    name = f"Figure {paper} " if paper else ""
    return {"overall": f"{name}(a) ", "ranked": f"{name}(b) ", "ablations": ""}


def _figure(scenario: ScenarioView) -> str:
    if not scenario.of_the_paper:
        return ""
    own = traits_of(scenario.dataset).figures
    if _fine_tuned(scenario):
        return " and ".join(sorted(number for part, number in own.items() if part != "grid"))
    started = "pretrained" if scenario.pretrained else "scratch"
    return own.get(scenario.initialization, own.get(started, ""))
