"""The probe, which reads subgroups of generated images where pixels do not tell them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ray_selfloop import seeding
from ray_selfloop.classifiers import weights
from ray_selfloop.config.datasets.base import FRAMED
from ray_selfloop.config.evaluation import Probe
from ray_selfloop.errors import StageError
from ray_selfloop.images.imageset import Ids, ImageSet
from ray_selfloop.stages import kind
from ray_selfloop.stages.chain import Chain, Who, located
from ray_selfloop.stages.classifier import prediction_batch
from ray_selfloop.stages.inputs import finite, save_array, save_history, save_weights
from ray_selfloop.stages.kind import Kind, Needs, Places, Summary, Training, Work

CONFUSION = "confusion"  # int64 (C, G, G): [c, i, j] held-out images of true i read as j


class Settings(kind.Settings):
    """probe: `evaluation.probe`. source: which weights it starts from."""

    probe: dict[str, Any] = Field(default_factory=dict)
    source: str | None = None
    seed: int = 0

    def trained(self, places: Places) -> Probe:
        return Probe.model_validate({**self.probe, **places.weights})


def settings(chain: Chain, n: int, who: Who) -> Settings:
    """The same for all chains on a dataset."""
    probe = chain.sweep.probe
    return Settings(
        probe=probe.identity(),
        source=weights.source(probe.network, probe.pretrained),
        seed=seeding.derive(chain.sweep.evaluation.seed, "probe"),
    )


def needed(chain: Chain) -> bool:
    """Whether it reads the subgroups of this chain's samples."""
    return chain.generates and chain.sweep.dataset.subgroups_from == "probe"


def places(chain: Chain, who: Who) -> Mapping[str, Any]:
    return {"pretrained": located(chain.sweep.evaluation.probe.pretrained)}


def training(held: Settings) -> Training:
    probe = held.trained(Places())
    pictures = probe.augment == FRAMED
    return Training(
        network=probe.network,
        side=probe.image_size,
        batch_size=probe.batch_size,
        pictures=pictures,
    )


def run(work: Work[Settings]) -> Summary:
    """Train the probe on D0's subgroups and count its errors on the held-out real images.

    Classes are class x subgroup; D0 and held-out are the dataset's own, never its test images. The
    held-out images choose nothing: the network is looked at once, at the end of its budget, so that
    the confusion matrix is counted on images that had no part in it. Raises StageError where a
    subgroup has no held-out image.
    """
    from ray_selfloop.classifiers import train
    from ray_selfloop.stages.subgroups import within_class

    settings, inputs, where = work.settings.trained(work.places), work.inputs, work.torch_device
    original, held_out = inputs.split("train"), inputs.split("held_out")
    classes, groups = len(original.class_names), len(original.subgroup_names)
    counts = np.bincount(_cells(held_out), minlength=classes * groups)
    assert settings.augment, "a key holds the dataset's own"
    if not counts.all():
        raise StageError(_no_held_out(held_out, int(counts.argmin())))
    examples = train.Examples(
        train.LabeledImages(original.images, _cells(original)),
        train.LabeledImages(held_out.images, _cells(held_out)),
        len(counts),
        settings.augment,
    )
    steps = train.budget(len(original), settings)
    once = settings.model_copy(update={"check_steps": steps})
    trained = train.train(settings.network, examples, once, work.settings.seed, where)
    batch = prediction_batch(held_out.images)
    logits = train.logits(trained.network, held_out.images, batch, where)
    labels, subgroups = np.asarray(held_out.labels), np.asarray(held_out.subgroups)
    errors = np.zeros((classes, groups, groups), np.int64)
    np.add.at(errors, (labels, subgroups, within_class(logits, labels, groups)), 1)
    save_weights(work.folder, trained.network.state_dict())
    save_array(work.folder, CONFUSION, errors)
    save_history(work.folder, trained.history)
    return {**_quality(errors, original), "steps": trained.steps, "source": trained.source}


def _quality(errors: NDArray[np.int64], original: ImageSet) -> dict[str, Any]:
    """How well the probe reads: accuracy within the class, and what its errors cost."""
    from ray_selfloop.evaluation.probe_correction import error_inflation

    cells = np.bincount(_cells(original), minlength=errors[..., 0].size)
    counts = cells.reshape(errors.shape[:2])
    inflation = error_inflation(errors.astype(np.float64), counts.astype(np.float64))
    right = np.einsum("cii->c", errors)
    return {
        "held_out": int(errors.sum()),
        "accuracy": float(right.sum() / errors.sum()),
        "accuracy_per_class": (right / errors.sum(axis=(1, 2))).tolist(),
        "error_inflation_per_class": [finite(value) for value in inflation],
        "confusion": errors.tolist(),
    }


def _cells(data: ImageSet) -> Ids:
    """Class x subgroup of each image, ``(n,)``: 0 .. C * G - 1."""
    return np.asarray(data.labels * len(data.subgroup_names) + data.subgroups)


def _no_held_out(held_out: ImageSet, cell: int) -> str:
    groups = len(held_out.subgroup_names)
    where = held_out.class_names[cell // groups], held_out.subgroup_names[cell % groups]
    return (
        f"probe: no held-out image of {where[0]}, {where[1]}: its errors there are unknown; use "
        "more training images (dataset.limit_train), fewer superclasses or a milder imbalance"
    )


KIND = Kind(
    "probe",
    version=1,
    holds=Settings,
    run="ray_selfloop.stages.probe:run",
    needs=Needs(gpu="gpus_per_trial", training=training),
    settings=settings,
    trains=True,
    needed=needed,
    places=places,
    of_data=True,
)
