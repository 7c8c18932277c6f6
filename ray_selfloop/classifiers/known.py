"""The row of any network: one of ours, or one made from what timm says of its own.

Of a network of timm everything is asked of timm: size, normalisation, weights, and by building it
without memory (torch's `meta` device) the smallest side at which it runs and what it keeps. Loads
torch and timm for their networks alone. Knows nothing of training.
"""

import difflib
import functools
from collections.abc import Sequence
from typing import Any

from ray_selfloop.config.networks import NETWORKS, PICTURE, TIMM, Footprint, Hub, Network
from ray_selfloop.errors import ConfigError

STRIDE = 32  # pixels; sides are multiples of the largest stride that is usual
SIDES = (STRIDE, 64, 96, 128)  # tried one after another where timm names no smallest


def network(name: str) -> Network:
    """The row of a network; raises ConfigError for one that is not known or takes other images."""
    if name in NETWORKS:
        return NETWORKS[name]
    if not name.startswith(TIMM):
        raise ConfigError(
            f"classifier {name!r} is not known; known: {', '.join(NETWORKS)}, {TIMM}NAME"
        )
    return _of_timm(name)


def check(name: str, image_size: int | None) -> None:
    """Raise ConfigError for an unknown network, and where images cannot be enlarged to that."""
    row = network(name)
    if row.fixed and image_size not in (None, row.smallest):
        raise ConfigError(
            f"training.image_size: {image_size}, but {name} sees images at {row.smallest} pixels "
            f"alone; set training_of.{name}.image_size=null"
        )


def check_apart(names: Sequence[str]) -> None:
    """Raise ConfigError where two names are one network: timm's with and without its own tag."""
    found: dict[tuple[str, str], str] = {}
    for name in names:
        if name.startswith(TIMM):
            settings = timm_settings(name)
            first = found.setdefault((settings.architecture, settings.tag), name)
            if first != name:
                raise ConfigError(
                    f"classifiers: {first} and {name} are one network, since {settings.tag} is the "
                    f"tag that timm takes where none is given; name one of them"
                )


@functools.cache
def _of_timm(name: str) -> Network:
    settings = timm_settings(name)
    channels, height, width = settings.input_size
    if channels != 3 or height != width:
        raise ConfigError(
            f"classifier {name}: takes images of {channels} channels and {height} x {width} "
            "pixels; a classifier here takes square RGB images"
        )
    least = settings.min_input_size[-1] if settings.min_input_size else STRIDE
    sides = [side for side in SIDES if least <= side < height]
    side, footprint = _smallest(name, [height] if settings.fixed_input_size else [*sides, height])
    return Network(
        name,
        "timm",
        footprint,
        side,
        multiple=STRIDE,
        published=_published(settings),
        fixed=settings.fixed_input_size,
        normal=(settings.mean, settings.std),
    )


def timm_settings(name: str) -> Any:
    """timm's own settings of ``timm/NAME`` or ``timm/NAME.TAG``; ConfigError with the nearest."""
    import timm

    own = name.removeprefix(TIMM)
    architecture = own.partition(".")[0]
    if timm.is_model(architecture) and (own == architecture or own in timm.list_pretrained()):
        return timm.get_pretrained_cfg(own)
    tags = timm.list_pretrained(f"{architecture}.*")
    known = tags if timm.is_model(architecture) else timm.list_models()
    close = difflib.get_close_matches(own, known, 3, cutoff=0.5) or tags[:3]
    nearest = f"; the nearest: {', '.join(TIMM + n for n in close)}" if close else ""
    raise ConfigError(f"classifier {name} is not known to timm {timm.__version__}{nearest}")


def _published(settings: Any) -> Hub | None:
    if not settings.hf_hub_id:
        return None
    return Hub(settings.hf_hub_id, settings.hf_hub_filename or Hub._field_defaults["file"])


def _smallest(name: str, sides: list[int]) -> tuple[int, Footprint]:
    """The first of these sides at which a network of timm runs, and what it keeps in memory."""
    import timm
    import torch

    reason = ""
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            net = timm.create_model(name.removeprefix(TIMM), pretrained=False, num_classes=0)
            for side in sides:
                try:
                    return side, _footprint(net, side)
                except (AssertionError, IndexError, RuntimeError, ValueError) as error:
                    reason = f"at {side} pixels: {error}"
    except Exception as error:  # what builds a network of timm raises anything
        reason = str(error) or type(error).__name__
    said = (reason.splitlines() or [""])[0]
    raise ConfigError(f"classifier {name}: timm's network does not run ({said})")


def _footprint(net: Any, side: int) -> Footprint:
    """Counted at ``side`` pixels; raises RuntimeError where it gives no vector of features."""
    fewer, more = (_kept(net, batch, side) for batch in (2, 3))
    parameters = sum(weight.numel() for weight in net.parameters())
    return Footprint(parameters / 1e6, (more - fewer) / 1e6 * (PICTURE / side) ** 2)


def _kept(net: Any, batch: int, side: int) -> int:
    """Bytes that the backward pass of a batch keeps besides the weights, on any device."""
    import torch

    own = {weight.untyped_storage()._cdata for weight in net.parameters()}
    kept: dict[int, Any] = {}  # storages stay alive while they are counted

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    device = next(net.parameters()).device
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        features = net(torch.zeros(batch, 3, side, side, device=device))
    if features.shape[:-1] != (batch,):
        raise RuntimeError(f"no vector of features for an image, but {tuple(features.shape)}")
    return sum(storage.nbytes() for storage in kept.values())
