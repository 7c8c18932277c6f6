"""Sampling from a tiny base, and what a stock pipeline makes of the published adapters."""

from pathlib import Path

import numpy as np
import pytest
import tiny_base
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import get_peft_model_state_dict
from safetensors.torch import load_file

from ray_selfloop import seeding
from ray_selfloop.errors import StageError
from ray_selfloop.generators.diffusion import lora
from ray_selfloop.generators.diffusion.base import open_base
from ray_selfloop.generators.diffusion.sampler import DiffusionSampler, sampler
from ray_selfloop.images.imageset import Ids, Images
from ray_selfloop.stages.inputs import save_weights

CPU = torch.device("cpu")
NAMES = ("wolf spider", "beaver", "barn")
IDS = np.arange(6)
LABELS = IDS % 3
SOLVERS = ("ddim", "dpmsolver++", "euler", "pndm")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base.make(tmp_path_factory.mktemp("base"), None)


def adapters(base: Path, size: float) -> lora.Weights:
    """Adapters whose upper matrices are of that size; 0: as a fine-tune begins."""
    settings = tiny_base.settings(base)
    unet = open_base(settings).unet()
    lora.inject(unet, settings, 1.0)
    random = torch.Generator().manual_seed(0)
    weights = lora.fresh(unet, 0)
    for name in weights:
        if ".up." in name:
            weights[name] = size * torch.randn(weights[name].shape, generator=random)
    return weights


@pytest.fixture(scope="module")
def weights(base: Path) -> lora.Weights:
    return adapters(base, 0.3)


def opened(base: Path, weights: lora.Weights | None, **changes: object) -> DiffusionSampler:
    return sampler(weights, NAMES, tiny_base.settings(base, **changes), CPU)


def mean_difference(a: Images, b: Images) -> float:
    return float(np.abs(a.astype(int) - b).mean())


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_image_is_the_same_bits_whatever_is_asked_for_with_it(
    base: Path, weights: lora.Weights, solver: str
) -> None:
    ours = opened(base, weights, sampler=solver)
    whole = ours.sample(IDS, LABELS, 7)
    assert whole.dtype == np.uint8
    assert whole.shape == (6, 3, 16, 16)
    asked: list[list[int]] = [[5], [3, 4], [5, 0, 1], [2, 2, 5], [0, 4], [5, 4, 3, 2, 1, 0]]
    for rows in asked:
        np.testing.assert_array_equal(ours.sample(IDS[rows], LABELS[rows], 7), whole[rows])
    again = opened(base, weights, sampler=solver)
    np.testing.assert_array_equal(again.sample(IDS, LABELS, 7), whole)


def test_images_depend_on_seed_id_class_solver_and_guidance(
    base: Path, weights: lora.Weights
) -> None:
    ours = opened(base, weights)
    whole = ours.sample(IDS, LABELS, 7)
    others = {
        "seed": ours.sample(IDS, LABELS, 8),
        "id": ours.sample(IDS + 6, LABELS, 7),
        "class": ours.sample(IDS, (LABELS + 1) % 3, 7),
        "guidance": opened(base, weights, guidance=1.0).sample(IDS, LABELS, 7),
        "solver": opened(base, weights, sampler="euler").sample(IDS, LABELS, 7),
        "adapters": opened(base, None).sample(IDS, LABELS, 7),
    }
    for name, images in others.items():
        assert mean_difference(images, whole) > 0.5, name


def test_nothing_asked_for_is_no_images(base: Path) -> None:
    none = np.empty(0, np.int64)
    assert opened(base, None).sample(none, none, 0).shape == (0, 3, 16, 16)


def test_fresh_adapters_draw_what_the_base_draws(base: Path) -> None:
    fresh = opened(base, adapters(base, 0.0)).sample(IDS, LABELS, 0)
    np.testing.assert_array_equal(fresh, opened(base, None).sample(IDS, LABELS, 0))


def test_half_precision_draws_nearly_the_same(base: Path, weights: lora.Weights) -> None:
    ours = opened(base, weights, guidance=1.0)
    full, other = ours.sample(IDS, LABELS, 0), ours.sample(IDS, LABELS, 1)
    halved = opened(base, weights, guidance=1.0, precision="bfloat16")
    half = halved.sample(IDS, LABELS, 0)
    assert 0 < mean_difference(half, full) < 0.1 * mean_difference(other, full)


def test_adapters_of_another_base_are_refused(base: Path, weights: lora.Weights) -> None:
    some = {name: value for name, value in weights.items() if "mid_block" in name}
    with pytest.raises(StageError, match=r"belong to another base or rank: unet\..* is absent"):
        opened(base, some)


# a stock pipeline


def stock(base: Path) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(base)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def drawn(pipeline: StableDiffusionPipeline, ids: Ids, labels: Ids, seed: int) -> Images:
    shape = 4, 8, 8
    noise = [seeding.rng(seed, "latent", int(i)).standard_normal(shape, np.float32) for i in ids]
    images = pipeline(
        [f"a photo of a {NAMES[label]}" for label in labels],
        latents=torch.from_numpy(np.stack(noise)),
        height=16,
        width=16,
        num_inference_steps=3,
        output_type="np",
    ).images
    return np.asarray((images * 255).round().astype(np.uint8).transpose(0, 3, 1, 2))


def test_a_stock_pipeline_loads_the_published_file_and_draws_our_images(
    base: Path, weights: lora.Weights, tmp_path: Path
) -> None:
    save_weights(tmp_path, weights, lora.FILE)
    pipeline = stock(base)
    before = drawn(pipeline, IDS, LABELS, 7)
    pipeline.load_lora_weights(tmp_path)
    after = drawn(pipeline, IDS, LABELS, 7)
    assert mean_difference(before, after) > 5
    ours = opened(base, weights).sample(IDS, LABELS, 7)
    assert np.abs(ours.astype(int) - after).max() <= 1
    assert np.abs(opened(base, None).sample(IDS, LABELS, 7).astype(int) - before).max() <= 1


def test_the_published_file_is_what_diffusers_itself_would_write(
    base: Path, weights: lora.Weights, tmp_path: Path
) -> None:
    settings = tiny_base.settings(base)
    unet = open_base(settings).unet()
    lora.inject(unet, settings, 1.0)
    lora.assign(unet, weights)
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    StableDiffusionPipeline.save_lora_weights(tmp_path / "theirs", unet_lora_layers=layers)
    save_weights(tmp_path, weights, lora.FILE)
    theirs = load_file(tmp_path / "theirs" / lora.FILE)
    ours = load_file(tmp_path / lora.FILE)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_base_with_the_real_vocabulary_draws(data_root: str, tmp_path: Path) -> None:
    base = tiny_base.make(tmp_path, Path(data_root) / "sd15" / "tokenizer")
    ours = opened(base, None)
    assert mean_difference(ours.sample(IDS, LABELS, 0), ours.sample(IDS, (LABELS + 1) % 3, 0)) > 0.5
