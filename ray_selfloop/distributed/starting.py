"""What is said before Ray is loaded, which takes seconds: what a run is about to start."""

import os

from ray_selfloop.config.sweep import Resources
from ray_selfloop.distributed.limits import limits


def sentence(missing: int, resources: Resources) -> str:
    """missing: stages that are not published."""
    if not missing:
        return "every stage of the loop is published already"
    address = os.environ.get("RAY_ADDRESS", "")
    if address not in ("", "local"):
        return f"{missing} stages to compute: joining Ray at {address}"
    slots = limits().slots(resources.num_cpus)
    return f"{missing} stages to compute: starting Ray on this machine, {slots} at once"
