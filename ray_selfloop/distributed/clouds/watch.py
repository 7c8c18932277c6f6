"""Drain this node when its cloud takes it back: what of that is the same on every cloud.

A drained node gets no new work, and what still dies with it counts as preempted, not as failed.
Ends with the node's raylet; decides nothing about what runs here. A cloud's own part is a function
that asks for its notice.
"""

import argparse
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPException
from typing import Any

from ray._raylet import GcsClient  # type: ignore[attr-defined]  # there is no public way to drain
from ray.core.generated.autoscaler_pb2 import DRAIN_NODE_REASON_PREEMPTION
from ray.core.generated.gcs_pb2 import GcsNodeInfo
from ray.exceptions import RpcError

from ray_selfloop import command
from ray_selfloop.errors import BAD_INPUT, DONE

INSTANCE = "RAY_CLOUD_INSTANCE_ID"  # set by autoscaler v2 for the commands that start a node
PATIENCE = 5.0  # seconds for one answer
TROUBLE = (OSError, HTTPException, RpcError)
Notice = Callable[[str], float | None]
"""When the cloud ends this machine, in seconds since 1970; None where it has not said so.

Asks the metadata service at an address; raises OSError or HTTPException where that does not answer
as it should.
"""


@dataclass(frozen=True)
class Node:
    """The Ray node on this machine."""

    gcs: Any
    info: Any

    def lives(self) -> bool:
        """Whether its raylet still listens."""
        address = (self.info.node_manager_address, self.info.node_manager_port)
        try:
            socket.create_connection(address, timeout=PATIENCE).close()
        except OSError:
            return False
        return True

    def drain(self, end: float) -> bool:
        """Ask for no more work; ``end``: when the machine goes, in seconds since 1970."""
        accepted, why = self.gcs.drain_node(
            self.info.node_id.hex(), DRAIN_NODE_REASON_PREEMPTION, "spot notice", int(end * 1000)
        )
        if not accepted:
            _say(f"Ray refused to drain this node: {why}")
        return bool(accepted)


def find(address: str, instance: str) -> Node | None:
    """The living node that was started under a cloud instance's name; raises RpcError."""
    gcs = GcsClient(address=address)
    living = gcs.get_all_node_info(timeout=30, state_filter=GcsNodeInfo.GcsNodeState.ALIVE)
    own = [info for info in living.values() if info.instance_id == instance]
    return Node(gcs, own[0]) if own else None


def watch(node: Node, notice: Callable[[], float | None], every: float) -> None:
    """Ask every so many seconds, until the node is drained or its raylet is gone."""
    trouble = ""
    while node.lives():
        try:
            end = notice()
            if end is not None and node.drain(end):
                _say(f"spot notice: this node ends in {end - time.time():.0f} s and is drained")
                return
            now = ""
        except TROUBLE as error:
            now = f"{type(error).__name__}: {error}; asking again"
        if now and now != trouble:
            _say(now)
        trouble = now
        time.sleep(every)
    _say("the node's raylet is gone")


def main(module: str, notice: Notice, service: str, words: Sequence[str] | None = None) -> int:
    """Watch this node; returns the exit code.

    module: what `python -m` was given. service: URL of the cloud's metadata service.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=__doc__)
    parser.add_argument("address", help="of Ray's head, HOST:PORT")
    parser.add_argument("--instance", default=os.environ.get(INSTANCE, ""))
    parser.add_argument("--service", default=service, help="URL of the metadata service")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two questions")
    options = parser.parse_args(words)
    again = ["python", "-m", module, *(words or sys.argv[1:])]
    return command.ended(lambda: _run(options, notice), again)


def _run(options: argparse.Namespace, notice: Notice) -> int:
    node = find(options.address, options.instance) if options.instance else None
    if node is None:
        _say(f"no node at {options.address} was started as {INSTANCE}={options.instance!r}")
        return BAD_INPUT
    _say(f"watching for a spot notice of {options.instance}")
    watch(node, lambda: notice(options.service), options.every)
    return DONE


def _say(line: str) -> None:
    print(f"{datetime.now().isoformat(timespec='seconds')} {line}", flush=True)
