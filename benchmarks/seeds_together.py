"""Several seeds of LeNet trained side by side against one after another: seconds for one step.

    python benchmarks/seeds_together.py --device cuda --seeds 4

Random images; the clock runs over whole trainings, whose fixed costs (building networks, one look
at the held-out images) count in both. The two take turns; the medians and the ratio are printed.
On a CPU the clock is the process's own time at one thread, so that other work counts less.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from ray_selfloop.classifiers.together import train_together
from ray_selfloop.classifiers.train import Examples, LabeledImages, train
from ray_selfloop.config.training import Training


def examples(side: int, augment: str) -> Examples:
    """2,000 random images to train on, 64 to look at."""
    rng = np.random.default_rng(0)

    def drawn(n: int) -> LabeledImages:
        images = rng.integers(0, 256, (n, 3, side, side), dtype=np.uint8)
        return LabeledImages(images, rng.integers(0, 10, n))

    return Examples(drawn(2000), drawn(64), 10, augment)


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """How long ``run`` takes on the device."""
    if device.type == "cpu":
        began = time.process_time()
        run()
        return time.process_time() - began
    torch.cuda.synchronize(device)
    began = time.perf_counter()
    run()
    torch.cuda.synchronize(device)
    return time.perf_counter() - began


def main() -> None:
    """Print one line for each kind of images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    device, seeds = torch.device(asked.device), range(asked.seeds)
    settings = Training(
        max_steps=asked.steps, check_steps=asked.steps, batch_size=asked.batch, max_epochs=1000
    )
    for side, augment in ((28, "none"), (32, "crop_flip")):
        data = examples(side, augment)
        ways = {
            "apart": lambda data=data: [train("lenet", data, settings, s, device) for s in seeds],
            "together": lambda data=data: train_together("lenet", data, settings, seeds, device),
        }
        took: dict[str, list[float]] = {way: [] for way in ways}
        for turn in range(asked.repeats + 1):
            for way, run in ways.items():
                spent = seconds(run, device) / asked.steps * 1e3
                if turn:  # the first warms up
                    took[way].append(spent)
        apart, together = (statistics.median(took[way]) for way in ("apart", "together"))
        print(
            f"{side} x {side}, {augment}: {asked.seeds} seeds apart {apart:.2f} ms a step, "
            f"together {together:.2f}, ratio {together / apart:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
