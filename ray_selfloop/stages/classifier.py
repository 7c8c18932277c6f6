"""A trial: one classifier, trained on a generation's training set and tested on the test images."""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from ray_selfloop import queue
from ray_selfloop.classifiers import weights
from ray_selfloop.config import training as config
from ray_selfloop.config.datasets.base import FRAMED, Augmentation
from ray_selfloop.config.evaluation import Ablation
from ray_selfloop.config.loop import Mixing, Queue, Regime
from ray_selfloop.images.imageset import ImageSource
from ray_selfloop.stages import kind, training_set
from ray_selfloop.stages.chain import Chain, Who, located
from ray_selfloop.stages.inputs import Inputs, save_array, save_history, save_weights
from ray_selfloop.stages.kind import Held, Kind, Needs, Places, Summary, Training, Work
from ray_selfloop.stages.training_set import TrainingSet

if TYPE_CHECKING:
    import torch

    from ray_selfloop.classifiers import train, zoo

PREDICTION_BATCH = 256
LARGE_PREDICTION_BATCH, LARGE = 64, 128  # images at once from this side in pixels on


class Trained(kind.Settings):
    """A network and how it is trained.

    training: `training` of the network, but for what a search decides and for its weights.
    source: which weights it starts from. augment: what is done with its training images.
    """

    network: str = ""
    training: dict[str, Any] = Field(default_factory=config.Training().identity)
    source: str | None = None
    augment: Augmentation = "none"
    seed: int = 0

    def recipe(self, places: Places, found: Mapping[str, float]) -> config.Training:
        """How it is trained. found: what a search has decided."""
        return config.Training.model_validate({**self.training, **places.weights, **found})


class Schedule(Held):
    """What decides the size of the treatment's training set, and so its optimiser steps."""

    generation: int
    regime: Regime
    capacity: int
    volume: int | str
    mixing: Mixing


class Settings(Trained):
    """weights: whether they are published, for a filter or a judge. ablation: of a dataset with
    masks, how objects are removed from the test pictures. schedule: of an arm whose trainings are
    as long as the treatment's."""

    training_set: TrainingSet = TrainingSet()
    weights: bool = False
    ablation: dict[str, Any] | None = None
    schedule: Schedule | None = None


def settings(chain: Chain, n: int, who: Who) -> Settings:
    in_some_arm = n == 0 and who in chain.expert and chain.treatment.filter.uses_expert
    return _of_network(chain, n, who.network).model_copy(
        update={
            "seed": chain.seed("classifier", n, *who),
            "weights": chain.reads(n, who) or in_some_arm,
        }
    )


@lru_cache(maxsize=64)
def _of_network(chain: Chain, n: int, network: str) -> Settings:
    """What a network's trials of one generation have in common."""
    sweep, training = chain.sweep, chain.networks[network]
    more: dict[str, Any] = {}
    if sweep.dataset.masked:
        more["ablation"] = sweep.evaluation.ablation.model_dump(mode="json", exclude={"compat"})
    if n and chain.arm.equal_steps:
        more["schedule"] = Schedule(
            generation=n,
            regime=sweep.loop.regime,
            capacity=sweep.queue.capacity,
            volume=chain.volume,
            mixing=sweep.queue.mixing,
        )
    return Settings(
        network=network,
        training=training.identity(sweep.tune.searched if sweep.tune else ()),
        source=weights.source(network, training.pretrained),
        training_set=training_set.after(chain, n),
        augment=sweep.dataset.traits.augment,
        **more,
    )


def places(chain: Chain, who: Who) -> Mapping[str, Any]:
    """Where the weights lie that a network starts from."""
    return {"pretrained": located(chain.networks[who.network].pretrained)}


def training(held: Trained) -> Training:
    return Training(
        network=held.network,
        side=held.training.get("image_size"),
        batch_size=held.training["batch_size"],
        pictures=held.augment == FRAMED,
    )


def _scheduled(
    training: config.Training, schedule: Schedule | None, originals: int
) -> config.Training:
    """With the treatment's steps, where a control takes them from its ``schedule``.

    The budget, and the steps between two looks at the held-out images, become those of a training
    set of the treatment's size, so that only the data differ.
    """
    from ray_selfloop.classifiers import train

    if schedule is None:
        return training
    own = Queue(capacity=schedule.capacity, volume=schedule.volume, mixing=schedule.mixing)
    size = queue.images(schedule.regime, own, schedule.generation, originals)
    steps = train.budget(size, training)
    return training.model_copy(
        update={
            "max_steps": steps,
            "max_epochs": steps,  # the step budget decides
            "check_steps": training.check_steps or math.ceil(size / training.batch_size),
        }
    )


def run(work: Work[Settings]) -> Summary:
    """Train, predict the test images, publish predictions (and weights for a role)."""
    from ray_selfloop.classifiers import train

    settings, inputs, where = work.settings, work.inputs, work.torch_device
    images, labels, mixed = training_set.read(settings.training_set, inputs)
    examples = examples_of(settings, inputs, train.LabeledImages(images, labels))
    found = inputs.record("search").summary["chosen"] if "search" in inputs else {}
    recipe = _scheduled(settings.recipe(work.places, found), settings.schedule, mixed["original"])
    trained = train.train(settings.network, examples, recipe, settings.seed, where)
    test = inputs.split("test")
    logits = train.logits(trained.network, test.images, prediction_batch(test.images), where)
    save_array(work.folder, "predictions", logits.argmax(axis=1).astype(np.int16))
    undefined = _predict_ablated(work, trained.network, where)
    save_history(work.folder, trained.history)
    if settings.weights:
        save_weights(work.folder, trained.network.state_dict())
    return {
        "accuracy": float(np.mean(logits.argmax(axis=1) == test.labels)),
        "held_out_accuracy": trained.held_out_accuracy,
        "outcome": trained.outcome,
        "collapsed": trained.collapsed,
        "recipe": trained.recipe,
        "source": trained.source,
        "steps": trained.steps,
        "best_step": trained.best_step,
        "training_set": mixed,
        **undefined,
    }


def examples_of(
    settings: Trained, inputs: Inputs, images: "train.LabeledImages"
) -> "train.Examples":
    from ray_selfloop.classifiers import train

    held_out = inputs.split("held_out")
    apart = train.LabeledImages(held_out.images, held_out.labels)
    return train.Examples(images, apart, len(held_out.class_names), settings.augment)


def _predict_ablated(
    work: Work[Settings], network: "zoo.Classifier", device: "torch.device"
) -> dict[str, Any]:
    """Predictions on the test pictures with the object removed; what of it is not defined.

    In both readings, so that the evaluation can choose: see ``ablated_name``. int16 ``(n,)``, -1
    where an ablation is not defined for a picture.
    """
    if work.settings.ablation is None:
        return {}
    from ray_selfloop.classifiers import train
    from ray_selfloop.evaluation.ablation import pixels
    from ray_selfloop.stages.ablated import COMPATS, AblatedPictures, ablated_name

    undefined: dict[str, dict[str, int]] = {}
    for compat in COMPATS:
        settings = Ablation.model_validate({**work.settings.ablation, "compat": compat})
        undefined[compat] = {}
        for ablation in (*pixels.KINDS, *pixels.NOISES):
            pictures = AblatedPictures(work.inputs, ablation, settings)
            batch = prediction_batch(pictures)
            found = train.logits(network, pictures, batch, device).argmax(axis=1).astype(np.int16)
            found[~pictures.defined] = -1
            save_array(work.folder, ablated_name(ablation, compat), found)
            undefined[compat][ablation] = int((~pictures.defined).sum())
    return {"ablation_undefined": undefined}


def prediction_batch(images: ImageSource) -> int:
    """Images that a network sees at once outside of training: fewer where they are large."""
    return LARGE_PREDICTION_BATCH if images.shape[-1] >= LARGE else PREDICTION_BATCH


def load(inputs: Inputs, name: str, device: str) -> "zoo.Classifier":
    """A published classifier with its weights, in eval mode."""
    held, data = KIND.read(inputs.record(name).config), inputs.record("dataset").summary
    size = held.training.get("image_size")
    return loaded(inputs, name, held.network, len(data["class_names"]), size, device)


def loaded(
    inputs: Inputs, name: str, network: str, outputs: int, size: int | None, device: str
) -> "zoo.Classifier":
    """A network with its published weights, in eval mode. size: as in `training.image_size`."""
    from ray_selfloop.classifiers import zoo

    side = max(size or 0, inputs.images("dataset", "train_images").shape[-1])
    found = zoo.build(network, outputs, side, False, None, 0)
    found.load_state_dict(inputs.weights(name))
    return found.to(device).eval()


KIND = Kind(
    "classifier",
    version=1,
    holds=Settings,
    run="ray_selfloop.stages.classifier:run",
    needs=Needs(how="trial", gpu="gpus_per_trial", awaited=False, training=training),
    settings=settings,
    trains=True,
    places=places,
    by_network=True,
)
