"""All figures that only a GPU shows, within 8 minutes and offline; not run on a GPU so far.

    python benchmarks/gpu.py [--json FILE] [--minutes 8]

1. LeNet and ResNet-50 beside the textbook loop (`benchmarks/training.py --device cuda`).
2. Peak memory of a training on the GPU beside what `resources.gpus_per_trial: auto` reckons with.
3. A first generation of the quickstart, stage by stage in this process, on the GPU and on the CPU:
   seconds of each, and how far the classifiers' predictions differ. Trainings are chaotic: after a
   few hundred steps the last bits have grown. Accuracies must agree within 0.03, the mean over
   trials.
4. The quickstart on the GPU end to end with Ray, half a GPU a trial; said and left out where Ray is
   not installed.

What does not fit the time is said and left out. `--device cpu` tries the script itself where there
is no GPU: its figures say nothing then.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from ray_selfloop import planning
from ray_selfloop.classifiers.train import Examples, LabeledImages, train
from ray_selfloop.config.training import Training
from ray_selfloop.distributed import placement
from ray_selfloop.stages import classifier, kinds
from ray_selfloop.stages.run import execute

HERE = Path(__file__).parent
AGREE = 0.03  # difference of mean accuracies that scatter of chaotic trainings explains
FIRST = (
    "axes={}", "loop.generations=1", "dataset.initialization=biased", "classifiers=[lenet]",
)  # fmt: skip
NETWORKS = (("lenet", 28, 64), ("resnet50", 32, 64), ("mobilenet_v3_small", 32, 64))


class Clock:
    """Minutes that are left."""

    def __init__(self, minutes: float) -> None:
        self.end = time.monotonic() + 60 * minutes

    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()


def training(device: str, clock: Clock) -> list[Any]:
    """Row 1."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder, "rows.json")
        words = [str(HERE / "training.py"), "--device", device, "--repeats", "1"]
        subprocess.run(
            [sys.executable, *words, "--json", str(found)], check=True, timeout=clock.left()
        )
        rows: list[Any] = json.loads(found.read_text())
        return rows


def memory(device: str) -> list[dict[str, Any]]:
    """Row 2: GB."""
    rng, rows = np.random.default_rng(0), []
    for network, side, batch in NETWORKS:
        data = LabeledImages(
            rng.integers(0, 256, (512, 3, side, side), np.uint8), rng.integers(0, 10, 512)
        )
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        recipe = Training(max_steps=20, max_epochs=9, check_steps=20, min_steps=20)
        train(network, Examples(data, data, 10, "none"), recipe, 0, torch.device(device))
        peak = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else float("nan")
        estimate = placement.memory(network, side, batch)
        rows.append({"network": network, "peak_gb": peak, "reckoned_gb": estimate})
        print(f"memory, {network}: peak {peak:.2f} GB, reckoned with {estimate:.2f} GB")
    return rows


def by_stages(device: str, folder: str) -> dict[str, Any]:
    """The first generation of the quickstart in this process: seconds by kind, accuracies."""
    plan = planning.prepare(["quickstart", *FIRST, f"storage={folder}"])
    seconds: dict[str, float] = {}
    accuracies = []
    for node in plan.graph:
        begun = time.monotonic()
        record = execute(
            node.stage, plan.store, device if kinds.of(node.stage).needs.gpu else "cpu"
        )
        kind = node.stage.kind
        seconds[kind] = seconds.get(kind, 0.0) + time.monotonic() - begun
        if kind == classifier.KIND.name:
            accuracies.append(float(record.summary["accuracy"]))
    return {"device": device, "seconds": seconds, "accuracies": accuracies}


def first_generation(device: str) -> list[dict[str, Any]]:
    """Row 3."""
    with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
        both = [by_stages(device, a), by_stages("cpu", b)]
    for found in both:
        told = ", ".join(f"{kind} {s:.1f}" for kind, s in found["seconds"].items())
        print(f"first generation on {found['device']}, seconds: {told}")
    means = [float(np.mean(found["accuracies"])) for found in both]
    apart = abs(means[0] - means[1])
    print(f"mean accuracy {means[0]:.3f} and {means[1]:.3f}: "
          f"{'agree' if apart <= AGREE else 'DIFFER'} within {AGREE}")  # fmt: skip
    return both


def with_ray(device: str, clock: Clock) -> dict[str, Any]:
    """Row 4."""
    if importlib.util.find_spec("ray") is None:
        print("quickstart with Ray: not run (Ray is not installed)")
        return {"ran": False}
    share = "0.5" if device == "cuda" else "0"
    with tempfile.TemporaryDirectory() as folder:
        words = [f"storage={folder}", f"resources.gpus_per_trial={share}",
                 f"resources.gpus_per_generator={share}"]  # fmt: skip
        begun = time.monotonic()
        try:
            done = subprocess.run(
                [sys.executable, "-m", "ray_selfloop.sweep", *words], timeout=clock.left()
            )
        except subprocess.TimeoutExpired:
            print("quickstart with Ray: not finished in the time that was left")
            return {"ran": False}
        print(f"quickstart with Ray: exit {done.returncode}, {time.monotonic() - begun:.0f} s")
        return {"ran": True, "exit": done.returncode, "seconds": time.monotonic() - begun}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--json", help="write all figures to this file too")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no GPU here: nothing was run")
    clock, device = Clock(options.minutes), options.device
    found: dict[str, Any] = {"device": device, "torch": torch.__version__}
    if device == "cuda":
        found["gpu"] = torch.cuda.get_device_name()
    found["training"] = training(device, clock)
    found["memory"] = memory(device)
    found["first generation"] = first_generation(device)
    found["quickstart"] = with_ray(device, clock)
    print(f"{clock.left():.0f} s of {options.minutes:g} minutes left")
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
