"""A Hard ImageNet sweep of minutes: real pictures in the official layout, a tiny diffusion base."""

from pathlib import Path

import imagenet_worlds
import tiny_base

WORDS = (
    "hard_imagenet",
    "name=tiny",
    "axes={}",
    f"dataset.classes=[{', '.join(imagenet_worlds.TINY)}]",
    "dataset.side=32",
    "dataset.frame=36",
    "generator.resolution=32",
    "generator.rank=4",
    "generator.steps=40",
    "generator.batch_size=8",
    "generator.accumulation=1",
    "generator.learning_rate=0.01",
    "generator.check_every=20",
    "generator.checkpoint_every=20",
    "generator.precision=float32",
    "generator.sampler_steps=3",
    "loop.generations=2",
    "loop.loop_seeds=[0]",
    "filter.clip.kind=domain",
    "filter.clip.steps=30",
    "filter.clip.picture_side=32",
    "filter.expert.classifier=lenet",
    "classifiers=[lenet, mobilenet_v3_small]",
    "training.pretrained=false",
    "training.max_steps=150",
    "training.learning_rate=0.003",
    "evaluation.judge.classifier=lenet",
    "evaluation.features=[lenet, pixels8]",
    "evaluation.samples=100",
    "evaluation.resamples=200",
    "evaluation.permutations=50",
)


def words(folder: Path, data: str, train: int, val: int) -> list[str]:
    """Lay data and base out in ``folder``; the words of a sweep on them, without a storage."""
    world = imagenet_worlds.hard_imagenet(folder / "data", data, train, val)
    base = tiny_base.make(folder / "base", Path(data) / "sd15/tokenizer")
    places = [f"dataset.{name}={path}" for name, path in world.places.items()]
    return [*WORDS, *places, f"generator.base={base}"]
