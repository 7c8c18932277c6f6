"""What AWS takes in a cluster file: its names, its machines, and its own keys of a node.

`ray up` passes these on unseen. For the head AWS refuses them at once; for workers it refuses each
attempt of the autoscaler to start one, while the sweep waits and the head is paid for. Formats
alone: whether a zone, an AMI or a bucket exists is not asked.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from typing import Any

from ray_selfloop.distributed.clouds.file import Cluster, NodeType, at, storage_of

DIRECTION = r"(north|south|east|west|central|northeast|northwest|southeast|southwest)"
REGION = re.compile(rf"[a-z]{{2,4}}(-[a-z]+)?-{DIRECTION}-\d")
ZONE = re.compile(r"[a-z]|-[a-z0-9-]+-\d[a-z]|-wl\d-[a-z0-9-]+")
"""What follows the region's name: of a zone, a local zone, a Wavelength zone."""
AMI = re.compile(r"ami-([0-9a-f]{8}|[0-9a-f]{17})|resolve:ssm:\S+")
PROFILE_NAME = re.compile(r"[\w+=,.@-]{1,128}", re.ASCII)
PROFILE_ARN = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:instance-profile/\S+")
BUCKET = re.compile(r"(?!xn--|[\d.]+$)(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
PATH_IN_BUCKET = re.compile(r"[\w!.*=+@:/-]*", re.ASCII)  # what needs no quotes in a shell
INSTANCE = re.compile(r"[a-z]+\d*[a-z0-9-]*\.(nano|micro|small|medium|(\d*x)?large|metal(-\d+xl)?)")
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
SHORT = 20  # words; longer lists, such as all machines, are older here than at AWS
KINDS: Mapping[str, tuple[type, ...]] = {
    "structure": (Mapping,),
    "list": (list,),
    "boolean": (bool,),
    "integer": (int,),
    "string": (str,),
}


def region_and_zones_belong_together(cluster: Cluster) -> Iterator[str]:
    """The zones are the region's."""
    region, zones = (at(cluster.tree, "provider", key) for key in ("region", "availability_zone"))
    if not REGION.fullmatch(region):
        yield f"provider.region: {region!r}; a region of AWS, such as eu-central-1"
        return
    for zone in [] if zones is None else [zone.strip() for zone in zones.split(",")]:
        if not (zone.startswith(region) and ZONE.fullmatch(zone.removeprefix(region))):
            yield f"provider.availability_zone: {zone!r} is not in {region}; such as {region}a"


def machines_are_known(cluster: Cluster) -> Iterator[str]:
    """AMI and instance type look like one, and the GPUs declared are those of the machine."""
    for kind in cluster.types:
        place, ami = f"{kind.place}.node_config", kind.node.get("ImageId")
        if ami and not AMI.fullmatch(str(ami)):
            yield f"{place}.ImageId: {ami!r}; an AMI is `ami-` and 17 digits of 0-9a-f (old: 8)"
        if kind.instance and not INSTANCE.fullmatch(kind.instance):
            yield f"{place}.InstanceType: {kind.instance!r}; a type of AWS, such as g6.2xlarge"
        for what, names in UNFIT.items():
            if names.match(kind.instance):
                yield f"{place}.InstanceType: {kind.instance} has {what}"
        if kind is not cluster.head:
            yield from _gpus(kind, f"{kind.place}.resources")


def _gpus(kind: NodeType, place: str) -> Iterator[str]:
    has = next((count for count, names in GPUS.items() if names.fullmatch(kind.instance)), None)
    if not GPU_INSTANCE.match(kind.instance):
        if kind.instance and kind.gpus:
            yield f"{place}.GPU: {kind.gpus}; {kind.instance} has none"
    elif not kind.gpus:
        yield f"{place}: GPU is missing; {kind.instance} has {has or 'at least one'}"
    elif has and has != kind.gpus:
        yield f"{place}.GPU: {kind.gpus}; {kind.instance} has {has}"


def profiles_are_names_or_arns(cluster: Cluster) -> Iterator[str]:
    """`Name` holds a name and `Arn` an ARN, of an instance profile and not of its role."""
    for kind in cluster.types:
        place, profile = (
            f"{kind.place}.node_config.IamInstanceProfile",
            kind.node.get("IamInstanceProfile"),
        )
        name, arn = at(profile, "Name"), at(profile, "Arn")
        if name and arn:
            yield f"{place}: has Name and Arn; AWS takes one of them"
        if name and not PROFILE_NAME.fullmatch(str(name)):
            yield f"{place}.Name: {name!r}; a name, and an ARN goes under `Arn:`"
        if arn and not PROFILE_ARN.fullmatch(str(arn)):
            yield f"{place}.Arn: {arn!r}; arn:aws:iam::ACCOUNT:instance-profile/NAME, not a role's"


def bucket_has_a_name_of_s3(cluster: Cluster) -> Iterator[str]:
    """3 to 63 characters, none of them capital or underscore."""
    storage = storage_of(cluster.tree) or ""
    bucket, _, path = storage.removeprefix("s3://").partition("/")
    if storage.startswith("s3://"):
        if not BUCKET.fullmatch(bucket):
            yield (
                f"SELFLOOP_STORAGE: {storage!r}; the bucket's name has 3 to 63 of a-z, 0-9, `-` "
                "and `.`, first and last a letter or digit"
            )
        elif not PATH_IN_BUCKET.fullmatch(path):
            yield f"SELFLOOP_STORAGE: {storage!r}; no spaces, quotes or `$`: a shell reads it"


def nodes_are_what_aws_takes(cluster: Cluster) -> Iterator[str]:
    """Every key and value of `node_config` is one of AWS's call that makes a node."""
    if find_spec("boto3") is None:
        yield "boto3 is not installed here, and `ray up` needs it: pip install boto3"
        return
    for kind in cluster.types:
        place = f"{kind.place}.node_config"
        own = {name: value for name, value in kind.node.items() if name not in RAYS_OWN}
        yield from _unlike(_call(), own, place)
        if "SubnetId" in kind.node:
            yield f"{place}.SubnetId: Ray puts another in its place; give SubnetIds: [...]"


@cache
def _call() -> Any:
    """The input of RunInstances, as boto3 has it; loading it takes a second."""
    from botocore.session import Session  # type: ignore[import-untyped]

    return Session().get_service_model("ec2").operation_model("RunInstances").input_shape


def _unlike(shape: Any, value: Any, place: str) -> Iterator[str]:
    """Where a value has not the shape: unknown names, other kinds, unknown words."""
    kinds = KINDS.get(shape.type_name, (object,))
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        yield f"{place}: {value!r}; AWS's kind is {shape.type_name}"
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            if name in shape.members:
                yield from _unlike(shape.members[name], inner, f"{place}.{name}")
            else:
                yield f"{place}.{name}: AWS knows no such key"
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _unlike(shape.member, inner, f"{place}[{number}]")
    elif 0 < len(words := getattr(shape, "enum", ())) < SHORT and value not in words:
        yield f"{place}: {value!r}; one of {', '.join(words)}"


RULES: tuple[Callable[[Cluster], Iterator[str]], ...] = (
    region_and_zones_belong_together,
    machines_are_known,
    profiles_are_names_or_arns,
    bucket_has_a_name_of_s3,
    nodes_are_what_aws_takes,
)
