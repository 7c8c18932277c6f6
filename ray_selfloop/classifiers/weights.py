"""Published or local weights of a network: where they come from, by name or by checksum.

A published file is taken from the cache of its library where it lies there, so that a machine
without network can run; else it is downloaded, by `fetch` alone. Knows nothing of how a network is
built or trained.
"""

import os
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ray_selfloop import published
from ray_selfloop.classifiers import known
from ray_selfloop.config.networks import TIMM, Hub, Torchvision
from ray_selfloop.errors import ConfigError, DataError

TORCHVISION_ADDRESS = "https://download.pytorch.org/models/"
NAMED_DIGEST = re.compile(r"-(?=[0-9a-f]*[a-f])([0-9a-f]{8})\.")  # a date has no letter


def source(name: str, pretrained: bool | str) -> str:
    """What identifies the weights that training starts from: part of a result's key.

    ``scratch``, ``torchvision/<tag>``, a hub's repository or ``sha256/<digest>`` of the local file;
    of ``timm/NAME`` also timm's version, which decides what that network is. Raises ConfigError
    where no published weights exist, DataError for a file that is not there or is not the one that
    its name says.
    """
    found = _weights(name, pretrained)
    return f"{found}, timm {version('timm')}" if name.startswith(TIMM) else found


def _weights(name: str, pretrained: bool | str) -> str:
    if pretrained is False:
        return "scratch"
    if isinstance(pretrained, str):
        digest = _digest(Path(pretrained))
        if name:
            _require_named(Path(pretrained), digest, "give the right file, or rename this one")
        return f"sha256/{digest}"
    found = _named(name)
    return found.repository if isinstance(found, Hub) else f"torchvision/{found.tag}"


def check(name: str, pretrained: bool | str) -> None:
    """Raise where the weights that ``name`` is to start from cannot be had; downloads nothing.

    ConfigError where none are published; DataError for a local file that is not there, no state
    dict or not what its name says, for a damaged cached file, and where weights are neither cached
    nor to be downloaded from here.
    """
    identity = _weights(name, pretrained)
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
    found = _named(name)
    if isinstance(found, Hub):
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(*found))
    from torch import hub

    address, path = _published(name)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        (digest,) = NAMED_DIGEST.findall(path.name)
        hub.download_url_to_file(address, str(path), digest, progress=False)
    return path


def _named(name: str) -> Torchvision | Hub:
    """Where the published weights of ``name`` are; ConfigError where there are none."""
    found = known.network(name).published
    if found is None:
        raise ConfigError(
            f"training.pretrained: true, but {name} has no published ImageNet weights; "
            f"set training_of.{name}.pretrained=false, or give it the path of a state dict."
        )
    return found


def _published(name: str) -> tuple[str, Path]:
    """Address of the published file, and where its library caches it."""
    found = _named(name)
    if isinstance(found, Hub):
        from huggingface_hub import constants

        home, file = found
        folder = Path(constants.HF_HUB_CACHE) / f"models--{home.replace('/', '--')}"
        path = published.cached(home, file) or folder
        return f"https://huggingface.co/{home}/resolve/main/{file}", path
    root = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(root, "torch"))
    at = Path(home).expanduser() / "hub" / "checkpoints" / found.file
    return TORCHVISION_ADDRESS + found.file, at


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
