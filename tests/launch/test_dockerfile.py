"""The image: what goes into it, and its RUN lines in a clean environment, without Docker."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from replay import Replay, context, instructions

REPOSITORY = Path(__file__).parents[2]
DOCKERFILE = REPOSITORY / "Dockerfile"
STEPS = list(instructions(DOCKERFILE))
PACKAGES = "--requirement"  # marks the one RUN line that installs 7 GB
FULL = "SELFLOOP_IMAGE"


def locked(package: str) -> str:
    """The version that requirements.lock names."""
    return re.search(rf"^{package}==(.+)$", (REPOSITORY / "requirements.lock").read_text(), re.M)[1]


def test_the_image_gets_the_package_and_nothing_else() -> None:
    files = context(REPOSITORY)
    assert {path.split("/")[0] for path in files} == {
        *("LICENSE", "README.md", "pyproject.toml", "ray_selfloop", "requirements.lock", "sweeps")
    }
    assert not [path for path in files if "__pycache__" in path]
    assert {"sweeps/quickstart.yaml", "ray_selfloop/report/page.css"} <= files


def test_every_base_image_has_the_locked_ray_and_is_pinned() -> None:
    named = re.findall(r"rayproject/ray:(\S+)", DOCKERFILE.read_text())
    assert {tag.rpartition("-")[0] for tag in named} == {f"{locked('ray')}-py311"}
    assert {tag.rpartition("-")[2] for tag in named} == {"cpu", "cu128"}


def test_it_runs_as_ray_and_compiles_bytecode() -> None:
    assert [text for name, text in STEPS if name == "USER"] == ["1000"]
    set_ = " ".join(text for name, text in STEPS if name in ("ENV", "ARG", "RUN"))
    assert "PYTHONDONTWRITEBYTECODE" not in set_
    installs = [text for name, text in STEPS if name == "RUN" and "pip install" in text]
    assert len(installs) == 2
    assert all("--compile" in text for text in installs)


def test_a_linter_finds_nothing() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"  # of the dev extra
    found = subprocess.run([hadolint, DOCKERFILE], stdout=subprocess.PIPE, text=True)
    assert (found.returncode, found.stdout) == (0, "")


def replayed(home: Path, packages: bool) -> Replay:
    """All steps, with or without the layer of packages."""
    build = Replay(REPOSITORY, home)
    build.start()
    for step in STEPS:
        if packages or PACKAGES not in step[1]:
            build.run(step)
    return build


@pytest.mark.slow
def test_the_run_lines_but_the_packages_work_in_a_clean_environment(tmp_path: Path) -> None:
    build = replayed(tmp_path, packages=False)
    where = "import pathlib, ray_selfloop; print(pathlib.Path(ray_selfloop.__file__).parent)"
    installed = Path(build.python("-c", where))
    assert tmp_path in installed.parents
    sources = {path for path in installed.rglob("*.py")}
    compiled = {
        path.parent.parent / f"{path.name.split('.')[0]}.py" for path in installed.rglob("*.pyc")
    }
    assert compiled == sources
    shipped = {path.name for path in (REPOSITORY / "sweeps").glob("*.yaml")}
    assert {path.name for path in (installed / "sweeps").glob("*.yaml")} == shipped
    assert all((tmp_path / name).is_dir() for name in (".ray", "mlflow", "cache/huggingface"))


@pytest.mark.slow
def test_all_run_lines_work_in_a_clean_environment(tmp_path: Path) -> None:
    if not os.environ.get(FULL):
        pytest.skip(f"{FULL} is not set: it installs 7 GB; CI installs the same lock by itself")
    build = replayed(tmp_path, packages=True)
    assert build.python("-m", "ray_selfloop", "validate", "quickstart").startswith("valid: sweep")
    assert build.python("-c", "import ray; print(ray.__version__)") == locked("ray")
    build.python("-c", "import boto3, mlflow, s3fs, ray_selfloop.distributed.clouds.aws_spot")
