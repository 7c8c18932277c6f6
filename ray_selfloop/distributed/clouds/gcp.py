"""Google Cloud: the shape of a machine. What Google takes `ray up` says; never run there."""

from ray_selfloop.distributed.clouds.base import Cloud, Machine, Tree
from ray_selfloop.distributed.clouds.file import at


def machine(node: Tree) -> Machine:
    """As Compute Engine's `instances.insert` names it; Ray's examples list `scheduling`."""
    given = node.get("scheduling")
    spot = any(at(one, "preemptible") for one in (given if isinstance(given, list) else [given]))
    return Machine(str(node.get("machineType") or ""), spot)


GCP = Cloud("gcp", "Google Cloud", "gs://", machine, unchecked="what Google takes, and prices")
