"""What this project asks of a cluster file on AWS, beyond what Ray checks: one rule, one message.

Every rule reads the parsed file alone: nothing is asked of AWS, and nothing is known of prices,
quotas or what exists in an account. Adding a rule: a function from the cluster to its messages,
and its name in ``RULES``. A message is `place: what was found; what to change, or why`.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

Tree = Mapping[str, Any]

PLACEHOLDER = "FILL-IN"
LEAST_DISK_GB = (
    200  # the image unpacked (about 30), weights, spilled objects, the node's own system
)
LONGEST_IDLE_MINUTES = 60
LOOPBACK = ("127.0.0.1", "localhost")
TOKEN_FILE = ".ray/auth_token"
STORAGE_OPTION = "--env=SELFLOOP_STORAGE="
GPU_INSTANCE = re.compile(r"(g\d|gr\d|p\d)")
XLARGE = re.compile(r"\.(\d*)xlarge$")
IMAGE = re.compile(r"(?P<name>.+?)(:(?P<tag>[\w.-]+))?(@sha256:[0-9a-f]{64})?")
RAY_IN_IMAGE = re.compile(r"ray[:_-]?(\d+\.\d+\.\d+)")
BOUND = {
    "ray start --head": re.compile(r"--dashboard-host[= ](\S+)"),
    "mlflow server": re.compile(r"(?:--host|-h)[= ](\S+)"),
}
SECRETS = {
    "an AWS access key": re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"),
    "an AWS secret": re.compile(r"aws_(secret_access_key|session_token)", re.IGNORECASE),
    "a token of Ray": re.compile(r"RAY_AUTH_TOKEN=|(?<!sha256:)\b[0-9a-f]{64}\b"),
    "a token of the Hugging Face hub": re.compile(r"\bhf_[A-Za-z0-9]{20,}"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
}


@dataclass(frozen=True)
class NodeType:
    """One entry of `available_node_types`.

    place: its path in the file, for messages. node: its `node_config`, AWS's own keys.
    resources: what it has, by Ray's names (CPU, GPU, slot).
    """

    name: str
    place: str
    entry: Tree
    node: Tree
    resources: Mapping[str, int]

    @property
    def instance(self) -> str:
        """AWS's name of the machine, such as g6.2xlarge; empty where none is given."""
        return str(self.node.get("InstanceType") or "")

    @property
    def spot(self) -> bool:
        """Whether AWS may take the node back."""
        return at(self.node, "InstanceMarketOptions", "MarketType") == "spot"

    @property
    def priority(self) -> int:
        """The autoscaler prefers the higher of two types of one shape."""
        return int(self.entry.get("priority", 0))

    @property
    def cores(self) -> int | None:
        """vCPUs by AWS's naming of sizes: 4 for each `x` of an xlarge; None for other sizes."""
        size = XLARGE.search(self.instance)
        return 4 * int(size[1] or 1) if size else None

    @property
    def disks(self) -> list[Tree]:
        """The EBS settings of its disks, the system's first."""
        given = (at(mapping, "Ebs") for mapping in _list(self.node, "BlockDeviceMappings"))
        return [disk for disk in given if isinstance(disk, Mapping)]


@dataclass(frozen=True)
class Cluster:
    """A parsed cluster file whose schema Ray has accepted."""

    tree: Tree
    head: NodeType
    workers: tuple[NodeType, ...]

    @classmethod
    def of(cls, tree: Tree) -> "Cluster":
        """The view of a tree that has a head type."""
        types = {
            name: _node_type(name, entry) for name, entry in tree["available_node_types"].items()
        }
        head = types.pop(tree["head_node_type"])
        return cls(tree, head, tuple(types.values()))

    @property
    def types(self) -> tuple[NodeType, ...]:
        """The head's type, then the workers'."""
        return (self.head, *self.workers)

    def commands(self, kind: str) -> list[str]:
        """The start commands of `head` or `worker`."""
        return [str(command) for command in self.tree.get(f"{kind}_start_ray_commands") or []]


def head_is_small_and_stays(cluster: Cluster) -> Iterator[str]:
    """No GPU, never a worker, not spot: the head is paid for all the time, and all end with it."""
    head = cluster.head
    if head.resources.get("GPU", 0) or GPU_INSTANCE.match(head.instance):
        yield f"{head.place}: has a GPU ({head.instance}); the head only drives, give it none"
    for name in ("min_workers", "max_workers"):
        if head.entry.get(name, 0):
            yield f"{head.place}.{name}: {head.entry[name]}; 0, the head's type is for the head"
    if head.spot:
        yield f"{head.place}: is a spot node; the cluster ends with its head, make it on-demand"


def workers_scale_from_zero(cluster: Cluster) -> Iterator[str]:
    """Nothing is paid for while nothing runs."""
    for worker in cluster.workers:
        if worker.entry.get("min_workers", 0):
            found = worker.entry["min_workers"]
            yield f"{worker.place}.min_workers: {found}; 0, so that idle nodes go away"
        if worker.entry.get("max_workers", 1) < 1:
            yield f"{worker.place}.max_workers: 0; at least 1, or no node of this type ever starts"
    idle = cluster.tree.get("idle_timeout_minutes", 5)
    if idle > LONGEST_IDLE_MINUTES:
        yield f"idle_timeout_minutes: {idle:g}; at most {LONGEST_IDLE_MINUTES}: idle nodes cost"
    if at(cluster.tree, "provider", "cache_stopped_nodes") is not False:
        yield "provider.cache_stopped_nodes: give false; Ray's default keeps (and pays) disks"


def there_is_a_gpu(cluster: Cluster) -> Iterator[str]:
    """At least one type of worker has one."""
    if not any(worker.resources.get("GPU", 0) for worker in cluster.workers):
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


def resources_fit_the_machine(cluster: Cluster) -> Iterator[str]:
    """CPU and GPU are given, and `slot`, by which trials are placed, is at most CPU."""
    for kind in cluster.types:
        place, cpu = f"{kind.place}.resources", kind.resources.get("CPU")
        if cpu is None:
            yield f"{place}: CPU is missing; give the cores that may compute"
            continue
        if kind.cores and cpu > kind.cores:
            yield f"{place}.CPU: {cpu}; {kind.instance} has {kind.cores}"
        if GPU_INSTANCE.match(kind.instance) and not kind.resources.get("GPU"):
            yield f"{place}: GPU is missing; {kind.instance} has at least one"
        slots = kind.resources.get("slot", 0)
        if slots > cpu:
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
    elif not re.match(r"s3://[^/]+", storage):
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
    sizes = [disk.get("VolumeSize", 0) for disk in kind.disks]
    largest = max((size for size in sizes if isinstance(size, int)), default=0)
    if largest < LEAST_DISK_GB:
        yield f"{place}: {largest} GB; at least {LEAST_DISK_GB}: the image alone takes about 30"
    if any(disk.get("Encrypted") is not True for disk in kind.disks):
        yield f"{place}: give Encrypted: true on every disk"


def images_are_pinned(cluster: Cluster) -> Iterator[str]:
    """Head and workers run one known build, with the Ray that is installed here."""
    docker = cluster.tree.get("docker") or {}
    for key in ("head_image", "worker_image"):
        image = str(docker.get(key) or docker.get("image") or "")
        found = IMAGE.fullmatch(image)
        if not found:
            yield f"docker.{key}: missing; give the image that ./Dockerfile builds"
        elif "@sha256:" not in image and found["tag"] in (None, "latest", "nightly"):
            yield f"docker.{key}: {image}; pin a tag that names a build"
        yield from _other_ray(f"docker.{key}", image)


def _other_ray(place: str, image: str) -> Iterator[str]:
    here, there = version("ray"), RAY_IN_IMAGE.search(image)
    if there and there[1] != here:
        yield f"{place}: {image} has Ray {there[1]}, here is {here}; both must be the same"


def every_node_asks_for_the_token(cluster: Cluster) -> Iterator[str]:
    """Whoever reaches Ray without authentication runs code on every node."""
    for kind in ("head", "worker"):
        for command in cluster.commands(kind):
            if "ray start" in command and not re.search(r"\bRAY_AUTH_MODE=token\b", command):
                yield f"{kind}_start_ray_commands: `ray start` without RAY_AUTH_MODE=token"
    mounts: Tree = cluster.tree.get("file_mounts") or {}
    files = [str(own) for there, own in mounts.items() if str(there).endswith(TOKEN_FILE)]
    if not files:
        yield f"file_mounts: no token; add /home/ray/{TOKEN_FILE}: ~/{TOKEN_FILE}"
    for path in (Path(os.path.expanduser(own)) for own in files):
        if not path.is_file():
            yield f"file_mounts: {path} is not there; make it: ray get-auth-token --generate"


def only_ssh_is_open(cluster: Cluster) -> Iterator[str]:
    """Dashboard and MLflow are reached through the tunnel alone."""
    for command in cluster.commands("head"):
        for program, address in BOUND.items():
            found = address.search(command) if program in command else None
            if found and found[1] not in LOOPBACK:
                yield f"head_start_ray_commands: `{program}` on {found[1]}; give 127.0.0.1"
    if at(cluster.tree, "provider", "security_group", "IpPermissions"):
        yield "provider.security_group.IpPermissions: opens ports; ssh and the tunnel are enough"


def ray_starts_and_scales(cluster: Cluster) -> Iterator[str]:
    """The start commands start Ray, and the head gets this file to make workers by."""
    for kind in ("head", "worker"):
        if not any("ray start" in command for command in cluster.commands(kind)):
            yield f"{kind}_start_ray_commands: no `ray start`"
    if not any("--autoscaling-config=" in command for command in cluster.commands("head")):
        yield (
            "head_start_ray_commands: `ray start` without "
            "--autoscaling-config=~/ray_bootstrap_config.yaml; no worker would ever start"
        )
    for key in ("setup_commands", "head_setup_commands"):
        if key not in cluster.tree:
            yield f"{key}: missing; give [], or Ray's defaults install other versions on every node"


def nothing_secret_is_written_down(cluster: Cluster) -> Iterator[str]:
    """The file is copied to the head, and people share it."""
    if at(cluster.tree, "provider", "aws_credentials"):
        yield "provider.aws_credentials: holds a secret; use your AWS profile and the nodes' own"
    for place, text in leaves(cluster.tree):
        for what, pattern in SECRETS.items():
            if pattern.search(text):
                yield f"{place}: holds {what}; use the instance profiles and file_mounts"


RULES: tuple[Callable[[Cluster], Iterator[str]], ...] = (
    head_is_small_and_stays,
    workers_scale_from_zero,
    there_is_a_gpu,
    spot_falls_back,
    resources_fit_the_machine,
    nodes_reach_storage,
    machines_are_explicit,
    images_are_pinned,
    every_node_asks_for_the_token,
    only_ssh_is_open,
    ray_starts_and_scales,
    nothing_secret_is_written_down,
)


def storage_of(tree: Tree) -> str | None:
    """The storage that the containers are told of, by the name SELFLOOP_STORAGE."""
    options = (str(option) for option in _list(tree, "docker", "run_options"))
    marked = [option for option in options if option.startswith(STORAGE_OPTION)]
    return marked[0].removeprefix(STORAGE_OPTION) if marked else None


def leaves(tree: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Path and text of every value below ``tree``."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from leaves(value, f"{place}.{key}" if place else str(key))
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from leaves(value, f"{place}[{number}]")
    else:
        yield place, str(tree)


def _node_type(name: str, entry: Tree) -> NodeType:
    place = f"available_node_types.{name}"
    return NodeType(name, place, entry, entry["node_config"], entry["resources"])


def at(tree: Any, *path: str) -> Any:
    """The value at a path, None where the file has something else on the way."""
    for key in path:
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(key)
    return tree


def _list(tree: Any, *path: str) -> list[Any]:
    found = at(tree, *path)
    return found if isinstance(found, list) else []
