"""Calls and commands of another user of this machine; only root can make them."""

import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

OTHER = 65534  # uid and gid of nobody, who owns nothing
PYTHON = (Path(sys.prefix), Path(sys.base_prefix), Path(__file__))
OPEN = all(above.stat().st_mode & 0o005 for path in PYTHON for above in path.resolve().parents)
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be another user")
needs_open_python = pytest.mark.skipif(not OPEN, reason="this Python is closed to other users")


def as_other(call: Callable[..., Any], *arguments: object) -> Any:
    """The result of a call in a process of another user, with all modules that this one has."""
    with ProcessPoolExecutor(1, get_context("fork"), os.setuid, (OTHER,)) as pool:
        return pool.submit(call, *arguments).result()
