"""The stages that train something: the domain scorer, the generator, a classifier."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import TypeAdapter

from ray_selfloop import queue
from ray_selfloop.classifiers import together, train, zoo
from ray_selfloop.config.evaluation import Ablation
from ray_selfloop.config.filter import DomainClip
from ray_selfloop.config.loop import Loop, Queue
from ray_selfloop.config.training import Training
from ray_selfloop.evaluation.ablation import pixels
from ray_selfloop.filtering import clip
from ray_selfloop.generators.base import worker
from ray_selfloop.generators.diffusion.workers import ALONE, World
from ray_selfloop.graph import Stage
from ray_selfloop.images.imageset import ImageSource
from ray_selfloop.images.pictures import View, seen, view_of
from ray_selfloop.stages.ablated import COMPATS, AblatedPictures, ablated_name
from ray_selfloop.stages.inputs import Inputs, finite, save_array, save_json, save_weights
from ray_selfloop.stages.lessons import HELD_OUT, OF_SET, lesson_of, settings_of
from ray_selfloop.stages.mixing import training_set

PREDICTION_BATCH = 256
LARGE_PREDICTION_BATCH, LARGE = 64, 128  # images at once from this side in pixels on


def prediction_batch(images: ImageSource) -> int:
    """Images that a network sees at once outside of training: fewer where they are large."""
    return LARGE_PREDICTION_BATCH if images.shape[-1] >= LARGE else PREDICTION_BATCH


def torch_device(device: str) -> torch.device:
    """The device that Ray assigned, as torch names it."""
    return torch.device(device)


def scorer(stage: Stage, inputs: Inputs, folder: Path, device: str) -> Mapping[str, Any]:
    """The in-domain CLIP model, trained on the original images and their class names."""
    data = inputs.split("train")
    settings: DomainClip = TypeAdapter(DomainClip).validate_python(stage.config["clip"])
    view = clip_view(stage.config["clip"], view_of(data.images))
    weights = clip.train_domain_clip(
        seen(data.images, view) if view else data.images,
        data.labels,
        data.class_names,
        settings,
        stage.config["seed"],
        torch_device(device),
    )
    save_weights(folder, weights)
    return {}


def clip_view(settings: Mapping[str, Any] | None, view: View | None) -> View | None:
    """How the in-domain CLIP model sees pictures: all of what classifiers see, but smaller.

    None for arrays, and for published weights, which have a size of their own.
    """
    if view is None or settings is None or settings["kind"] != "domain":
        return None
    side = min(int(settings["picture_side"]), view.side)
    return View(side, max(side, round(view.frame * side / view.side)), view.fit)


def generator(
    stage: Stage, inputs: Inputs, folder: Path, device: str, world: World = ALONE
) -> Mapping[str, Any]:
    """One generation's generator, by one of ``world``'s workers; the first one writes it.

    Its stopping rule looks at held-out real images alone.
    """
    settings = settings_of(stage)
    kind = worker(settings)
    assert kind.train is not None, "the loop trains what can be trained"
    lesson, mixed = lesson_of(stage, inputs, torch_device(device), world)
    trained = kind.train(lesson, settings)
    if world.rank == 0:
        save_weights(folder, trained.weights, kind.file)
        save_json(folder, "history", _finite_history(trained.history))
    return {"outcome": trained.outcome, "training_set": mixed, **trained.facts}


def latents(stage: Stage, inputs: Inputs, folder: Path, device: str) -> Mapping[str, Any]:
    """What a generator reads of each image of a set; of the dataset's also the held-out ones."""
    settings = settings_of(stage)
    cache = worker(settings).cache
    assert cache is not None, "its settings say that it caches"
    sets = {OF_SET: "images"}
    if "dataset" in inputs:
        sets = {OF_SET: "train_images", HELD_OUT: "held_out_images"}
    (name,) = inputs.keys
    for part, column in sets.items():
        (folder / part).mkdir()
        cache(inputs.images(name, column), folder / part, torch_device(device), settings)
    return {}


class Lesson(NamedTuple):
    """What one trial is trained on and how; the same for trials that differ in their seed alone.

    mixed: what the training set consists of.
    """

    examples: train.Examples
    training: Training
    mixed: dict[str, Any]


def lesson(stage: Stage, inputs: Inputs) -> Lesson:
    """The lesson of a trial."""
    images, labels, mixed = training_set(stage, inputs)
    held_out = inputs.split("held_out")
    examples = train.Examples(
        train.LabeledImages(images, labels),
        train.LabeledImages(held_out.images, held_out.labels),
        len(held_out.class_names),
        stage.config["augment"],
    )
    return Lesson(examples, training_settings(stage, mixed["original"], searched(inputs)), mixed)


def classifier(stage: Stage, inputs: Inputs, folder: Path, device: str) -> Mapping[str, Any]:
    """One trial: train, predict the test images, publish predictions (and weights for a role)."""
    learned = lesson(stage, inputs)
    trained = train.train(
        stage.config["network"],
        learned.examples,
        learned.training,
        stage.config["seed"],
        torch_device(device),
    )
    return tested(stage, inputs, learned, trained, folder)


def classifiers_together(
    stages: Sequence[Stage], learned: Lesson, device: str
) -> list[train.Trained]:
    """The networks of trials that differ in their seed alone, trained side by side."""
    network, seeds = stages[0].config["network"], [stage.config["seed"] for stage in stages]
    where = torch_device(device)
    return together.train_together(network, learned.examples, learned.training, seeds, where)


def tested(
    stage: Stage, inputs: Inputs, learned: Lesson, trained: train.Trained, folder: Path
) -> Mapping[str, Any]:
    """Write a trained network's predictions on the test images, its history and its weights."""
    test = inputs.split("test")
    where = next(trained.network.parameters()).device
    logits = train.logits(trained.network, test.images, prediction_batch(test.images), where)
    save_array(folder, "predictions", logits.argmax(axis=1).astype(np.int16))
    undefined = _predict_ablated(stage, inputs, trained.network, folder, where)
    save_json(folder, "history", _finite_history(trained.history))
    if stage.config["weights"]:
        save_weights(folder, trained.network.state_dict())
    return {
        "accuracy": float(np.mean(logits.argmax(axis=1) == test.labels)),
        "held_out_accuracy": trained.held_out_accuracy,
        "outcome": trained.outcome,
        "collapsed": bool(trained.collapsed),
        "recipe": trained.recipe,
        "source": trained.source,
        "steps": trained.steps,
        "best_step": trained.best_step,
        "training_set": learned.mixed,
        **undefined,
    }


def _predict_ablated(
    stage: Stage, inputs: Inputs, network: zoo.Classifier, folder: Path, device: torch.device
) -> dict[str, Any]:
    """Predictions on the test pictures with the object removed; what of it is not defined.

    In both readings, so that the evaluation can choose: see ``ablated_name``. int16 ``(n,)``, -1
    where an ablation is not defined for a picture.
    """
    if "ablation" not in stage.config:
        return {}
    undefined: dict[str, dict[str, int]] = {}
    for compat in COMPATS:
        settings = Ablation.model_validate({**stage.config["ablation"], "compat": compat})
        undefined[compat] = {}
        for kind in (*pixels.KINDS, *pixels.NOISES):
            pictures = AblatedPictures(inputs, kind, settings)
            batch = prediction_batch(pictures)
            found = train.logits(network, pictures, batch, device).argmax(axis=1).astype(np.int16)
            found[~pictures.defined] = -1
            save_array(folder, ablated_name(kind, compat), found)
            undefined[compat][kind] = int((~pictures.defined).sum())
    return {"ablation_undefined": undefined}


def pretrained(stage: Stage) -> dict[str, Any]:
    """Where the weights lie that a network of this stage starts from."""
    return {name: value for name, value in stage.hints.items() if name == "pretrained"}


def searched(inputs: Inputs) -> Mapping[str, float]:
    """The fields of `training` that a search has decided for the stage with these inputs."""
    return inputs.record("search").summary["chosen"] if "search" in inputs else {}


def training_settings(stage: Stage, originals: int, found: Mapping[str, float]) -> Training:
    """How a trial is trained; a control with a ``schedule`` takes the treatment's steps from it.

    found: what a search has decided, see ``searched``.

    The budget, and the steps between two looks at the held-out images, become those of a training
    set of the treatment's size, so that only the data differ.
    """
    training = Training.model_validate({**stage.config["training"], **pretrained(stage), **found})
    schedule = stage.config.get("schedule")
    if not schedule:
        return training
    size = queue.images(
        Loop(regime=schedule["regime"]),
        Queue(capacity=schedule["capacity"], volume=schedule["volume"], mixing=schedule["mixing"]),
        schedule["generation"],
        originals,
    )
    steps = train.budget(size, training)
    return training.model_copy(
        update={
            "max_steps": steps,
            "max_epochs": steps,  # the step budget decides
            "check_steps": training.check_steps or math.ceil(size / training.batch_size),
        }
    )


def load_classifier(inputs: Inputs, name: str, device: str) -> zoo.Classifier:
    """A published classifier with its weights, in eval mode."""
    record = inputs.record(name)
    data = inputs.record("dataset").summary
    enlarged = record.config["training"].get("image_size") or 0
    side = max(enlarged, inputs.images("dataset", "train_images").shape[-1])
    network = zoo.build(record.config["network"], len(data["class_names"]), side, False, None, 0)
    network.load_state_dict(inputs.weights(name))
    return network.to(torch_device(device)).eval()


def _finite_history(history: list[dict[str, float]]) -> list[dict[str, float | None]]:
    return [{name: finite(value) for name, value in row.items()} for row in history]
