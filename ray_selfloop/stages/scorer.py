"""The in-domain CLIP model, trained on the original images and their class names."""

from ray_selfloop.config.filter import DomainClip
from ray_selfloop.images.pictures import seen, view_of
from ray_selfloop.stages import kind
from ray_selfloop.stages.chain import Chain, Who
from ray_selfloop.stages.inputs import save_weights
from ray_selfloop.stages.kind import Kind, Needs, Summary, Work


class Settings(kind.Settings):
    """clip: the model and how it is trained."""

    clip: DomainClip
    seed: int = 0


def settings(chain: Chain, n: int, who: Who) -> Settings:
    clip = chain.sweep.filter.clip
    assert isinstance(clip, DomainClip)
    return Settings(clip=clip, seed=chain.seed("scorer"))


def needed(chain: Chain) -> bool:
    """Whether the filter reads the score of a model that is trained here."""
    return any(score.trained for score in chain.sweep.filter.scores)


def run(work: Work[Settings]) -> Summary:
    from ray_selfloop.filtering.scores import domain_clip

    data, settings = work.inputs.split("train"), work.settings
    view = domain_clip.view_of(settings.clip, view_of(data.images))
    weights = domain_clip.train_domain_clip(
        seen(data.images, view) if view else data.images,
        data.labels,
        data.class_names,
        settings.clip,
        settings.seed,
        work.torch_device,
    )
    save_weights(work.folder, weights)
    return {}


KIND = Kind(
    "scorer",
    version=1,
    holds=Settings,
    run="ray_selfloop.stages.scorer:run",
    needs=Needs(gpu="gpus_per_trial"),
    settings=settings,
    needed=needed,
)
