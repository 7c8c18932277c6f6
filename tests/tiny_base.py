"""A Stable Diffusion base of the right layout and the smallest sizes, with random weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ray_selfloop.config.generators.diffusion import StableDiffusion
from ray_selfloop.images.imageset import Images

FACTOR = 2  # by which the VAE shrinks pictures
SMALL = {
    "resolution": 16,
    "steps": 6,
    "learning_rate": 1e-2,
    "check_every": 2,
    "check_pictures": 4,
    "checkpoint_every": 0,
    "sampler_steps": 3,
    "most_at_once": 4,
}


def settings(base: Path, **changes: Any) -> StableDiffusion:
    """Of a fine-tune of seconds."""
    return StableDiffusion.model_validate({**SMALL, "base": str(base), **changes})


def pictures(count: int) -> Images:
    """uint8 ``(count, 3, 16, 16)``: smooth blots."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (count, 3, 4, 4), dtype=np.uint8)
    return coarse.repeat(4, axis=2).repeat(4, axis=3)


def make(folder: Path, tokenizer_files: Path | None, prediction: str = "epsilon") -> Path:
    """Fill ``folder`` in diffusers' layout; the same bits in every call.

    tokenizer_files: a folder with vocab.json and merges.txt, or None for a vocabulary of single
    characters that is made here.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = CLIPTokenizer.from_pretrained(tokenizer_files or _characters(folder))
        pipeline = StableDiffusionPipeline(
            vae=_vae(),
            text_encoder=_text_encoder(tokenizer),
            tokenizer=tokenizer,
            unet=_unet(),
            scheduler=_scheduler(prediction),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.save_pretrained(folder)
    return folder


def _unet() -> UNet2DConditionModel:
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=2,
        norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    for block in unet.modules():  # untrained attention hardly looks at the prompt
        if type(block).__name__ == "Attention":
            for layer in (block.to_q, block.to_k, block.to_v, block.to_out[0]):
                nn.init.normal_(layer.weight, std=2 * layer.in_features**-0.5)
    return unet


def _vae() -> AutoencoderKL:
    vae = AutoencoderKL(
        sample_size=16,
        block_out_channels=(16, 32),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * FACTOR,
        up_block_types=("UpDecoderBlock2D",) * FACTOR,
        scaling_factor=2.0,
    )
    with torch.no_grad():  # a posterior of deviation about 0.1, decoded over most of the range
        vae.quant_conv.bias[4:] -= 5
        vae.decoder.conv_out.weight *= 3
    return vae


def _text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=77,
            bos_token_id=0,
            eos_token_id=2,  # as in SD 1.5's config: the last token is found by its id's size
            pad_token_id=1,
        )
    )


def _scheduler(prediction: str) -> PNDMScheduler:
    """Stable Diffusion 1.5's."""
    return PNDMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        steps_offset=1,
        prediction_type=prediction,
    )


def _characters(folder: Path) -> Path:
    """CLIP's tokenizer with each printable character as a token, inside and at a word's end."""
    files = folder / "characters"
    files.mkdir(parents=True)
    characters = [chr(code) for code in range(33, 127)]
    tokens = [*characters, *(f"{c}</w>" for c in characters), "<|startoftext|>", "<|endoftext|>"]
    (files / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (files / "merges.txt").write_text("#version: 0.2\n")
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
    (files / "tokenizer_config.json").write_text(json.dumps(settings))
    return files
