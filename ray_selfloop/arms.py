"""What each arm of an experiment changes: the treatment, and the controls beside it.

An arm is a value of `loop.arm`. Most are other settings of the same loop and are written as such
here; what cannot be said in settings (which training set, which expert, whose shares) is decided
in `loop` by the predicates of this module. Knows nothing of stages.
"""

from typing import Any

from ray_selfloop.config.filter import Filter
from ray_selfloop.config.generator import DuplicateReal, HeldOutReal
from ray_selfloop.config.loop import Queue
from ray_selfloop.config.sweep import Scenario, Sweep

TREATMENT, CONTROL = "treatment", "no_synthetic"
WITHOUT_GENERATION = ("no_synthetic", "a_a")
USES_SUBGROUPS = ("subgroup_matched", "real_skewed")  # by design, and labelled so
UNFILTERED = ("unfiltered", "duplicate_real", "held_out_real", "real_skewed")
DESCRIPTIONS = {
    "treatment": "the loop as configured",
    "no_synthetic": "original data alone, at the treatment's optimiser steps and schedule",
    "duplicate_real": "original images again in the place of generated ones, unfiltered",
    "held_out_real": "real images from the reserve: a perfect generator, unfiltered",
    "unfiltered": "the loop without its filter",
    "frozen_expert": "the filter always uses generation 0's classifier",
    "a_a": "original data alone, new seeds in each generation: the null distribution of change",
    "subgroup_matched": "kept samples resampled to the original subgroup shares (uses subgroups)",
    "real_skewed": "real images from the reserve with the unfiltered generator's subgroup shares "
    "(uses subgroups), unfiltered",
}


def generates(sweep: Sweep) -> bool:
    """Whether the arm has a queue at all."""
    return sweep.loop.arm not in WITHOUT_GENERATION


def trains_generator(sweep: Sweep) -> bool:
    """Whether a generator is trained in each generation."""
    return generates(sweep) and adapted(sweep).generator.name == "conditional_gan"


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
