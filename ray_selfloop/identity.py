"""What of a sweep's settings a stage's result depends on, and where files lie for a worker.

Settings that say where something is found (a folder, a checkpoint, a base) count by content in a
key, and travel as hints. Knows nothing of chains and of what a stage does.
"""

import os
from typing import Any

from ray_selfloop.classifiers import weights
from ray_selfloop.config.dataset import NOT_IN_KEY, PLACES
from ray_selfloop.config.evaluation import JUDGING
from ray_selfloop.config.filter import Filter
from ray_selfloop.config.generators.base import GeneratorSettings
from ray_selfloop.config.sweep import Sweep

DATA = "data"  # where original data lie unless the sweep says otherwise
APART = {"judge", "probe", "inception", "ablation"}  # evaluation settings of other stages
OF_CLAIMS = (
    "primary", "most_primary", "gap_margin", "accuracy_margin", "share_margin", "distance_margin",
    "power",
)  # fmt: skip


def located_data(sweep: Sweep) -> dict[str, Any]:
    """Where the original data lie, for a worker in another folder, and what to do with damage."""
    dataset = sweep.dataset
    places = {name: getattr(dataset, name, None) for name in PLACES - {"download"}}
    absolute = {name: os.path.abspath(place) for name, place in places.items() if place}
    damage = dataset.model_dump(mode="json", include={"damaged"})
    return {"root": os.path.abspath(DATA), **absolute, **damage}


def dataset_config(sweep: Sweep, source: str) -> dict[str, Any]:
    """What the dataset's content depends on."""
    settings = sweep.dataset.model_dump(mode="json", exclude=set(NOT_IN_KEY))
    return {**settings, "source": source}


def clip_identity(settings: Filter) -> dict[str, Any]:
    """What the CLIP score depends on: a checkpoint file counts by its content."""
    identity = settings.clip.model_dump(mode="json")
    checkpoint = identity.get("pretrained", "")
    if os.path.isfile(checkpoint):
        identity["pretrained"] = weights.source("", checkpoint)
    return identity


def inception_identity(setting: str | None) -> str | None:
    """SHA-256 of the Inception weights; None without any."""
    if setting is None:
        return None
    from ray_selfloop.evaluation import inception  # loads torch

    return inception.identity(setting)


def inception_hint(setting: str | None) -> dict[str, Any]:
    """Where the Inception weights lie for a worker in another folder."""
    path = setting and (setting if setting == "download" else os.path.abspath(setting))
    return {"inception": path} if path else {}


def located(pretrained: bool | str) -> bool | str:
    """Where weights lie for a worker in another folder: a file's absolute path, else the tag."""
    path = str(pretrained)
    return os.path.abspath(path) if os.path.isfile(path) else pretrained


def default_volume(sweep: Sweep) -> str:
    """S where the sweep names none, as a share of |D0|."""
    return "D0" if sweep.loop.regime == "replace" else f"D0/{sweep.queue.capacity}"


def generator_identity(
    settings: GeneratorSettings, without: frozenset[str], generation: int
) -> dict[str, Any]:
    """The settings of a generator that a result depends on: files count by their content.

    without: fields that this result does not depend on. generation: the one that it is of.
    """
    found = settings.model_dump(mode="json", exclude={*without, *settings.PLACES})
    if not settings.traits.content:
        return found
    from ray_selfloop.generators.base import loaded  # what it loads may load torch

    return {**found, "content": loaded(settings.traits.content)(settings, generation)}


def hints_of(sweep: Sweep) -> dict[str, Any]:
    """Where a generator's files lie for a worker in another folder, and how to read pictures."""
    hints: dict[str, Any] = {}
    if sweep.resources.decoding_threads > 1:
        hints["decoders"] = sweep.resources.decoding_threads
    places = sweep.generator.places()
    if places:
        hints["generator"] = places
    return hints


def sample_batch(sweep: Sweep) -> int:
    """Samples of one row of the stream."""
    return sweep.generator.at_once or sweep.compute.sample_batch


def measured_with(sweep: Sweep) -> dict[str, Any]:
    """The evaluation settings that a measurement depends on."""
    return sweep.evaluation.model_dump(mode="json", exclude={*APART, "dynamics", "claims"})


def judged_with(sweep: Sweep) -> dict[str, Any]:
    """The evaluation settings that a judgement depends on; what `plan` assumes is none.

    `cas_epochs` decides nothing: without it, a `dynamics.quality` of `cas` would be refused.
    """
    found = sweep.evaluation.model_dump(mode="json", include={*JUDGING, "cas_epochs"})
    return {**found, "claims": {name: found["claims"][name] for name in OF_CLAIMS}}
