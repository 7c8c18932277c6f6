"""One generation's generator; its stopping rule looks at held-out real images alone.

What a key holds of a generator's settings stands here for all stages; which generator it is, is
asked nowhere: its settings' traits tell.
"""

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any

from pydantic import Field

from ray_selfloop.config.generators import known
from ray_selfloop.config.generators.base import GeneratorSettings
from ray_selfloop.stages import kind, training_set
from ray_selfloop.stages.chain import Chain, Who
from ray_selfloop.stages.kind import Kind, Needs, Places
from ray_selfloop.stages.training_set import TrainingSet


class Settings(kind.Settings):
    """generator: those of its settings that training depends on."""

    generator: dict[str, Any] = Field(default_factory=dict)
    training_set: TrainingSet = TrainingSet()
    seed: int = 0


def identity(
    settings: GeneratorSettings, without: frozenset[str], generation: int
) -> dict[str, Any]:
    """The settings of a generator that a result depends on: files count by their content.

    without: fields that this result does not depend on. generation: the one that it is of.
    """
    found = settings.model_dump(mode="json", exclude={*without, *settings.PLACES})
    if not settings.traits.content:
        return found
    return {**found, "content": resolve_name(settings.traits.content)(settings, generation)}


def settings_of(held: Mapping[str, Any], places: Places) -> GeneratorSettings:
    """The generator's settings, as a key holds them, with where its files lie on this cluster."""
    return known.of({**held, **places.generator})


def settings(chain: Chain, n: int, who: Who) -> Settings:
    """Generation ``n``'s generator learns what generation ``n - 1``'s classifiers learned."""
    own = chain.sweep.generator
    return Settings(
        generator=identity(own, own.SAMPLING, n),
        training_set=training_set.after(chain, n - 1),
        seed=chain.seed("generator", n),
    )


def needed(chain: Chain) -> bool:
    """Whether there is something to train: control generators draw real images."""
    return chain.sweep.generator.traits.trained


def goes_on(chain: Chain) -> bool:
    """Whether a generator starts from the last generation's."""
    return chain.sweep.generator.continues


def workers(held: Settings) -> int:
    return settings_of(held.generator, Places()).processes


KIND = Kind(
    "generator",
    version=2,
    holds=Settings,
    run="ray_selfloop.stages.lessons:run",
    needs=Needs(how="workers", gpu="gpus_per_generator", workers=workers),
    settings=settings,
    trains=True,
    needed=needed,
)
