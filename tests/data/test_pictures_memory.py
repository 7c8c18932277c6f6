"""How much memory a dataset of pictures takes, by its size; also a script: see `main`.

As a script it prints the figures that the README gives:
``python tests/data/test_pictures_memory.py measure SELFLOOP_DATA FOLDER``.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FEW, MANY = 2_000, 20_000
BATCH = 64
MEGABYTE = 2**20


def peak() -> int:
    """The most memory that this process ever had resident, in bytes.

    Not ``getrusage``: its number starts at the parent's when a process is started from another.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def world(data: str, folder: Path, size: int) -> dict[str, str]:
    """Breeds' layout with ``size`` training pictures: links to 250 real ones of 64 x 64."""
    import imagenet_worlds as worlds

    places = worlds.breeds_world(folder, data, ("fox", "bear"), 250, 2)
    for wnid in Path(places["root"], "train").iterdir():
        files = sorted(wnid.iterdir())
        for i in range(len(files), size // 8):
            os.link(files[i % len(files)], wnid / f"{wnid.name}_{1_000_000 + i}.JPEG")
    return places


def pack(root: str, hierarchy: str, store: str) -> str:
    """List, cut and publish the dataset; its key."""
    from ray_selfloop.config.dataset import PLACES, Breeds
    from ray_selfloop.graph import Stage
    from ray_selfloop.stages import data
    from ray_selfloop.stages.run import execute
    from ray_selfloop.store import Store

    settings = Breeds(superclasses=("fox", "bear"), root=root, hierarchy=hierarchy, side=224)
    config = settings.model_dump(mode="json", exclude=set(PLACES))
    hints = {"root": root, "hierarchy": hierarchy}
    stage = Stage("dataset", 2, {**config, "source": data.source(settings)}, {}, hints)
    execute(stage, Store(Path(store)))
    return stage.key


def iterate(key: str, store: str) -> int:
    """Decode every picture once, in batches as training does; how many there were."""
    from ray_selfloop.graph import Stage
    from ray_selfloop.stages.inputs import Inputs
    from ray_selfloop.store import Store

    inputs = Inputs(Stage("reader", 1, {}, {"dataset": key}), Store(Path(store)))
    found = 0
    for part in ("train", "held_out"):
        images = inputs.split(part).images
        for first in range(0, len(images), BATCH):
            batch = images[slice(first, first + BATCH)]
            assert batch.shape[1:] == (3, 224, 224)
            found += len(batch)
    return found


def measured(data: str, folder: Path, size: int) -> dict[str, tuple[str, int]]:
    """What packing and iterating say, and their peaks in bytes; each in a process of its own."""
    places, store = world(data, folder, size), str(folder / "store")

    def run(*words: str) -> tuple[str, int]:
        command = [sys.executable, __file__, *words]
        said = subprocess.run(command, check=True, capture_output=True, text=True)
        answer, most = said.stdout.split()[-2:]
        return answer, int(most)

    packed = run("pack", places["root"], places["hierarchy"], store)
    return {"pack": packed, "iterate": run("iterate", packed[0], store)}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="Linux tells the peak")
def test_memory_does_not_grow_with_the_number_of_pictures(data_root: str, tmp_path: Path) -> None:
    few, many = (measured(data_root, tmp_path / str(n), n) for n in (FEW, MANY))
    assert (few["iterate"][0], many["iterate"][0]) == (str(FEW), str(MANY))
    growth = {step: many[step][1] - few[step][1] for step in few}
    stored = sum(path.stat().st_size for path in (tmp_path / str(MANY)).rglob("*.bin"))
    assert stored > 30 * MEGABYTE  # what it would grow by, were the files held
    assert growth["iterate"] < 4 * MEGABYTE
    assert growth["pack"] < 1_000 * (MANY - FEW)  # names and sizes: under 1 kB a picture


def main(words: list[str]) -> None:
    """Pack, iterate, or measure both at two sizes."""
    verb, *rest = words
    if verb == "measure":
        data, folder = rest
        for size in (FEW, MANY):
            found = measured(data, Path(folder) / str(size), size)
            figures = (f"{step} {most / 1e6:.1f} MB" for step, (_, most) in found.items())
            print(f"{size:,} pictures: {', '.join(figures)}")
        return
    answer = pack(*rest) if verb == "pack" else iterate(*rest)
    print(answer, peak())


if __name__ == "__main__":
    main(sys.argv[1:])
