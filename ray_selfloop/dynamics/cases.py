"""Which statement speaks of which scenarios and classifiers of a sweep, and what it lacks there.

Knows nothing of numbers.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ray_selfloop.dynamics.paired import CONTROL, TREATMENT, Arm, same_images
from ray_selfloop.dynamics.statements import DISTANCE, KIN, LARGE, SMALL, STATEMENTS, Statement


@dataclass(frozen=True)
class Group:
    """The arms of one group that can be compared. lacks: why there are no contrasts, or ""."""

    name: str
    treatment: Arm
    arms: Mapping[str, Arm]
    lacks: str

    @property
    def reading(self) -> str:
        """The reading of rates that applies."""
        return "pooled" if self.treatment.test.pooled else "per_class"

    @property
    def classifiers(self) -> list[str]:
        """Names, alphabetical."""
        return sorted({o.classifier for o in self.treatment.outcomes})

    @property
    def last(self) -> int:
        """N, the last generation."""
        return max((o.generation for o in self.treatment.outcomes), default=0)

    @property
    def about(self) -> tuple[str, str, bool]:
        """Dataset, initialization, pretrained."""
        arm = self.treatment
        return arm.dataset, arm.initialization, arm.pretrained

    @property
    def rest(self) -> tuple[str, ...]:
        """The group's name without what a comparison of two groups varies."""
        varied = ("initialization=", "pretrained=")
        return tuple(p for p in self.name.split(",") if not p.startswith(varied) and p != "base")


def groups_of(arms: Sequence[Arm]) -> list[Group]:
    """Groups that have a treatment, in the order of the arms."""
    by_name: dict[str, dict[str, Arm]] = {}
    for arm in arms:
        by_name.setdefault(arm.group, {})[arm.arm] = arm
    found = []
    for name, members in by_name.items():
        if TREATMENT not in members:
            continue
        treatment = members[TREATMENT]
        same = {k: arm for k, arm in members.items() if same_images(arm.test, treatment.test)}
        lacks = "" if CONTROL in members else f"needs the arm {CONTROL}"
        if not lacks and CONTROL not in same:
            lacks = f"the arm {CONTROL} has other test images"
        found.append(Group(name, treatment, same, lacks))
    return found


@dataclass(frozen=True)
class Case:
    """A statement about one group (or pair of groups) and classifier.

    plus, less: (group, classifier) whose mean contrasts are subtracted. lacks: why not tested.
    metric: the statement's, or a generator's distance under its own name.
    """

    statement: Statement
    group: str
    classifier: str
    metric: str
    plus: tuple[tuple[str, str], ...] = ()
    less: tuple[tuple[str, str], ...] = ()
    reading: str = ""
    last: int = 0
    lacks: str = ""


def _concerns(statement: Statement, group: Group) -> bool:
    dataset, initialization, pretrained = group.about
    wanted = statement.dataset
    right = wanted == "any" or dataset == wanted or (wanted, dataset[:5]) == ("cifar", "cifar")
    started = statement.initialization in ("", initialization)
    return right and started and statement.pretrained in (None, pretrained)


def _names(statement: Statement, classifiers: Iterable[str]) -> list[str]:
    wanted = [c for c in classifiers if c not in statement.without]
    return [c for c in wanted if not statement.classifiers or c in statement.classifiers]


def cases_of(groups: Sequence[Group]) -> Iterator[Case]:
    for statement in STATEMENTS:
        found = [] if statement.untestable else list(_of_statement(statement, groups))
        why = statement.untestable or _absence(statement, groups)
        yield from found or [Case(statement, "", "", statement.metric, lacks=why)]


def _absence(statement: Statement, groups: Sequence[Group]) -> str:
    """Why a sweep has no case of a statement."""
    if not any(
        _concerns(replace(statement, initialization="", pretrained=None), g) for g in groups
    ):
        return f"dataset not in this sweep: {statement.dataset}"
    if not any(_concerns(statement, g) for g in groups):
        start = statement.initialization or ("scratch", "pretrained")[bool(statement.pretrained)]
        return f"not in this sweep: {statement.dataset}, {start}"
    if statement.compare in ("initialization", "pretrained"):
        both = {"initialization": "biased and unbiased", "pretrained": "pretrained and scratch"}
        return f"needs {both[statement.compare]} in one sweep"
    if statement.compare == "size":
        return f"needs one of {', '.join(LARGE)} and one of {', '.join(SMALL)}"
    if statement.compare == "generator":
        return "no generator was measured"
    return f"no {' or '.join(statement.classifiers) or 'such classifier'} in this sweep"


def _of_statement(statement: Statement, groups: Sequence[Group]) -> Iterator[Case]:
    for group in groups:
        if not _concerns(statement, group):
            continue
        if statement.compare == "generator":
            yield from _generator_cases(statement, group)
        elif statement.compare == "size":
            yield from _size_case(statement, group)
        elif statement.compare:
            yield from _pair_cases(statement, group, groups)
        else:
            for classifier in _names(statement, group.classifiers):
                yield _case(statement, (group,), classifier, ((group.name, classifier),))


def _case(
    statement: Statement,
    groups: Sequence[Group],
    classifier: str,
    plus: tuple[tuple[str, str], ...],
    less: tuple[tuple[str, str], ...] = (),
) -> Case:
    first = groups[0]
    return Case(
        statement,
        " - ".join(group.name for group in groups),
        classifier,
        statement.metric,
        plus,
        less,
        first.reading,
        min(group.last for group in groups),
        next((group.lacks for group in groups if group.lacks), ""),
    )


def _pair_cases(statement: Statement, group: Group, groups: Sequence[Group]) -> Iterator[Case]:
    """``group`` is the first of the pair: biased, or pretrained."""
    dataset, initialization, pretrained = group.about
    if statement.compare == "initialization":
        first, other = initialization == "biased", (dataset, "unbiased", pretrained)
    else:
        first, other = pretrained, (dataset, initialization, False)
    for second in groups:
        if not (first and second.about == other and second.rest == group.rest):
            continue
        same = same_images(group.treatment.test, second.treatment.test)
        lacks = "" if same else "the two have different test images"
        pair = (replace(group, lacks=group.lacks or lacks), second)
        shared = [c for c in group.classifiers if c in second.classifiers]
        for classifier in _names(statement, shared):
            plus, less = ((g.name, classifier) for g in pair)
            yield _case(statement, pair, classifier, (plus,), (less,))


def _size_case(statement: Statement, group: Group) -> Iterator[Case]:
    large, small = (
        tuple((group.name, c) for c in names if c in group.classifiers) for names in (LARGE, SMALL)
    )
    if large and small:
        yield _case(statement, (group,), "", large, small)


def _generator_cases(statement: Statement, group: Group) -> Iterator[Case]:
    quality = group.treatment.quality
    metrics = sorted(m for m in quality if m.startswith(KIN))
    for metric in [*([] if DISTANCE in metrics else [DISTANCE]), *metrics]:
        for owner in sorted({chain[0] for chain in quality.get(metric, {})}) or [""]:
            lacks = "" if metric in quality else f"{DISTANCE} was not measured in this sweep"
            case = _case(statement, (replace(group, lacks=lacks),), owner, ((group.name, owner),))
            yield replace(case, metric=metric)
