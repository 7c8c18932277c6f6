"""The arms of an experiment, each with all that others ask of it: the treatment and its controls.

An arm is a value of ``loop.arm``. Most are other settings of the same loop, said by ``sets``; what
settings cannot say is a fact that the loop reads. Another arm is one `Arm` here and its name in
`ArmName`. No other file compares an arm's name. Knows neither stages nor what is measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ray_selfloop.config.base import Settings
from ray_selfloop.config.generators.control import DuplicateReal, HeldOutReal

AXIS = "loop.arm"  # the setting, and the axis of a sweep
ArmName = Literal[
    "treatment",
    "no_synthetic",
    "duplicate_real",
    "held_out_real",
    "unfiltered",
    "frozen_expert",
    "a_a",
    "subgroup_matched",
    "real_skewed",
    "random_kept",
    "worst_kept",
    "subgroup_balanced",
    "majority_kept",
]

Sets = Mapping[str, Settings | Mapping[str, Any]]


@dataclass(frozen=True)
class Arm:
    """One arm; by default the loop as the treatment has it.

    says: what it is, for people. sets: group of settings -> what of it the arm sets, or the whole
    group. generates: has a generator's images or stand-ins, and so a queue.
    equal_steps: without them, trained for as many steps as the treatment. expert: whose uncertainty
    the filter reads, that of generation 0 (``first``) or the last one's. shares_of: the arm whose
    kept sets' subgroup shares its images are drawn with. subgroups: uses their labels.
    positive: of a positive control, what makes bias grow in it, in words; a sweep that does not see
    that is not to be believed.
    """

    name: ArmName
    says: str
    sets: Sets = field(default_factory=dict)
    generates: bool = True
    equal_steps: bool = False
    expert: Literal["first", "last"] = "last"
    shares_of: "Arm | None" = None
    subgroups: bool = False
    positive: str = ""


_NO_FILTER = {"score": "none"}
_FROM_RESERVE: Sets = {"filter": _NO_FILTER, "generator": HeldOutReal()}

TREATMENT = Arm("treatment", "the loop as configured: generated, filtered, stacked")
CONTROL = Arm(
    "no_synthetic",
    "original data alone, with the treatment's optimiser budget and schedule",
    generates=False,
    equal_steps=True,
)
HELD_OUT_REAL = Arm(
    "held_out_real",
    "real images from the reserve in the place of generated ones (a perfect generator), unfiltered",
    sets=_FROM_RESERVE,
)
UNFILTERED = Arm("unfiltered", "generated images, no filter", sets={"filter": _NO_FILTER})
REAL_SKEWED = Arm(
    "real_skewed",
    "real images from the reserve with the unfiltered generator's subgroup shares (uses subgroup "
    "labels), unfiltered",
    sets=_FROM_RESERVE,
    shares_of=UNFILTERED,
    subgroups=True,
)
DUPLICATE_REAL = Arm(
    "duplicate_real",
    "copies of the original images in the place of generated ones, unfiltered",
    sets={"filter": _NO_FILTER, "generator": DuplicateReal()},
)
SUBGROUP_MATCHED = Arm(
    "subgroup_matched",
    "kept images resampled to the original subgroup shares as far as there are images (uses "
    "subgroup labels)",
    sets={"queue": {"tilt": 0.0}},
    subgroups=True,
)
FROZEN_EXPERT = Arm(
    "frozen_expert", "the filter always uses generation 0's classifier", expert="first"
)
RANDOM_KEPT = Arm(
    "random_kept",
    "a random draw of generated images in the place of the best, as many of each class",
    sets={"filter": {"keep": "random"}},
)
WORST_KEPT = Arm(
    "worst_kept",
    "the generated images that score lowest in the place of the best, as many",
    sets={"filter": {"keep": "worst"}},
)
SUBGROUP_BALANCED = Arm(
    "subgroup_balanced",
    "the treatment, from generation 1 on trained on every class x subgroup alike (uses subgroup "
    "labels)",
    sets={"queue": {"balance": "parity"}},
    subgroups=True,
)
MAJORITY_KEPT = Arm(
    "majority_kept",
    "the positive control: kept images of each class's most frequent subgroup alone, as many (uses "
    "subgroup labels), so that bias grows by design",
    sets={"queue": {"tilt": 1.0}},
    subgroups=True,
    positive="kept sets of each class's majority alone",
)
A_A = Arm(
    "a_a",
    "original data alone, generation 0's recipe, new seeds in each generation: the null "
    "distribution of change",
    generates=False,
)

ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        TREATMENT,
        CONTROL,
        HELD_OUT_REAL,
        REAL_SKEWED,
        UNFILTERED,
        DUPLICATE_REAL,
        SUBGROUP_MATCHED,
        FROZEN_EXPERT,
        RANDOM_KEPT,
        WORST_KEPT,
        SUBGROUP_BALANCED,
        MAJORITY_KEPT,
        A_A,
    )
}
"""By name, in the order of the decomposition: the treatment first."""
POSITIVE = tuple(arm for arm in ARMS.values() if arm.positive)


def described() -> str:
    """Every arm in one sentence, for the setting's description."""
    return "; ".join(f"`{arm.name}`: {arm.says}" for arm in ARMS.values())
