"""Every error that this program raises on purpose.

One message argument each: an exception with another signature loses its type when Ray carries it
from a worker to the driver.
"""

DONE = 0
FAILED = 1  # some stages failed, the rest of the sweep is finished
BAD_INPUT = 2  # the user has to mend it; found before anything is computed
TRY_AGAIN = 75  # something outside went wrong, and the same command may go on
INTERRUPTED = 130
"""With what every command ends."""


def last_line(error: BaseException) -> str:
    """What the text of an error ends with; its type where it has no text."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


class SelfLoopError(Exception):
    """Base of all errors whose message is meant for the user; shown without a traceback.

    exit_code: of the command that it ends.
    """

    exit_code = BAD_INPUT


class ConfigError(SelfLoopError):
    """The sweep asks for something that does not exist or is out of range."""


class DataError(SelfLoopError):
    """A dataset's files are missing, incomplete or not what they should be."""


class ResourceError(SelfLoopError):
    """The sweep asks for more than the cluster has."""


class HeadSilent(ResourceError):  # noqa: N818  (it names what has happened)
    """The cluster's head does not answer; it may later."""

    exit_code = TRY_AGAIN


class StorageError(SelfLoopError):
    """The storage cannot be read or written."""


class StorageOutage(StorageError):  # noqa: N818  (it names what has happened)
    """The storage has not answered for long; the same may succeed later."""

    exit_code = TRY_AGAIN


class CorruptRecord(StorageError):  # noqa: N818  (it names the thing that is damaged)
    """A published record or one of its artifacts is not what was published; it is recomputed.

    Where it ends a command, the record has been set aside.
    """

    exit_code = TRY_AGAIN


class StageError(SelfLoopError):
    """A stage failed; the stages that need its result do not run."""

    exit_code = FAILED


class WorkerLost(SelfLoopError):  # noqa: N818  (it says what happened to whom)
    """The process that computed a stage is gone; the stage is tried again."""

    exit_code = TRY_AGAIN


class MachineLost(WorkerLost):
    """The machine of that process is gone too."""
