"""Calls and commands of another user of this machine; only root can make them."""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

OTHER = 65534  # uid and gid of nobody, who owns nothing
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be another user")


def as_other(call: Callable[..., Any], *arguments: object) -> Any:
    """The result of a call in a process of another user, with all modules that this one has."""
    with ProcessPoolExecutor(1, get_context("fork"), os.setuid, (OTHER,)) as pool:
        return pool.submit(call, *arguments).result()
