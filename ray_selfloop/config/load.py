"""From a YAML file and `a.b=value` overrides to validated settings; every fault in one message.

Nothing here loads torch or ray: a typo is answered at once.
"""

import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from ray_selfloop.config.sweep import Scenario, Sweep, scenario_name, scenario_points
from ray_selfloop.errors import ConfigError

QUICKSTART = "quickstart"
DEFAULT_TAGS = {
    "dataset": ("name", "colorized_digits"),
    "generator": ("name", "conditional_gan"),
    "filter.clip": ("kind", "domain"),
}
Tree = dict[str, Any]


def sweep_file(name: str) -> Path:
    """A shipped sweep by name, from the wheel or from a checkout."""
    wheel = Path(str(resources.files("ray_selfloop"))) / "sweeps"
    folder = wheel if wheel.is_dir() else Path(__file__).parents[2] / "sweeps"
    return folder / f"{name}.yaml"


def load(config: str | None, overrides: Sequence[str]) -> tuple[Sweep, list[Scenario]]:
    """The sweep and its scenarios; raises ConfigError with one message.

    config: path of a sweep file, or the name of a shipped one; None runs the quickstart.
    """
    tree = _read(_find(config))
    for override in overrides:
        _override(tree, override)
    sweep = _validated(tree, "")
    points = scenario_points(sweep.axes)
    names = [scenario_name(point) for point in points]
    scenarios = [
        Scenario(name=name, values=point, sweep=_at(tree, point))
        for name, point in zip(names, points, strict=True)
    ]
    if len({scenario.name for scenario in scenarios}) != len(scenarios):
        raise ConfigError(f"axes: two scenarios have the same name, among {', '.join(names)}")
    return sweep, scenarios


def _find(config: str | None) -> Path:
    name = config or QUICKSTART
    for path in (Path(name), sweep_file(name)):
        if path.is_file():
            return path
    shipped = ", ".join(sorted(path.stem for path in sweep_file(QUICKSTART).parent.glob("*.yaml")))
    raise ConfigError(f"no sweep file {name}; shipped sweeps: {shipped}")


def _read(path: Path) -> Tree:
    try:
        tree = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise ConfigError(f"{path} is not a sweep file: its top level must be keys and values")
    return tree


def _override(tree: Tree, override: str) -> None:
    path, sign, text = override.partition("=")
    if not sign or not path:
        raise ConfigError(f"{override!r} is not an override; write key.key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{override!r}: {' '.join(str(error).split())}") from error
    if path.startswith("axes."):
        tree.setdefault("axes", {})[path.removeprefix("axes.")] = value
    else:
        _set(tree, path, value)


def _set(tree: Tree, path: str, value: Any) -> None:
    *parents, leaf = path.split(".")
    node = tree
    for part in parents:
        child = node.get(part)
        if child is None:
            child = node[part] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"{path}: {part} is a value, not a group of settings")
        node = child
    node[leaf] = value


def _at(tree: Tree, point: Mapping[str, Any]) -> Sweep:
    """The settings of one scenario: the file with the axes' values put in."""
    own: Tree = yaml.safe_load(yaml.safe_dump(tree))
    for path, value in point.items():
        _set(own, path, value)
    where = f" (in scenario {scenario_name(point)})" if point else ""
    return _validated(own, where)


def _with_tags(tree: Tree) -> Tree:
    """Groups of several kinds, with the default kind where the file names none."""
    for path, (tag, default) in DEFAULT_TAGS.items():
        group: Any = tree
        for part in path.split("."):
            group = group.get(part) if isinstance(group, dict) else None
        if isinstance(group, dict):
            group.setdefault(tag, default)
    return tree


def _validated(tree: Tree, where: str) -> Sweep:
    try:
        return Sweep.model_validate(_with_tags(tree))
    except ValidationError as error:
        raise ConfigError(_explain(error) + where) from error


def _explain(error: ValidationError) -> str:
    """The first fault: path, what was found, what is allowed."""
    fault = error.errors()[0]
    names = _names(Sweep, fault["loc"])
    path = ".".join(str(part) for part in names)
    if fault["type"] == "extra_forbidden":
        return f"{path}: unknown key{_nearest(names)}"
    message = fault["msg"].removeprefix("Value error, ")
    if not path:
        return message
    if fault["type"] == "missing":
        return f"{path}: this key is required"
    shown = repr(fault["input"])
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    if fault["type"] == "union_tag_invalid":
        allowed, found = fault["ctx"]["expected_tags"], fault["ctx"]["tag"]
        return f"{path}: {found!r} is not known; known: {allowed}{_nearest_value(fault)}"
    if fault["type"] == "literal_error":
        return f"{path}: {message}, not {shown}{_nearest_value(fault)}"
    return f"{path}: {message} (found {shown})"


def _nearest_value(fault: Mapping[str, Any]) -> str:
    ctx = fault["ctx"]
    allowed = [
        part.strip(" '")
        for part in str(ctx.get("expected_tags") or ctx.get("expected"))
        .replace(" or ", ",")
        .split(",")
    ]
    found = str(ctx.get("tag", fault["input"]))
    close = difflib.get_close_matches(found, allowed, 1)
    return f"; did you mean {close[0]}?" if close else ""


def _names(model: Any, loc: Sequence[str | int]) -> list[str]:
    """The keys of a pydantic location, without the tags that unions add to it."""
    names: list[str] = []
    for part in loc:
        fields = _fields(model)
        picked = [m for m in _models(model) if part not in fields and _tag_of(m) == part]
        if picked:
            model = picked[0]
            continue
        if not fields and names and not isinstance(part, int):
            continue  # a member of a union of plain types
        names.append(str(part))
        model = fields.get(str(part), None)
    return names


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType, typing.Annotated):
        return [model for part in get_args(annotation) for model in _models(part)]
    return []


def _tag_of(model: type[BaseModel]) -> str:
    field = model.model_fields.get("name") or model.model_fields.get("kind")
    return str(field.default) if field else ""


def _fields(annotation: Any) -> dict[str, Any]:
    return {
        name: field.annotation
        for model in _models(annotation)
        for name, field in model.model_fields.items()
    }


def _nearest(names: Sequence[str]) -> str:
    model: Any = Sweep
    for name in names[:-1]:
        model = _fields(model).get(name)
    known = _fields(model)
    close = difflib.get_close_matches(names[-1], known, 1, cutoff=0.5)
    if close:
        return f"; did you mean {'.'.join([*names[:-1], close[0]])}?"
    return f"; known keys: {', '.join(known)}" if known else ""
