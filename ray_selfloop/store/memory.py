"""How much memory this process has held at most: what a machine must have to run a stage.

Linux keeps the peak of a process's resident memory and can forget it, so that a worker which runs
one stage after another knows the peak of each. Elsewhere nothing is known.
"""

from pathlib import Path

SELF = Path("/proc/self")
FORGET = "5"  # of clear_refs: the peak is what is held now


def forget_peak() -> None:
    """From now on the peak is of what comes."""
    try:
        (SELF / "clear_refs").write_text(FORGET)
    except OSError:  # another system, or one that refuses: the peak is of the whole process
        return


def peak() -> int | None:
    """Peak resident memory in bytes, shared pages included; None where it is not known."""
    try:
        lines = (SELF / "status").read_text().splitlines()
    except OSError:
        return None
    found = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return next((1024 * int(kilobytes) for kilobytes in found), None)
