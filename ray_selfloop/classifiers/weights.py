"""Published or local weights of a network: where they come from, by name or by checksum.

Knows nothing of how a network is built or trained; downloads nothing itself.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from ray_selfloop.errors import ConfigError, DataError

TORCHVISION_TAGS = {
    "alexnet": "IMAGENET1K_V1",
    "vgg19": "IMAGENET1K_V1",
    "resnet50": "IMAGENET1K_V2",
    "mobilenet_v3_small": "IMAGENET1K_V1",
    "mobilenet_v3_large": "IMAGENET1K_V2",
}
TIMM_NAMES = {"deit_s": "deit_small_patch16_224.fb_in1k"}


def source(name: str, pretrained: bool | str) -> str:
    """What identifies the weights that training starts from: part of a result's key.

    ``scratch``, ``torchvision/<tag>``, ``timm/<name>`` or ``sha256/<digest>`` of the local file.
    Raises ConfigError where no published weights exist, DataError for a file that is not there.
    """
    if pretrained is False:
        return "scratch"
    if isinstance(pretrained, str):
        return f"sha256/{_digest(Path(pretrained))}"
    if name in TIMM_NAMES:
        return f"timm/{TIMM_NAMES[name]}"
    if name not in TORCHVISION_TAGS:
        raise ConfigError(
            f"training.pretrained: true, but {name} has no published ImageNet weights; "
            "give false or the path of a state dict."
        )
    return f"torchvision/{TORCHVISION_TAGS[name]}"


def _digest(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"training.pretrained: there is no file {path}; give the path of a "
                        "state dict (.safetensors or .pth).")  # fmt: skip
    found = path.stat()
    return _digest_of(path, found.st_mtime_ns, found.st_size)


@cache
def _digest_of(path: Path, changed: int, size: int) -> str:
    """Of a file as it was then: every trial of a sweep asks for the same one."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_state_dict(path: Path) -> dict[str, Any]:
    """The tensors of a .safetensors or .pth file; nothing but tensors is ever unpickled."""
    _digest(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        import torch

        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise a dozen types for a bad file
        raise DataError(
            f"training.pretrained: {path} is no readable state dict: {error}"
        ) from error
    if not isinstance(state, dict):
        raise DataError(
            f"training.pretrained: {path} holds a {type(state).__name__}, no state dict."
        )
    return dict(state)
