"""LoRA adapters on a UNet's attention: put in, initialised, read out, and their published form.

Published weights have diffusers' names and hold the factor alpha / rank already, so that a stock
pipeline loads them without knowing the settings. Knows nothing of training or of sampling.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ray_selfloop import seeding
from ray_selfloop.config.generators.diffusion import StableDiffusion
from ray_selfloop.errors import StageError

FILE = "pytorch_lora_weights.safetensors"  # the name that a stock pipeline looks for
Weights = dict[str, Tensor]
_NAMES = {
    ".lora_A.default.weight": ".lora.down.weight",
    ".lora_B.default.weight": ".lora.up.weight",
}


def inject(unet: Any, settings: StableDiffusion, scale: float) -> None:
    """Adapters beside the attention's linear layers; their output is multiplied by ``scale``.

    Their values are to be set by `assign`; torch's global stream is left as it was.
    """
    from peft import LoraConfig

    with torch.random.fork_rng(devices=[]):  # peft draws initial values that are overwritten
        unet.add_adapter(
            LoraConfig(
                r=settings.rank,
                lora_alpha=scale * settings.rank,
                target_modules=list(settings.targets),
            )
        )


def adapters(unet: nn.Module) -> dict[str, nn.Parameter]:
    """The adapters' parameters by their published names, in the UNet's order."""
    return {
        _published(name): parameter
        for name, parameter in unet.named_parameters()
        if ".lora_" in name
    }


def _published(name: str) -> str:
    for ours, theirs in _NAMES.items():
        name = name.replace(ours, theirs)
    return f"unet.{name}"


def fresh(unet: nn.Module, seed: int) -> Weights:
    """Initial weights without effect: down ~ N(0, 1 / rank^2), up = 0.

    Each is a function of ``seed`` and its name alone.
    """
    weights = {}
    for name, parameter in adapters(unet).items():
        values: NDArray[np.float32] = np.zeros(parameter.shape, np.float32)
        if name.endswith(".lora.down.weight"):
            random = seeding.rng(seed, "adapter", name)
            values = random.standard_normal(parameter.shape, np.float32) / np.float32(len(values))
        weights[name] = torch.from_numpy(values)
    return weights


def scaled(weights: Mapping[str, Tensor], factor: float) -> Weights:
    """The same with the adapters' output multiplied by ``factor``."""
    return {
        name: value * factor if name.endswith(".lora.up.weight") else value.clone()
        for name, value in weights.items()
    }


@torch.no_grad()
def assign(unet: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Set the adapters' values; raises StageError where the names or shapes differ."""
    own = adapters(unet)
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    expected = {name: tuple(value.shape) for name, value in own.items()}
    if shapes != expected:
        name = min(shapes.items() ^ expected.items())[0]
        raise StageError(
            f"these adapters belong to another base or rank: {name} should be "
            f"{expected.get(name, 'absent')} and is {shapes.get(name, 'absent')}"
        )
    for name, parameter in own.items():
        parameter.copy_(weights[name])
