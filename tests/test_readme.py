"""The README and docs/ as they stand: what they tell a reader to type, and where they point."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_selfloop.cli import VERBS
from ray_selfloop.conclusion import tables
from ray_selfloop.config import load
from ray_selfloop.errors import ConfigError
from ray_selfloop.evaluation.rows import Rows, Where

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = (README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")))
PROGRAM = ("python", "-m", "ray_selfloop.sweep")
SEVERAL = ("quickstart", "cifar20_100", "breeds", "hard_imagenet")
"""Sweeps that between them have every dataset's and generator's own keys."""
NOT_THERE = ("stripes", "mean", "brightness", "seeds_together")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.M)


def commands(page: Path) -> Iterator[list[str]]:
    """The words behind this program's name, wherever a shell line of a page starts it."""
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.split("&&"):
                words = shlex.split(part, comments=True)
                start = next((i for i, word in enumerate(words) if word.endswith("python")), None)
                if start is None or not words[start + 2].startswith("ray_selfloop"):
                    continue
                verb = words[start + 2] == "ray_selfloop"
                assert not verb or words[start + 3] in VERBS, line
                yield words[start + 3 + verb :]


def anchors(page: Path) -> set[str]:
    """How a heading is called in a link, as on GitHub."""
    titles = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_is_at_most_150_lines() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= 150


def test_the_readmes_sweep_file_runs_as_it_stands(tmp_path: Path) -> None:
    (text,) = blocks(README, "yaml")
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    sweep, scenarios = load.load(str(file), [])
    assert sweep.name == "mine"
    assert [scenario.name for scenario in scenarios] == [
        "drop=0.1,arm=treatment", "drop=0.1,arm=no_synthetic",
        "drop=0.5,arm=treatment", "drop=0.5,arm=no_synthetic",
    ]  # fmt: skip
    assert len(text.splitlines()) <= 14


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_is_understood(page: Path) -> None:
    for words in commands(page):
        overrides = [word for word in words if "=" in word]
        configs = [word for word in words if word not in overrides]
        if configs and configs[0] in ("mine.yaml", "cluster.yaml", "CONFIG"):
            continue
        load.load(*(configs or [None]), overrides)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        if found.name in ("settings.md", "metrics.md"):  # generated, with tests of their own
            continue
        assert found.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(found), f"{page.name}: {target}"


def test_the_readme_names_every_verb() -> None:
    assert {*VERBS} <= {*re.findall(r"[\w-]+", README.read_text("utf-8"))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    """But for what was deleted, and what a reader of docs/extending.md would write."""
    for name in re.findall(r"`(?:python )?(\w+/[\w/]+\.(?:py|txt))`", page.read_text("utf-8")):
        there = (ROOT / name).is_file() or (ROOT / "ray_selfloop" / name).is_file()
        assert there or Path(name).stem in NOT_THERE, f"{page.name}: {name}"


def test_the_tree_names_every_room_and_no_other() -> None:
    (tree,) = re.findall(
        r"^ray_selfloop/.*?\n(.*?)^```", README.read_text("utf-8"), re.DOTALL | re.M
    )
    first = [re.split(r"\s{2,}", line.strip())[0] for line in tree.splitlines() if line[2] != " "]
    named = {word for column in first for word in column.split()}
    there = {
        f"{entry.name}/" if entry.is_dir() else entry.name
        for entry in (ROOT / "ray_selfloop").iterdir()
        if entry.name not in ("__init__.py", "__pycache__", "py.typed")
    }
    assert named == there
    modules = {path.name for path in (ROOT / "ray_selfloop").rglob("*.py")}
    assert set(re.findall(r"\w+\.py", tree)) <= modules


def test_the_table_of_sweeps_names_every_shipped_one() -> None:
    table = README.read_text("utf-8").partition("## The sweeps")[2].partition("## ")[0]
    rows = "\n".join(line for line in table.splitlines() if line.startswith("|"))
    assert set(re.findall(r"`(\w+)`", rows)) == {p.stem for p in (ROOT / "sweeps").glob("*.yaml")}


def is_a_setting(key: str) -> bool:
    for name in SEVERAL:
        try:
            load.load(name, [f"{key}=0"])
        except ConfigError as error:
            if "unknown key" in str(error):
                continue
        return True
    return False


def test_every_key_in_the_table_of_settings_is_one() -> None:
    text = (ROOT / "docs" / "running.md").read_text("utf-8")
    table = text.partition("## Settings to begin with")[2].partition("\n## ")[0]
    firsts = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    keys = [key for first in firsts for key in re.findall(r"`([\w.]+)`", first)]
    assert len(keys) > 40
    assert [key for key in keys if not is_a_setting(key.replace("NETWORK.KEY", "lenet"))] == []


def test_the_example_that_reads_the_results_table_prints_md(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = Rows("biased", "test")
    rows.add("md", [0.25], Where(0, 0, "lenet", 0))
    rows.add("md", [0.125, 0.0, 0.5], Where(None, 0, "lenet"))
    rows.add("md", [0.5], Where(None, 0, "lenet"), ("zero", ""))
    Path("selfloop-results/quickstart").mkdir(parents=True)
    written = tables.results(rows.frame())
    written.to_parquet("selfloop-results/quickstart/results.parquet")
    (text,) = blocks(ROOT / "docs" / "running.md", "python")
    exec(compile(text, "running.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "0.125" in printed
    assert "0.25" not in printed.replace("0.125", "")
