"""The conditional GAN beside its code of before and the textbook DCGAN loop: CPU seconds, quality.

``digits``: whole trainings at the default settings of each, on scikit-learn's digit scans, coloured
with a bias. How long until the criterion is first at most ``LEVEL``, how long until training ends,
how it ends, and what it has learned: label fidelity by nearest neighbours, and the total variation
between the shares of colours within a class and the real ones. ``mnist``: seconds of one step at
the size of ``colorized_mnist_small``, on random images, also of the loop of PyTorch's DCGAN example
(a pass each for real and generated images, binary cross-entropy, a DataLoader) on the same layers
with torch's own spectral normalisation.

Seconds are CPU seconds of a process of one thread. Everything runs in turn; a ratio is the median
over the seeds of before / now.

    python benchmarks/gan.py [--before COMMIT] [--seeds 5] [--rows digits mnist] [--json FILE]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.data import DataLoader, TensorDataset

BEFORE = "d796ae0"  # the last commit before the step was made lean
HERE = Path(__file__).resolve()
LEVEL = 0.02  # of the criterion; what equal distributions scatter by
CPU = torch.device("cpu")
SIDE, WIDTH, BATCH, LATENT, CLASSES = 28, 96, 64, 32, 10
STEPS = 12  # that are timed, after as many that are not
TARGETS = {"digits": 1.8, "mnist": 1.5, "mnist, dcgan": 1.5}
Row = dict[str, Any]


def trained_on(data: Any, held_out: Any, settings: Any, seed: int) -> Any:
    """One training, alone and from scratch."""
    from ray_selfloop.generators.base import Lesson, Part
    from ray_selfloop.generators.diffusion.workers import ALONE
    from ray_selfloop.generators.gan.conditional_gan import train
    from ray_selfloop.store.blobs import Folder

    parts = [Part("dataset", *data, np.arange(len(data.labels)), None)]
    names, place = tuple("0123456789"), Folder(Path("/nowhere"))
    lesson = Lesson(parts, held_out, names, seed, CPU, None, None, place, ALONE)
    return train(lesson, settings)


def digits(seed: int) -> Row:
    """One training at the default settings, in the package that is on the path."""
    from ray_selfloop.config.datasets.coloured import ColorizedDigits
    from ray_selfloop.config.generators.gan import ConditionalGan
    from ray_selfloop.datasets import colours
    from ray_selfloop.datasets.digits import scans
    from ray_selfloop.generators.base import TrainingImages
    from ray_selfloop.generators.stopping import CRITERION

    splits = colours.colorize(*scans(), ColorizedDigits(initialization="biased"))
    parts = [TrainingImages(p.images, p.labels) for p in (splits.train, splits.held_out)]
    begun = time.process_time()
    trained = trained_on(*parts, ConditionalGan(), seed)
    seconds = time.process_time() - begun
    near = [look["step"] for look in trained.history if look[CRITERION] <= LEVEL]
    reached = near[0] if near else float("nan")
    fidelity, variation = quality(trained.weights, splits.train)
    return {
        "seconds": seconds, "to_level": seconds * reached / trained.facts["steps"],
        "steps": trained.facts["steps"], "outcome": trained.outcome,
        "criterion": min(look[CRITERION] for look in trained.history),
        "fidelity": fidelity, "variation": variation,
    }  # fmt: skip


def quality(weights: dict[str, Tensor], real: Any) -> tuple[float, float]:
    """Label fidelity, and total variation of the colours within a class, of 2,000 samples."""
    from sklearn.neighbors import KNeighborsClassifier

    from ray_selfloop.config.generators.gan import ConditionalGan
    from ray_selfloop.datasets.colours import read_colours
    from ray_selfloop.generators.base import Scene, TrainingImages
    from ray_selfloop.generators.gan.conditional_gan import sampler

    judge = KNeighborsClassifier(3).fit(real.images.max(axis=1).reshape(-1, 64), real.labels)
    labels = np.arange(2_000) % CLASSES
    none = TrainingImages(real.images[:0], real.labels[:0])
    scene = Scene(none, none, tuple("0123456789"), None, CPU, weights, None, None)
    net = sampler(scene, ConditionalGan())
    drawn = net.sample(np.arange(2_000), labels, seed=1)
    fidelity = (judge.predict(drawn.max(axis=1).reshape(-1, 64)) == labels).mean()
    seen, variations = read_colours(drawn), []
    for label in range(CLASSES):
        ours, theirs = (
            np.bincount(found, minlength=4) / len(found)
            for found in (seen[labels == label], real.subgroups[real.labels == label])
        )
        variations.append(np.abs(ours - theirs).sum() / 2)
    return float(fidelity), float(np.mean(variations))


def per_step(run: Callable[[int], None]) -> Row:
    """CPU seconds of a step: a long run less a short one, which costs the same start."""
    spent = []
    for steps in (STEPS, 2 * STEPS):
        begun = time.process_time()
        run(steps)
        spent.append(time.process_time() - begun)
    return {"seconds": (spent[1] - spent[0]) / STEPS}


def pictures() -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(0).integers(0, 256, (2_000, 3, SIDE, SIDE)).astype(np.uint8)
    return images, np.arange(2_000) % CLASSES


def mnist(seed: int) -> Row:
    """Of the package that is on the path."""
    from ray_selfloop.config.generators.gan import ConditionalGan
    from ray_selfloop.generators.base import TrainingImages

    data = TrainingImages(*pictures())
    held_out = TrainingImages(data.images[:40], data.labels[:40])

    def run(steps: int) -> None:
        settings = ConditionalGan(
            generator_width=WIDTH, batch_size=BATCH, latent_size=LATENT, max_steps=steps,
            min_steps=steps, check_every=steps, check_samples=30,
            generator_learning_rate=2e-3, discriminator_learning_rate=1e-3,
        )  # fmt: skip
        trained_on(data, held_out, settings, seed)

    return per_step(run)


class PlainGenerator(nn.Module):
    """The generator's layers, as they are usually written."""

    def __init__(self) -> None:
        super().__init__()
        self.label = nn.Embedding(CLASSES, 16)
        self.project = nn.Linear(LATENT + 16, WIDTH * 49)
        self.main = nn.Sequential(
            nn.BatchNorm2d(WIDTH), nn.ReLU(),
            nn.ConvTranspose2d(WIDTH, WIDTH // 2, 4, 2, 1, bias=False),
            nn.BatchNorm2d(WIDTH // 2), nn.ReLU(),
            nn.ConvTranspose2d(WIDTH // 2, WIDTH // 4, 4, 2, 1, bias=False),
            nn.BatchNorm2d(WIDTH // 4), nn.ReLU(),
            nn.Conv2d(WIDTH // 4, 3, 3, padding=1), nn.Tanh(),
        )  # fmt: skip

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        x: Tensor = self.project(torch.cat([noise, self.label(labels)], dim=1))
        return self.main(x.view(-1, WIDTH, 7, 7))  # type: ignore[no-any-return]


class PlainDiscriminator(nn.Module):
    """The discriminator's layers of single images, as they are usually written."""

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(
            spectral_norm(nn.Conv2d(3, 32, 4, 2, 1)), nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(32, 64, 4, 2, 1)), nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(64, 128, 3, 1, 1)), nn.LeakyReLU(0.2),
            nn.Flatten(), spectral_norm(nn.Linear(128 * 49, 128)), nn.LeakyReLU(0.2),
        )  # fmt: skip
        self.logit = spectral_norm(nn.Linear(128, 1))
        self.label = spectral_norm(nn.Embedding(CLASSES, 128))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        x = self.main(images)
        return self.logit(x)[:, 0] + (self.label(labels) * x).sum(dim=1)  # type: ignore[no-any-return]


def dcgan(seed: int) -> Row:
    """The order of work of PyTorch's example: real, generated, generator."""
    torch.manual_seed(seed)
    images, labels = pictures()
    data = TensorDataset(torch.from_numpy(images).float() / 127.5 - 1, torch.from_numpy(labels))
    generator, judge = PlainGenerator(), PlainDiscriminator()
    adams = [torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (generator, judge)]

    def against(found: Tensor, truth: float) -> Tensor:
        return F.binary_cross_entropy_with_logits(found, torch.full_like(found, truth))

    def run(steps: int) -> None:
        batches = iter(DataLoader(data, BATCH, shuffle=True, drop_last=True))
        for _ in range(steps):
            real, classes = next(batches)
            judge.zero_grad()
            against(judge(real, classes), 1.0).backward()
            drawn = generator(torch.randn(BATCH, LATENT), classes)
            against(judge(drawn.detach(), classes), 0.0).backward()
            adams[1].step()
            generator.zero_grad()
            against(judge(drawn, classes), 1.0).backward()
            adams[0].step()

    return per_step(run)


WORK = {"digits": digits, "mnist": mnist, "dcgan": dcgan}


def asked(work: str, seed: int, tree: Path) -> Row:
    """One piece of work in a process of its own, with the package of this tree."""
    command = [sys.executable, str(HERE), "--work", work, "--seed", str(seed)]
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, cwd=tree, check=True, stdout=subprocess.PIPE, text=True
    )
    found: Row = json.loads(done.stdout.splitlines()[-1])
    return found


def compared(name: str, before: list[Row], now: list[Row]) -> Row:
    """One row of the table."""
    pairs = list(zip(before, now, strict=True))
    row: Row = {"row": name, "target": TARGETS[name], "before": before, "now": now}
    for what in ("seconds", "to_level"):
        if what in now[0]:
            row[f"ratio_{what}"] = median(b[what] / n[what] for b, n in pairs)
    return row


def told(row: Row) -> str:
    """Its lines of the table."""
    lines = [f"{row['row']}: target {row['target']}"]
    lines += [f"  {k.removeprefix('ratio_'):10} {v:.2f} x" for k, v in row.items() if "ratio" in k]
    for side in ("before", "now"):
        numbers = {
            key: [round(run[key], 4) for run in row[side]]
            for key, value in row[side][0].items()
            if isinstance(value, float | int)
        }
        ends = [run["outcome"] for run in row[side] if "outcome" in run]
        lines += [f"  {side:7} {key:10} {values}" for key, values in numbers.items()]
        lines += [f"  {side:7} outcome    {' '.join(ends)}"] if ends else []
    return "\n".join(lines)


def extracted(commit: str, into: Path) -> Path:
    """The package as it was at a commit; raises where this is no clone that has it."""
    root = HERE.parents[1]
    packed = subprocess.run(
        ["git", "-C", str(root), "archive", commit, "ray_selfloop"],
        check=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    subprocess.run(["tar", "-x", "-C", str(into)], input=packed.stdout, check=True)
    return into


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--before", default=BEFORE, help="commit to compare with")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--rows", nargs="+", choices=("digits", "mnist"), default=["digits", "mnist"]
    )
    parser.add_argument("--json", help="write the rows to this file too")
    parser.add_argument("--work", choices=sorted(WORK), help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        torch.set_num_threads(1)
        print(json.dumps(WORK[options.work](options.seed)))
        return
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        old, here = extracted(options.before, Path(folder)), HERE.parents[1]
        for name in options.rows:
            sides = [(name, old), (name, here), *([("dcgan", here)] if name == "mnist" else [])]
            runs = [[asked(work, seed, at) for work, at in sides] for seed in range(options.seeds)]
            before, now, *others = (list(side) for side in zip(*runs, strict=True))
            rows.append(compared(name, before, now))
            rows += [compared(f"{name}, dcgan", other, now) for other in others]
            print("\n".join(told(row) for row in rows[-1 - len(others) :]), flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
