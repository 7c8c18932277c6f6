"""What a sweep will judge, frozen before it can know: statements, estimands, margins, families.

A declaration is a JSON value made of the settings alone, and its hash. Another number of chains is
another one: a sweep that grows until it likes its answer has had many looks; where the looks are
declared (`decide`), it is one declaration for all of them. The budget is not in it: every interval
holds whenever the sweep stops. The first run that has
it writes it into the storage, with the time, before it trains anything; what is judged under it
counts as declared before the data only if no classifier of generation 1 or later had begun to train
then. Knows nothing of numbers.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ray_selfloop.claims import positive
from ray_selfloop.claims.cases import Case, cases_of, groups_of, quantified
from ray_selfloop.claims.paired import Arm
from ray_selfloop.claims.statements import BALANCE, DISTANCE, POORNESS
from ray_selfloop.claims.tested import margin_of
from ray_selfloop.config.arms import CONTROL
from ray_selfloop.config.decide import grown
from ray_selfloop.config.sweep import Scenario, Sweep
from ray_selfloop.errors import CorruptRecord
from ray_selfloop.evaluation.metrics import FRECHET_DISTANCE
from ray_selfloop.graph import Place, digest
from ray_selfloop.stages.claims import described
from ray_selfloop.store.blobs import Blobs
from ray_selfloop.store.records import Record

FOLDER = "declarations"
HOLM = "Holm over the primary statements, over each family, over all A"
RISING = "proportional to the number of chains"  # see `inference.sequential`
OVER_LOOKS = "Bonferroni over the primary statements, levels over all looks; no other verdict"


@dataclass(frozen=True)
class Declaration:
    """content: what is declared, as JSON. declared: Unix time of its first writing; None before."""

    content: Mapping[str, Any]
    declared: float | None = None

    @cached_property
    def hash(self) -> str:
        """20 hex digits, the same for the same content."""
        return digest(self.content)

    def before(self, begun: float | None) -> bool:
        """Whether it was written before the first classifier of generation 1 began; no such
        classifier: whether it is written at all."""
        return self.declared is not None and (begun is None or self.declared <= begun)


def declared(sweep: Sweep, scenarios: Sequence[Scenario]) -> Declaration:
    """What these settings declare."""
    groups = groups_of([_arm(scenario) for scenario in scenarios])
    made = sweep.evaluation.claims
    looks = sweep.decide.looks if sweep.decide else None
    cases = cases_of(groups, made.primary, made.most_primary, alone=looks is not None)
    tested = [case for case in cases if not case.lacks]
    primary = [case for case in tested if case.primary]
    families = {case.family: None for case in tested if not case.primary and not case.exploratory}
    checks = [*positive.cases(groups, made.primary)]
    return Declaration(
        {
            "evaluation": _evaluated(sweep),
            "adjustment": HOLM if looks is None else OVER_LOOKS,
            "chains": _chains(sweep, scenarios),
            "looks": looks if looks is None else {"chains": list(looks), "level": RISING},
            "primary": [_said(c, sweep) for c in primary],
            "families": {
                name: [_said(c, sweep) for c in tested if c.family == name and not c.exploratory]
                for name in families
            },
            "A over the control's": [
                {"setting": group.name, "networks": group.classifiers}
                for group in groups
                if not group.lacks and looks is None
            ],
            "exploratory": [_said(c, sweep) for c in tested if c.exploratory],
            **({"must be seen": [_said(c, sweep) for c in checks]} if checks else {}),
        }
    )


def _chains(sweep: Sweep, scenarios: Sequence[Scenario]) -> list[int]:
    """Loop seeds of all chains that there may be; with looks in the order of their adding, in which
    the looks see them."""
    if sweep.decide:
        return [*grown(sweep.loop.loop_seeds, sweep.decide.looks[-1])]
    return sorted({seed for s in scenarios for seed in s.sweep.loop.loop_seeds})


def _arm(scenario: Scenario) -> Arm:
    """A scenario before there are data: no outcomes, and every metric of a generator."""
    about, inception = described(scenario), scenario.sweep.evaluation.inception
    names = [BALANCE, POORNESS, DISTANCE if inception else f"{FRECHET_DISTANCE.name}/any"]
    quality = {name: {("", 0, 0): float("nan")} for name in names}
    return about.judged(pooled=about.initialization != "spurious", quality=quality)


def _said(case: Case, sweep: Sweep) -> dict[str, Any]:
    """One statement as it is frozen."""
    statement = case.statement
    return {
        "id": statement.id,
        "setting": case.group,
        "says": statement.text,
        "metric": case.metric,
        "subgroup": statement.subgroup,
        "estimand": statement.estimand,
        "generations": case.last,
        "direction": statement.direction,
        "of": " minus ".join(case.arms),
        "networks": [member.label for member in case.members],
        "holds": "" if case.about_generator else quantified(statement),
        "margin": _margin(case, sweep),
    }


def _margin(case: Case, sweep: Sweep) -> float | str:
    """A number, or for a distance the rule that makes it one."""
    claims = sweep.evaluation.claims
    if case.about_generator and case.metric not in (BALANCE, POORNESS):
        return f"{claims.distance_margin:g} of its value at generation 1"
    return margin_of(case.metric, case.statement.subgroup, claims)


def _evaluated(sweep: Sweep) -> dict[str, Any]:
    """The settings beside the statements that a verdict depends on."""
    settings = sweep.evaluation
    return {
        "level": settings.level,
        "seed": settings.seed,
        "ordered": settings.ordered,
        "least_fidelity": settings.dynamics.least_fidelity,
        "bias of eq. 6": settings.dynamics.bias,
        "accuracy_margin": settings.claims.accuracy_margin,
    }


def sentences(found: Declaration) -> Iterator[str]:
    """The primary statements for a person; how many others stand beside them."""
    content = found.content
    for one in content["primary"]:
        yield (
            f"primary: {one['setting']}: {one['metric']} {one['direction']} ({one['estimand']}, "
            f"{one['of']}, mean over {', '.join(one['networks'])}); margin {one['margin']:g}"
        )
    if not content["primary"]:
        yield f"primary: none: without the arm {CONTROL.name} (loop.arm) nothing is answered"
    for one in content.get("must be seen", ()):
        yield (
            f"check: {one['setting']}: {one['metric']} of {one['of']} must be seen beyond zero, or "
            "nothing is said of bias there"
        )
    if content["looks"]:
        chains = ", ".join(map(str, content["looks"]["chains"]))
        yield f"judged at looks of {chains} chains, until all primary statements are decided"
    others = {name: len(of) for name, of in content["families"].items()}
    told = ", ".join(f"{n} of section {name}" for name, n in others.items())
    yield f"judged beside them, section by section: {told or 'none'}; hash {found.hash}"


def freeze(found: Declaration, sweep: str, blobs: Blobs) -> Declaration:
    """Write it where nobody has; returns it with the time of its first writing."""
    written = {"declared": time.time(), "sweep": sweep, "content": dict(found.content)}
    blobs.create(_name(found), json.dumps(written, indent=1, sort_keys=True).encode())
    return read(found, sweep, blobs)


def read(found: Declaration, sweep: str, blobs: Blobs) -> Declaration:
    """It with the time of its first writing, if it was written: in this storage, under any name."""
    written = _read(_name(found), blobs)
    return found if written is None else Declaration(found.content, float(written["declared"]))


def others(found: Declaration, sweep: str, blobs: Blobs) -> int:
    """How many other declarations of this sweep's name lie in the storage."""
    names = [name for name in blobs.list(FOLDER) if name.endswith(".json")]
    written = (_read(name, blobs) for name in names if name != _name(found))
    return sum(one is not None and one["sweep"] == sweep for one in written)


def _read(name: str, blobs: Blobs) -> Mapping[str, Any] | None:
    stored = blobs.read(name)
    if stored is None:
        return None
    try:
        written = json.loads(stored)
        return {"declared": float(written["declared"]), "sweep": str(written["sweep"])}
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptRecord(f"{blobs.place(name)} is damaged; delete it") from error


def _name(found: Declaration) -> str:
    return f"{FOLDER}/{found.hash}.json"


def begun(trials: Iterable[tuple[Place, Record]]) -> float | None:
    """When the first classifier of generation 1 or later began to train; None before one has."""
    return min((r.published - r.seconds for place, r in trials if place.generation), default=None)
