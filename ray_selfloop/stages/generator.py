"""One generation's generator; its stopping rule looks at held-out real images alone."""

from typing import Any

from pydantic import Field

from ray_selfloop.config.generator import ConditionalGan, Generator, StableDiffusion
from ray_selfloop.stages import kind, training_set
from ray_selfloop.stages.chain import TRAINED, Chain, Who
from ray_selfloop.stages.inputs import save_history, save_weights
from ray_selfloop.stages.kind import Kind, Needs, Summary, Work
from ray_selfloop.stages.training_set import TrainingSet

DIFFUSION = "stable_diffusion"


class Settings(kind.Settings):
    """generator: those of its settings that training depends on."""

    generator: dict[str, Any] = Field(default_factory=dict)
    training_set: TrainingSet = TrainingSet()
    seed: int = 0


def identity(settings: Generator, without: frozenset[str]) -> dict[str, Any]:
    """The settings of a generator that a result depends on: a base counts by its content.

    without: fields of a diffusion model that this result does not depend on.
    """
    if not isinstance(settings, StableDiffusion):
        return settings.model_dump(mode="json")
    from ray_selfloop.generators.diffusion.base import identity  # loads torch

    found = settings.model_dump(mode="json", exclude={*without, *settings.PLACES})
    return {**found, "content": identity(settings)}


def settings(chain: Chain, n: int, who: Who) -> Settings:
    """Generation ``n``'s generator learns what generation ``n - 1``'s classifiers learned."""
    return Settings(
        generator=identity(chain.sweep.generator, StableDiffusion.SAMPLING),
        training_set=training_set.after(chain, n - 1),
        seed=chain.seed("generator", n),
    )


def needed(chain: Chain) -> bool:
    """Whether there is something to train: control generators draw real images."""
    return chain.sweep.generator.name in TRAINED


def goes_on(chain: Chain) -> bool:
    """Whether a generator starts from the last generation's."""
    return getattr(chain.sweep.generator, "start", "") == "previous"


def workers(held: Settings) -> int:
    """Processes that share one training."""
    return int(held.generator.get("workers", 1))


def run(work: Work[Settings]) -> Summary:
    """Train it, and publish its weights and how the training went."""
    if work.settings.generator["name"] == DIFFUSION:
        from ray_selfloop.stages import diffusion

        return diffusion.fine_tune(work)
    from ray_selfloop.generators.base import TrainingImages
    from ray_selfloop.generators.gan import conditional_gan

    images, labels, mixed = training_set.read(work.settings.training_set, work.inputs)
    held_out = work.inputs.split("held_out")
    trained = conditional_gan.train(
        TrainingImages(images, labels),
        TrainingImages(held_out.images, held_out.labels),
        len(held_out.class_names),
        ConditionalGan.model_validate(work.settings.generator),
        work.settings.seed,
        work.torch_device,
        work.inputs.weights("previous") if "previous" in work.inputs else None,
    )
    save_weights(work.folder, trained.weights)
    save_history(work.folder, trained.history)
    return {"outcome": trained.outcome, "training_set": mixed}


KIND = Kind(
    "generator",
    version=2,
    holds=Settings,
    run="ray_selfloop.stages.generator:run",
    needs=Needs(how="workers", gpu="gpus_per_generator", workers=workers),
    settings=settings,
    needed=needed,
)
