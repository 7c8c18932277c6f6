"""Quality and balance of one generation: before the filter, after it, and in the queue."""

from typing import Any

from ray_selfloop.evaluation.metrics import About, in_key
from ray_selfloop.stages import generator, reference
from ray_selfloop.stages.chain import Chain, Who
from ray_selfloop.stages.evaluated import Evaluated, measured_with
from ray_selfloop.stages.kind import Kind, Needs


class Settings(Evaluated):
    """generator: those of its settings that drawing depends on. alike: whether subgroup i means
    the same in every class."""

    generator: dict[str, Any]
    generation: int
    seed: int
    alike: bool = False


def settings(chain: Chain, n: int, who: Who) -> Settings:
    own = chain.sweep.generator
    more: dict[str, Any] = {"alike": True} if chain.sweep.dataset.alike else {}
    return Settings(
        evaluation=measured_with(chain.sweep),
        generator=generator.identity(own, own.TRAINING, n),
        generation=n,
        seed=chain.seed("metrics", n),
        **more,
        **in_key(About.GENERATORS),
    )


KIND = Kind(
    "generator_metrics",
    version=4,
    holds=Settings,
    run="ray_selfloop.stages.quality:run",
    needs=Needs(gpu="gpus_per_trial", awaited=False),
    settings=settings,
    places=reference.places,
)
