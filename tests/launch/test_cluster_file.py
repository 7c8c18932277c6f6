"""`validate cluster.yaml`: the shipped file passes when filled in; what is wrong is said."""

import functools
import operator
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from filled import ABSENT, FILLED, SHIPPED, changed, text

from ray_selfloop.__main__ import main

CPU_BUILD, GPU_BUILD = FILLED["head_image"], FILLED["worker_image"]
HEAD, SPOT, FALLBACK = (f"available_node_types.{n}" for n in ("head", "gpu_spot", "gpu_on_demand"))
ROOT = "/dev/sda1 or /dev/xvda, the system's disk"
ARN = "arn:aws:iam::123456789012"
START = (
    "export RAY_AUTH_MODE=token; ray start --head --autoscaling-config=~/ray_bootstrap_config.yaml"
)


@pytest.fixture(autouse=True)
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with Ray's token, as `ray get-auth-token --generate` leaves it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / ".ray" / "auth_token"
    file.parent.mkdir()
    file.write_text("a token")
    return file


def faults(tree: Any, folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What `validate` says of a tree, one fault a line; none of a good one."""
    file = folder / "any_name.yaml"
    file.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree, sort_keys=False))
    code = main(["validate", str(file)])
    said = capsys.readouterr().err.splitlines()
    assert (code, bool(said)) in ((0, False), (2, True))
    if said:
        count = "1 fault" if len(said) == 2 else f"{len(said) - 1} faults"
        assert said[0] == f"error: {file}: {count}"
    return [line.strip() for line in said[1:]]


def test_the_shipped_file_needs_what_stands_at_its_top_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert faults(SHIPPED.read_text(), tmp_path, capsys) == [
        "still to fill in: metadata.region, metadata.zones, metadata.ami, metadata.head_image, "
        "metadata.worker_image, metadata.storage, metadata.head_profile, metadata.worker_profile"
    ]


def test_the_filled_file_is_valid_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(text())
    assert main(["validate", str(file)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(
        "valid: cluster selfloop, AWS us-west-2, Ray 2.60.0, at most 8 workers"
    )
    rows = [line.split() for line in said[2:5]]
    assert [row[:3] for row in rows] == [
        ["head", "m7i.2xlarge", "on-demand"],
        ["gpu_spot", "g6.2xlarge", "spot"],
        ["gpu_on_demand", "g6.2xlarge", "on-demand"],
    ]
    assert f"  ray up {file}" in said
    assert "  python -m ray_selfloop submit CONFIG storage=s3://bucket/selfloop" in said


BROKEN: list[tuple[str, list[tuple[str, Any]], list[str]]] = [
    (
        "a misspelt key",
        [("idle_timeout", 5)],
        ["Additional properties are not allowed ('idle_timeout' was unexpected)"],
    ),
    (
        "two wrong types, both named",
        [("max_workers", "8"), (f"{SPOT}.priority", "high")],
        [
            f"{SPOT}.priority: 'high' is not of type 'integer'",
            "max_workers: '8' is not of type 'integer'",
        ],
    ),
    (
        "no such head type",
        [("head_node_type", "boss")],
        ["Ray refuses it: `head_node_type` must be one of `available_node_types`."],
    ),
    (
        "half a file",
        [(key, ABSENT) for key in ("available_node_types", "head_node_type", "provider.region")],
        [
            f"{key}: missing; Ray's default is not meant for this project"
            for key in ("provider.region", "available_node_types", "head_node_type")
        ],
    ),
    (
        "another cloud",
        [("provider.type", "azure")],
        ["provider.type: 'azure'; known here: aws, gcp"],
    ),
    (
        "a GPU head",
        [(f"{HEAD}.node_config.InstanceType", "g6.2xlarge"), (f"{HEAD}.resources.GPU", 1)],
        [f"{HEAD}: has a GPU (g6.2xlarge); the head only drives, give it none"],
    ),
    (
        "a head that is a worker too",
        [(f"{HEAD}.max_workers", 2)],
        [f"{HEAD}.max_workers: 2; 0, the head's type is for the head"],
    ),
    (
        "a spot head",
        [(f"{HEAD}.node_config.InstanceMarketOptions", {"MarketType": "spot"})],
        [f"{HEAD}: is a spot node; the cluster ends with its head, make it on-demand"],
    ),
    (
        "workers that stay",
        [(f"{SPOT}.min_workers", 2)],
        [f"{SPOT}.min_workers: 2; 0, so that idle nodes go away"],
    ),
    (
        "idle for hours",
        [("idle_timeout_minutes", 600)],
        ["idle_timeout_minutes: 600; at most 60: idle nodes cost"],
    ),
    (
        "stopped nodes kept",
        [("provider.cache_stopped_nodes", ABSENT)],
        ["provider.cache_stopped_nodes: give false; Ray's default keeps (and pays) disks"],
    ),
    (
        "spot without fallback",
        [(f"{FALLBACK}.resources.slot", 4)],
        [
            f"{SPOT}: spot without fallback; add an on-demand type with g6.2xlarge and the same "
            "resources"
        ],
    ),
    (
        "the fallback preferred",
        [(f"{FALLBACK}.priority", 10)],
        [f"{FALLBACK}.priority: 10; less than 10, gpu_spot's, or spot is not preferred"],
    ),
    (
        "no profile",
        [(f"{FALLBACK}.node_config.IamInstanceProfile", ABSENT)],
        [
            f"{FALLBACK}.node_config.IamInstanceProfile: missing; give {{Name: ...}}, or the node "
            "has no access to the storage"
        ],
    ),
    (
        "a local storage",
        [("docker.run_options.4", "--env=SELFLOOP_STORAGE=/data")],
        ["SELFLOOP_STORAGE: '/data'; give s3://BUCKET/PATH, since nodes come and go"],
    ),
    (
        "no AMI",
        [(f"{SPOT}.node_config.ImageId", ABSENT)],
        [
            f"{SPOT}.node_config.ImageId: missing; Ray's default is Ubuntu 18.04 with CUDA 11",
        ],
    ),
    (
        "a small disk",
        [(f"{SPOT}.node_config.BlockDeviceMappings.0.Ebs.VolumeSize", 64)],
        [
            f"{SPOT}.node_config.BlockDeviceMappings: 64 GB on {ROOT}; at least 200: the image "
            "alone takes about 30"
        ],
    ),
    (
        "a disk in the clear",
        [(f"{HEAD}.node_config.BlockDeviceMappings.0.Ebs.Encrypted", False)],
        [f"{HEAD}.node_config.BlockDeviceMappings: give Encrypted: true on every disk"],
    ),
    (
        "metadata for everybody",
        [(f"{SPOT}.node_config.MetadataOptions", ABSENT)],
        [f"{SPOT}.node_config.MetadataOptions: give HttpTokens: required (IMDSv2 alone)"],
    ),
    (
        "images that move and differ",
        [
            ("docker.head_image", "registry.example.org/ray-selfloop"),
            ("docker.image", "rayproject/ray:2.59.0-py311-cu128"),
        ],
        [
            "docker.image: rayproject/ray:2.59.0-py311-cu128 has Ray 2.59.0, here is 2.60.0; both "
            "must be the same",
            "docker.head_image: registry.example.org/ray-selfloop; pin a tag that names a build",
        ],
    ),
    (
        "no authentication",
        [("worker_start_ray_commands.1", "ray start --address=$RAY_HEAD_IP:6379")],
        [
            "worker_start_ray_commands[1]: `ray start` without `export RAY_AUTH_MODE=token;` "
            "before it"
        ],
    ),
    (
        "no token",
        [("file_mounts", {})],
        ["file_mounts: no token; add /home/ray/.ray/auth_token: ~/.ray/auth_token"],
    ),
    (
        "a file name that no system takes",
        [("file_mounts", {"/home/ray/.ray/auth_token": 300 * "a"})],
        [f"Ray refuses it: [Errno 36] File name too long: '{300 * 'a'}'"],
    ),
    (
        "a dashboard and a tracking server for all",
        [
            (
                "head_start_ray_commands",
                [f"{START} --dashboard-host=0.0.0.0", "mlflow server --host 0.0.0.0 &"],
            )
        ],
        [
            f"head_start_ray_commands[{number}]: 0.0.0.0; give 127.0.0.1, the tunnel is enough"
            for number in (0, 1)
        ],
    ),
    (
        "open ports",
        [("provider.security_group.IpPermissions", [{"FromPort": 8265, "ToPort": 8265}])],
        ["provider.security_group.IpPermissions: opens ports; ssh and the tunnel are enough"],
    ),
    (
        "a head that starts no workers",
        [("head_start_ray_commands", ["RAY_AUTH_MODE=token ray start --head"])],
        [
            "head_start_ray_commands: `ray start` without "
            "--autoscaling-config=~/ray_bootstrap_config.yaml; no worker would ever start"
        ],
    ),
    (
        "Ray's setup commands",
        [("setup_commands", ABSENT)],
        [
            "setup_commands: missing; give [], or Ray's defaults install other versions on every "
            "node"
        ],
    ),
    (
        "more workers wanted than allowed",
        [("max_workers", 2), (f"{SPOT}.min_workers", 3)],
        [
            "Ray refuses it: The specified global `max_workers` is smaller than the sum of "
            "`min_workers` of all the available node types."
        ],
    ),
    (
        "nodes that end before their work comes, or hardly ever",
        [("idle_timeout_minutes", 0), (f"{SPOT}.idle_timeout_s", 86400)],
        [
            f"{SPOT}.idle_timeout_s: 86400; at most 3600: idle nodes cost",
            "idle_timeout_minutes: 0; at least 1: a new node would end before its work comes",
        ],
    ),
    (
        "an autoscaler without end",
        [("upscaling_speed", float("inf"))],
        ["upscaling_speed: inf; a finite number, or the autoscaler fails at every step"],
    ),
    (
        "spot without watcher",
        [("worker_start_ray_commands.2", "true")],
        [
            "worker_start_ray_commands: spot nodes, and no watcher after `ray start`; add `python "
            "-m ray_selfloop.distributed.clouds.aws_spot $RAY_HEAD_IP:6379`, or work ends without "
            "notice"
        ],
    ),
    (
        "authentication taken back, in three places",
        [
            ("docker.run_options.1", "--env=RAY_AUTH_MODE=disabled"),
            ("head_start_ray_commands.0", "unset RAY_AUTH_MODE; ray stop"),
            ("worker_setup_commands", ["echo 'export RAY_AUTH_MODE=\"\"' >> ~/.bashrc"]),
        ],
        [
            f"{place}: RAY_AUTH_MODE; leave it at RAY_AUTH_MODE=token, or all may run code here"
            for place in (
                "docker.run_options[1]",
                "worker_setup_commands[0]",
                "head_start_ray_commands[0]",
            )
        ],
    ),
    (
        "a token that `ray start` does not get",
        [
            (
                "worker_start_ray_commands.1",
                "RAY_AUTH_MODE=token; ray start --address=$RAY_HEAD_IP:6379",
            )
        ],
        [
            "worker_start_ray_commands[1]: `ray start` without `export RAY_AUTH_MODE=token;` "
            "before it"
        ],
    ),
    (
        "workers without `image`",
        [("docker.worker_image", GPU_BUILD), ("docker.image", ABSENT)],
        ["docker.image: missing; give the workers' here, worker_image alone starts no worker"],
    ),
    (
        "the CPU build for GPU workers",
        [("docker.image", CPU_BUILD), (f"{SPOT}.docker", {"worker_image": GPU_BUILD})],
        [f"docker.image: {CPU_BUILD}; workers with GPUs need the GPU build, not the head's"],
    ),
    (
        "an option that YAML reads as a group",
        [("docker.worker_run_options", [{"--label=a": "b"}])],
        ["docker.worker_run_options[0]: {'--label=a': 'b'}; a text, in quotes if need be"],
    ),
    (
        "another machine with the old resources",
        [
            *((f"{kind}.node_config.InstanceType", "g6.12xlarge") for kind in (SPOT, FALLBACK)),
            (f"{FALLBACK}.resources.GPU", 1),
        ],
        [f"{kind}.resources.GPU: 1; g6.12xlarge has 4" for kind in (SPOT, FALLBACK)],
    ),
    (
        "GPUs on machines that have none",
        [(f"{kind}.node_config.InstanceType", "m7i.2xlarge") for kind in (SPOT, FALLBACK)],
        [f"{kind}.resources.GPU: 1; m7i.2xlarge has none" for kind in (SPOT, FALLBACK)],
    ),
    (
        "what AWS's call does not take",
        [
            (f"{SPOT}.node_config.EbsOptimised", True),
            (f"{SPOT}.node_config.BlockDeviceMappings.0.Ebs.VolumeSize", "200"),
        ],
        [
            f'{SPOT}.node_config: Unknown parameter in input: "EbsOptimised"',
            f"{SPOT}.node_config: Invalid type for parameter "
            "BlockDeviceMappings[0].Ebs.VolumeSize, value: 200, type: <class 'str'>, valid types: "
            "<class 'int'>",
            f"{SPOT}.node_config.BlockDeviceMappings: 0 GB on {ROOT}; at least 200: the image "
            "alone takes about 30",
        ],
    ),
    (
        "what outlives the cluster",
        [
            (f"{SPOT}.node_config.BlockDeviceMappings.0.Ebs.DeleteOnTermination", False),
            (
                f"{SPOT}.node_config.InstanceMarketOptions.SpotOptions",
                {"SpotInstanceType": "persistent"},
            ),
            (f"{FALLBACK}.node_config.DisableApiTermination", True),
        ],
        [
            f"{SPOT}.node_config.BlockDeviceMappings: give DeleteOnTermination: true on every disk",
            f"{SPOT}.node_config: a persistent spot request; AWS would start again what Ray ended",
            f"{FALLBACK}.node_config.DisableApiTermination: take it out, or Ray cannot end it",
        ],
    ),
    (
        "workers that look for the head at another port",
        [("head_start_ray_commands.1", f"{START} --port=6380")],
        ["worker_start_ray_commands: port 6379 of the head, which listens on 6380"],
    ),
    (
        "workers without a head",
        [("worker_start_ray_commands.1", "export RAY_AUTH_MODE=token; ray start")],
        [
            "worker_start_ray_commands: no `ray start --address=$RAY_HEAD_IP:6379`; no worker "
            "would ever join the head"
        ],
    ),
    (
        "a head that starts none",
        [("head_start_ray_commands", ["ray stop"])],
        ["head_start_ray_commands: no `ray start --head`"],
    ),
    (
        "a large disk beside the system's",
        [(f"{SPOT}.node_config.BlockDeviceMappings.0.DeviceName", "/dev/sdb")],
        [
            f"{SPOT}.node_config.BlockDeviceMappings: 0 GB on {ROOT}; at least 200: the image "
            "alone takes about 30"
        ],
    ),
    (
        "machines that the images are not for",
        [
            (f"{HEAD}.node_config.InstanceType", "m7g.2xlarge"),
            (f"{SPOT}.node_config.InstanceType", "g5g.2xlarge"),
            (f"{FALLBACK}.node_config.InstanceType", "g4ad.2xlarge"),
            (f"{SPOT}.node_config.InstanceMarketOptions", ABSENT),
        ],
        [
            f"{HEAD}.node_config.InstanceType: m7g.2xlarge has ARM processors; the images are for "
            "x86-64",
            f"{SPOT}.node_config.InstanceType: g5g.2xlarge has ARM processors; the images are for "
            "x86-64",
            f"{FALLBACK}.node_config.InstanceType: g4ad.2xlarge has AMD's GPUs; the images are for "
            "NVIDIA's",
        ],
    ),
    *(
        (
            f"keys of the user on the nodes: {own}",
            [("file_mounts./home/ray/own", own)],
            [f"file_mounts: {own} holds your keys; the nodes have instance profiles"],
        )
        for own in ("~/.aws", "~/.ssh/", "~")
    ),
    (
        "authentication taken back in a short option",
        [("docker.run_options.1", "-eRAY_AUTH_MODE=disabled")],
        [
            "docker.run_options[1]: RAY_AUTH_MODE; leave it at RAY_AUTH_MODE=token, or all may run "
            "code here"
        ],
    ),
]


GPU_TYPE = {
    "resources": {"CPU": 48, "GPU": 4, "slot": 48},
    "max_workers": 1,
    "node_config": changed()["available_node_types"]["gpu_on_demand"]["node_config"]
    | {"InstanceType": "g6.12xlarge"},
}
VALID: list[tuple[str, list[tuple[str, Any]]]] = [
    ("all zones", [("provider.availability_zone", ABSENT)]),
    (
        "much memory",
        [(f"{kind}.resources.memory", 20_000_000_000) for kind in (SPOT, FALLBACK)],
    ),
    (
        "an image whose name ends in ray",
        [("docker.image", "registry.example.org/myarray:1.2.3-gpu")],
    ),
    (
        "secrets that stand elsewhere, and a folder",
        [
            ("docker.run_options.3", "--env=HF_TOKEN_PATH=/home/ray/token"),
            ("initialization_commands", ["T=a; TOKEN=$(cat t) PASSWORD='$T' true"]),
            ("setup_commands", ["mkdir -p ~/install"]),
        ],
    ),
    (
        "a profile by ARN",
        [
            (
                f"{SPOT}.node_config.IamInstanceProfile",
                {"Arn": f"{ARN}:instance-profile/path/worker"},
            )
        ],
    ),
    (
        "own network",
        [
            ("provider.use_internal_ips", True),
            *(
                (f"{kind}.node_config.{key}", [value])
                for kind in (HEAD, SPOT, FALLBACK)
                for key, value in (("SubnetIds", "subnet-1"), ("SecurityGroupIds", "sg-1"))
            ),
        ],
    ),
    (
        "own key",
        [
            ("auth.ssh_private_key", "~/.ssh/own.pem"),
            *((f"{kind}.node_config.KeyName", "own") for kind in (HEAD, SPOT, FALLBACK)),
        ],
    ),
    ("a second GPU machine", [("available_node_types.four_gpus", GPU_TYPE)]),
    (
        "a type with an image and a timeout of its own",
        [
            (f"{SPOT}.docker", {"worker_image": f"{GPU_BUILD}.2"}),
            (f"{SPOT}.idle_timeout_s", 120),
        ],
    ),
    (
        "on-demand alone, without watcher",
        [
            ("available_node_types.gpu_spot", ABSENT),
            ("worker_start_ray_commands.2", "true"),
        ],
    ),
    ("one GPU build for all", [("docker.head_image", ABSENT)]),
    ("both images by role", [("docker.worker_image", GPU_BUILD)]),
    (
        "another port",
        [
            ("head_start_ray_commands.1", f"{START} --port 6380"),
            (
                "worker_start_ray_commands.1",
                "export A=1; export RAY_AUTH_MODE=token; ray start --address ${RAY_HEAD_IP}:6380",
            ),
            (
                "worker_start_ray_commands.2",
                "python -m ray_selfloop.distributed.clouds.aws_spot $RAY_HEAD_IP:6380 &",
            ),
        ],
    ),
    (
        "lines, and another spelling",
        [
            (
                "head_start_ray_commands.1",
                "ulimit -n 65536\nRAY_AUTH_MODE=token ray start \\\n --head \\\n"
                " --autoscaling-config ~/ray_bootstrap_config.yaml --dashboard-host localhost",
            ),
            (
                "head_start_ray_commands.2",
                "(mlflow ui -h localhost & sleep 1); psql -h db.example.org",
            ),
        ],
    ),
]


@pytest.mark.parametrize("changes", [v[1] for v in VALID], ids=[v[0] for v in VALID])
def test_what_users_may_well_write_is_valid(
    changes: list[tuple[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert faults(changed(*changes), tmp_path, capsys) == []


@pytest.mark.parametrize(
    ("changes", "messages"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN]
)
def test_what_is_wrong_is_said(
    changes: list[tuple[str, Any]],
    messages: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert faults(changed(*changes), tmp_path, capsys) == messages


def test_faults_of_different_kinds_are_listed_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = [change for _, changes, _ in BROKEN[7:10] for change in changes]
    expected = [message for _, _, messages in BROKEN[7:10] for message in messages]
    assert faults(changed(*changes), tmp_path, capsys) == expected


def test_a_cloud_without_rules_of_its_own_has_those_of_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = {"machineType": "g2-standard-8", "scheduling": [{"preemptible": True}]}
    tree = changed(
        ("provider", {"type": "gcp", "region": "europe-west4", "project_id": "mine"}),
        ("docker.run_options.4", "--env=SELFLOOP_STORAGE=gs://bucket/selfloop"),
        (f"{HEAD}.node_config", {"machineType": "n2-standard-8"}),
        (f"{SPOT}.node_config", node),
        (f"{FALLBACK}.node_config", {"machineType": "g2-standard-8"}),
    )
    assert faults(tree, tmp_path, capsys) == []
    tree["available_node_types"]["gpu_on_demand"]["node_config"] = node
    assert faults(tree, tmp_path, capsys) == [
        f"{kind}: spot without fallback; add an on-demand type with g2-standard-8 and the same "
        "resources"
        for kind in (SPOT, FALLBACK)
    ]


def test_a_token_that_was_not_made_is_named(
    token: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = f"{token} is not there, or empty; make it: ray get-auth-token --generate"
    token.write_text("")
    assert faults(text(), tmp_path, capsys) == [f"file_mounts: {message}"]
    token.unlink()
    assert faults(text(), tmp_path, capsys) == [f"file_mounts: {message}"]


def test_values_of_the_wrong_shape_inside_awss_own_keys_are_faults_not_crashes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in (None, 7, "text", [], [None], {}, [{"Ebs": 5}], [{"Ebs": {"VolumeSize": "big"}}]):
        for key in ("BlockDeviceMappings", "MetadataOptions", "IamInstanceProfile", "InstanceType"):
            assert faults(changed((f"{SPOT}.node_config.{key}", value)), tmp_path, capsys)


def places(tree: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all that is below a tree."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in inner:
        yield (*above, key)
        if isinstance(value, dict | list):
            yield from places(value, (*above, key))


def test_whatever_stands_where_it_does_not_belong_is_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, odd = random.Random(0), (None, True, -1, 0.5, "", "$A", [], [None], {}, {"Name": 5}, [[]])
    every = list(places(changed()))
    refused = 0
    for place in rng.sample(every, 60):
        tree = changed()
        *above, last = place
        functools.reduce(operator.getitem, above, tree)[last] = rng.choice(odd)
        refused += bool(faults(tree, tmp_path, capsys))
    assert refused > 40  # the others are free texts, such as tags and `metadata`


@pytest.mark.parametrize(
    "text",
    [
        "max_workers: &a [*a]",
        "max_workers: 0x" + 5000 * "f",
        "5: 1",
        "a: &a [1,1]\nb: [*a, !!set {c}]",
    ],
    ids=["no end", "a long number", "a number for a key", "a set"],
)
def test_what_is_no_plain_yaml_is_a_fault(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(f"cluster_name: a\n{text}\n")
    assert main(["validate", str(file)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_without_boto3_what_to_install_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)  # Python's way to say: not installed
    assert faults(text(), tmp_path, capsys) == [
        "boto3 is not installed here, and `ray up` needs it: pip install boto3"
    ]


def test_overrides_are_for_sweeps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(text())
    assert main(["validate", str(file), "max_workers=2"]) == 2
    assert "a cluster file takes no overrides" in capsys.readouterr().err


def test_a_sweep_file_is_still_a_sweep_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(SHIPPED.parent / "sweeps" / "quickstart.yaml")]) == 0
    assert capsys.readouterr().out.startswith("valid: sweep quickstart")


def test_a_sweep_is_validated_without_loading_ray() -> None:
    code = (
        "import sys; from ray_selfloop.__main__ import main; main(['validate', 'quickstart']); "
        "assert not {'ray', 'torch', 'mlflow'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
