"""How much memory the driver and each worker of a sweep take, by the number of pictures.

As a script it prints the figures that docs/data.md gives:
``python tests/images/test_pictures_memory.py measure SELFLOOP_DATA FOLDER``.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ray_selfloop.store.records import Store

sys.path.append(str(Path(__file__).parents[1]))  # as a script; pytest has it there

FEW, MANY = 2_000, 20_000  # of the script
QUICK = 480, 4_480  # of the test
SHOWN = 2_000  # files that are pictures of their own; the others are links to them
MEGABYTE = 2**20
LIBRARIES = ("peft", "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion")
STEPS = ("driver", "dataset", "decode", "latents", "generator")
"""Planning in the driver, the stages that see all pictures, and reading each of them once at 224
pixels in batches as a classifier's training does; each in a process of its own."""


def peak() -> int:
    """The most memory that this process ever had resident, in bytes.

    Not ``getrusage``: its number starts at the parent's when a process is started from another.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def world(data: str, folder: Path, size: int, steps: int) -> list[str]:
    """The words of a Breeds sweep with ``size`` training pictures: links to real ones.

    steps: of the fine-tune.
    """
    import imagenet_worlds as worlds
    import tiny_hard_imagenet as tiny

    classes = ("bear", "fox")
    places = worlds.breeds_world(folder / "data", data, classes, min(size, SHOWN) // 8, 2)
    for wnid in Path(places["root"], "train").iterdir():
        files = sorted(wnid.iterdir())
        for i in range(len(files), size // 8):
            os.link(files[i % len(files)], wnid / f"{wnid.name}_{1_000_000 + i}.JPEG")
    base = tiny.words(folder, data, 2, 1)[-1]
    own = [word for word in tiny.WORDS[1:] if not word.startswith("dataset.")]
    return [
        "breeds",
        *own,
        base,
        *(f"dataset.{name}={place}" for name, place in places.items()),
        f"dataset.superclasses=[{', '.join(classes)}]",
        "classifiers=[lenet]",
        "evaluation.features=[lenet]",
        "evaluation.probe.pretrained=false",
        "dataset.side=224",
        "dataset.frame=256",
        "training.max_steps=10",
        "generator.resolution=32",
        f"generator.steps={steps}",
        "generator.batch_size=16",
        f"storage={folder / 'store'}",
    ]


def take(step: str, words: list[str]) -> int:
    """One step, whose inputs are published; how many pictures it was about."""
    from ray_selfloop.planning import prepare
    from ray_selfloop.stages.run import execute

    plan = prepare(words)
    (dataset,) = plan.graph.of_kind("dataset")
    if step == "decode":
        return decode(plan.store, dataset.stage.key)
    if step != "driver":
        node = next(node for node in plan.graph.of_kind(step))
        execute(node.stage, plan.store)
    record = plan.store.find(dataset.stage.key)
    sizes = record.summary["sizes"] if record else {}
    return sum(size for part, size in sizes.items() if part != "test")


def decode(store: "Store", key: str) -> int:
    """Read every picture once; how many there were."""
    from ray_selfloop.graph import Stage
    from ray_selfloop.stages.inputs import Inputs

    inputs, found = Inputs(Stage("reader", 1, {}, {"dataset": key}), store), 0
    for part in ("train", "held_out"):
        images = inputs.split(part).images
        for first in range(0, len(images), 64):
            batch = images[slice(first, first + 64)]
            assert batch.shape[1:] == (3, 224, 224)
            found += len(batch)
    return found


Taken = tuple[int, int]  # pictures, and peak in bytes


def measured(take_apart: Callable[[str, list[str]], Taken], words: list[str]) -> dict[str, Taken]:
    """Step -> what is measured of it, each in a process of its own."""
    return {step: take_apart(step, words) for step in STEPS}


def begun_anew(step: str, words: list[str]) -> Taken:
    """A step in a new Python: what it takes in a sweep."""
    command = [sys.executable, __file__, step, *words]
    said = subprocess.run(command, check=True, capture_output=True, text=True)
    pictures, most = said.stdout.split()[-2:]
    return int(pictures), int(most)


def forked(step: str, words: list[str]) -> Taken:
    """A step in a process that begins with all libraries, and counts them: for differences."""
    context = get_context("forkserver")
    context.set_forkserver_preload([*LIBRARIES])
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(counted, step, words).result()


def counted(step: str, words: list[str]) -> Taken:
    return take(step, words), peak()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="Linux tells the peak")
def test_memory_does_not_grow_with_the_number_of_pictures(data_root: str, tmp_path: Path) -> None:
    few, many = (measured(forked, world(data_root, tmp_path / str(n), n, 40)) for n in QUICK)
    assert (few["decode"][0], many["decode"][0]) == QUICK
    growth = {step: many[step][1] - few[step][1] for step in STEPS}
    # names, sizes and labels; fine-tunes of one size differ by 16 MB from run to run. What is added
    # here would take 600 MB as decoded pictures and 33 MB as latents.
    allowed = dict.fromkeys(STEPS, 8 * MEGABYTE) | {"generator": 24 * MEGABYTE}
    assert {step: grown for step, grown in growth.items() if grown > allowed[step]} == {}


def main(words: list[str]) -> None:
    """One step, or all of them at two sizes."""
    verb, *rest = words
    if verb != "measure":
        print(*counted(verb, rest))
        return
    data, folder = rest
    for size in (FEW, MANY):
        found = measured(begun_anew, world(data, Path(folder) / str(size), size, 200))
        figures = (f"{step} {most / 1e6:.1f} MB" for step, (_, most) in found.items())
        print(f"{size:,} pictures: {', '.join(figures)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
