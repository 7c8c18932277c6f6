"""The in-domain CLIP model, trained on the original images and their class names."""

from ray_selfloop.config.filter import DomainClip
from ray_selfloop.images.pictures import View, seen, view_of
from ray_selfloop.stages import kind
from ray_selfloop.stages.chain import Chain, Who
from ray_selfloop.stages.inputs import save_weights
from ray_selfloop.stages.kind import Kind, Needs, Summary, Work


class Settings(kind.Settings):
    """clip: the model and how it is trained."""

    clip: DomainClip
    seed: int = 0


def settings(chain: Chain, n: int, who: Who) -> Settings:
    """One for a chain."""
    clip = chain.sweep.filter.clip
    assert isinstance(clip, DomainClip)
    return Settings(clip=clip, seed=chain.seed("scorer"))


def needed(chain: Chain) -> bool:
    """Whether the filter reads a CLIP score of a model that is trained here."""
    filters = chain.sweep.filter
    return filters.uses_clip and isinstance(filters.clip, DomainClip)


def run(work: Work[Settings]) -> Summary:
    """Train it, and publish its weights."""
    from ray_selfloop.filtering import clip

    data, settings = work.inputs.split("train"), work.settings
    view = picture_view(settings.clip, view_of(data.images))
    weights = clip.train_domain_clip(
        seen(data.images, view) if view else data.images,
        data.labels,
        data.class_names,
        settings.clip,
        settings.seed,
        work.torch_device,
    )
    save_weights(work.folder, weights)
    return {}


def picture_view(clip: DomainClip, view: View | None) -> View | None:
    """How it sees pictures: all of what classifiers see, but smaller. None for arrays."""
    if view is None:
        return None
    side = min(clip.picture_side, view.side)
    return View(side, max(side, round(view.frame * side / view.side)), view.fit)


KIND = Kind(
    "scorer",
    version=1,
    holds=Settings,
    run="ray_selfloop.stages.scorer:run",
    needs=Needs(gpu="gpus_per_trial"),
    settings=settings,
    needed=needed,
)
