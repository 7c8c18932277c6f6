"""A base that was trained by other code on coloured discs: ours reads it, draws from it, turns it.

Everything that has to fit together (scaling factor, noise levels, prompts, solver, adapters) is
seen in pictures: a disc has the colour that the prompt's class had in training.
"""

from pathlib import Path

import numpy as np
import pytest
import tiny_base
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from torch.nn import functional as F

from ray_selfloop.config.generators.diffusion import StableDiffusion
from ray_selfloop.generators.base import Trained
from ray_selfloop.generators.diffusion import sampler, stable_diffusion
from ray_selfloop.generators.diffusion.base import Base
from ray_selfloop.generators.diffusion.latents import Cached, write_latents
from ray_selfloop.generators.diffusion.loss import Pictures
from ray_selfloop.generators.diffusion.workers import ALONE
from ray_selfloop.images.imageset import Ids, Images
from ray_selfloop.store.blobs import Folder

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
NAMES = ("red", "green", "blue")
COLOURS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]])
EACH = 16  # samples of each class


def discs(count: int, colours: np.ndarray, seed: int) -> tuple[Images, Ids]:
    """Discs anywhere on white, 16 x 16; class c has ``colours[c]``."""
    random, labels = np.random.default_rng(seed), np.arange(count) % 3
    pictures = 230 + random.normal(0, 3, (count, 3, 16, 16))
    rows, columns = np.mgrid[:16, :16]
    for picture, label in zip(pictures, labels, strict=True):
        y, x, radius = *random.uniform(5, 11, 2), random.uniform(4, 6)
        disc = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
        picture[:, disc] = colours[label][:, None] + random.normal(0, 8, (3, disc.sum()))
    return pictures.clip(0, 255).astype(np.uint8), labels


def shown(pictures: Images) -> Ids:
    """The class whose colour is nearest to that of each disc."""
    values = pictures.astype(np.float64)
    inside = (values.min(axis=1, keepdims=True) < 150).astype(np.float64)
    colour = (values * inside).sum(axis=(2, 3)) / np.maximum(inside.sum(axis=(2, 3)), 1)
    return ((colour[:, None] - COLOURS) ** 2).sum(axis=2).argmin(axis=1)


def train_vae(folder: Path, pixels: Tensor, draw: torch.Generator) -> None:
    """Reconstruct; the scaling factor is that of unit variance, as the authors' is."""
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae").train()
    adam = torch.optim.Adam(vae.parameters(), 2e-3)
    for _ in range(250):
        batch = pixels[torch.randint(len(pixels), (16,), generator=draw)]
        posterior = vae.encode(batch).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=draw)
        decoded = vae.decode(posterior.mean + posterior.std * noise).sample
        loss = F.mse_loss(decoded, batch) + 1e-6 * posterior.kl().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    with torch.no_grad():
        spread = float(vae.eval().encode(pixels[:100]).latent_dist.mean.std())
    vae.register_to_config(scaling_factor=1 / spread)
    vae.save_pretrained(folder / "vae")


def train_unet(folder: Path, pixels: Tensor, labels: Tensor, draw: torch.Generator) -> float:
    """Predict the noise; its loss over the last hundred steps."""
    base, steps = Base(folder), 600
    prompts = base.embeddings([f"a photo of a {name}" for name in NAMES], CPU)
    vae, schedule = base.vae(CPU), base.noise_schedule()
    with torch.no_grad():
        posterior = vae.encode(pixels).latent_dist
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet").train()
    adam, losses = torch.optim.Adam(unet.parameters(), 2e-3), []
    for step in range(steps):
        adam.param_groups[0]["lr"] = 1e-3 * (1 + np.cos(np.pi * step / steps))
        rows = torch.randint(len(pixels), (24,), generator=draw)
        times = torch.randint(1000, (24,), generator=draw)
        spread, noise = torch.randn((2, 24, *posterior.mean.shape[1:]), generator=draw)
        latents = posterior.mean[rows] + posterior.std[rows] * spread
        noisy = schedule.add_noise(latents * vae.config.scaling_factor, noise, times)
        loss = F.mse_loss(unet(noisy, times, prompts[labels[rows]]).sample, noise)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(float(loss))
    unet.eval().save_pretrained(folder / "unet")
    return float(np.mean(losses[-100:]))


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A base that draws coloured discs, and the loss that it reached."""
    folder = tiny_base.make(tmp_path_factory.mktemp("discs") / "base", None)
    pictures, labels = discs(600, COLOURS, 0)
    pixels, draw = torch.from_numpy(pictures).float() / 127.5 - 1, torch.Generator().manual_seed(0)
    train_vae(folder, pixels, draw)
    return folder, train_unet(folder, pixels, torch.from_numpy(labels), draw)


def settings(folder: Path, **changes: object) -> StableDiffusion:
    own = {"batch_size": 16, "rank": 8, "guidance": 1.0, "sampler_steps": 20, "most_at_once": 16}
    return tiny_base.settings(folder, **{**own, **changes})


def fine_tuned(base: StableDiffusion, colours: np.ndarray, folder: Path) -> Trained:
    sets = []
    for name, seed in (("train", 1), ("held_out", 2)):
        pictures, labels = discs(240 if name == "train" else 48, colours, seed)
        (folder / name).mkdir()
        write_latents(pictures, base, folder / name, CPU)
        latents = Cached([(folder / name, np.arange(len(labels)))])
        sets.append(Pictures(latents, labels))
    examples = stable_diffusion.Examples(sets[0], sets[1], NAMES)
    return stable_diffusion.train(examples, base, 0, CPU, None, Folder(Path("/nowhere")), ALONE)


def drawn(base: StableDiffusion, weights: dict[str, Tensor] | None) -> Ids:
    labels = np.repeat(np.arange(3), EACH)
    pictures = sampler.sampler(weights, NAMES, base, CPU).sample(np.arange(3 * EACH), labels, 0)
    return shown(pictures).reshape(3, EACH)


def test_the_loss_is_the_one_that_the_base_was_trained_to(
    trained: tuple[Path, float], tmp_path: Path
) -> None:
    folder, reached = trained
    still = settings(folder, steps=20, check_every=20, learning_rate=1e-12)
    (look,) = fine_tuned(still, COLOURS, tmp_path).history
    assert look["train_loss"] == pytest.approx(reached, rel=0.35)
    assert reached < 0.2  # 1 without any knowledge of the pictures


@pytest.mark.parametrize("sampler", ["ddim", "dpmsolver++", "euler", "pndm"])
def test_every_solver_draws_what_the_prompt_says(trained: tuple[Path, float], sampler: str) -> None:
    found = drawn(settings(trained[0], sampler=sampler), None)
    assert ((found == np.arange(3)[:, None]).mean(axis=1) >= 0.9).all(), found


def test_a_fine_tune_turns_the_colours_into_those_of_its_pictures(
    trained: tuple[Path, float], tmp_path: Path
) -> None:
    turned = settings(trained[0], steps=400, check_every=100, learning_rate=4e-3)
    result = fine_tuned(turned, COLOURS[[1, 2, 0]], tmp_path)
    losses = [look["held_out_loss"] for look in result.history]
    assert losses[-1] < losses[0]
    found = drawn(turned, result.weights)
    assert ((found == np.array([[1], [2], [0]])).mean(axis=1) >= 0.8).all(), found
