"""`~` is the home folder in every setting that takes a path, wherever it stands."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from schema_cases import BASES, FIELDS, GROUPS, Field, members, text, with_value

from ray_selfloop.config import load
from ray_selfloop.config.base import expanded
from ray_selfloop.config.sweep import Sweep
from ray_selfloop.errors import ConfigError
from ray_selfloop.planning import storage, tracking_uri

TEXTS = {
    "dataset.mask_column",
    "evaluation.judge.classifier",
    "evaluation.probe.network",
    "filter.clip.model",
    "filter.clip.prompt",
    "filter.expert.classifier",
    "generator.generation",
    "generator.prompt",
    "generator.revision",
    "tracking.uri",
}
"""Settings that are any text and no path; an address that holds one has a test of its own."""
ANY = {"type": "string"}


def paths(annotation: Any, above: tuple[str, ...] = ()) -> Iterator[str]:
    """The dotted keys of all settings below a type that take a path."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            if any(getattr(mark, "func", None) is expanded for mark in field.metadata):
                yield ".".join((*above, name))
            yield from paths(field.annotation, (*above, name))
    elif any(getattr(mark, "func", None) is expanded for mark in get_args(annotation)[1:]):
        yield ".".join(above)
    else:
        for part in get_args(annotation):
            yield from paths(part, above)


def any_text() -> Iterator[Field]:
    """Settings that take any text."""
    for field in FIELDS:
        plain = (m for m in members(field.schema) if m.get("type") == "string")
        if field not in GROUPS and any(not {"enum", "const", "pattern"} & m.keys() for m in plain):
            yield field


PATHS = [field for field in any_text() if field.dotted not in TEXTS]


def found(tree: Any, path: tuple[str, ...], folder: Path) -> Any:
    file = folder / "sweep.yaml"
    file.write_text(text(tree))
    sweep: Any = load.load(str(file), ())[0]
    if path[0] == "training_of":
        return getattr(sweep.training_for(path[1]), path[2])
    for part in path:
        sweep = getattr(sweep, part)
    return sweep


def test_every_text_is_typed_as_a_path_or_known_to_be_none() -> None:
    typed = set(paths(Sweep))
    assert {field.dotted.replace("_of.lenet", "") for field in PATHS} == typed
    assert len(typed) == 10


@pytest.mark.parametrize("field", PATHS, ids=lambda field: f"{field.base}:{field.dotted}")
def test_a_path_may_begin_with_the_home_folder(
    field: Field, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for written, read in {
        "~/a b": "/home/me/a b",
        "~": "/home/me",
        "a~": "a~",
        "./~": "./~",
    }.items():
        tree = with_value(BASES[field.base], field.path, written)
        assert found(tree, field.path, tmp_path) == read
    with pytest.raises(ConfigError, match=r"no such user; for a folder of that name write \./~no-"):
        found(with_value(BASES[field.base], field.path, "~no-such/x"), field.path, tmp_path)


def test_the_storage_and_a_database_may_lie_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert storage("~/a") == tmp_path / "a"
    sweep = load.load(None, ["tracking.uri=sqlite:///~/b.db"])[0]
    assert tracking_uri(sweep, "/data") == f"sqlite:///{tmp_path}/b.db"


def test_a_scenario_is_called_by_what_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    _, scenarios = load.load(None, ['axes={training.pretrained: ["~/a.pth", "~/b.pth"]}'])
    assert [s.name for s in scenarios] == ["pretrained=~/a.pth", "pretrained=~/b.pth"]
    assert scenarios[0].sweep.training.pretrained == "/home/me/a.pth"
