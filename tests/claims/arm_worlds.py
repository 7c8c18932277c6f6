"""Arms of one experiment with a known law, drawn from a seed: logits move by what each arm adds."""

import numpy as np
from scipy.special import expit

from ray_selfloop.claims.paired import Arm
from ray_selfloop.evaluation.predictions import Outcome, TestSet

DATASET = "colorized_mnist"


def crossed(images, groups, classes=4):
    """Every image in every subgroup."""
    labels = np.arange(images) % classes
    return TestSet(
        labels=np.tile(labels, groups),
        subgroups=np.repeat(np.arange(groups), images),
        units=np.tile(np.arange(images), groups),
        class_names=tuple(f"c{i}" for i in range(classes)),
        subgroup_names=tuple(f"g{i}" for i in range(groups)),
        train_shares=np.ones((classes, groups)),
        pooled=True,
        crossed=True,
    )


class World:
    """A test set and, for each arm, how the logit of each subgroup moves per generation.

    level: logit of the middle subgroup; gap: logit lost per subgroup number at generation 0.
    """

    def __init__(self, seed, images=300, groups=3, level=1.0, gap=0.0, chain_sd=0.0):
        self.rng = np.random.default_rng(seed)
        self.test = crossed(images, groups)
        difficulty = self.rng.standard_normal(images)
        self.chain_sd = chain_sd
        self.logit = level + np.tile(difficulty, groups) - gap * self.test.subgroups

    def outcome(self, chain, generation, classifier, seed, shift):
        """shift: what is added to the logit of each subgroup."""
        p = expit(self.logit + np.asarray(shift)[self.test.subgroups])
        right = self.rng.random(len(p)) < p
        wrong = (self.test.labels + 1) % self.test.classes
        predictions = np.where(right, self.test.labels, wrong)
        return Outcome(chain, generation, classifier, seed, predictions)

    def arms(self, steps, chains=3, generations=3, classifiers=("lenet",), seeds=(0,), **about):
        """steps: arm -> logit added per generation, a number or one for each subgroup."""
        start = {
            (chain, name, seed): self.outcome(chain, 0, name, seed, np.zeros(self.test.groups))
            for chain in range(chains)
            for name in classifiers
            for seed in seeds
        }
        about = {"group": "base", "initialization": "unbiased", **about}
        return [
            Arm(
                scenario=f"{about['group']},arm={arm}",
                arm=arm,
                dataset=about.get("dataset", DATASET),
                pretrained=about.get("pretrained", False),
                group=about["group"],
                initialization=about["initialization"],
                classifiers=tuple(classifiers),
                generations=generations,
                subgroups=self.test.groups,
                pooled=self.test.pooled,
                outcomes=[*start.values(), *self._later(step, start, generations)],
                test=self.test,
                quality=about.get("quality", {}),
            )
            for arm, step in steps.items()
        ]

    def _later(self, step, start, generations):
        step = np.broadcast_to(np.asarray(step, float), (self.test.groups,))
        for chain, name, seed in start:
            wander = self.chain_sd * self.rng.standard_normal()
            for t in range(1, generations + 1):
                yield self.outcome(chain, t, name, seed, step * t + wander)
