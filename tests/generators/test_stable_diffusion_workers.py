"""Two processes that share one fine-tune, joined by gloo."""

from pathlib import Path

import numpy as np
import pytest
import tiny_base
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file

from ray_selfloop.generators.base import Trained
from ray_selfloop.generators.diffusion import checkpoint, lora
from ray_selfloop.generators.diffusion.latents import Cached, write_latents
from ray_selfloop.generators.diffusion.loss import Pictures
from ray_selfloop.generators.diffusion.stable_diffusion import Examples, train
from ray_selfloop.generators.diffusion.workers import ALONE, World
from ray_selfloop.store.blobs import Folder

CPU = torch.device("cpu")
CHANGES = {
    "workers": 2,
    "accumulation": 2,
    "batch_size": 8,
    "learning_rate": 1e-3,
    "checkpoint_every": 4,
}


def fine_tune(folder: Path, steps: int, world: World) -> Trained:
    """As process ``world.rank``; the folder holds base and latents, and gets the checkpoint."""
    torch.set_num_threads(1)
    settings = tiny_base.settings(folder / "base", steps=steps, **CHANGES)
    pictures = Pictures(Cached([(folder, np.arange(12))]), np.arange(12) % 2)
    examples = Examples(pictures, pictures, ("spider", "beaver"))
    kept = Folder(folder / f"checkpoints-{world.size}-{world.rank}")
    return train(examples, settings, 0, CPU, None, kept, world)


def process(rank: int, folder: Path) -> None:
    meeting = f"file://{folder / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    for name in ("first", "again"):  # the second starts from the checkpoint that process 0 has
        trained = fine_tune(folder, 6, World(rank, 2))
        (folder / name / str(rank)).mkdir(parents=True)
        save_file(trained.weights, folder / name / str(rank) / lora.FILE)
        np.save(folder / name / f"{rank}.npy", losses(trained))
    dist.destroy_process_group()


def losses(trained: Trained) -> np.ndarray:
    return np.array([[row["train_loss"], row["held_out_loss"]] for row in trained.history])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shared")
    tiny_base.make(path / "base", None)
    write_latents(tiny_base.pictures(12), tiny_base.settings(path / "base"), path, CPU)
    mp.spawn(process, (path,), nprocs=2)
    return path


@pytest.mark.slow
def test_two_processes_train_what_one_does(folder: Path) -> None:
    alone = fine_tune(folder, 6, ALONE)
    assert len(losses(alone)) == 3
    for rank in ("0", "1"):
        shared = load_file(folder / "first" / rank / lora.FILE)
        np.testing.assert_allclose(
            np.load(folder / "first" / f"{rank}.npy"), losses(alone), atol=1e-5, rtol=0
        )
        for name, value in alone.weights.items():
            torch.testing.assert_close(shared[name], value, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_both_processes_end_with_the_same_bits_also_from_the_first_ones_checkpoint(
    folder: Path,
) -> None:
    assert (folder / "checkpoints-2-0" / checkpoint.FILE).is_file()
    assert not (folder / "checkpoints-2-1").exists()
    expected = load_file(folder / "first" / "0" / lora.FILE)
    for name in ("first", "again"):
        for rank in ("0", "1"):
            found = load_file(folder / name / rank / lora.FILE)
            assert all(torch.equal(found[key], expected[key]) for key in expected)
