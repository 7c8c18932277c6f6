"""The shipped cluster file against a simulated EC2, through Ray's own code for `ray up`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
import yaml
from filled import FILLED, text
from moto import mock_aws
from ray.autoscaler import tags
from ray.autoscaler._private import commands, providers
from ray.autoscaler.node_provider import NodeProvider
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.instance_manager.ray_installer import RayInstaller
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.instance_manager_pb2 import Instance

from ray_selfloop.distributed.clouds.aws import GPU_INSTANCE, machine

pytestmark = pytest.mark.slow
TRIAL = {"CPU": 0.0, "GPU": 0.25, "slot": 1.0}  # of a small classifier
HEAD, SPOT, FALLBACK = "head", "gpu_spot", "gpu_on_demand"


@dataclass(frozen=True)
class Launched:
    """What Ray makes of the file, and what EC2 holds after one node of each type was made."""

    config: dict[str, Any]
    provider: NodeProvider
    instances: Mapping[str, dict[str, Any]]
    volumes: Mapping[str, dict[str, Any]]
    groups: list[dict[str, Any]]


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    """One node of each type, made by Ray's node provider in a simulated account."""
    home = tmp_path_factory.mktemp("home")  # Ray writes the key pair to ~/.ssh
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("a token")
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "none")
        patch.setenv("HOME", str(home))
        yield _launch()


def _launch() -> Launched:
    ec2, iam = (boto3.client(name, region_name=FILLED["region"]) for name in ("ec2", "iam"))
    for profile in (FILLED["head_profile"], FILLED["worker_profile"]):
        iam.create_instance_profile(InstanceProfileName=profile)
    image = ec2.describe_images()["Images"][0]["ImageId"]
    config = commands._bootstrap_config(yaml.safe_load(text(ami=image)), no_config_cache=True)
    provider = providers._get_node_provider(config["provider"], config["cluster_name"])
    for name, kind in config["available_node_types"].items():
        named = {
            tags.TAG_RAY_NODE_KIND: "head" if name == HEAD else "worker",
            tags.TAG_RAY_USER_NODE_TYPE: name,
            tags.TAG_RAY_LAUNCH_CONFIG: name,
        }
        provider.create_node(kind["node_config"], named, 1)
    found = [one for r in ec2.describe_instances()["Reservations"] for one in r["Instances"]]
    kinds = {one["InstanceId"]: tagged(one)[tags.TAG_RAY_USER_NODE_TYPE] for one in found}
    volumes = ec2.describe_volumes()["Volumes"]
    return Launched(
        config,
        provider,
        {kinds[one["InstanceId"]]: one for one in found},
        {kinds[one["Attachments"][0]["InstanceId"]]: one for one in volumes},
        ec2.describe_security_groups()["SecurityGroups"],
    )


def tagged(thing: Mapping[str, Any]) -> dict[str, str]:
    """AWS's tags as a mapping."""
    return {tag["Key"]: tag["Value"] for tag in thing["Tags"]}


def test_the_head_is_on_demand_and_workers_are_spot_with_an_on_demand_fallback(
    launched: Launched,
) -> None:
    made = {
        name: (one["InstanceType"], one.get("InstanceLifecycle"))
        for name, one in launched.instances.items()
    }
    assert made == {
        HEAD: ("m7i.2xlarge", None),
        SPOT: ("g6.2xlarge", "spot"),
        FALLBACK: ("g6.2xlarge", None),
    }


def test_every_node_has_its_profile_its_tags_and_metadata_version_2_alone(
    launched: Launched,
) -> None:
    for name, one in launched.instances.items():
        profile = FILLED["head_profile" if name == HEAD else "worker_profile"]
        assert one["IamInstanceProfile"]["Arn"].endswith(f":instance-profile/{profile}")
        assert one["MetadataOptions"]["HttpTokens"] == "required"
        assert tagged(one)["project"] == "ray-selfloop"
        assert tagged(one)[tags.TAG_RAY_CLUSTER_NAME] == "selfloop"


def test_every_node_has_a_large_encrypted_disk_that_ends_with_it(launched: Launched) -> None:
    assert launched.volumes.keys() == launched.instances.keys()
    for name, disk in launched.volumes.items():
        assert (disk["Size"], disk["VolumeType"], disk["Encrypted"]) == (200, "gp3", True)
        assert tagged(disk) == {"project": "ray-selfloop"}
        [mapping] = launched.instances[name]["BlockDeviceMappings"]
        assert mapping["Ebs"]["DeleteOnTermination"]


def test_only_ssh_is_open_to_the_world(launched: Launched) -> None:
    [group] = [one for one in launched.groups if one["GroupName"] == "ray-selfloop"]
    open_ = [rule for rule in group["IpPermissions"] if rule["IpRanges"] or rule["Ipv6Ranges"]]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in open_] == [(22, 22)]
    inside = [rule["UserIdGroupPairs"] for rule in group["IpPermissions"] if rule not in open_]
    assert [[pair["GroupId"] for pair in pairs] for pairs in inside] == [[group["GroupId"]]]
    used = {one["SecurityGroups"][0]["GroupId"] for one in launched.instances.values()}
    assert used == {group["GroupId"]}


def test_the_declared_resources_are_those_of_the_machines(launched: Launched) -> None:
    ec2 = boto3.client("ec2", region_name=FILLED["region"])
    machines = ec2.describe_instance_types(InstanceTypes=["m7i.2xlarge", "g6.2xlarge"])
    cores = {m["InstanceType"]: m["VCpuInfo"]["DefaultVCpus"] for m in machines["InstanceTypes"]}
    kinds = launched.config["available_node_types"]
    for name in (SPOT, FALLBACK):
        resources = kinds[name]["resources"]
        assert resources["CPU"] == resources["slot"] == cores["g6.2xlarge"]
        assert resources["GPU"] == resources["accelerator_type:L4"] == 1  # the second is EC2's word
    assert 2 * kinds[HEAD]["resources"]["CPU"] == cores["m7i.2xlarge"]


def test_what_is_known_of_machines_is_what_ec2_says() -> None:
    with mock_aws():
        pages = boto3.client("ec2", FILLED["region"]).get_paginator("describe_instance_types")
        machines = [one for page in pages.paginate() for one in page["InstanceTypes"]]
    counts = {
        one["InstanceType"]: sum(gpu["Count"] for gpu in one["GpuInfo"]["Gpus"])
        for one in machines
        if "GpuInfo" in one
    }
    assert counts.keys() == {
        m["InstanceType"] for m in machines if GPU_INSTANCE.match(m["InstanceType"])
    }
    known = {name: machine({"InstanceType": name}).gpus for name in counts}
    assert {name: has for name, has in known.items() if has not in (None, counts[name])} == {}
    assert set(known.values()) == {None, 1, 2, 4, 8}


class Shell:
    """What `subprocess` is to Ray's installer: keeps the commands and says what a node would."""

    DEVNULL = None
    SAYS: Mapping[str, bytes] = {
        "command -v docker": b"/usr/bin/docker",
        "/proc/meminfo": b"MemAvailable: 32000000 kB",
        "json .Config.Env": b'["HOME=/home/ray"]',
        "printenv HOME": b"/home/ray",
        ".Runtimes": b"nvidia-container-runtime",
    }

    def __init__(self) -> None:
        self.ran: list[str] = []

    def check_call(self, command: list[str], **_: Any) -> int:
        """Success."""
        self.ran.append(" ".join(command))
        return 0

    def check_output(self, command: list[str], **_: Any) -> bytes:
        """The answer of a node with Docker and a GPU."""
        self.check_call(command)
        return next((says for part, says in self.SAYS.items() if part in self.ran[-1]), b"")


def test_the_autoscaler_starts_ray_and_the_watcher_on_workers_in_the_gpu_build(
    launched: Launched,
) -> None:
    """By autoscaler v2's own installer, with every command that it would send to the node."""
    shipped = {key: value for key, value in launched.config.items() if key != "head_node"}
    shell, identity = Shell(), launched.instances[SPOT]["InstanceId"]
    launched.provider.non_terminated_nodes({})
    installer = RayInstaller(launched.provider, AutoscalingConfig(shipped), shell)
    node = Instance(instance_id="1", cloud_instance_id=identity, instance_type=SPOT)
    installer.install_ray(node, "10.0.0.1")
    [run] = [line for line in shell.ran if "docker run" in line]
    assert f" {FILLED['worker_image']} bash" in run
    for option in (FILLED["storage"], "--env=RAY_AUTH_MODE=token", "--runtime=nvidia"):
        assert f" {option} " in run
    assert ":/home/ray/.ray/auth_token " in run
    start, watch = shell.ran[-2:]
    assert "RAY_AUTH_MODE=token; ray start --address=$RAY_HEAD_IP:6379" in start
    assert '"GPU":1' in start
    assert '"slot":8' in start
    assert f"RAY_CLOUD_INSTANCE_ID={identity}" in watch
    assert "ray_selfloop.distributed.clouds.aws_spot $RAY_HEAD_IP:6379" in watch


def scheduled(launched: Launched, wanted: int, without: str | None = None) -> dict[str, int]:
    """What autoscaler v2 would start for so many trials; ``without``: a type AWS has none of."""
    settings = AutoscalingConfig(launched.config, skip_content_hash=True)
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=settings.get_node_type_configs(),
        max_num_nodes=settings.get_max_num_nodes(),
        resource_requests=ResourceRequestUtil.group_by_count(
            [ResourceRequestUtil.make(TRIAL) for _ in range(wanted)]
        ),
        recoverable_resource_availabilities={without: 0.0} if without else {},
    )
    reply = ResourceDemandScheduler(None).schedule(request)
    assert not reply.infeasible_resource_requests
    return {launch.instance_type: launch.count for launch in reply.to_launch}


def test_the_autoscaler_prefers_spot_and_falls_back(launched: Launched) -> None:
    assert scheduled(launched, 0) == {}
    assert scheduled(launched, 8) == {SPOT: 2}
    assert scheduled(launched, 8, without=SPOT) == {FALLBACK: 2}
