"""The images of the report: a grid of original ones, and one of each generation's kept ones."""

import math
from collections.abc import Iterator

import numpy as np

from ray_selfloop.conclusion.published import of_scenario
from ray_selfloop.config.sweep import Scenario
from ray_selfloop.graph import Stage
from ray_selfloop.images.imageset import Ids, Images, ImageSource
from ray_selfloop.images.pictures import View, seen, view_of
from ray_selfloop.planning import Plan
from ray_selfloop.report.view import Samples
from ray_selfloop.stages import kept
from ray_selfloop.stages.inputs import Inputs

SAMPLES_PER_CLASS = 6
SHOWN_SIDE = 128  # pixels at which pictures are decoded for a grid


def samples(plan: Plan, scenario: Scenario) -> Iterator[Samples]:
    """Grid images of the first loop seed: original images, then each generation's kept ones."""
    first = scenario.sweep.loop.loop_seeds[0]
    dataset = _reader(plan.dataset(scenario.name))
    classes = 0
    for place, stage, _ in of_scenario(plan, kept.KIND, scenario):
        if place.loop_seed != first:
            continue
        if place.generation == 1:
            train = Inputs(dataset, plan.store).split("train", "self")
            classes = len(train.class_names)
            images = _grid(train.images, train.labels, classes)
            yield Samples(first, 0, images, classifier=place.classifier)
        inputs = Inputs(_reader(stage), plan.store)
        images = _grid(inputs.images("self"), inputs.array("self", "labels"), classes)
        yield Samples(first, place.generation, images, classifier=place.classifier)


def _reader(stage: Stage) -> Stage:
    """A stage that has ``stage`` as its only input, to read what it published."""
    return Stage("reader", 0, {}, {"self": stage.key})


def _grid(images: ImageSource, labels: Ids, classes: int) -> Images:
    """The first images of each class, ``(classes, k, C, H, W)``; black where there are fewer."""
    images = _small(images)
    grid = np.zeros((classes, SAMPLES_PER_CLASS, *images.shape[1:]), np.uint8)
    for label in range(classes):
        rows = np.flatnonzero(labels == label)[:SAMPLES_PER_CLASS]
        grid[label, : len(rows)] = images[rows]
    return grid


def _small(images: ImageSource) -> ImageSource:
    """Pictures as a grid shows them: all of what classifiers see, but smaller."""
    view = view_of(images)
    if view is None or view.side <= SHOWN_SIDE:
        return images
    frame = math.ceil(SHOWN_SIDE * view.frame / view.side)
    return seen(images, View(SHOWN_SIDE, frame, view.fit))
