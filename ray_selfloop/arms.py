"""What each arm of an experiment changes: the treatment, and the controls beside it.

An arm is a value of `loop.arm`. Most are other settings of the same loop and are written as such
here; what cannot be said in settings (which training set, which expert, whose shares) is decided
in `loop` by the predicates of this module. Knows nothing of stages.
"""

from typing import Any

from ray_selfloop.config.filter import Filter
from ray_selfloop.config.generators.control import DuplicateReal, HeldOutReal
from ray_selfloop.config.loop import Queue
from ray_selfloop.config.sweep import Scenario, Sweep

TREATMENT, CONTROL = "treatment", "no_synthetic"
WITHOUT_GENERATION = ("no_synthetic", "a_a")
UNFILTERED = ("unfiltered", "duplicate_real", "held_out_real", "real_skewed")
# What each arm is, in the order of the decomposition: the treatment first.
DESCRIPTIONS = {
    "treatment": "the loop as configured: generated, filtered, stacked",
    "no_synthetic": "original data alone, with the treatment's optimiser budget and schedule",
    "held_out_real": "real images from the reserve in the place of generated ones (a perfect "
    "generator), unfiltered",
    "real_skewed": "real images from the reserve with the unfiltered generator's subgroup shares "
    "(uses subgroup labels), unfiltered",
    "unfiltered": "generated images, no filter",
    "duplicate_real": "copies of the original images in the place of generated ones, unfiltered",
    "subgroup_matched": "kept images resampled to the original subgroup shares as far as there are "
    "images (uses subgroup labels)",
    "frozen_expert": "the filter always uses generation 0's classifier",
    "a_a": "original data alone, generation 0's recipe, new seeds in each generation: the null "
    "distribution of change",
}


def generates(sweep: Sweep) -> bool:
    """Whether the arm has a queue at all."""
    return sweep.loop.arm not in WITHOUT_GENERATION


def adapted(sweep: Sweep) -> Sweep:
    """The settings that the arm runs with."""
    arm = sweep.loop.arm
    changes: dict[str, Any] = {}
    if arm in UNFILTERED:
        changes["filter"] = Filter.model_validate({**sweep.filter.model_dump(), "score": "none"})
    if arm == "duplicate_real":
        changes["generator"] = DuplicateReal()
    if arm in ("held_out_real", "real_skewed"):
        changes["generator"] = HeldOutReal()
    if arm == "subgroup_matched":
        changes["queue"] = Queue.model_validate({**sweep.queue.model_dump(), "tilt": 0.0})
    return sweep.model_copy(update=changes)


def group(scenario: Scenario) -> str:
    """The scenario's name without its arm: scenarios of one group differ in the arm alone."""
    parts = [part for part in scenario.name.split(",") if not part.startswith("arm=")]
    return ",".join(parts) or "base"
