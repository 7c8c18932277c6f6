"""AWS: the shape of a machine, and what of its own keys would hang, cost or open something.

`ray up` passes `node_config` on unseen. For the head AWS refuses it at once; for workers it refuses
each attempt of the autoscaler to start one, which the sweep says after a minute. Whether an AMI or
a profile exists is not asked.
"""

import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from typing import Any

from ray_selfloop.distributed.clouds.base import Cloud, Machine, Tree
from ray_selfloop.distributed.clouds.file import Cluster, NodeType, at, listed

LEAST_DISK_GB = 200  # the image unpacked (about 30), weights, spilled objects, the system
ROOTS = ("/dev/sda1", "/dev/xvda")  # the system's disk: Ubuntu's AMIs, Amazon Linux's
GPU_INSTANCE = re.compile(r"(g\d|gr\d|p\d)")
GPUS = {
    1: re.compile(r"(g4dn|g5|g6|g6e|g7|g7e|gr6)\.(2|4|8|16)?xlarge|p5\.4xlarge"),
    2: re.compile(r"(g7|g7e)\.12xlarge"),
    4: re.compile(r"(g4dn|g5|g6|g6e)\.12xlarge|(g5|g6|g6e|g7|g7e)\.24xlarge"),
    8: re.compile(
        r"(g5|g6|g6e|g7|g7e|p5|p5e|p5en|p6-b200|p6-b300)\.48xlarge|p4de?\.24xlarge|g4dn\.metal"
    ),
}
"""How many GPUs machines have; of others nothing is known."""
UNFIT = {
    "ARM processors; the images are for x86-64": re.compile(r"(a1|[a-z]+\d+g[a-z]*|p6e-gb\d+)\."),
    "AMD's GPUs; the images are for NVIDIA's": re.compile(r"g4ad\."),
}
RAYS_OWN = ("SubnetIds",)  # Ray gives AWS one of them


def machine(node: Tree) -> Machine:
    """As EC2's `RunInstances` names it."""
    name = str(node.get("InstanceType") or "")
    spot = at(node, "InstanceMarketOptions", "MarketType") == "spot"
    sizes = " + ".join(f"{disk.get('VolumeSize')} GB" for disk in _disks(node))
    return Machine(name, spot, _gpus(name), sizes)


def _gpus(name: str) -> int | None:
    if name and not GPU_INSTANCE.match(name):
        return 0
    return next((count for count, names in GPUS.items() if names.fullmatch(name)), None)


def _disks(node: Tree) -> list[Tree]:
    """The EBS settings of its disks."""
    given = (at(mapping, "Ebs") for mapping in listed(node, "BlockDeviceMappings"))
    return [disk for disk in given if isinstance(disk, dict)]


def faults(cluster: Cluster) -> Iterator[str]:
    """All of all types, and one key of Ray's for AWS."""
    if at(cluster.tree, "provider", "cache_stopped_nodes") is not False:
        yield "provider.cache_stopped_nodes: give false; Ray's default keeps (and pays) disks"
    if at(cluster.tree, "provider", "aws_credentials"):
        yield "provider.aws_credentials: holds a secret; use your AWS profile and the nodes' own"
    if at(cluster.tree, "provider", "security_group", "IpPermissions"):
        yield "provider.security_group.IpPermissions: opens ports; ssh and the tunnel are enough"
    if find_spec("boto3") is None:
        yield "boto3 is not installed here, and `ray up` needs it: pip install boto3"
        return
    for kind in cluster.types:
        place = f"{kind.place}.node_config"
        for rule in (_is_a_call, _machine, _disk, _ends):
            yield from (f"{place}{fault}" for fault in rule(kind))


def _machine(kind: NodeType) -> Iterator[str]:
    """Machine and AMI are given and can run the images; nobody else gets its credentials."""
    for what, names in UNFIT.items():
        if names.match(kind.machine.name):
            yield f".InstanceType: {kind.machine.name} has {what}"
    if not kind.node.get("ImageId"):
        yield ".ImageId: missing; Ray's default is Ubuntu 18.04 with CUDA 11"
    if at(kind.node, "MetadataOptions", "HttpTokens") != "required":
        yield ".MetadataOptions: give HttpTokens: required (IMDSv2 alone)"
    if not any(at(kind.node, "IamInstanceProfile", key) for key in ("Name", "Arn")):
        yield (
            ".IamInstanceProfile: missing; give {Name: ...}, or the node has no access to the "
            "storage"
        )


def _disk(kind: NodeType) -> Iterator[str]:
    """Ray's default is small and in the clear."""
    mappings = listed(kind.node, "BlockDeviceMappings")
    sizes = [at(one, "Ebs", "VolumeSize") for one in mappings if at(one, "DeviceName") in ROOTS]
    largest = max((size for size in sizes if isinstance(size, int)), default=0)
    if largest < LEAST_DISK_GB:
        yield (
            f".BlockDeviceMappings: {largest} GB on {' or '.join(ROOTS)}, the system's disk; at "
            f"least {LEAST_DISK_GB}: the image alone takes about 30"
        )
    if any(disk.get("Encrypted") is not True for disk in _disks(kind.node)):
        yield ".BlockDeviceMappings: give Encrypted: true on every disk"


def _ends(kind: NodeType) -> Iterator[str]:
    """What Ray ends is gone: no disk stays, and no spot request that starts the node again."""
    if any(disk.get("DeleteOnTermination") is not True for disk in _disks(kind.node)):
        yield ".BlockDeviceMappings: give DeleteOnTermination: true on every disk"
    spot = at(kind.node, "InstanceMarketOptions", "SpotOptions", "SpotInstanceType")
    if spot == "persistent":
        yield ": a persistent spot request; AWS would start again what Ray ended"
    if kind.node.get("DisableApiTermination"):
        yield ".DisableApiTermination: take it out, or Ray cannot end it"


def _is_a_call(kind: NodeType) -> Iterator[str]:
    """Keys and kinds of values are those of AWS's call that makes a node, as botocore has it."""
    from botocore.validate import ParamValidator  # type: ignore[import-untyped]

    own = {name: value for name, value in kind.node.items() if name not in RAYS_OWN}
    report = ParamValidator().validate({**own, "MinCount": 1, "MaxCount": 1}, _call())
    for said in report.generate_report().splitlines():
        yield f": {said.partition(', must be one of')[0]}"


@cache
def _call() -> Any:
    """The input of RunInstances, as boto3 has it; loading it takes a second."""
    from botocore.session import Session  # type: ignore[import-untyped]

    return Session().get_service_model("ec2").operation_model("RunInstances").input_shape


AWS = Cloud(
    "aws",
    "AWS",
    "s3://",
    machine,
    faults,
    watcher="ray_selfloop.distributed.clouds.aws_spot",
    unchecked="prices, quotas, and whether profiles, AMI, images and bucket exist",
)
