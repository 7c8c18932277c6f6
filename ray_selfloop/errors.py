"""Every error that this program raises on purpose.

One message argument each: an exception with another signature loses its type when Ray carries it
from a worker to the driver.
"""


class SelfLoopError(Exception):
    """Base of all errors whose message is meant for the user; shown without a traceback."""


class ConfigError(SelfLoopError):
    """The sweep asks for something that does not exist or is out of range (exit code 2)."""


class DataError(SelfLoopError):
    """A dataset's files are missing, incomplete or not what they should be (exit code 2)."""


class ResourceError(SelfLoopError):
    """The sweep asks for more than the cluster has (exit code 2)."""


class HeadSilent(ResourceError):  # noqa: N818  (it names what has happened)
    """The cluster's head does not answer; it may later (exit code 75)."""


class StorageError(SelfLoopError):
    """The storage cannot be read or written (exit code 2)."""


class StorageOutage(StorageError):  # noqa: N818  (it names what has happened)
    """The storage has not answered for long; the same may succeed later (exit code 75)."""


class CorruptRecord(StorageError):  # noqa: N818  (it names the thing that is damaged)
    """A published record or one of its artifacts is not what was published; it is recomputed.

    Where it ends a command, the record has been set aside (exit code 75).
    """


class StageError(SelfLoopError):
    """A stage failed; the stages that need its result do not run (exit code 1)."""


class WorkerLost(SelfLoopError):  # noqa: N818  (it says what happened to whom)
    """The process that computed a stage is gone; the stage is tried again."""


class MachineLost(WorkerLost):
    """The machine of that process is gone too."""
