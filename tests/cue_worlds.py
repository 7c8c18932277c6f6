"""Classifiers of pictures with masks whose reliance on the object is known, drawn from a seed.

Accuracy with the object taken out is ``1/C + B (a - 1/C)``, a the clean accuracy: 1 - B is the
relative drop. Every picture has a difficulty of its own, which all classifiers share.
"""

import numpy as np
from scipy.stats import norm

from ray_selfloop.claims.paired import Arm
from ray_selfloop.evaluation.predictions import KINDS, Outcome, TestSet

SHARED = 0.7  # correlation of a picture's difficulty between classifiers


def masked(classes=15, per_class=50):
    """As Hard ImageNet's: no subgroups, and every picture once."""
    n = classes * per_class
    names = tuple(f"c{i}" for i in range(classes))
    return TestSet(
        np.arange(n) % classes, np.full(n, -1), np.arange(n), names, (), np.zeros((classes, 0)),
        pooled=False, crossed=False,
    )  # fmt: skip


class Pictures:
    """Their difficulties as they are and without the object, correlated by one half."""

    def __init__(self, rng, test):
        self.rng, self.test = rng, test
        n = len(test.labels)
        self.clean = rng.standard_normal(n)
        self.without = 0.5 * self.clean + 0.75**0.5 * rng.standard_normal(n)

    def predictions(self, difficulty, accuracy):
        own = np.sqrt(1 - SHARED**2) * self.rng.standard_normal(len(difficulty))
        right = norm.cdf(SHARED * difficulty + own) < accuracy
        wrong = self.rng.integers(1, self.test.classes, len(difficulty))
        return np.where(right, self.test.labels, (self.test.labels + wrong) % self.test.classes)

    def outcome(self, place, clean, bias, kinds=("object_gray",)):
        """place: (chain, generation, classifier, seed)."""
        chance = 1 / self.test.classes
        without = chance + bias * (clean - chance)
        predicted = self.predictions(self.clean, clean)
        ablated = {kind: self.predictions(self.without, without) for kind in kinds}
        return Outcome(*place, predicted, False, ablated)


def law(seed, growth, bias, *, chains=3, steps=4, clean=0.9, fade=0.0, **sizes):
    """Test set and trials with B(t) = bias growth^t, one classifier seed per chain."""
    rng = np.random.default_rng(seed)
    test = masked(**sizes)
    pictures = Pictures(rng, test)
    return test, [
        pictures.outcome((k, t, "a", 0), clean - fade * t, bias * growth**t)
        for k in range(chains)
        for t in range(steps + 1)
    ]


def arms(seed, steps, *, chains=3, generations=3, clean=0.9, bias=0.6, classifiers=("resnet50",),
         kinds=KINDS, quality=None, **sizes):  # fmt: skip
    """steps: arm -> what is added per generation to clean accuracy and to B."""
    rng = np.random.default_rng(seed)
    test = masked(**sizes)
    pictures = Pictures(rng, test)
    start = {
        (k, name): pictures.outcome((k, 0, name, 0), clean, bias, kinds)
        for k in range(chains)
        for name in classifiers
    }
    return [
        Arm(
            scenario=f"base,arm={arm}",
            group="base",
            arm=arm,
            dataset="hard_imagenet",
            initialization="",
            pretrained=True,
            classifiers=tuple(dict.fromkeys(name for _, name in start)),
            generations=generations,
            subgroups=0,
            pooled=False,
            outcomes=[
                *start.values(),
                *(
                    pictures.outcome((k, t, name, 0), clean + t * more, bias + t * cues, kinds)
                    for k, name in start
                    for t in range(1, generations + 1)
                ),
            ],
            test=test,
            quality=quality or {},
        )
        for arm, (more, cues) in steps.items()
    ]
