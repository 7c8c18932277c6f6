"""The stages that train something: the domain scorer, the generator, a classifier."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter

from ray_selfloop import queue
from ray_selfloop.classifiers import train, zoo
from ray_selfloop.config.filter import DomainClip
from ray_selfloop.config.generator import ConditionalGan
from ray_selfloop.config.loop import Loop, Queue
from ray_selfloop.config.training import Training
from ray_selfloop.data.imageset import Ids, Images
from ray_selfloop.filtering import clip
from ray_selfloop.generators import TrainingImages, conditional_gan
from ray_selfloop.graph import Stage
from ray_selfloop.stages.inputs import Inputs, finite, save_array, save_json, save_weights

PREDICTION_BATCH = 256


def torch_device(device: str) -> torch.device:
    """The device that Ray assigned, as torch names it."""
    return torch.device(device)


def training_set(stage: Stage, inputs: Inputs) -> tuple[Images, Ids, dict[str, Any]]:
    """Images and labels that ``config["training_set"]`` describes, and what was mixed.

    The third part counts original and generated images and says what the queue could not supply.
    """
    original = inputs.split("train")
    config = stage.config["training_set"]
    if not config:
        mixed = {"original": len(original), "generated": 0, "by_generation": {}, "statement": ""}
        return original.images, original.labels, mixed
    names = {int(name.rpartition(".")[2]): name for name in inputs.named("kept")}
    rows = queue.training_rows(
        Loop(regime=config["regime"]),
        Queue(capacity=config["capacity"] or 1, mixing=config["mixing"]),
        config["generation"],
        original.labels,
        {generation: inputs.array(name, "labels") for generation, name in names.items()},
        config["seed"] or 0,
    )
    chosen = [
        (inputs.array(names[g], "images"), inputs.array(names[g], "labels"), kept)
        for g, kept in rows.kept.items()
    ]
    chosen = [(original.images, original.labels, rows.original), *chosen]
    images = np.concatenate([images[kept] for images, _, kept in chosen])
    labels = np.concatenate([labels[kept] for _, labels, kept in chosen])
    mixed = {
        "original": len(rows.original),
        "generated": rows.supplied,
        "asked": rows.asked,
        "by_generation": {str(g): len(kept) for g, kept in rows.kept.items()},
        "statement": rows.statement,
    }
    return images, labels, mixed


def scorer(stage: Stage, inputs: Inputs, folder: Path, device: str) -> Mapping[str, Any]:
    """The in-domain CLIP model, trained on the original images and their class names."""
    data = inputs.split("train")
    settings: DomainClip = TypeAdapter(DomainClip).validate_python(stage.config["clip"])
    weights = clip.train_domain_clip(
        data.images,
        data.labels,
        data.class_names,
        settings,
        stage.config["seed"],
        torch_device(device),
    )
    save_weights(folder, weights)
    return {}


def generator(stage: Stage, inputs: Inputs, folder: Path, device: str) -> Mapping[str, Any]:
    """One generation's generator; its stopping rule looks at held-out real images alone."""
    images, labels, mixed = training_set(stage, inputs)
    held_out = inputs.split("held_out")
    trained = conditional_gan.train(
        TrainingImages(images, labels),
        TrainingImages(held_out.images, held_out.labels),
        len(held_out.class_names),
        ConditionalGan.model_validate(stage.config["generator"]),
        stage.config["seed"],
        torch_device(device),
        inputs.weights("previous") if "previous" in inputs else None,
    )
    save_weights(folder, trained.weights)
    save_json(folder, "history", _finite_history(trained.history))
    return {"outcome": trained.outcome, "training_set": mixed}


def classifier(stage: Stage, inputs: Inputs, folder: Path, device: str) -> Mapping[str, Any]:
    """One trial: train, predict the test images, publish predictions (and weights for a role)."""
    images, labels, mixed = training_set(stage, inputs)
    held_out, test = inputs.split("held_out"), inputs.split("test")
    where = torch_device(device)
    trained = train.train(
        stage.config["network"],
        train.Examples(
            train.LabeledImages(images, labels),
            train.LabeledImages(held_out.images, held_out.labels),
            len(held_out.class_names),
            stage.config["augment"],
        ),
        training_settings(stage, mixed["original"], searched(inputs)),
        stage.config["seed"],
        where,
    )
    logits = train.logits(trained.network, test.images, PREDICTION_BATCH, where)
    save_array(folder, "predictions", logits.argmax(axis=1).astype(np.int16))
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
        "training_set": mixed,
    }


def searched(inputs: Inputs) -> Mapping[str, float]:
    """The fields of `training` that a search has decided for the stage with these inputs."""
    return inputs.record("search").summary["chosen"] if "search" in inputs else {}


def training_settings(stage: Stage, originals: int, found: Mapping[str, float]) -> Training:
    """How a trial is trained; a control with a ``schedule`` takes the treatment's steps from it.

    found: what a search has decided, see ``searched``.

    The budget, and the steps between two looks at the held-out images, become those of a training
    set of the treatment's size, so that only the data differ.
    """
    training = Training.model_validate({**stage.config["training"], **stage.hints, **found})
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
    training = Training.model_validate(record.config["training"])
    side = training.seen_size(inputs.array("dataset", "train_images").shape[-1])
    network = zoo.build(record.config["network"], len(data["class_names"]), side, False, None, 0)
    network.load_state_dict(inputs.weights(name))
    return network.to(torch_device(device)).eval()


def _finite_history(history: list[dict[str, float]]) -> list[dict[str, float | None]]:
    return [{name: finite(value) for name, value in row.items()} for row in history]
