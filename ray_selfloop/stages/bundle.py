"""Run trials that differ in their seed alone in one process: same records as one after another.

Decides whether they are trained side by side, which needs a GPU and a network that can be stacked:
on a CPU a trial's numbers must be the same bits whatever runs beside it. Which trials come
together is the scheduler's business.
"""

import time
from collections.abc import Sequence

from ray_selfloop.classifiers.together import SMALL, train_together
from ray_selfloop.graph import Stage
from ray_selfloop.stages import classifier
from ray_selfloop.stages.run import execute, limited
from ray_selfloop.store.records import Store

OF_PICTURES = "frame_crop_flip"  # the augmentation of encoded pictures, never all in memory


def stackable(trial: Stage) -> bool:
    """Whether its seeds can be trained side by side: a small network, on images in memory."""
    in_memory = trial.config["augment"] != OF_PICTURES
    return trial.config["network"] in SMALL and in_memory


def execute_together(trials: Sequence[Stage], store: Store, device: str) -> None:
    """Publish each trial that has no record yet; an error leaves those published that were.

    trials: stages of kind `classifier` that differ in nothing but ``seed`` and ``weights``.
    """
    missing = [trial for trial in trials if store.find(trial.key) is None]
    if device != "cpu" and len(missing) > 1 and all(stackable(trial) for trial in missing):
        side_by_side(missing, store, device)
        return
    for trial in missing:
        execute(trial, store, device)


def side_by_side(trials: Sequence[Stage], store: Store, device: str) -> None:
    """Train all at once, then test and publish one after another; they share the seconds."""
    started = time.monotonic()
    works = [classifier.KIND.work(trial, store, device) for trial in trials]
    first, seeds = works[0], [work.settings.seed for work in works]
    with limited(first.settings.threads):
        learned = classifier.lesson(first)
        network, where = first.settings.network, first.torch_device
        networks = train_together(network, learned.examples, learned.training, seeds, where)
        each = (time.monotonic() - started) / len(trials)
        for trial, trained in zip(trials, networks, strict=True):
            begun = time.monotonic()
            with store.attempt(trial.key) as folder:
                work = classifier.KIND.work(trial, store, device, folder)
                summary = classifier.tested(work, learned, trained)
                store.publish(trial, folder, summary, each + time.monotonic() - begun)
