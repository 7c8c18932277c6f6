"""Pictures as the VAE's posterior: encoded once into files, or each time that they are drawn.

The posterior's mean and standard deviation are kept, not a draw from it: noise comes from the
training's seed and step, so that both ways train alike. Nothing here draws a random number.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_selfloop.config.generators.diffusion import StableDiffusion
from ray_selfloop.errors import StageError
from ray_selfloop.generators.diffusion.base import open_base
from ray_selfloop.generators.diffusion.row_file import RowFile, RowWriter
from ray_selfloop.images.imageset import Ids, Images, ImageSource

ENCODE_BATCH = 8  # pictures that the VAE sees at once; about 0.5 GB each at 512 pixels
MEAN, STD = "latents_mean.npy", "latents_std.npy"
FLIPPED_MEAN, FLIPPED_STD = "latents_flipped_mean.npy", "latents_flipped_std.npy"
Flips = NDArray[np.bool_]


class Posterior(NamedTuple):
    """``mean`` and ``std``, float32 ``(b, C, h, w)``, before the VAE's scaling factor."""

    mean: Tensor
    std: Tensor


@torch.no_grad()
def encoded(vae: Any, images: Images, flips: Flips) -> Posterior:
    """The VAE's posterior of uint8 ``(b, 3, R, R)``, on its device."""
    seen = np.where(flips[:, None, None, None], images[..., ::-1], images)
    pixels = torch.from_numpy(seen).to(vae.device).float() / 127.5 - 1
    distribution = vae.encode(pixels).latent_dist
    return Posterior(distribution.mean.float(), distribution.std.float())


def write_latents(
    images: ImageSource, settings: StableDiffusion, folder: Path, device: torch.device
) -> None:
    """Encode all pictures into ``folder``, batch by batch: memory does not grow with their number.

    images: reads as uint8 ``(n, 3, R, R)`` with R the ``resolution``. Writes float32
    ``(n, C, h, w)`` as latents_mean.npy and latents_std.npy, with ``flips`` also
    latents_flipped_mean.npy and latents_flipped_std.npy. Raises DataError for an unfit base.
    """
    base = open_base(settings)
    _check_shape(images, settings.resolution)
    vae = base.vae(device)
    shape = len(images), *base.latent_shape(settings.resolution)
    for flipped in (False, True) if settings.flips else (False,):
        files = [RowWriter(path, shape) for path in _paths(folder, flipped)]
        for start in range(0, len(images), ENCODE_BATCH):
            rows = np.arange(start, min(start + ENCODE_BATCH, len(images)))
            for file, values in zip(
                files, encoded(vae, images[rows], np.full(len(rows), flipped)), strict=True
            ):
                file.append(values.cpu().numpy())
        for file in files:
            file.close()


def _check_shape(images: ImageSource, resolution: int) -> None:
    if images.shape[1:] != (3, resolution, resolution):
        raise StageError(
            f"generator.resolution is {resolution}, and the pictures are read as "
            f"{images.shape[1:]} instead of (3, {resolution}, {resolution})"
        )


def _paths(folder: Path, flipped: bool) -> tuple[Path, Path]:
    mean, std = (FLIPPED_MEAN, FLIPPED_STD) if flipped else (MEAN, STD)
    return folder / mean, folder / std


class Cached:
    """Rows of several folders that `write_latents` filled, one part after another, not copied."""

    def __init__(self, parts: Sequence[tuple[Path, Ids]]) -> None:
        self._parts = [
            ([self._read(folder, flipped) for flipped in (False, True)], rows)
            for folder, rows in parts
        ]
        self._ends = np.cumsum([len(rows) for _, rows in parts])

    @staticmethod
    def _read(folder: Path, flipped: bool) -> list[RowFile]:
        paths = _paths(folder, flipped)
        if flipped and not paths[0].exists():
            return []
        return [RowFile(path) for path in paths]

    def __len__(self) -> int:
        return int(self._ends[-1])

    def posterior(self, rows: Ids, flips: Flips) -> Posterior:
        """Of the pictures ``rows`` ``(b,)``, mirrored where ``flips`` ``(b,)``; on the CPU.

        Raises StageError for a mirrored picture of a part without them.
        """
        found = [self._one(int(row), bool(flip)) for row, flip in zip(rows, flips, strict=True)]
        mean, std = (torch.from_numpy(np.stack(values)) for values in zip(*found, strict=True))
        return Posterior(mean, std)

    def _one(self, row: int, flip: bool) -> list[NDArray[np.float32]]:
        part = int(np.searchsorted(self._ends, row, side="right"))
        sets, rows = self._parts[part]
        if not sets[flip]:
            raise StageError("generator.flips is true, and latents were cached without flips")
        own = rows[row - self._ends[part] + len(rows)]
        return [values[own] for values in sets[flip]]


class OnTheFly:
    """Pictures, as `write_latents` takes them, that ``vae`` encodes whenever they are drawn."""

    def __init__(self, images: ImageSource, vae: Any) -> None:
        self._images, self._vae = images, vae

    def __len__(self) -> int:
        return len(self._images)

    def posterior(self, rows: Ids, flips: Flips) -> Posterior:
        """On the VAE's device."""
        return encoded(self._vae, self._images[rows], flips)


Latents = Cached | OnTheFly
"""Where training gets the posterior of the pictures that it has drawn."""
