"""Training of classifiers beside the textbook loop: images per second, and what both reach.

The textbook loop is a data set of PIL images, torchvision's transforms, a DataLoader without
workers, Adam with a cosine, a look at the held-out images at the end: what a researcher writes in
an hour. Both train the same network from the same weights on the same images with the same
optimiser, batches and steps, on one thread. The images are scikit-learn's digit scans, coloured at
random and enlarged. On a CPU the seconds are CPU seconds of this process, so that other work on the
machine counts less; both run in turn, and the ratio is the median over the repetitions.

    python benchmarks/training.py [--device cuda] [--precision bfloat16] [--repeats 3] [--json FILE]

With a precision both compute in it, by torch.autocast.
"""

import argparse
import copy
import json
import math
import os
import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from ray_selfloop.classifiers import zoo
from ray_selfloop.classifiers.train import Examples, LabeledImages, train
from ray_selfloop.config.training import Training

HELD_OUT = 500


class Case(NamedTuple):
    """One row of the table; target: how many times as fast as the textbook loop."""

    network: str
    side: int
    augment: str
    batch: int
    images: int
    steps: int
    target: float


CPU = (
    Case("lenet", 28, "none", 64, 12_000, 600, 1.8),
    Case("lenet", 28, "crop_flip", 64, 12_000, 600, 1.8),
    Case("mobilenet_v3_small", 32, "crop_flip", 64, 6_000, 60, 1.0),
)
GPU = (
    Case("lenet", 28, "none", 64, 12_000, 3_000, 10.0),
    Case("resnet50", 32, "crop_flip", 64, 12_000, 600, 2.0),
)
Pixels = NDArray[np.uint8]


def digits(n: int, side: int) -> tuple[Pixels, NDArray[np.int64]]:
    """``n`` coloured digits, uint8 ``(n, 3, side, side)``, and their labels."""
    scans, rng = load_digits(), np.random.default_rng(0)
    rows = rng.integers(0, len(scans.target), n)
    images = np.zeros((n, 3, side, side), np.uint8)
    colour = rng.integers(0, 3, n)
    for place, row in enumerate(rows):
        grey = Image.fromarray((scans.images[row] * (255 / 16)).astype(np.uint8))
        images[place, colour[place]] = np.asarray(grey.resize((side, side)))
    return images, scans.target[rows].astype(np.int64)


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """PIL images and their labels, as torchvision's data sets give them."""

    def __init__(
        self,
        images: Pixels,
        labels: NDArray[np.int64],
        transform: Callable[[Image.Image], torch.Tensor],
    ) -> None:
        self.images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        self.labels, self.transform = labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[row])), int(self.labels[row])


class Loop(NamedTuple):
    """What a loop took and reached."""

    seconds: float
    accuracy: float


def textbook(
    case: Case, network: zoo.Classifier, data: Examples, rate: float, device: torch.device
) -> float:
    """Train ``network`` as everybody does; returns its accuracy on the held-out images."""
    mean, std = network.normal
    seen = [transforms.ToTensor(), transforms.Normalize(mean, std)]
    moved = [
        transforms.RandomCrop(case.side, padding=max(1, case.side // 8)),
        transforms.RandomHorizontalFlip(),
    ]
    first = moved if case.augment == "crop_flip" else []
    sets = [
        Pictures(np.asarray(part.images), part.labels, transforms.Compose([*before, *seen]))
        for part, before in ((data.train, first), (data.held_out, []))
    ]
    loader = DataLoader(sets[0], case.batch, shuffle=True, drop_last=True)
    adam = torch.optim.Adam(network.parameters(), rate)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, case.steps)
    network.train()
    step = 0
    while step < case.steps:
        for images, labels in loader:
            adam.zero_grad()
            F.cross_entropy(network(images.to(device)), labels.to(device)).backward()
            adam.step()
            cosine.step()
            step += 1
            if step == case.steps:
                break
    network.eval()
    hits = 0
    with torch.no_grad():
        for images, labels in DataLoader(sets[1], case.batch):
            hits += int((network(images.to(device)).argmax(1).cpu() == labels).sum())
    return hits / len(sets[1])


def timed(run: Callable[[], float], device: torch.device) -> Loop:
    """Seconds of a loop: of the CPU, or of the clock where a GPU works."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    begun = clock()
    accuracy = run()
    return Loop(clock() - begun, accuracy)


def measure(case: Case, device: torch.device, repeats: int) -> dict[str, float | str]:
    """One row of the table."""
    pixels, labels = digits(case.images + HELD_OUT, case.side)
    train_set, held_out = (
        LabeledImages(pixels[part], labels[part])
        for part in (slice(HELD_OUT, None), slice(HELD_OUT))
    )
    data = Examples(train_set, held_out, 10, case.augment)
    epochs = math.ceil(case.steps * case.batch / case.images)
    recipe = Training(
        max_steps=case.steps, max_epochs=epochs, check_steps=case.steps, batch_size=case.batch,
        min_steps=case.steps,
    )  # fmt: skip
    loops: dict[str, list[Loop]] = {"ours": [], "textbook": []}
    for seed in range(repeats):
        start = zoo.build(case.network, 10, recipe.seen_size(case.side), False, 0.1, seed)
        plain = copy.deepcopy(start).to(device)
        loops["textbook"].append(timed(
            lambda net=plain: textbook(case, net, data, recipe.initial_learning_rate, device),
            device,
        ))  # fmt: skip
        loops["ours"].append(timed(
            lambda of=seed: train(case.network, data, recipe, of, device).held_out_accuracy,
            device,
        ))  # fmt: skip
    seen = case.steps * case.batch
    pairs = zip(loops["textbook"], loops["ours"], strict=True)
    return {
        "network": f"{case.network}, {case.side} pixels, {case.augment}",
        "ours_per_s": seen / median(loop.seconds for loop in loops["ours"]),
        "textbook_per_s": seen / median(loop.seconds for loop in loops["textbook"]),
        "ratio": median(their.seconds / our.seconds for their, our in pairs),
        "target": case.target,
        "ours_accuracy": median(loop.accuracy for loop in loops["ours"]),
        "textbook_accuracy": median(loop.accuracy for loop in loops["textbook"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", help="write the rows to this file too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(options.device)
    rows = []
    print(f"{'':42}{'ours':>9}{'textbook':>10}{'ratio':>7}{'target':>8}   accuracy")
    for case in GPU if device.type == "cuda" else CPU:
        lower = options.precision == "bfloat16"  # weights change: none is kept as it was cast
        with torch.autocast(device.type, torch.bfloat16, lower, cache_enabled=False):
            row = measure(case, device, options.repeats)
        rows.append(row)
        print(
            f"{row['network']:42}{row['ours_per_s']:9.0f}{row['textbook_per_s']:10.0f}"
            f"{row['ratio']:7.2f}{row['target']:8.1f}   {row['ours_accuracy']:.3f} and "
            f"{row['textbook_accuracy']:.3f}"
        )
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
