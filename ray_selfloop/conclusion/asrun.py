"""Beside the results: the settings as run, the program that ran them, and what was judged.

`config.yaml` holds every setting with its value and is itself a sweep file. What `effects.parquet`
holds is put together in `effects`. The program's version and commit are in no key: the
versions of the stages are.
"""

import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_selfloop import __version__
from ray_selfloop.config.load import DEFAULT_TAGS
from ray_selfloop.config.plain import dumped, masked
from ray_selfloop.config.sweep import NOT_IN_A_SCENARIO, Scenario, Sweep

if TYPE_CHECKING:
    from ray_selfloop.planning import Plan

SETTINGS, EFFECTS = "config.yaml", "effects.parquet"
LONGEST = 10.0  # s that git may take
GROWING = ("loop.generations", "loop.loop_seeds", "loop.classifier_seeds", "classifiers")
"""What a sweep may get more of, and stays the same."""
COMMIT_TAG = "mlflow.source.git.commit"  # which MLflow shows by itself


# --- the program ---------------------------------------------------------------------------------


@cache
def commit() -> str:
    """The commit of the checkout that this package lies in, `-dirty` where files differ from it.

    Empty without git, and where the checkout around an installed package is something else's.
    """
    own = _git("ls-files", "--error-unmatch", Path(__file__).name)
    return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") if own else ""


def _git(*words: str) -> str:
    """What git says; empty where it is not there or refuses."""
    here = str(Path(__file__).parent)
    try:
        done = subprocess.run(
            ["git", "-C", here, *words], capture_output=True, text=True, timeout=LONGEST
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def program() -> str:
    return f"ray-selfloop {__version__}" + (f" (commit {commit()})" if commit() else "")


def tags() -> dict[str, str]:
    """Version and commit as MLflow's tags."""
    return {"version": __version__, **({COMMIT_TAG: commit()} if commit() else {})}


# --- the settings --------------------------------------------------------------------------------


def write(plan: "Plan") -> None:
    """Publish the settings and what was judged, each whole or not at all."""
    from ray_selfloop.conclusion.effects import effects

    text = settings_text(plan.sweep)
    plan.write(SETTINGS, lambda path: path.write_text(text, encoding="utf-8"))
    table = effects(plan)
    plan.write(EFFECTS, lambda path: table.to_parquet(path, index=False))


def settings_text(sweep: Sweep) -> str:
    """Every setting of a sweep as a sweep file, without passwords."""
    tree = sweep.model_dump(mode="json")
    for path, (tag, _) in DEFAULT_TAGS.items():
        if any(f"{path}.{tag}" in str(one) for one in sweep.axes.items()):
            _as_written(tree, sweep, path)
    return f"# {program()}: every setting as it was run.\n{masked(dumped(tree))}"


def _as_written(tree: dict[str, Any], sweep: Sweep, path: str) -> None:
    """Put a group as it was written, where an axis makes another kind of it with other fields."""
    *above, name = path.split(".")
    group: Any = sweep
    for part in above:
        tree, group = tree[part], getattr(group, part)
    tree[name] = getattr(group, name).model_dump(mode="json", exclude_unset=True)


def differing(scenario: Scenario) -> dict[str, str]:
    """Dotted key -> value of the settings that are not the defaults, and of its axes.

    Without those of which a sweep may get more: what says it once may not be changed.
    """
    tree = scenario.sweep.model_dump(
        mode="json", exclude_defaults=True, exclude=set(NOT_IN_A_SCENARIO)
    )
    found = {key: value for key, value in _leaves(tree) if key not in GROWING}
    return {**found, **{key: str(value) for key, value in scenario.values.items()}}


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", masked(str(value))
