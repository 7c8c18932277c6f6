"""What a generator reads of each image of a set, computed once for all trainings on that set.

Of a diffusion model these are latents, which gave the kind its name.
"""

from pathlib import Path
from typing import Any

from ray_selfloop.generators.base import worker
from ray_selfloop.stages import generator, kind
from ray_selfloop.stages.chain import Chain, Who
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.kind import Kind, Needs, Summary, Work

OF_SET, HELD_OUT = "set", "held_out"  # folders of such a stage


class Settings(kind.Settings):
    """generator: those of its settings that they depend on."""

    generator: dict[str, Any]


def settings(chain: Chain, n: int, who: Who) -> Settings:
    """Of the original data, or of what generation ``n`` has kept."""
    own = chain.sweep.generator
    described = generator.identity(own, frozenset(), n)
    return Settings(generator={f: described[f] for f in described if f in {"content", *own.CACHED}})


def needed(chain: Chain) -> bool:
    return chain.sweep.generator.caches


def run(work: Work[Settings]) -> Summary:
    """Of each image of a set; of the dataset's also of the held-out ones."""
    settings = generator.settings_of(work.settings.generator, work.places)
    cache, inputs = worker(settings).cache, work.inputs
    assert cache is not None, "its settings say that it caches"
    sets = {OF_SET: "images"}
    if "dataset" in inputs:
        sets = {OF_SET: "train_images", HELD_OUT: "held_out_images"}
    (name,) = inputs.keys
    for part, column in sets.items():
        (work.folder / part).mkdir()
        cache(inputs.images(name, column), work.folder / part, work.torch_device, settings)
    return {}


def folder(inputs: Inputs, name: str, part: str) -> Path | None:
    """Where it lies for one part of a set; None where a training has none to read."""
    if f"latents.{name}" not in inputs:
        return None
    record = inputs.record(f"latents.{name}")
    files = [file for file in record.files if file.startswith(f"{part}/")]
    return inputs.store.paths(record, files)[0].parent


KIND = Kind(
    "latents",
    version=1,
    holds=Settings,
    run="ray_selfloop.stages.latents:run",
    needs=Needs(gpu="gpus_per_generator"),
    settings=settings,
    needed=needed,
)
