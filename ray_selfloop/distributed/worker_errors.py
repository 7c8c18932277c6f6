"""Notes: what the workers of one attempt leave in the storage for whoever started them.

Ray Data and Ray Train wrap what is raised in a worker until it can no longer be told from a lost
worker. So an error of the code leaves a note; an attempt that ends without one was lost.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from ray_selfloop.distributed.losses import is_loss
from ray_selfloop.errors import StageError
from ray_selfloop.graph import Stage
from ray_selfloop.store.records import Store

FAILED = "failed"


class Notes:
    """The notes of one attempt at a stage."""

    def __init__(self, store: Store, stage: Stage, attempt: str) -> None:
        self._place, self._attempt = store.unfinished(stage.key), attempt

    def read(self, name: str) -> str | None:
        """What was written last under a name, or None."""
        found = self._place.read(f"{self._attempt}-{name}")
        return None if found is None else found.decode()

    def write(self, name: str, text: str) -> None:
        self._place.write(f"{self._attempt}-{name}", text.encode())

    @contextmanager
    def errors(self) -> Iterator[None]:
        """In a worker: an error of the code within the block leaves a note, and goes on."""
        try:
            yield
        except Exception as error:
            if not is_loss(error):
                said = " ".join(str(error).split())
                detail = traceback.format_exc()
                self.write(FAILED, f"{type(error).__name__}: {said}\n{detail}")
            raise

    def check(self) -> None:
        """Raise StageError, with the worker's traceback as its note, where the code failed."""
        said = self.read(FAILED)
        if said is not None:
            line, _, detail = said.partition("\n")
            failure = StageError(line)
            failure.add_note(detail)
            raise failure
