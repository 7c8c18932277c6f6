"""Failed records: what is kept of a stage whose code ended in an error.

A failed record is evidence, not a result: it names the error and its traceback for people. The
stage still counts as missing, so that running the sweep again tries it again.
"""

import json
import time
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass

from ray_selfloop.graph import Stage
from ray_selfloop.store.blobs import Blobs, each

FAILURES = "failures"


@dataclass(frozen=True)
class Failure:
    """One failure. error: one line. detail: the traceback, or what else is known; when: Unix s."""

    key: str
    kind: str
    config: dict[str, object]
    error: str
    detail: str
    when: float


def publish(blobs: Blobs, stage: Stage, error: str, detail: str) -> None:
    """Add a failed record of ``stage``; the same error again is written over the last one."""
    failure = Failure(stage.key, stage.kind, dict(stage.config), error, detail, time.time())
    text = json.dumps(asdict(failure), indent=1, sort_keys=True)
    blobs.write(f"{FAILURES}/{stage.key}.json", text.encode())


def read(blobs: Blobs, key: str) -> Failure | None:
    """The last failure of a stage; None where it never failed, or the record is damaged."""
    content = blobs.read(f"{FAILURES}/{key}.json")
    try:
        return None if content is None else Failure(**json.loads(content))
    except (ValueError, TypeError):
        return None


def of(blobs: Blobs, missing: Iterable[str]) -> dict[str, Failure]:
    """Of missing stages those that have failed, by key."""
    listed = {name.rpartition("/")[2] for name in blobs.list(FAILURES)}
    failed = [key for key in missing if f"{key}.json" in listed]
    found = zip(failed, each(lambda key: read(blobs, key), failed), strict=True)
    return {key: failure for key, failure in found if failure}


def forget(blobs: Blobs, published: Collection[str]) -> None:
    """Delete the failed records of stages that have been published since."""
    for name in blobs.list(FAILURES):
        if name.rpartition("/")[2].removesuffix(".json") in published:
            blobs.delete(name)
