"""Which statement speaks of which settings and networks of a sweep, and what it lacks there.

A case is one statement about one setting (or pair of settings): one question with one answer,
whatever the number of its networks. Everything here follows from the sweep's settings, so that it
can be declared before anything has run. Knows nothing of numbers.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from ray_selfloop.claims.contrasts import FEWEST, LEVEL, SCATTER, span
from ray_selfloop.claims.paired import CONTROL, TREATMENT, Arm, same_images
from ray_selfloop.claims.statements import (
    BALANCE,
    DISTANCE,
    KIN,
    LARGE,
    OF_GENERATORS,
    SMALL,
    STATEMENTS,
    Statement,
    primary,
)
from ray_selfloop.config.arms import UNFILTERED
from ray_selfloop.config.datasets.known import traits_of
from ray_selfloop.evaluation import metrics
from ray_selfloop.inference.verdicts import DOWN, SAME

Who = tuple[str, str]  # group, classifier
CUE = (
    f"{metrics.ABLATION_DROP.name}/object_gray"  # what stands for bias where there are no subgroups
)
PRIMARY = "primary"  # the family of the primary statements
NO_CONTROL = f"needs the arm {CONTROL}"
WITH_MAJORITY = ("biased", "spurious")  # initializations


@dataclass(frozen=True)
class Group:
    """A setting: scenarios that differ in the arm alone. lacks: why nothing is compared, or ""."""

    name: str
    treatment: Arm
    arms: Mapping[str, Arm]
    lacks: str

    @property
    def reading(self) -> str:
        """The reading of rates that applies."""
        return "pooled" if self.treatment.pooled else "per_class"

    @property
    def classifiers(self) -> list[str]:
        """Names, alphabetical."""
        return sorted(self.treatment.classifiers)

    @property
    def last(self) -> int:
        """N, the last generation."""
        return self.treatment.generations

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

    def of(self, seeds: Sequence[int]) -> "Group":
        """With the chains of these loop seeds alone."""
        arms = {name: arm.of(seeds) for name, arm in self.arms.items()}
        return replace(self, treatment=self.treatment.of(seeds), arms=arms)

    def lacking(self, arms: Sequence[str]) -> str:
        """Why these arms cannot be compared here; "" where they can."""
        if CONTROL in arms and self.lacks:
            return self.lacks
        missing = [arm for arm in arms if arm not in self.arms]
        return f"needs the arm {' and '.join(missing)}" if missing else ""


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
        lacks = "" if CONTROL in members else NO_CONTROL
        if not lacks and CONTROL not in same:
            lacks = f"the arm {CONTROL} has other test images"
        found.append(Group(name, treatment, same, lacks))
    return found


@dataclass(frozen=True)
class Member:
    """What one network (or pair, or mean) of a case is: mean contrast of ``plus`` less ``less``."""

    label: str
    plus: tuple[Who, ...]
    less: tuple[Who, ...] = ()

    @property
    def everyone(self) -> tuple[Who, ...]:
        return self.plus + self.less


@dataclass(frozen=True)
class Case:
    """A statement about one group (or pair of groups). lacks: why it is not tested, or "".

    metric: the statement's, or a generator's distance under its own name. arms: whose difference a
    contrast is, or one arm. others: for ``count``, the members of the second side. primary: one of
    the declared primary statements; exploratory: it gets no verdict word.
    """

    statement: Statement
    group: str
    metric: str
    members: tuple[Member, ...] = ()
    arms: tuple[str, ...] = (TREATMENT, CONTROL)
    others: tuple[Member, ...] = ()
    reading: str = ""
    last: int = 0
    lacks: str = ""
    primary: bool = False
    exploratory: bool = False

    @property
    def about_generator(self) -> bool:
        """Whether it is about images and not about classifiers."""
        return self.metric.startswith(OF_GENERATORS)

    @property
    def family(self) -> str:
        """Which statements are judged together: the primary ones, else those of a section."""
        return PRIMARY if self.primary else self.statement.section


def _concerns(statement: Statement, group: Group) -> bool:
    dataset, initialization, pretrained = group.about
    wanted, regime = statement.dataset, group.treatment.regime
    right = wanted in ("any", dataset, traits_of(dataset).paper)
    started = statement.initialization in ("", initialization)
    fits = statement.regime in ("stack", regime)
    return right and started and fits and statement.pretrained in (None, pretrained)


def _names(statement: Statement, classifiers: Iterable[str]) -> list[str]:
    wanted = [c for c in classifiers if c not in statement.without]
    return [c for c in wanted if not statement.classifiers or c in statement.classifiers]


def cases_of(
    groups: Sequence[Group],
    metric: str = metrics.MD.name,
    most_primary: int = 4,
    alone: bool = False,
) -> list[Case]:
    """Primary cases first, then every statement; one that no group has stands once, with why.

    metric, most_primary: `evaluation.claims.primary` and ``most_primary``. alone: whether only the
    primary ones get a word, because the sweep is looked at several times.
    """
    found = list(_primaries(groups, metric, most_primary))
    for statement in STATEMENTS:
        absent = bool(statement.untestable or statement.elsewhere)
        cases = [] if absent else [_checked(c, groups) for c in _of_statement(statement, groups)]
        found += cases or [Case(statement, "", statement.metric, lacks=_absence(statement, groups))]
    if not alone:
        return found
    return [c if c.primary or c.lacks else replace(c, exploratory=True) for c in found]


def _primaries(groups: Sequence[Group], metric: str, most: int) -> Iterator[Case]:
    """The hypothesis about every setting; beyond the first ``most`` that have a control, and in
    those that have none, it is no primary statement."""
    declared = 0
    for group in groups:
        case = hypothesis_about(group, groups, metric)
        counts = not case.lacks
        declared += counts
        primary_one = counts and declared <= most
        yield replace(case, primary=primary_one, exploratory=counts and not primary_one)


def hypothesis_about(group: Group, groups: Sequence[Group], metric: str) -> Case:
    """The introduction's hypothesis about one setting, on average over its networks."""
    statement = primary(metric)
    if not group.treatment.subgroups and metric != metrics.ACCURACY.name:
        statement = replace(
            statement,
            text="Bias is amplified: reliance on spurious cues grows (a smaller drop without "
            "the object)",
            metric=CUE,
            direction=DOWN,
        )
    return _checked(_case(statement, (group,), _mean(group, group.classifiers)), groups, True)


def _mean(group: Group, names: Sequence[str]) -> tuple[Member, ...]:
    label = ", ".join(names) if len(names) > 1 else "".join(names)
    return (Member(label, tuple((group.name, name) for name in names)),) if names else ()


def _checked(case: Case, groups: Sequence[Group], alone: bool = False) -> Case:
    """With what it lacks beyond its own group. alone: whether it is in a family of its own, in
    which MEO beside MD is no second test of one number."""
    few = _too_few_generations(case)
    if case.lacks or few or not case.members:
        return replace(case, lacks=case.lacks or few or "no network starts as the sweep says")
    if case.about_generator:
        return case
    by_name = {group.name: group for group in groups}
    subgroups = by_name[case.members[0].plus[0][0]].treatment.subgroups
    if case.metric == metrics.MEO.name and 0 < subgroups <= 3 and not alone:
        return replace(case, lacks="one number with MD here (1 - MEO is a multiple of MD): see md")
    if (
        case.metric != metrics.ACCURACY.name
        and not case.metric.startswith(metrics.ABLATION_DROP.name)
        and not subgroups
    ):
        return replace(case, lacks="this dataset has no subgroups")
    return case


def _too_few_generations(case: Case) -> str:
    """Why the estimand needs more generations than there are; "" where it does not."""
    estimand, last = case.statement.estimand, case.last
    ends = span(estimand, last)
    if estimand == SCATTER and last + 1 < FEWEST:
        return f"needs {FEWEST - 1} generations or more"
    if ends is not None and ends[0] >= ends[1]:
        return f"needs more than {max(ends)} generations"
    if case.about_generator and estimand != LEVEL and last < 2:
        return "needs 2 generations or more"
    return ""


def _absence(statement: Statement, groups: Sequence[Group]) -> str:
    """Why a sweep has no case of a statement."""
    if statement.elsewhere:
        return f"says again what {statement.elsewhere} says: judged there"
    if statement.untestable:
        return statement.untestable
    anywhere = replace(statement, initialization="", pretrained=None, regime="stack")
    if not any(_concerns(anywhere, g) for g in groups):
        return f"dataset not in this sweep: {statement.dataset}"
    if not any(_concerns(statement, g) for g in groups):
        start = statement.initialization or ("scratch", "pretrained")[bool(statement.pretrained)]
        what = start if statement.regime == "stack" else f"regime {statement.regime}"
        return f"not in this sweep: {statement.dataset}, {what}"
    reasons = {
        "initialization": "needs biased and unbiased in one sweep",
        "pretrained": "needs pretrained and scratch in one sweep",
        "count": "needs pretrained and scratch in one sweep",
        "size": f"needs one of {', '.join(LARGE)} and one of {', '.join(SMALL)}",
        "networks": "needs two networks",
        "generator": "no generator was measured",
    }
    named = f"no {' or '.join(statement.classifiers) or 'such classifier'} in this sweep"
    return reasons.get(statement.compare, named)


def _of_statement(statement: Statement, groups: Sequence[Group]) -> Iterator[Case]:
    for group in groups:
        if not _concerns(statement, group):
            continue
        if statement.compare == "generator":
            yield from _generator_case(statement, group)
        elif statement.compare == "size":
            yield from _size_case(statement, group)
        elif statement.compare in ("initialization", "pretrained", "count"):
            yield from _pair_cases(statement, group, groups)
        else:
            members = _members(statement, group)
            if members:
                yield _case(statement, (group,), members)


def _members(statement: Statement, group: Group) -> tuple[Member, ...]:
    """Networks, the mean over them, or every two of them."""
    names = _names(statement, group.classifiers)
    if statement.networks == "mean":
        return _mean(group, names)
    if statement.compare == "networks":
        pairs = combinations(names, 2)
        return tuple(Member(f"{a} - {b}", ((group.name, a),), ((group.name, b),)) for a, b in pairs)
    return tuple(Member(name, ((group.name, name),)) for name in names)


def _arms(statement: Statement) -> tuple[str, ...]:
    if statement.compare == "filter":
        return TREATMENT, UNFILTERED.name
    return (TREATMENT, CONTROL) if statement.controlled else (TREATMENT,)


def _case(statement: Statement, groups: Sequence[Group], members: tuple[Member, ...]) -> Case:
    first, arms = groups[0], _arms(statement)
    return Case(
        statement,
        " - ".join(group.name for group in groups),
        statement.metric,
        members,
        arms,
        (),
        first.reading,
        min(group.last for group in groups),
        next((why for group in groups if (why := group.lacking(arms))), ""),
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
        shared = [c for c in group.classifiers if c in second.classifiers]
        names = _names(statement, shared)
        if not names:
            continue
        pair = (group, second)
        ones, others = (tuple(Member(c, ((g.name, c),)) for c in names) for g in pair)
        if statement.compare == "count":
            case = replace(_case(statement, pair, ones), others=others)
        else:
            zipped = zip(ones, others, strict=True)
            case = _case(statement, pair, tuple(Member(a.label, a.plus, b.plus) for a, b in zipped))
        same = same_images(group.treatment.test, second.treatment.test)
        yield case if same else replace(case, lacks="the two have different test images")


def _size_case(statement: Statement, group: Group) -> Iterator[Case]:
    large, small = ([c for c in names if c in group.classifiers] for names in (LARGE, SMALL))
    if large and small:
        plus, less = (tuple((group.name, c) for c in names) for names in (large, small))
        label = f"{', '.join(large)} - {', '.join(small)}"
        yield _case(statement, (group,), (Member(label, plus, less),))


def _generator_case(statement: Statement, group: Group) -> Iterator[Case]:
    """About the distance of the statement, or where FID is not measured about the first of its kin
    under its own name; a member for each chain's owner."""
    quality, metric = group.treatment.quality, statement.metric
    if metric == DISTANCE and DISTANCE not in quality:
        metric = next((m for m in sorted(quality) if m.startswith(KIN)), DISTANCE)
    owners = sorted({owner for owner, _, _ in quality.get(metric, {})}) or [""]
    members = tuple(Member(owner, ((group.name, owner),)) for owner in owners)
    case = replace(_case(statement, (group,), members), metric=metric)
    lacks = "" if metric in quality else f"{metric} was not measured in this sweep"
    if metric == BALANCE and group.treatment.initialization not in WITH_MAJORITY:
        lacks = "the original data have no majority"
    yield replace(case, lacks=lacks)


def quantified(statement: Statement) -> str:
    """In words, of how many networks a statement has to hold."""
    if statement.networks == "mean":
        return "on average over the networks"
    what = "pair of networks" if statement.compare == "networks" else "network"
    words = {"all": f"in every {what}", "most": f"in more than half of the {what}s",
             "some": f"in at least one {what}"}  # fmt: skip
    return words[statement.networks] + (
        " (no change in every one)"
        if statement.direction == SAME and statement.networks != "all"
        else ""
    )
