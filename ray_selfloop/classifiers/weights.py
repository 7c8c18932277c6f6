"""Published or local weights of a network: where they come from, by name or by checksum.

A published file is taken from the cache of its library where it lies there, so that a machine
without network can run; else it is downloaded, by `fetch` alone. Knows nothing of how a network is
built or trained.
"""

import os
import re
from pathlib import Path
from typing import Any

from ray_selfloop import published
from ray_selfloop.errors import ConfigError, DataError

TORCHVISION_TAGS = {
    "alexnet": "IMAGENET1K_V1",
    "vgg19": "IMAGENET1K_V1",
    "resnet50": "IMAGENET1K_V2",
    "mobilenet_v3_small": "IMAGENET1K_V1",
    "mobilenet_v3_large": "IMAGENET1K_V2",
}
TORCHVISION_FILES = {
    "alexnet": "alexnet-owt-7be5be79.pth",
    "vgg19": "vgg19-dcbb9e9d.pth",
    "resnet50": "resnet50-11ad3fa6.pth",
    "mobilenet_v3_small": "mobilenet_v3_small-047dcff4.pth",
    "mobilenet_v3_large": "mobilenet_v3_large-5c1a4163.pth",
}
TORCHVISION_ADDRESS = "https://download.pytorch.org/models/"
TIMM_NAMES = {"deit_s": "deit_small_patch16_224.fb_in1k"}
TIMM_FILE = "model.safetensors"
NAMED_DIGEST = re.compile(r"-(?=[0-9a-f]*[a-f])([0-9a-f]{8})\.")  # a date has no letter


def source(name: str, pretrained: bool | str) -> str:
    """What identifies the weights that training starts from: part of a result's key.

    ``scratch``, ``torchvision/<tag>``, ``timm/<name>`` or ``sha256/<digest>`` of the local file.
    Raises ConfigError where no published weights exist, DataError for a file that is not there or
    is not the one that its name says.
    """
    if pretrained is False:
        return "scratch"
    if isinstance(pretrained, str):
        digest = _digest(Path(pretrained))
        if name:
            _require_named(Path(pretrained), digest, "give the right file, or rename this one")
        return f"sha256/{digest}"
    if name in TIMM_NAMES:
        return f"timm/{TIMM_NAMES[name]}"
    if name not in TORCHVISION_TAGS:
        raise ConfigError(
            f"training.pretrained: true, but {name} has no published ImageNet weights; "
            f"set training_of.{name}.pretrained=false, or give it the path of a state dict."
        )
    return f"torchvision/{TORCHVISION_TAGS[name]}"


def check(name: str, pretrained: bool | str) -> None:
    """Raise where the weights that ``name`` is to start from cannot be had; downloads nothing.

    ConfigError where none are published; DataError for a local file that is not there, no state
    dict or not what its name says, for a damaged cached file, and where weights are neither cached
    nor to be downloaded from here.
    """
    identity = source(name, pretrained)
    if isinstance(pretrained, str):
        read_state_dict(Path(pretrained))
    if pretrained is not True:
        return
    address, path = _published(name)
    if path.is_file():
        _require_named(path, _digest(path), "delete it, so that it is downloaded again")
        damage = published.damage(path)
        if damage:
            raise DataError(f"training.pretrained: {damage}")
        return
    reason = published.unreachable(address)
    if reason:
        raise DataError(
            f"training.pretrained: the weights {identity} of {name} are not at {path}, and "
            f"{address} cannot be reached ({reason}); fetch that file where there is a network and "
            f"set training_of.{name}.pretrained to its path."
        )


def fetch(name: str) -> Path:
    """The published weights of ``name`` on this machine, downloaded where they are not cached.

    Raises OSError or RuntimeError where the download fails or is not what its name says.
    """
    if name in TIMM_NAMES:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(f"timm/{TIMM_NAMES[name]}", TIMM_FILE))
    from torch import hub

    address, path = _published(name)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        (digest,) = NAMED_DIGEST.findall(path.name)
        hub.download_url_to_file(address, str(path), digest, progress=False)
    return path


def _published(name: str) -> tuple[str, Path]:
    """Address of the published file, and where its library caches it."""
    if name in TIMM_NAMES:
        from huggingface_hub import constants

        home = f"timm/{TIMM_NAMES[name]}"
        folder = Path(constants.HF_HUB_CACHE) / f"models--{home.replace('/', '--')}"
        found = published.cached(home, TIMM_FILE) or folder
        return f"https://huggingface.co/{home}/resolve/main/{TIMM_FILE}", found
    root = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(root, "torch"))
    file = TORCHVISION_FILES[name]
    return TORCHVISION_ADDRESS + file, Path(home).expanduser() / "hub" / "checkpoints" / file


def _require_named(path: Path, digest: str, remedy: str) -> None:
    """Raise DataError for a file whose name carries the start of another content's sha256."""
    named = NAMED_DIGEST.findall(path.name)
    if named and not digest.startswith(named[-1]):
        raise DataError(
            f"training.pretrained: {path} is damaged or another file: its sha256 begins with "
            f"{digest[:8]}, its name says {named[-1]}; {remedy}."
        )


def _digest(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"training.pretrained: there is no file {path}; give the path of a "
                        "state dict (.safetensors or .pth).")  # fmt: skip
    return published.sha256_of(path)


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
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"training.pretrained: {path} is no readable state dict: {reason}"
        ) from error
    if not isinstance(state, dict):
        raise DataError(
            f"training.pretrained: {path} holds a {type(state).__name__}, no state dict."
        )
    return dict(state)
