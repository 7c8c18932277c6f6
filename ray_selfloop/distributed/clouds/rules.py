"""What this project asks of a cluster file on any cloud, beyond what Ray checks.

A rule stands here where its fault hangs, costs or opens something, and nothing else says so before:
what fails at once needs none. Every rule reads the parsed file alone. Adding one: a function from
the cluster to its messages, and its name in ``RULES``. A message is `place: what was found; what to
change, or why`.
"""

import math
import os
import re
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

from ray_selfloop.distributed.clouds.base import Tree
from ray_selfloop.distributed.clouds.file import Cluster, at, storage_of

IDLE_MINUTES = (1, 60)  # least and most
TOKEN_FILE = ".ray/auth_token"
TOKEN = "RAY_AUTH_MODE=token"
RAY_START = "ray start"
EVERYBODY = re.compile(r"(?<![\d.])0\.0\.0\.0|\[::\]")
HEAD_PORT = "6379"  # Ray's default
IMAGE = re.compile(r"(?P<name>.+?)(:(?P<tag>[\w.-]+))?(@sha256:[0-9a-f]{64})?")
RAY_IN_IMAGE = re.compile(r"(?<![a-z])ray[:_-]?(\d+\.\d+\.\d+)")
CPU_BUILD = re.compile(r"(?<![a-z])cpu(?![a-z])")
CREDENTIALS = {".aws", ".ssh"}
Rule = Callable[[Cluster], Iterator[str]]


def head_is_small_and_stays(cluster: Cluster) -> Iterator[str]:
    """No GPU, never a worker, not spot: the head is paid for all the time, and all end with it."""
    head = cluster.head
    if head.gpus or head.machine.gpus:
        yield f"{head.place}: has a GPU ({head.machine.name}); the head only drives, give it none"
    for name in ("min_workers", "max_workers"):
        if head.entry.get(name, 0):
            yield f"{head.place}.{name}: {head.entry[name]}; 0, the head's type is for the head"
    if head.machine.spot:
        yield f"{head.place}: is a spot node; the cluster ends with its head, make it on-demand"


def workers_come_and_go(cluster: Cluster) -> Iterator[str]:
    """Nothing is paid for while nothing runs, and something comes when there is work."""
    for worker in cluster.workers:
        if worker.entry.get("min_workers", 0):
            found = worker.entry["min_workers"]
            yield f"{worker.place}.min_workers: {found}; 0, so that idle nodes go away"
        if "idle_timeout_s" in worker.entry:
            yield from _idle(f"{worker.place}.idle_timeout_s", worker.entry["idle_timeout_s"], 60)
    speed = cluster.tree.get("upscaling_speed", 1)
    if not math.isfinite(speed):
        yield f"upscaling_speed: {speed}; a finite number, or the autoscaler fails at every step"
    yield from _idle("idle_timeout_minutes", cluster.tree.get("idle_timeout_minutes", 5), 1)


def _idle(place: str, idle: float, minute: int) -> Iterator[str]:
    least, most = (minute * limit for limit in IDLE_MINUTES)
    if idle < least:
        yield f"{place}: {idle:g}; at least {least}: a new node would end before its work comes"
    elif not idle <= most:
        yield f"{place}: {idle:g}; at most {most}: idle nodes cost"


def spot_falls_back(cluster: Cluster) -> Iterator[str]:
    """Each spot type has an on-demand type of equal shape and lower priority beside it.

    Equal, because the autoscaler looks at the fit before the priority: with fewer slots beside the
    same GPU the on-demand type would come first.
    """
    for spot in (worker for worker in cluster.workers if worker.machine.spot):
        shape = (spot.machine.name, spot.resources)
        alike = [
            other
            for other in cluster.workers
            if not other.machine.spot and (other.machine.name, other.resources) == shape
        ]
        if not alike:
            yield (
                f"{spot.place}: spot without fallback; add an on-demand type with "
                f"{spot.machine.name} and the same resources"
            )
        elif all(other.priority >= spot.priority for other in alike):
            yield (
                f"{alike[0].place}.priority: {alike[0].priority}; less than {spot.priority}, "
                f"{spot.name}'s, or spot is not preferred"
            )


def spot_is_watched(cluster: Cluster) -> Iterator[str]:
    """What the cloud announces before it takes a node drains the node."""
    commands, watcher = " ".join(text for _, text in cluster.start("worker")), cluster.cloud.watcher
    spot = any(worker.machine.spot for worker in cluster.workers)
    if spot and watcher and watcher not in commands.partition(RAY_START)[2]:
        yield (
            "worker_start_ray_commands: spot nodes, and no watcher after `ray start`; add "
            f"`python -m {watcher} $RAY_HEAD_IP:{HEAD_PORT}`, or work ends without notice"
        )


def gpus_are_those_of_the_machine(cluster: Cluster) -> Iterator[str]:
    """All that are paid for; what else is too little a sweep says when it starts."""
    for kind in cluster.workers:
        has = kind.machine.gpus
        if has is not None and has != kind.gpus:
            found = f"{kind.gpus}; {kind.machine.name} has {has or 'none'}"
            yield f"{kind.place}.resources.GPU: {found}"


def storage_is_a_bucket(cluster: Cluster) -> Iterator[str]:
    """Results, and what MLflow keeps, must outlive nodes."""
    storage, bucket = storage_of(cluster.tree), cluster.cloud.bucket
    if storage is None:
        option = f"--env=SELFLOOP_STORAGE={bucket}..."
        yield f"docker.run_options: no {option}; MLflow's artifacts go there"
    elif not storage.startswith(bucket):
        yield f"SELFLOOP_STORAGE: {storage!r}; give {bucket}BUCKET/PATH, since nodes come and go"


def machines_are_named(cluster: Cluster) -> Iterator[str]:
    """A worker without a machine is asked for in vain, again and again."""
    for kind in cluster.types:
        if not kind.machine.name:
            yield f"{kind.place}.node_config: names no machine of {cluster.cloud.title}"


def images_are_pinned(cluster: Cluster) -> Iterator[str]:
    """Head and workers run known builds, with the Ray that is installed here.

    Autoscaler v2 reads `image` wherever there is a `worker_image`, and without it fails on every
    worker that it has started, again and again.
    """
    images = cluster.images()
    if not images.get("docker.image"):
        yield "docker.image: missing; give the workers' here, worker_image alone starts no worker"
    for place, image in images.items():
        found = IMAGE.fullmatch(image)
        if found and "@sha256:" not in image and found["tag"] in (None, "latest", "nightly"):
            yield f"{place}: {image}; pin a tag that names a build"
        here, there = version("ray"), RAY_IN_IMAGE.search(image)
        if there and there[1] != here:
            yield f"{place}: {image} has Ray {there[1]}, here is {here}; both must be the same"
    for worker in (worker for worker in cluster.workers if worker.gpus):
        place, image = cluster.image_of(worker)
        found = IMAGE.fullmatch(image)
        if found and CPU_BUILD.search(found["tag"] or ""):
            yield f"{place}: {image}; workers with GPUs need the GPU build, not the head's"


def options_of_docker_are_texts(cluster: Cluster) -> Iterator[str]:
    """`- --label=a: b` is no text in YAML, and Ray fails on it when the node has started."""
    for key in ("run_options", "head_run_options", "worker_run_options"):
        for number, option in enumerate(at(cluster.tree, "docker", key) or ()):
            if not isinstance(option, str):
                yield f"docker.{key}[{number}]: {option!r}; a text, in quotes if need be"


def every_node_asks_for_the_token(cluster: Cluster) -> Iterator[str]:
    """Whoever reaches Ray without authentication runs code on every node."""
    for place, text in (*cluster.start("head"), *cluster.start("worker")):
        before, start, _ = text.partition(RAY_START)
        if start and f"export {TOKEN}" not in before and not before.endswith(f"{TOKEN} "):
            yield f"{place}: `ray start` without `export {TOKEN};` before it"
    for place, text in cluster.shell:
        if "RAY_AUTH_MODE" in text.replace(TOKEN, ""):
            yield f"{place}: RAY_AUTH_MODE; leave it at {TOKEN}, or all may run code here"
    mounts: Tree = cluster.tree.get("file_mounts") or {}
    files = [str(own) for there, own in mounts.items() if str(there).endswith(TOKEN_FILE)]
    if not files:
        yield f"file_mounts: no token; add /home/ray/{TOKEN_FILE}: ~/{TOKEN_FILE}"
    for path in (Path(os.path.expanduser(own)) for own in files):
        if not path.is_file() or not path.stat().st_size:
            made = "make it: ray get-auth-token --generate"
            yield f"file_mounts: {path} is not there, or empty; {made}"


def nothing_listens_to_everybody(cluster: Cluster) -> Iterator[str]:
    """Dashboard and MLflow are reached through the tunnel alone."""
    for place, text in cluster.shell:
        for host in EVERYBODY.findall(text):
            yield f"{place}: {host}; give 127.0.0.1, the tunnel is enough"


def ray_starts_and_scales(cluster: Cluster) -> Iterator[str]:
    """The head gets this file to make workers by, and they find it."""
    heads = " ".join(text for _, text in cluster.start("head") if RAY_START in text)
    workers = " ".join(text for _, text in cluster.start("worker"))
    if "--head" not in heads:
        yield "head_start_ray_commands: no `ray start --head`"
    elif "--autoscaling-config" not in heads:
        yield (
            "head_start_ray_commands: `ray start` without "
            "--autoscaling-config=~/ray_bootstrap_config.yaml; no worker would ever start"
        )
    if not re.search(r"--address[=\s]+\S*RAY_HEAD_IP", workers):
        yield (
            f"worker_start_ray_commands: no `ray start --address=$RAY_HEAD_IP:{HEAD_PORT}`; "
            "no worker would ever join the head"
        )
    given = re.search(r"\s--port[=\s]+(\d+)", heads)
    port = given[1] if given else HEAD_PORT
    for other in sorted(set(re.findall(r"RAY_HEAD_IP\}?:(\d+)", workers)) - {port}):
        yield f"worker_start_ray_commands: port {other} of the head, which listens on {port}"


def rays_defaults_install_nothing(cluster: Cluster) -> Iterator[str]:
    """Another Ray on the nodes than here: they never join."""
    for key in ("setup_commands", "head_setup_commands"):
        if key not in cluster.tree:
            yield f"{key}: missing; give [], or Ray's defaults install other versions on every node"


def your_keys_stay_here(cluster: Cluster) -> Iterator[str]:
    """Whatever runs on a node could use them."""
    for own in (str(own) for own in (cluster.tree.get("file_mounts") or {}).values()):
        path = Path(os.path.abspath(os.path.expanduser(own)))
        if CREDENTIALS & set(path.parts) or Path.home().is_relative_to(path):
            yield f"file_mounts: {own} holds your keys; the nodes have instance profiles"


RULES: tuple[Rule, ...] = (
    head_is_small_and_stays,
    workers_come_and_go,
    spot_falls_back,
    spot_is_watched,
    gpus_are_those_of_the_machine,
    storage_is_a_bucket,
    machines_are_named,
    images_are_pinned,
    options_of_docker_are_texts,
    every_node_asks_for_the_token,
    nothing_listens_to_everybody,
    ray_starts_and_scales,
    rays_defaults_install_nothing,
    your_keys_stay_here,
)
