"""The processes that share one fine-tune, as one of them sees them.

Whoever calls has initialised torch.distributed where there is more than one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from ray_selfloop.errors import WorkerLost


class PeerLost(WorkerLost):
    """Another process of the fine-tune is gone; whoever started them all can start them again."""


@contextmanager
def _together() -> Iterator[None]:
    """An error of a collective operation says that another process does not answer."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise PeerLost(f"another worker of the fine-tune is lost: {error}") from error


class World(NamedTuple):
    """This process's number, 0..size-1, and how many there are."""

    rank: int
    size: int

    def sum_(self, values: Tensor) -> None:
        """Add up ``values`` of all processes, in place."""
        if self.size > 1:
            with _together():
                dist.all_reduce(values)

    def first_ones(self, content: bytes | None, device: torch.device) -> bytes | None:
        """What process 0 gave, in every process."""
        box = [content]
        if self.size > 1:
            with _together():
                dist.broadcast_object_list(box, src=0, device=device)
        return box[0]


ALONE = World(rank=0, size=1)
