"""Inception-V3 features, and which weights may call their distances `fid` and `kid`.

The network and its resize (TensorFlow 1: bilinear, no half-pixel centres, no antialias, on uint8
pixels 0..255, then ``(x - 128) / 128``) are torch-fidelity's. Only the published file, known by
its SHA-256, gives numbers that other papers report; any other weights of the same network give
features named after their own hash. torchmetrics resizes with antialias by default and clean-fid
with PIL's bicubic filter: their numbers differ from these even at 28 or 32 pixels.
Knows nothing of tables or stages.
"""

import hashlib
import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ray_selfloop.errors import DataError, last_line

PUBLISHED = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
FILE = f"weights-inception-2015-12-05-{PUBLISHED[:8]}.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE}"
FEATURES = 2048
BATCH = 8
NAME = "inception"  # the feature set of the published weights alone


def name_of(sha256: str) -> str:
    """The feature set's name: ``inception`` for the published file, else ``inception-<8 hex>``."""
    return NAME if sha256 == PUBLISHED else f"{NAME}-{sha256[:8]}"


def absence(sha256: str | None) -> str:
    """Why there is no `fid` row with these weights; empty where there is one."""
    if sha256 is None:
        return "no Inception-V3 weights: evaluation.inception is null"
    if sha256 == PUBLISHED:
        return ""
    return (
        f"the Inception-V3 weights have SHA-256 {sha256[:8]}..., not the published "
        f"{PUBLISHED[:8]}...: see frechet_distance/{name_of(sha256)}"
    )


def check(setting: str | None) -> None:
    """Raise DataError unless the weights that ``evaluation.inception`` names can be used."""
    if setting is not None:
        _network(_content(setting), setting)


def identity(setting: str | None) -> str | None:
    """SHA-256 of the weights file, for keys; None without weights. Raises DataError."""
    if setting is None:
        return None
    path = _path(setting)
    try:
        state = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return _sha256(path, state.st_size, state.st_mtime_ns)


@cache
def _sha256(path: Path, size: int, changed: int) -> str:
    """Of a file that had this size and time of change: read once for a sweep."""
    return hashlib.sha256(_content(str(path))).hexdigest()


class Inception:
    """The network with its weights: pool features of images.

    setting: ``download`` or a path; sha256: what its content must be. Raises DataError.
    """

    def __init__(self, setting: str, sha256: str, device: torch.device) -> None:
        content = _content(setting)
        found = hashlib.sha256(content).hexdigest()
        if found != sha256:
            raise DataError(
                f"evaluation.inception: {setting} has SHA-256 {found[:8]}..., this sweep was "
                f"planned with {sha256[:8]}...; use the same file on every node"
            )
        self._network, self._device = _network(content, setting).to(device), device

    @torch.no_grad()
    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32 ``(n, 2048)`` of uint8 ``(n, 3, H, W)``; batches have one fixed shape, so that no
        result depends on how many images are asked for together."""
        parts = [np.empty((0, FEATURES), np.float32)]
        for start in range(0, len(images), BATCH):
            rows = np.arange(start, min(start + BATCH, len(images)))
            filled = np.ascontiguousarray(images[np.resize(rows, BATCH)])
            (out,) = self._network(torch.from_numpy(filled).to(self._device))
            parts.append(out[: len(rows)].float().cpu().numpy())
        return np.concatenate(parts)


def _path(setting: str) -> Path:
    return _downloaded() if setting == "download" else Path(setting)


def _content(setting: str) -> bytes:
    path = _path(setting)
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(
        f"evaluation.inception: {path} cannot be read ({error.strerror}); give the path of {FILE}, "
        "or `download`, or null for a sweep without FID"
    )


def _downloaded() -> Path:
    """The published file in torch's cache, fetched once and checked by its hash."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / FILE
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(URL, str(path), PUBLISHED, progress=False)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"evaluation.inception: {URL} cannot be downloaded ({error}); fetch it elsewhere "
                "and give its path, or null for a sweep without FID"
            ) from error
    return path


def _state(content: bytes, setting: str) -> Mapping[str, Any]:
    """Tensors by name; nothing but tensors is ever unpickled."""
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # the reader raises a dozen types for a bad file
        first = (str(error).splitlines() or [""])[0]
        raise DataError(
            f"evaluation.inception: {setting} is no file of weights: {first}"
        ) from error
    if not isinstance(state, Mapping):
        raise DataError(f"evaluation.inception: {setting} holds no weights by name")
    return state


def _network(content: bytes, setting: str) -> Any:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    safe = io.BytesIO()  # torch-fidelity unpickles what it is given: it gets tensors alone
    torch.save(dict(_state(content, setting)), safe)
    safe.seek(0)
    try:
        with torch.random.fork_rng(devices=[]):  # its layers draw initial values
            return FeatureExtractorInceptionV3("inception-v3-compat", [str(FEATURES)], safe)
    except RuntimeError as error:
        raise DataError(
            f"evaluation.inception: {setting} does not hold the weights of torch-fidelity's "
            f"Inception-V3: {last_line(error)[:200]}"
        ) from error
