"""Drain this node when AWS takes it back.

`python -m ray_selfloop.distributed.clouds.aws_spot HEAD:PORT`

Started on every worker by `cluster.yaml`, because Ray's launcher does not watch AWS's notice.
"""

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from datetime import datetime

from ray_selfloop import command
from ray_selfloop.distributed.clouds import watch

MODULE = "ray_selfloop.distributed.clouds.aws_spot"
SERVICE = "http://169.254.169.254"
HEADER = "X-aws-ec2-metadata-token"
NOTICE = 120.0  # seconds that AWS promises between notice and end
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy


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
    with DIRECT.open(request, timeout=watch.PATIENCE) as answer:
        return str(answer.read().decode())


def main(words: Sequence[str] | None = None) -> int:
    return watch.main(MODULE, notice, SERVICE, words)


if __name__ == "__main__":
    sys.exit(command.program(main))
