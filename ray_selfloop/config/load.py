"""From a YAML file and `a.b=value` overrides to validated settings; every fault in one message.

Nothing here loads torch or ray: a typo is answered at once.
"""

import copy
import difflib
import math
import re
import types
import typing
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from ray_selfloop.config.generators import known
from ray_selfloop.config.plain import LARGEST, MOST_CHARACTERS, parsed, plain, read, shown
from ray_selfloop.config.sweep import (
    NAME,
    PartError,
    Scenario,
    Sweep,
    scenario_name,
    scenario_points,
    short_keys,
)
from ray_selfloop.config.words import kinds, meant
from ray_selfloop.errors import ConfigError

QUICKSTART = "quickstart"
MOST_TRIALS = 100_000  # of all scenarios together
MOST_MESSAGE = 1_500  # characters
DEFAULT_TAGS = {
    "dataset": ("name", "colorized_digits"),
    "generator": ("name", known.DEFAULT),
    "filter.clip": ("kind", "domain"),
}
GROUP = "must be a group of settings (keys and values)"
PLAINLY = {
    "tuple_type": "must be a list, like [a, b]",
    "list_type": "must be a list, like [a, b]",
    "dict_type": GROUP,
    "model_type": GROUP,
    "model_attributes_type": GROUP,
    "string_type": "must be a text, in quotes where it looks like another value",
}
"""What pydantic says of Python's types, in the words of a sweep file."""

TRUE_OR_A_TEXT = ("yes", "no", "on", "off", "y", "n", "t", "f", "1", "0", "null", "none")
"""Texts that could be meant as true or false, where a setting takes these and texts."""

Tree = dict[str, Any]


def sweep_file(name: str) -> Path:
    """A shipped sweep by name, from the wheel or from a checkout."""
    wheel = Path(str(resources.files("ray_selfloop"))) / "sweeps"
    folder = wheel if wheel.is_dir() else Path(__file__).parents[2] / "sweeps"
    return folder / f"{name}.yaml"


def written(config: str | None, overrides: Sequence[str]) -> Tree:
    """The settings as written: a file over what it extends, with the overrides put in."""
    tree = _read(_find(config))
    for override in overrides:
        _override(tree, override)
    return tree


def load(config: str | None, overrides: Sequence[str]) -> tuple[Sweep, list[Scenario]]:
    """The sweep and its scenarios; raises ConfigError with one message.

    config: path of a sweep file, or the name of a shipped one; None runs the quickstart.
    """
    tree = written(config, overrides)
    sweep = _validated(tree, "")
    points = scenario_points(sweep.axes)
    short = short_keys(key for point in points for key in point)
    scenarios = [_scenario(tree, point, short) for point in points]
    _require_different(scenarios)
    trials = sum(scenario.sweep.trials for scenario in scenarios)
    if trials > MOST_TRIALS:
        raise ConfigError(
            f"the sweep has {trials:,} trials (scenarios x loop seeds x generations x classifiers "
            f"x classifier seeds); at most {MOST_TRIALS:,} can be one sweep"
        )
    return sweep, scenarios


def _require_different(scenarios: Sequence[Scenario]) -> None:
    """Raise ConfigError where two scenarios have one name or the same settings."""
    twice = [name for name, n in Counter(s.name for s in scenarios).items() if n > 1]
    if twice:
        said = shown("; ".join(sorted(twice)))
        raise ConfigError(f"axes: two scenarios have the same name: {said}")
    names: dict[str, str] = {}
    for scenario in scenarios:
        first = names.setdefault(scenario.sweep.model_dump_json(), scenario.name)
        if first != scenario.name:
            said = shown(f"{first}; {scenario.name}")
            raise ConfigError(f"axes: two scenarios have the same settings: {said}")


def _find(config: str | None) -> Path:
    name = config or QUICKSTART
    for path in (Path(name), sweep_file(name)):
        try:
            if path.is_file():
                return path
        except OSError as error:  # a name too long, a folder that may not be entered
            raise ConfigError(f"{shown(path)} cannot be read: {error.strerror}") from error
    shipped = ", ".join(sorted(path.stem for path in sweep_file(QUICKSTART).parent.glob("*.yaml")))
    raise ConfigError(f"no sweep file {shown(name)}; shipped sweeps: {shipped}")


def _read(path: Path, above: tuple[Path, ...] = ()) -> Tree:
    """A file's settings; those of the file that it ``extends`` lie below them."""
    tree = _read_alone(path)
    if "extends" not in tree:
        return tree
    name = tree.pop("extends")
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        raise ConfigError(
            f"{path}: extends: must be the name of a sweep file (found {name!r:.80}): a shipped "
            "one, or one beside this file, without its .yaml"
        )
    beside = path.parent / f"{name}.yaml"
    base = beside if beside.is_file() else _find(name)
    if base.resolve() in (*above, path.resolve()):
        raise ConfigError(f"{path}: extends: {name} extends this file in turn")
    return _merged(_read(base, (*above, path.resolve())), tree)


def _merged(below: Tree, own: Tree) -> Tree:
    """Groups key by key, all other values and the axes as in ``own``."""
    merged = dict(below)
    for key, value in own.items():
        under = below.get(key)
        if isinstance(under, dict) and isinstance(value, dict) and key != "axes":
            value = _merged(under, value)
        merged[key] = value
    return merged


def _read_alone(path: Path) -> Tree:
    try:
        tree = parsed(read(path))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{shown(path)} cannot be read: {shown(error)}") from error
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise ConfigError(
            f"{shown(path)} is not a sweep file: its top level must be keys and values"
        )
    return dict(plain(tree))


def _override(tree: Tree, override: str) -> None:
    path, sign, text = override.partition("=")
    keys = all(path.split(".")) and path.isprintable() and len(path) <= MOST_CHARACTERS
    if not sign or not keys:
        raise ConfigError(f"{shown(repr(override))} is not an override; write key.key=value")
    try:
        value = plain(meant(path, text), path)
    except yaml.YAMLError as error:
        raise ConfigError(f"{shown(repr(override))}: {shown(error)}") from error
    if not path.startswith("axes."):
        _set(tree, path, value)
        return
    if not isinstance(tree.get("axes") or {}, dict):
        raise ConfigError(f"{path}: axes {GROUP}")
    tree["axes"] = {**(tree.get("axes") or {}), path.removeprefix("axes."): value}


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


def _scenario(tree: Tree, point: Mapping[str, Any], short: Mapping[str, str]) -> Scenario:
    """The file with the axes' values put in; its name and values are the validated ones."""
    own = copy.deepcopy(tree)
    for path, value in point.items():
        _set(own, path, copy.deepcopy(value))  # its kind is put in where it has none
    where = f" (in scenario {scenario_name(point, short)})" if point else ""
    sweep = _validated(own, where)
    values = {path: _value(sweep, path, value) for path, value in point.items()}
    return Scenario(name=scenario_name(values, short), values=values, sweep=sweep, short=short)


def _value(sweep: Sweep, path: str, written: Any) -> Any:
    """What an axis value was read as: 1_000 is a text in YAML. Groups and texts stay as written:
    `~` is another folder on another machine, and the scenario is the same.
    """
    if isinstance(written, dict):
        return written
    found: Any = sweep.model_dump(mode="json")
    for part in path.split("."):
        found = found[part]
    return written if isinstance(found, str) and isinstance(written, str) else found


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
        sweep = Sweep.model_validate(_with_tags(tree))
    except ValidationError as error:
        raise ConfigError(shown(_explain(error, Sweep) + where, MOST_MESSAGE)) from error
    own = {name: sweep.training_for(name).model_dump() for name in sweep.training_of}
    for path, given, value in _pairs(tree, {**sweep.model_dump(), "training_of": own}):
        fault = _misread(path, given, value)
        if fault:
            raise ConfigError(f"{shown(path)}: {fault} (found {given!r:.80}){where}")
    return sweep


def _misread(path: str, given: Any, read: Any) -> str:
    """What is wrong with a value that was read as another; empty where nothing is."""
    if isinstance(read, str) and read.lower() in TRUE_OR_A_TEXT and bool in kinds(path):
        return f"must be true, false or a path, like ./{read}"
    if isinstance(given, bool) and not isinstance(read, bool):
        return "must not be true or false"
    if isinstance(read, bool) and isinstance(given, int | float) and not isinstance(given, bool):
        return "must be true or false"
    if isinstance(read, float) and not math.isfinite(read):
        return "must be a finite number"
    if isinstance(read, int) and abs(read) > LARGEST:
        return f"must be at most {LARGEST:,}"
    return ""


def _pairs(given: Any, read: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each value of a sweep file beside what it was read as."""
    entries: Iterable[tuple[Any, Any, Any]] = ()
    if isinstance(given, dict):
        entries = ((key, value, read[key]) for key, value in given.items())
    elif isinstance(given, list):
        entries = zip(range(len(given)), given, read, strict=True)
    else:
        yield path, given, read
    for key, value, inner in entries:
        yield from _pairs(value, inner, f"{path}.{key}" if path else str(key))


def _explain(error: ValidationError, root: type[BaseModel], above: str = "") -> str:
    """The first fault: path, what was found, what is allowed."""
    faults = error.errors()
    fault = faults[0]
    names, group = _walk(root, fault["loc"])
    path = ".".join([above, *names] if above else names)
    inner = _inner(fault)
    if inner:
        return _explain(inner[0], inner[1].model, inner[1].path)
    if fault["type"] == "extra_forbidden":
        return f"{path}: unknown key{_nearest_key(path, group)}"
    if fault["type"] == "missing":
        return f"{path}: this {'entry' if names[-1].isdigit() else 'key'} is required"
    if fault["type"] == "union_tag_invalid":
        path += "." + fault["ctx"]["discriminator"].strip("'")
    same = [other for other in faults if _walk(root, other["loc"])[0] == names]
    message = ", or ".join(dict.fromkeys(_message(other) for other in same))
    return f"{path}: {message}{_found(fault)}{_nearest_value(fault)}" if path else message


def _inner(fault: Mapping[str, Any]) -> tuple[ValidationError, PartError] | None:
    """The fault below a group of settings that is validated apart."""
    error = fault.get("ctx", {}).get("error")
    cause = error.__cause__ if isinstance(error, PartError) else None
    return (cause, error) if isinstance(cause, ValidationError) else None


def _message(fault: Mapping[str, Any]) -> str:
    if fault["type"] == "union_tag_invalid":
        return f"must be one of {fault['ctx']['expected_tags']}"
    plain = PLAINLY.get(fault["type"], str(fault["msg"]))
    plain = plain.removeprefix("Value error, ").replace("Input should", "must")
    return re.sub(r"^(String|Tuple|List) should", "must", plain)


def _found(fault: Mapping[str, Any]) -> str:
    """What was given; nothing where the message is about a whole group."""
    if fault["type"] == "value_error" and isinstance(fault["input"], dict):
        return ""
    return f" (found {shown(repr(fault.get('ctx', {}).get('tag', fault['input'])), 80)})"


def _nearest_value(fault: Mapping[str, Any]) -> str:
    ctx = fault.get("ctx", {})
    known = re.findall(r"'([^']*)'", str(ctx.get("expected_tags") or ctx.get("expected")))
    close = difflib.get_close_matches(str(ctx.get("tag", fault["input"])), known, 1)
    return f"; did you mean {close[0]}?" if close else ""


def _walk(model: Any, loc: Sequence[str | int]) -> tuple[list[str], Any]:
    """The keys of a pydantic location, and the group of settings that holds the last of them.

    Left out are the tags that pydantic adds for members of unions.
    """
    names: list[str] = []
    group = model
    for part in loc:
        fields, kinds = _fields(model), _models(model)
        picked = [kind for kind in kinds if len(kinds) > 1 and _tag_of(kind) == part]
        if picked:
            model = picked[0]
        elif get_origin(model) is dict and part != "[key]":
            names.append(str(part))
            group, model = model, get_args(model)[1]
        elif fields or isinstance(part, int):
            names.append(str(part))
            group, model = model, fields.get(str(part))
    return names, group


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


def _nearest_key(path: str, group: Any) -> str:
    """The nearest known key, or all keys that the group has."""
    above, dot, name = path.rpartition(".")
    known = _fields(group)
    close = difflib.get_close_matches(name, known, 1, cutoff=0.5)
    if close:
        return f"; did you mean {above}{dot}{close[0]}?"
    return f"; known keys: {', '.join(known)}"
