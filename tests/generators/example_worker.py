"""generators/mean.py, of the example in docs/extending.md."""

import numpy as np
import torch
from ray_selfloop.config.generators.mean import Mean

from ray_selfloop import seeding
from ray_selfloop.generators.base import Generator, Lesson, Scene, Trained
from ray_selfloop.images.imageset import Ids, Images


def train(lesson: Lesson, settings: Mean) -> Trained:
    images, labels = np.asarray(lesson.data.images), lesson.data.labels
    means = [images[labels == label].mean(axis=0) for label in range(len(lesson.class_names))]
    return Trained({"means": torch.from_numpy(np.stack(means))}, [], "completed")


class MeanSampler:
    def __init__(self, scene: Scene, settings: Mean) -> None:
        self.means, self.noise = scene.weights["means"].numpy(), settings.noise

    def sample(self, ids: Ids, labels: Ids, seed: int) -> Images:
        """Noise of image ``i`` is of the stream ``(seed, "noise", i)``, whoever draws it."""
        shape = self.means.shape[1:]
        noise = [seeding.rng(seed, "noise", int(i)).standard_normal(shape) for i in ids]
        drawn = self.means[labels] + self.noise * np.stack(noise)
        return drawn.round().clip(0, 255).astype(np.uint8)


GENERATOR = Generator(train=train, sampler=MeanSampler)
