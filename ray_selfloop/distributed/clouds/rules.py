"""What this project asks of a cluster file on AWS, beyond what Ray checks: one rule, one message.

Every rule reads the parsed file alone: nothing is asked of AWS, and nothing is known of prices,
quotas or what exists in an account. Adding a rule: a function from the cluster to its messages,
and its name in ``RULES``. A message is `place: what was found; what to change, or why`.
"""

import math
import os
import re
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

from ray_selfloop.distributed.clouds import aws
from ray_selfloop.distributed.clouds.file import (
    ROOTS,
    Cluster,
    NodeType,
    Tree,
    at,
    leaves,
    single_commands,
    storage_of,
)

LEAST_DISK_GB = 200  # the image unpacked (about 30), weights, spilled objects, the system
IDLE_MINUTES = (1, 60)  # least and most
LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|::1|\[::1\])(:\d+)?")
TOKEN_FILE = ".ray/auth_token"
WATCHER = "ray_selfloop.distributed.clouds.aws_spot"
HEAD_PORT = "6379"  # Ray's default
IMAGE = re.compile(r"(?P<name>.+?)(:(?P<tag>[\w.-]+))?(@sha256:[0-9a-f]{64})?")
RAY_IN_IMAGE = re.compile(r"(?<![a-z])ray[:_-]?(\d+\.\d+\.\d+)")
CPU_BUILD = re.compile(r"(?<![a-z])cpu(?![a-z])")
GPU_BUILD = re.compile(r"(?<![a-z])(gpu|cu\d+)(?![a-z])")
RAY_START = re.compile(r"\bray\s+start\b")
WITH_TOKEN = re.compile(
    r"(\bexport\b[^;&|]*\bRAY_AUTH_MODE=['\"]?token\b.*"
    r"|\bRAY_AUTH_MODE=['\"]?token\b['\"]?[ \t][^;&|\n]*)\bray\s+start\b",
    re.DOTALL,
)
WITHOUT_TOKEN = re.compile(
    r"RAY_AUTH_MODE=(?!(['\"]?)token\1([\s;&|)'\"]|$))[^\s;&|]*"
    r"|(\bunset\b[^;&|]*|\s-u\s*)RAY_AUTH_MODE\b"
)
"""No boundary before the name: Docker takes `-eRAY_AUTH_MODE=...`, too."""
INSTALLS = re.compile(
    r"\b(pip[\d.]*|uv|conda|mamba|apt|apt-get|dnf|yum)\s[^;&|\n]*(?<![-\w])(install|add|sync)\b"
)
LISTENERS = {
    "ray start": (RAY_START, re.compile(r"\s--dashboard-host[=\s]\s*['\"]?([^\s'\"]+)")),
    "mlflow": (
        re.compile(r"\bmlflow\b"),
        re.compile(r"[\s'\"=](?:--host|--bind|-h|-b)(?:=|\s+|(?=\d))['\"]?([^\s'\"]+)"),
    ),
    "MLFLOW_HOST": (re.compile("MLFLOW_HOST"), re.compile(r"MLFLOW_HOST=['\"]?([^\s'\"]+)")),
}
"""Programs that others may reach: how one sees them in a command, and the address they take."""
SECRETS = {
    "an AWS access key": re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"),
    "an AWS secret": re.compile(r"aws_(secret_access_key|session_token)", re.IGNORECASE),
    "a token of Ray": re.compile(r"RAY_AUTH_TOKEN=|(?<!sha256:)\b[0-9a-f]{64}\b"),
    "a token of the Hugging Face hub": re.compile(r"\bhf_[A-Za-z0-9]{20,}"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a password in a URL": re.compile(r"://[^/@:\s]*:(?!\d+/)[^@\s$][^@\s]*@"),
    "a password or token": re.compile(
        r"((password|secret|secret_key|api_key|token)=|--(password|token)\s+)"
        r"(?!(?:0|1|true|false)\b)['\"]?[^\s'\"$`;&|)]",
        re.IGNORECASE,
    ),
}
CREDENTIALS = {".aws", ".ssh"}
Rule = Callable[[Cluster], Iterator[str]]


def head_is_small_and_stays(cluster: Cluster) -> Iterator[str]:
    """No GPU, never a worker, not spot: the head is paid for all the time, and all end with it."""
    head = cluster.head
    if head.gpus or aws.GPU_INSTANCE.match(head.instance):
        yield f"{head.place}: has a GPU ({head.instance}); the head only drives, give it none"
    for name in ("min_workers", "max_workers"):
        if head.entry.get(name, 0):
            yield f"{head.place}.{name}: {head.entry[name]}; 0, the head's type is for the head"
    if head.spot:
        yield f"{head.place}: is a spot node; the cluster ends with its head, make it on-demand"


def workers_come_and_go(cluster: Cluster) -> Iterator[str]:
    """Nothing is paid for while nothing runs, and something comes when there is work."""
    if cluster.tree["max_workers"] < 1:
        yield "max_workers: 0; at least 1, or no worker ever starts"
    for worker in cluster.workers:
        if worker.entry.get("min_workers", 0):
            found = worker.entry["min_workers"]
            yield f"{worker.place}.min_workers: {found}; 0, so that idle nodes go away"
        if worker.entry.get("max_workers", 1) < 1:
            found = worker.entry["max_workers"]
            yield f"{worker.place}.max_workers: {found}; at least 1, or take the type out"
        if "idle_timeout_s" in worker.entry:
            yield from _idle(f"{worker.place}.idle_timeout_s", worker.entry["idle_timeout_s"], 60)
    speed = cluster.tree.get("upscaling_speed", 1)
    if not math.isfinite(speed):
        yield f"upscaling_speed: {speed}; a finite number, or the autoscaler fails at every step"
    yield from _idle("idle_timeout_minutes", cluster.tree.get("idle_timeout_minutes", 5), 1)
    if at(cluster.tree, "provider", "cache_stopped_nodes") is not False:
        yield "provider.cache_stopped_nodes: give false; Ray's default keeps (and pays) disks"


def _idle(place: str, idle: float, minute: int) -> Iterator[str]:
    least, most = (minute * limit for limit in IDLE_MINUTES)
    if idle < least:
        yield f"{place}: {idle:g}; at least {least}: a new node would end before its work comes"
    elif not idle <= most:
        yield f"{place}: {idle:g}; at most {most}: idle nodes cost"


def nothing_outlives_the_cluster(cluster: Cluster) -> Iterator[str]:
    """What Ray ends is gone: no disk stays, and no spot request that starts the node again."""
    for kind in cluster.types:
        place, options = f"{kind.place}.node_config", ("InstanceMarketOptions", "SpotOptions")
        if any(disk.get("DeleteOnTermination") is not True for disk in kind.disks):
            yield f"{place}.BlockDeviceMappings: give DeleteOnTermination: true on every disk"
        if at(kind.node, *options, "SpotInstanceType") == "persistent":
            yield f"{place}: a persistent spot request; AWS would start again what Ray ended"
        if kind.node.get("DisableApiTermination"):
            yield f"{place}.DisableApiTermination: take it out, or Ray cannot end it"


def there_is_a_gpu(cluster: Cluster) -> Iterator[str]:
    """At least one type of worker has one."""
    if not any(worker.gpus for worker in cluster.workers):
        yield "available_node_types: no type of worker has a GPU; give one resources: {GPU: 1}"


def spot_falls_back(cluster: Cluster) -> Iterator[str]:
    """Each spot type has an on-demand type of equal shape and lower priority beside it.

    Equal, because the autoscaler looks at the fit before the priority: with fewer slots beside the
    same GPU the on-demand type would come first.
    """
    for spot in (worker for worker in cluster.workers if worker.spot):
        alike = [
            other
            for other in cluster.workers
            if not other.spot
            and (other.instance, other.resources) == (spot.instance, spot.resources)
        ]
        if not alike:
            yield (
                f"{spot.place}: spot without fallback; add an on-demand type with {spot.instance} "
                "and the same resources"
            )
        elif all(other.priority >= spot.priority for other in alike):
            yield (
                f"{alike[0].place}.priority: {alike[0].priority}; less than {spot.priority}, "
                f"{spot.name}'s, or spot is not preferred"
            )


def spot_is_watched(cluster: Cluster) -> Iterator[str]:
    """The watcher starts once the node runs Ray; before, it finds no node and ends."""
    commands = "\n".join(text for _, text in cluster.start("worker"))
    after = RAY_START.split(commands, maxsplit=1)[1:]
    if any(worker.spot for worker in cluster.workers) and WATCHER not in "".join(after):
        yield (
            "worker_start_ray_commands: spot nodes, and no watcher after `ray start`; add "
            f"`python -m {WATCHER} $RAY_HEAD_IP:{HEAD_PORT}`, or work ends without notice"
        )


def resources_fit_the_machine(cluster: Cluster) -> Iterator[str]:
    """CPU and GPU are given, and `slot`, by which trials are placed, is at most CPU."""
    for kind in cluster.types:
        place, cpu = f"{kind.place}.resources", kind.resources.get("CPU")
        if cpu is None:
            yield f"{place}: CPU is missing; give the cores that may compute"
            continue
        if kind.cores and cpu > kind.cores:
            yield f"{place}.CPU: {cpu}; {kind.instance} has {kind.cores}"
        slots = kind.resources.get("slot", 0)
        if not cpu and kind is not cluster.head:
            yield f"{place}.CPU: 0; at least 1, and as many slots, or nothing runs there"
        elif slots > cpu:
            yield f"{place}.slot: {slots}; at most CPU, {cpu}: a slot is one core's work"
        elif cpu and not slots:
            yield f"{place}: slot is missing; give {cpu}, as many as CPU: trials are placed by it"


def nodes_reach_storage(cluster: Cluster) -> Iterator[str]:
    """An instance profile on every type, and a bucket."""
    for kind in cluster.types:
        profile = kind.node.get("IamInstanceProfile")
        if not (at(profile, "Name") or at(profile, "Arn")):
            yield (
                f"{kind.place}.node_config.IamInstanceProfile: missing; give {{Name: ...}}, or the "
                "node has no access to the storage"
            )
    storage = storage_of(cluster.tree)
    if storage is None:
        yield "docker.run_options: no --env=SELFLOOP_STORAGE=s3://...; MLflow's artifacts go there"
    elif not storage.startswith("s3://"):
        yield f"SELFLOOP_STORAGE: {storage!r}; an s3:// URI, since nodes come and go"


def machines_are_explicit(cluster: Cluster) -> Iterator[str]:
    """AMI, disk and metadata service: Ray's defaults are years old, small and open."""
    for kind in cluster.types:
        place = f"{kind.place}.node_config"
        if not kind.instance:
            yield f"{place}.InstanceType: missing; such as g6.2xlarge"
        if not kind.node.get("ImageId"):
            yield f"{place}.ImageId: missing; Ray's default is Ubuntu 18.04 with CUDA 11"
        yield from _disk(kind, f"{place}.BlockDeviceMappings")
        if at(kind.node, "MetadataOptions", "HttpTokens") != "required":
            yield f"{place}.MetadataOptions: give HttpTokens: required (IMDSv2 alone)"


def _disk(kind: NodeType, place: str) -> Iterator[str]:
    if kind.root_gb < LEAST_DISK_GB:
        yield (
            f"{place}: {kind.root_gb} GB on {' or '.join(ROOTS)}, the system's disk; at least "
            f"{LEAST_DISK_GB}: the image alone takes about 30"
        )
    if any(disk.get("Encrypted") is not True for disk in kind.disks):
        yield f"{place}: give Encrypted: true on every disk"


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


def options_of_docker_are_texts(cluster: Cluster) -> Iterator[str]:
    """`- --label=a: b` is no text in YAML, and Ray fails on it when the node has started."""
    for key in ("run_options", "head_run_options", "worker_run_options"):
        for number, option in enumerate(at(cluster.tree, "docker", key) or ()):
            if not isinstance(option, str):
                yield f"docker.{key}[{number}]: {option!r}; a text, in quotes if need be"


def gpu_workers_run_the_gpu_build(cluster: Cluster) -> Iterator[str]:
    """PyTorch of the CPU build sees no GPU: the nodes would cost, and their trials fail."""
    _, heads = cluster.image_of(cluster.head)
    for worker in (worker for worker in cluster.workers if worker.gpus):
        place, image = cluster.image_of(worker)
        found = IMAGE.fullmatch(image)
        tag = (found and found["tag"]) or ""
        if CPU_BUILD.search(tag):
            yield f"{place}: {image}; workers with GPUs need the GPU build, not the head's"
        elif image and image == heads and not GPU_BUILD.search(tag):
            yield f"{place}: {image}, as on the head; workers with GPUs need the GPU build"
    if at(cluster.tree, "docker", "disable_automatic_runtime_detection"):
        yield "docker.disable_automatic_runtime_detection: take it out, or containers see no GPU"


def every_node_asks_for_the_token(cluster: Cluster) -> Iterator[str]:
    """Whoever reaches Ray without authentication runs code on every node."""
    for place, text in (*cluster.start("head"), *cluster.start("worker")):
        if RAY_START.search(text) and not WITH_TOKEN.search(text):
            yield f"{place}: `ray start` without `export RAY_AUTH_MODE=token;` before it"
    for place, text in cluster.shell:
        found = WITHOUT_TOKEN.search(text)
        if found:
            yield f"{place}: `{found[0].strip()}`; leave it at token, or all may run code here"
    mounts: Tree = cluster.tree.get("file_mounts") or {}
    files = [str(own) for there, own in mounts.items() if str(there).endswith(TOKEN_FILE)]
    if not files:
        yield f"file_mounts: no token; add /home/ray/{TOKEN_FILE}: ~/{TOKEN_FILE}"
    for path in (Path(os.path.expanduser(own)) for own in files):
        if not path.is_file() or not path.stat().st_size:
            made = "make it: ray get-auth-token --generate"
            yield f"file_mounts: {path} is not there, or empty; {made}"


def only_ssh_is_open(cluster: Cluster) -> Iterator[str]:
    """Dashboard and MLflow are reached through the tunnel alone."""
    for place, text in cluster.shell:
        for command in single_commands(text):
            for name, (program, address) in LISTENERS.items():
                hosts = address.findall(command) if program.search(command) else []
                for host in (host for host in hosts if not LOOPBACK.fullmatch(host)):
                    yield f"{place}: `{name}` on {host}; give 127.0.0.1"
    if at(cluster.tree, "provider", "security_group", "IpPermissions"):
        yield "provider.security_group.IpPermissions: opens ports; ssh and the tunnel are enough"


def ray_starts_and_scales(cluster: Cluster) -> Iterator[str]:
    """The start commands start Ray, and the head gets this file to make workers by."""
    heads, workers = (
        " ".join(
            one
            for _, text in cluster.start(kind)
            for one in single_commands(text)
            if RAY_START.search(one)
        )
        for kind in ("head", "worker")
    )
    if not re.search(r"\s--head\b", heads):
        yield "head_start_ray_commands: no `ray start --head`"
    elif not re.search(r"--autoscaling-config[=\s]+\S*/ray_bootstrap_config\.yaml", heads):
        yield (
            "head_start_ray_commands: `ray start` without "
            "--autoscaling-config=~/ray_bootstrap_config.yaml; no worker would ever start"
        )
    given = re.search(r"\s--port[=\s]+(\d+)", heads)
    port = given[1] if given else HEAD_PORT
    if not re.search(r"--address[=\s]+\S*RAY_HEAD_IP", workers):
        yield (
            f"worker_start_ray_commands: no `ray start --address=$RAY_HEAD_IP:{port}`; "
            "no worker would ever join the head"
        )
    for place, text in cluster.start("worker"):
        for other in set(re.findall(r"RAY_HEAD_IP\}?:(\d+)", text)) - {port}:
            yield f"{place}: port {other} of the head, which listens on {port}"


def all_is_in_the_image(cluster: Cluster) -> Iterator[str]:
    """Nothing is installed on the nodes."""
    for key in ("setup_commands", "head_setup_commands"):
        if key not in cluster.tree:
            yield f"{key}: missing; give [], or Ray's defaults install other versions on every node"
    for place, text in cluster.shell:
        found = INSTALLS.search(text)
        if found and "initialization_commands" not in place:  # those run outside the container
            yield f"{place}: `{found[0]}`; put it into the image, nothing is installed on nodes"


def nothing_secret_is_written_down(cluster: Cluster) -> Iterator[str]:
    """The file is copied to the head, and people share it."""
    if at(cluster.tree, "provider", "aws_credentials"):
        yield "provider.aws_credentials: holds a secret; use your AWS profile and the nodes' own"
    for place, text in leaves(cluster.tree):
        held = next((what for what, pattern in SECRETS.items() if pattern.search(text)), None)
        if held:
            yield f"{place}: holds {held}; use the instance profiles and file_mounts"
    for own in (str(own) for own in (cluster.tree.get("file_mounts") or {}).values()):
        path = Path(os.path.abspath(os.path.expanduser(own)))
        if CREDENTIALS & set(path.parts) or Path.home().is_relative_to(path):
            yield f"file_mounts: {own} holds your keys; the nodes have instance profiles"


RULES: tuple[Rule, ...] = (
    *aws.RULES,
    head_is_small_and_stays,
    workers_come_and_go,
    nothing_outlives_the_cluster,
    there_is_a_gpu,
    spot_falls_back,
    spot_is_watched,
    resources_fit_the_machine,
    nodes_reach_storage,
    machines_are_explicit,
    images_are_pinned,
    options_of_docker_are_texts,
    gpu_workers_run_the_gpu_build,
    every_node_asks_for_the_token,
    only_ssh_is_open,
    ray_starts_and_scales,
    all_is_in_the_image,
    nothing_secret_is_written_down,
)
