"""Latents of a set of pictures, computed once for all fine-tunes of a diffusion model on it."""

from typing import Any

from ray_selfloop.config.generator import StableDiffusion
from ray_selfloop.stages import generator, kind
from ray_selfloop.stages.chain import Chain, Who
from ray_selfloop.stages.kind import Kind, Needs

FIELDS = ("name", "content", "resolution", "flips")  # of a generator, that latents depend on


class Settings(kind.Settings):
    """generator: those of its settings that latents depend on."""

    generator: dict[str, Any]


def settings(chain: Chain, n: int, who: Who) -> Settings:
    """The same for every set."""
    described = generator.identity(chain.sweep.generator, frozenset())
    return Settings(generator={name: described[name] for name in FIELDS})


def needed(chain: Chain) -> bool:
    """Whether the generator reads latents that lie ready."""
    found = chain.sweep.generator
    return isinstance(found, StableDiffusion) and found.cache_latents


KIND = Kind(
    "latents",
    version=1,
    holds=Settings,
    run="ray_selfloop.stages.diffusion:latents",
    needs=Needs(gpu="gpus_per_generator"),
    settings=settings,
    needed=needed,
)
