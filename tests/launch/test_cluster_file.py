"""`validate cluster.yaml`: the shipped file passes when filled in; what is wrong is said."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from filled import ABSENT, SHIPPED, changed, text

from ray_selfloop.__main__ import main

HEAD, SPOT, FALLBACK = (f"available_node_types.{n}" for n in ("head", "gpu_spot", "gpu_on_demand"))
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
    file.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree))
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
    ("another cloud", [("provider.type", "gcp")], ["provider.type: 'gcp'; only aws is known here"]),
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
        "more slots than cores",
        [(f"{HEAD}.resources.slot", 6)],
        [f"{HEAD}.resources.slot: 6; at most CPU, 4: a slot is one core's work"],
    ),
    (
        "no slots",
        [(f"{HEAD}.resources.slot", ABSENT)],
        [f"{HEAD}.resources: slot is missing; give 4, as many as CPU: trials are placed by it"],
    ),
    (
        "more cores than the machine has",
        [(f"{HEAD}.resources.CPU", 16)],
        [f"{HEAD}.resources.CPU: 16; m7i.2xlarge has 8"],
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
        ["SELFLOOP_STORAGE: '/data'; an s3:// URI, since nodes come and go"],
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
            f"{SPOT}.node_config.BlockDeviceMappings: 64 GB; at least 200: the image alone takes "
            "about 30"
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
            ("docker.worker_image", "rayproject/ray:2.59.0-py311-cu128"),
        ],
        [
            "docker.head_image: registry.example.org/ray-selfloop; pin a tag that names a build",
            "docker.worker_image: rayproject/ray:2.59.0-py311-cu128 has Ray 2.59.0, here is "
            "2.60.0; both must be the same",
        ],
    ),
    (
        "no authentication",
        [("worker_start_ray_commands", ["ray start --address=$RAY_HEAD_IP:6379"])],
        ["worker_start_ray_commands: `ray start` without RAY_AUTH_MODE=token"],
    ),
    (
        "no token",
        [("file_mounts", {})],
        ["file_mounts: no token; add /home/ray/.ray/auth_token: ~/.ray/auth_token"],
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
            "head_start_ray_commands: `ray start --head` on 0.0.0.0; give 127.0.0.1",
            "head_start_ray_commands: `mlflow server` on 0.0.0.0; give 127.0.0.1",
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
        "secrets",
        [
            ("docker.run_options.3", "--env=AWS_ACCESS_KEY_ID=AKIA" + 16 * "A"),
            ("setup_commands", ["echo " + 64 * "0" + " > ~/.ray/auth_token"]),
        ],
        [
            "docker.run_options[3]: holds an AWS access key; use the instance profiles and "
            "file_mounts",
            "setup_commands[0]: holds a token of Ray; use the instance profiles and file_mounts",
        ],
    ),
]


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


def test_a_cluster_without_any_gpu_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = changed(
        *((f"{kind}.node_config.InstanceType", "m7i.2xlarge") for kind in (SPOT, FALLBACK)),
        *((f"{kind}.resources.GPU", ABSENT) for kind in (SPOT, FALLBACK)),
    )
    assert faults(tree, tmp_path, capsys) == [
        "available_node_types: no type of worker has a GPU; give one resources: {GPU: 1}"
    ]


def test_a_token_that_was_not_made_is_named(
    token: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token.unlink()
    assert faults(text(), tmp_path, capsys) == [
        f"file_mounts: {token} is not there; make it: ray get-auth-token --generate"
    ]


def test_values_of_the_wrong_shape_inside_awss_own_keys_are_faults_not_crashes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in (None, 7, "text", [], [None], {}, [{"Ebs": 5}], [{"Ebs": {"VolumeSize": "big"}}]):
        for key in ("BlockDeviceMappings", "MetadataOptions", "IamInstanceProfile", "InstanceType"):
            assert faults(changed((f"{SPOT}.node_config.{key}", value)), tmp_path, capsys)


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
