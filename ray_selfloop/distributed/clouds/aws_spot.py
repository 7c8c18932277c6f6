"""Drain this node when AWS takes it back.

`python -m ray_selfloop.distributed.clouds.aws_spot HEAD:PORT`

Started on every worker by `cluster.yaml`, because Ray's launcher does not watch AWS's notice. A
drained node gets no new work, and what still dies with it counts as preempted, not as failed. Ends
with the node's raylet; decides nothing about what runs here.
"""

import argparse
import json
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
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
SERVICE = "http://169.254.169.254"
HEADER = "X-aws-ec2-metadata-token"
PATIENCE = 5.0  # seconds for one answer
NOTICE = 120.0  # seconds that AWS promises between notice and end
TROUBLE = (OSError, HTTPException, RpcError)
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy


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


def notice(service: str) -> float | None:
    """When AWS ends this instance, in seconds since 1970; None where it has not said so.

    Asks the instance metadata service, version 2; raises OSError or HTTPException where that does
    not answer as it should.
    """
    token = _ask(f"{service}/latest/api/token", "PUT", {f"{HEADER}-ttl-seconds": "60"})
    try:
        said = _ask(f"{service}/latest/meta-data/spot/instance-action", "GET", {HEADER: token})
    except urllib.error.HTTPError as error:
        if error.code == 404:  # AWS's word for: no notice
            return None
        raise
    try:
        return datetime.fromisoformat(json.loads(said)["time"]).timestamp()
    except (KeyError, TypeError, ValueError):  # a notice all the same
        return time.time() + NOTICE


def _ask(url: str, method: str, headers: dict[str, str]) -> str:
    request = urllib.request.Request(url, headers=headers, method=method)
    with DIRECT.open(request, timeout=PATIENCE) as answer:
        return str(answer.read().decode())


def watch(node: Node, service: str, every: float) -> None:
    """Ask every so many seconds, until the node is drained or its raylet is gone."""
    trouble = ""
    while node.lives():
        try:
            end = notice(service)
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


def main(words: Sequence[str] | None = None) -> int:
    """Watch this node; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="of Ray's head, HOST:PORT")
    parser.add_argument("--instance", default=os.environ.get(INSTANCE, ""))
    parser.add_argument("--service", default=SERVICE, help="URL of the metadata service")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two questions")
    options = parser.parse_args(words)
    again = ["python", "-m", "ray_selfloop.distributed.clouds.aws_spot", *(words or sys.argv[1:])]
    return command.ended(lambda: _run(options), again)


def _run(options: argparse.Namespace) -> int:
    node = find(options.address, options.instance) if options.instance else None
    if node is None:
        _say(f"no node at {options.address} was started as {INSTANCE}={options.instance!r}")
        return BAD_INPUT
    _say(f"watching for a spot notice of {options.instance}")
    watch(node, options.service, options.every)
    return DONE


def _say(line: str) -> None:
    print(f"{datetime.now().isoformat(timespec='seconds')} {line}", flush=True)


if __name__ == "__main__":
    sys.exit(command.program(main))
