"""From a YAML file and `a.b=value` overrides to validated settings; all faults in one message.

Nothing here loads torch or ray: a typo is answered at once. What is said of a fault: `explain.py`.
"""

import copy
import difflib
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ray_selfloop.config.datasets.known import DEFAULT
from ray_selfloop.config.explain import GROUP, MOST_FAULTS, Fault, faults, message
from ray_selfloop.config.generators import known
from ray_selfloop.config.networks import parts
from ray_selfloop.config.places import File, Key, Places, key_of
from ray_selfloop.config.plain import LARGEST, MOST_CHARACTERS, parsed, plain, read, shown
from ray_selfloop.config.sweep import (
    NAME,
    Scenario,
    Sweep,
    scenario_name,
    scenario_points,
    short_keys,
)
from ray_selfloop.config.words import kinds, meant
from ray_selfloop.errors import ConfigError

QUICKSTART = "quickstart"
USAGE = "python -m ray_selfloop.sweep [CONFIG] [a.b=value ...]"
MOST_TRIALS = 100_000  # of all scenarios together
DEFAULT_TAGS = {
    "dataset": ("name", DEFAULT().name),
    "generator": ("name", known.DEFAULT),
    "filter.clip": ("kind", "domain"),
}
TRUE_OR_A_TEXT = ("yes", "no", "on", "off", "y", "n", "t", "f", "1", "0", "null", "none")
"""Texts that could be meant as true or false, where a setting takes these and texts."""

Tree = dict[str, Any]


def sweep_file(name: str) -> Path:
    """A shipped sweep by name, from the wheel or from a checkout."""
    wheel = Path(str(resources.files("ray_selfloop"))) / "sweeps"
    folder = wheel if wheel.is_dir() else Path(__file__).parents[2] / "sweeps"
    return folder / f"{name}.yaml"


def shipped() -> list[Path]:
    """The files of all shipped sweeps."""
    return sorted(sweep_file(QUICKSTART).parent.glob("*.yaml"))


def written(config: str | None, overrides: Sequence[str]) -> Tree:
    """The settings as written: a file over what it extends, with the overrides put in."""
    places = Places()
    tree, found = _written(config, overrides, places)
    _require_none(found, places)
    return tree


def _written(
    config: str | None, overrides: Sequence[str], places: Places
) -> tuple[Tree, list[Fault]]:
    """Settings, and what is wrong with words that set nothing."""
    tree, found = _read(find(config), places), []
    for override in overrides:
        try:
            _override(tree, override)
        except ConfigError as error:
            found.append(Fault((), str(error)))
        else:
            places.words.append(override)
    return tree, found


def load(config: str | None, overrides: Sequence[str]) -> tuple[Sweep, list[Scenario]]:
    """The sweep and its scenarios; raises ConfigError with a line for each fault.

    Whether settings contradict each other shows only where each alone is right.

    config: path of a sweep file, or the name of a shipped one; None runs the quickstart.
    """
    places = Places()
    tree, found = _written(config, overrides, places)
    sweep, own = _validated(tree)
    found += own
    scenarios = _scenarios(tree, sweep, found)
    if sweep is None or found:
        _require_none(found, places)
    assert sweep is not None
    _require_none(_not_different(scenarios), places)
    trials = sum(scenario.sweep.trials for scenario in scenarios)
    if trials > MOST_TRIALS:
        raise ConfigError(
            f"the sweep has {trials:,} trials (scenarios x loop seeds x generations x classifiers "
            f"x classifier seeds); at most {MOST_TRIALS:,} can be one sweep"
        )
    return sweep, scenarios


def _require_none(found: Sequence[Fault], places: Places) -> None:
    """Raise ConfigError where anything is at fault."""
    if found:
        raise ConfigError(message(found, places))


def _scenarios(tree: Tree, sweep: Sweep | None, found: list[Fault]) -> list[Scenario]:
    """The scenarios of a sweep, at fault or not; what is wrong in some alone joins what is found.

    An axis that is at fault itself spans none.
    """
    wrong = {fault.key[1:2] for fault in found if fault.key[:1] == ("axes",)}
    axes: dict[str, Any] = {} if () in wrong else tree.get("axes") or {}
    points = scenario_points({one: axes[one] for one in axes if (one,) not in wrong})
    short = short_keys(key for point in points for key in point)
    known = [fault.key for fault in found]
    said, scenarios = {fault.said for fault in found}, []
    for point in points:
        scenario, own = _scenario(tree, point, short)
        scenarios += [scenario] if scenario else []
        found += [f for f in own if f.said not in said and not any(f.inside(k) for k in known)]
        said |= {fault.said for fault in own}
        if len(found) > MOST_FAULTS:
            break
    return scenarios


def _not_different(scenarios: Sequence[Scenario]) -> list[Fault]:
    """What is wrong where two scenarios have one name or the same settings."""
    twice = [name for name, n in Counter(s.name for s in scenarios).items() if n > 1]
    if twice:
        said = shown("; ".join(sorted(twice)))
        return [Fault(("axes",), f"axes: two scenarios have the same name: {said}")]
    names: dict[str, str] = {}
    for scenario in scenarios:
        first = names.setdefault(scenario.sweep.model_dump_json(), scenario.name)
        if first != scenario.name:
            said = shown(f"{first}; {scenario.name}")
            return [Fault(("axes",), f"axes: two scenarios have the same settings: {said}")]
    return []


def find(config: str | None) -> Path:
    """The file of a sweep, by its path or its shipped name; raises ConfigError."""
    name = config or QUICKSTART
    for path in (Path(name), sweep_file(name)):
        try:
            if path.is_file():
                return path
        except OSError as error:  # a name too long, a folder that may not be entered
            raise ConfigError(f"{shown(path)} cannot be read: {error.strerror}") from error
    names = [path.stem for path in shipped()]
    close = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {close[0]}?" if close else f"shipped sweeps: {', '.join(names)}"
    raise ConfigError(f"no sweep file {shown(name)}; {hint}")


def _read(path: Path, places: Places, above: tuple[Path, ...] = ()) -> Tree:
    """A file's settings; those of the file that it ``extends`` lie below them."""
    tree, file = _read_alone(path)
    if "extends" in tree:
        base = _extended(file, tree.pop("extends"), above)
        tree = _merged(_read(base, places, (*above, path.resolve())), tree)
    places.files.append(file)
    return tree


def _extended(file: File, name: Any, above: tuple[Path, ...]) -> Path:
    """The file that a file builds on."""
    path, at = file.path, file.at(("extends",))
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        raise ConfigError(
            f"{at}: extends: must be the name of a sweep file (found {name!r:.80}): a shipped "
            "one, or one beside this file, without its .yaml"
        )
    beside = path.parent / f"{name}.yaml"
    try:
        base = beside if beside.is_file() else find(name)
    except ConfigError as error:
        raise ConfigError(f"{at}: extends: {error}") from error
    if base.resolve() in (*above, path.resolve()):
        raise ConfigError(f"{at}: extends: {name} extends this file in turn")
    return base


def _merged(below: Tree, own: Tree) -> Tree:
    """Groups key by key, all other values and the axes as in ``own``."""
    merged = dict(below)
    for key, value in own.items():
        under = below.get(key)
        if isinstance(under, dict) and isinstance(value, dict) and key != "axes":
            value = _merged(under, value)
        merged[key] = value
    return merged


def _read_alone(path: Path) -> tuple[Tree, File]:
    try:
        text = read(path)
        tree = parsed(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(_unreadable(path, error)) from error
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise ConfigError(
            f"{shown(path)} is not a sweep file: its top level must be keys and values"
        )
    file = File(path, text)
    try:
        return dict(plain(tree)), file
    except ConfigError as error:
        raise ConfigError(f"{file.at(key_of(str(error).partition(':')[0]))}: {error}") from error


def _unreadable(path: Path, error: Exception) -> str:
    """What is wrong with a file that YAML cannot read, with its place where that is known."""
    mark = getattr(error, "problem_mark", None)
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return f"{shown(path)} cannot be read: {shown(error)}"
    said = ", ".join(filter(None, (error.context, error.problem)))
    return f"{shown(path)}:{mark.line + 1}:{mark.column + 1} cannot be read: {shown(said)}"


def _override(tree: Tree, override: str) -> None:
    path, sign, text = override.partition("=")
    if not sign or path.startswith("-"):
        bare = override.lstrip("-")
        remedy = f"write {bare}, without dashes" if sign else f"usage: {USAGE}"
        raise ConfigError(f"{shown(repr(override))} is not understood; {remedy}")
    keys = all(path.split(".")) and path.isprintable() and len(path) <= MOST_CHARACTERS
    if not keys:
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
    *parents, leaf = parts(path)
    node = tree
    for part in parents:
        child = node.get(part)
        if child is None:
            child = node[part] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"{path}: {part} is a value, not a group of settings")
        node = child
    node[leaf] = value


def _scenario(
    tree: Tree, point: Mapping[str, Any], short: Mapping[str, str]
) -> tuple[Scenario | None, list[Fault]]:
    """The file with the axes' values put in; its name and values are the validated ones."""
    own = copy.deepcopy(tree)
    try:
        for path, value in point.items():
            _set(own, path, copy.deepcopy(value))  # its kind is put in where it has none
    except ConfigError as error:
        return None, [Fault(key_of(path), str(error))]
    sweep, found = _validated(own)
    if sweep is None or found:
        name = scenario_name(point, short) if point else ""
        return None, [_in_scenario(fault, name, tree, point) for fault in found]
    values = {path: _value(sweep, path, value) for path, value in point.items()}
    name = scenario_name(values, short)
    return Scenario(name=name, values=values, sweep=sweep, short=short), []


def _in_scenario(fault: Fault, name: str, tree: Tree, point: Mapping[str, Any]) -> Fault:
    """A fault that a value of an axis may have made: it stands where the axis does."""
    made = [key for key in point if f"{'.'.join(fault.key)}.".startswith(f"{key}.")]
    axes: Mapping[str, Any] = tree.get("axes") or {}
    axis = [one for key in made for one, values in axes.items() if one == key or key in str(values)]
    return Fault(("axes", axis[0]) if axis else fault.key, fault.said, name)


def _value(sweep: Sweep, path: str, written: Any) -> Any:
    """What an axis value was read as: 1_000 is a text in YAML. Groups and texts stay as written:
    `~` is another folder on another machine, and the scenario is the same.
    """
    if isinstance(written, dict):
        return written
    found: Any = sweep.model_dump(mode="json")
    for part in parts(path):
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


def _validated(tree: Tree) -> tuple[Sweep | None, list[Fault]]:
    """The sweep of a tree, or what is wrong with it; both where a value was read as another."""
    try:
        sweep = Sweep.model_validate(_with_tags(tree))
    except ValidationError as error:
        return None, faults(error)
    own = {name: sweep.training_for(name).model_dump() for name in sweep.training_of}
    found = []
    for key, given, value in _pairs(tree, {**sweep.model_dump(), "training_of": own}):
        path = ".".join(key)
        fault = _misread(path, given, value)
        if fault:
            found.append(Fault(key, f"{shown(path)}: {fault} (found {given!r:.80})"))
    return sweep, found


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


def _pairs(given: Any, read: Any, key: Key = ()) -> Iterator[tuple[Key, Any, Any]]:
    """Each value of a sweep file beside what it was read as."""
    entries: Iterable[tuple[Any, Any, Any]] = ()
    if isinstance(given, dict):
        entries = ((name, value, read[name]) for name, value in given.items())
    elif isinstance(given, list):
        entries = zip(range(len(given)), given, read, strict=True)
    else:
        yield key, given, read
    for name, value, inner in entries:
        yield from _pairs(value, inner, (*key, str(name)))
