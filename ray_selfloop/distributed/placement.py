"""How much of a GPU a stage is given.

Decides from a stage's settings and the sweep's `resources` alone; whether a cluster has that much,
and what runs next, is for others to say.
"""

from collections.abc import Iterable, Mapping

from ray_selfloop.classifiers import known
from ray_selfloop.config.networks import PICTURE
from ray_selfloop.config.sweep import Resources
from ray_selfloop.errors import ResourceError
from ray_selfloop.graph import Stage
from ray_selfloop.stages import kinds
from ray_selfloop.stages.kind import Training

GB = 1e9
GPU_MEMORY = 24.0  # GB of the GPU that `auto` is estimated for
PARTS = (0.1, 0.2, 0.25, 0.5, 1.0)  # of a GPU, that `auto` chooses from
READING = 0.25  # of a GPU under `auto`, for stages that are no training of one named network
CONTEXT = 0.5  # GB that a process holds on a GPU besides its tensors; an estimate
BESIDES = 1.2  # GB: libraries' workspaces, and images that lie on the device
STATE = 20  # bytes for one parameter: weight, gradient, Adam's two moments, the best weight so far
SLACK = 1.4  # of what the backward pass keeps: gradients of activations, padding of the allocator
ARRAY_SIDE = 64  # pixels; of images in memory at most, as the networks see them


def memory(network: str, size: int, batch_size: int) -> float:
    """GB that training a network on images of ``size`` pixels is estimated to take on a GPU.

    Compute is left out: two trials that each fill a GPU share its time, and lose nothing by it.
    """
    row = known.network(network)
    parameters, kept = row.footprint
    activations = SLACK * kept * batch_size * (row.side(size) / PICTURE) ** 2
    return CONTEXT + BESIDES + (parameters * STATE + activations) / 1000


def share(network: str, size: int, batch_size: int) -> float:
    """The part of a GPU of 24 GB that ``auto`` gives: the least of PARTS with room enough."""
    asked = memory(network, size, batch_size) / GPU_MEMORY
    return next((part for part in PARTS if asked <= part), PARTS[-1])


def gpus(stage: Stage, resources: Resources) -> float:
    """GPUs of one stage that trains a classifier or reads with one."""
    own: Mapping[str, float] = {str(name): asked for name, asked in resources.gpus_of.items()}
    estimated = resources.gpus_per_trial == "auto"
    trained = kinds.training(stage) if own or estimated else None
    if trained and trained.network in own:
        return own[trained.network]
    if resources.gpus_per_trial != "auto":
        return resources.gpus_per_trial
    return share(trained.network, _size(trained), trained.batch_size) if trained else READING


def _size(trained: Training) -> int:
    """Side in pixels at which a network sees images."""
    return max(trained.side or 0, PICTURE if trained.pictures else ARRAY_SIDE)


def allocatable(part: float, total: int) -> float:
    """What a process with ``part`` of a GPU of ``total`` bytes may allocate, as a part of it.

    Its context takes the rest. Raises ResourceError where the context takes all.
    """
    left = part - CONTEXT * GB / total
    if left <= 0:
        raise ResourceError(
            f"{part:g} of a GPU of {total / GB:.1f} GB was asked for, and a process takes about "
            f"{CONTEXT:g} GB before it computes anything; give more in resources.gpus_per_trial "
            "or resources.gpus_of"
        )
    return left


def hold_memory(part: float, device: str) -> None:
    """Hold this process to its part of the GPU's memory from now on; from 1 on to all of it.

    Ray's fractions are places alone: without this one trial can take all memory from the others.
    """
    if device == "cpu":
        return
    import torch

    total = torch.cuda.get_device_properties().total_memory  # of the first that Ray assigned
    limit = allocatable(part, total) if 0 < part < 1 else 1.0
    torch.cuda.set_per_process_memory_fraction(limit)


def sentences(trials: Iterable[Stage], resources: Resources) -> list[str]:
    """How trials would be placed on GPUs, a network a line; nothing where none is asked for."""
    asked = ((stage, gpus(stage, resources)) for stage in trials)
    trained = ((kinds.training(stage), amount) for stage, amount in asked if amount)
    placed = dict.fromkeys((of.network, amount) for of, amount in trained if of)
    if not placed:
        return []
    estimated = resources.gpus_per_trial == "auto"
    note = f" (estimated for {GPU_MEMORY:g} GB, not measured)" if estimated else ""
    lines = [f"  {network}: {_amount(amount)}" for network, amount in placed]
    return [f"trials on GPUs{note}:", *lines]


def _amount(asked: float) -> str:
    if asked > 1:
        return f"{asked:g} GPUs each, of which a trial uses one"
    return f"{asked:g} GPU each, {int(1 / asked + 1e-9)} at once on one GPU"
