"""A local Ray as a sweep starts it, in a process of its own, until its input ends."""

import json
import os
import sys

import ray

from ray_selfloop.config.sweep import Resources
from ray_selfloop.distributed.cluster import SLOT, connect, leave


@ray.remote(num_cpus=0, resources={SLOT: 1})
def seen() -> dict[str, object]:
    return {"nice": os.nice(0), "address": ray.util.get_node_ip_address(), "pid": os.getpid()}


connect(Resources(num_cpus=1, nice=2))
context = ray.get_runtime_context()
session = ray._private.worker._global_node.get_session_dir_path()
said = {"head": context.gcs_address, "session": session, "token": os.environ["RAY_AUTH_TOKEN"]}
print(json.dumps({**said, **ray.get(seen.remote())}), flush=True)
sys.stdin.read()
leave()
