"""What is wrong with settings, in the words of a sweep file: one sentence for each fault.

Knows the schema and what pydantic says of it; neither files nor command lines.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from ray_selfloop.config.places import Key, Places, key_of
from ray_selfloop.config.plain import shown
from ray_selfloop.config.reference import fields_of, keys, models_of, settings, tag_of
from ray_selfloop.config.sweep import NAME, AxesError, PartError, Sweep

MOST_FAULTS = 20
MOST_MESSAGE = 1_500  # characters
MOST_NEAREST = 4
CLOSE = 0.8  # likeness of a key that is meant to one of another group
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
PATTERNS = {NAME: "must be letters, digits and . _ -, a letter or digit first"}
"""What some patterns mean."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong. key: of the setting; () where it is about several.

    said: the sentence, which begins with the key. scenario: in which it is so, "" for in all.
    """

    key: Key
    said: str
    scenario: str = ""

    def inside(self, key: Key) -> bool:
        """Whether it is about a setting, or about what stands in one."""
        return bool(key) and self.key[: len(key)] == key

    def at(self, places: Places, several: bool) -> str:
        """The line of it: where it is written first; words are named where there are several."""
        where = f" (in scenario {self.scenario})" if self.scenario else ""
        word = places.word(self.key)
        line = "" if word else places.line(self.key)
        said = self.said
        if several and word and not said.startswith(repr(word)):
            line, said = word, said.removeprefix(f"{word.partition('=')[0]}: ")
        start = f"{line}: " if line else ""
        return shown(f"{start}{said}{where}", MOST_MESSAGE)


def message(found: Sequence[Fault], places: Places) -> str:
    """All faults, a line each, in the order of what was written."""
    told = sorted(found, key=lambda fault: places.rank(fault.key))
    lines = [fault.at(places, len(found) > 1) for fault in told[:MOST_FAULTS]]
    more = len(found) - MOST_FAULTS
    return "\n".join([*lines, f"and {more} more"] if more > 0 else lines)


def faults(error: ValidationError, root: type[BaseModel] = Sweep, above: Key = ()) -> list[Fault]:
    """What pydantic has found, one sentence for each setting; a group is not at fault beside what
    is inside it. above: where the root stands.
    """
    found: dict[Key, list[Any]] = {}
    groups: dict[Key, Any] = {}
    for one in error.errors():
        names, group = _walk(root, one["loc"])
        found.setdefault(tuple(names), []).append(one)
        groups[tuple(names)] = group
    around = {names[:n] for names in found for n in range(len(names))}
    return [
        fault
        for names, ones in found.items()
        if names not in around
        for fault in _explained((*above, *names), ones, groups[names])
    ]


def _explained(key: Key, ones: Sequence[Mapping[str, Any]], group: Any) -> Iterable[Fault]:
    """What is said of one setting: path, what is allowed, what was found."""
    one, path = ones[0], ".".join(key)
    error = one.get("ctx", {}).get("error")
    if isinstance(error, PartError) and isinstance(error.__cause__, ValidationError):
        return faults(error.__cause__, error.model, key_of(error.path))
    if isinstance(error, AxesError):
        return [Fault(("axes", axis)[: 1 + bool(axis)], f"axes: {s}") for axis, s in error.wrong]
    if one["type"] == "extra_forbidden":
        return [Fault(key, f"{path}: unknown key; {_nearest_key(path, group, one['input'])}")]
    if one["type"] == "missing":
        return [Fault(key, f"{path}: this {'entry' if key[-1].isdigit() else 'key'} is required")]
    if one["type"] == "union_tag_invalid":
        path += "." + one["ctx"]["discriminator"].strip("'")
    said = ", or ".join(dict.fromkeys(_message(other) for other in ones))
    if not path:
        return [Fault(_named(said), said)]
    return [Fault(key_of(path), f"{path}: {said}{_found(one)}{_nearest_value(one)}")]


def _named(said: str) -> Key:
    """The setting with which a sentence about several begins."""
    named = re.match(r"[a-z_]+(\.[a-z0-9_]+)*(?=: )", said)
    return key_of(named[0]) if named else ()


def _message(fault: Mapping[str, Any]) -> str:
    if fault["type"] == "union_tag_invalid":
        return f"must be one of {fault['ctx']['expected_tags']}"
    pattern = PATTERNS.get(fault.get("ctx", {}).get("pattern", ""))
    if pattern:
        return pattern
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
        if part == "[key]":  # after it the kinds of names that a key can be
            break
        fields, kinds = fields_of(model), models_of(model)
        picked = [kind for kind in kinds if len(kinds) > 1 and tag_of(kind) == part]
        if picked:
            model = picked[0]
        elif get_origin(model) is dict:
            names.append(str(part))
            group, model = model, get_args(model)[1]
        elif fields or isinstance(part, int):
            names.append(str(part))
            group, model = model, fields.get(str(part))
    return names, group


def _nearest_key(path: str, group: Any, given: Any) -> str:
    """The nearest known key, here or in another group, or all keys that the group has."""
    above, dot, _ = path.rpartition(".")
    near = _near(path, [f"{above}{dot}{name}" for name in fields_of(group)], given)
    while not near and isinstance(given, dict) and given:  # no such group: what stands in it
        name, given = next(iter(given.items()))
        path = f"{path}.{name}"
        near = _near(path, (), given)
    return _meant(near) or f"known keys: {', '.join(fields_of(group))}"


def nearest_setting(path: str) -> str:
    """What may be meant by a key that no setting has, as the end of a sentence."""
    above = path.rpartition(".")[0]
    near = _near(path, [key for key in keys() if key.rpartition(".")[0] == above])
    top = dict.fromkeys(key.partition(".")[0] for key in keys())
    return _meant(near) or f"groups: {', '.join(top)}"


def _meant(near: Sequence[str]) -> str:
    return f"did you mean {' or '.join(near[:MOST_NEAREST])}?" if near else ""


def _near(path: str, here: Sequence[str], given: Any = None) -> list[str]:
    """The keys that may be meant, in the same group or another; where a group is given, groups."""
    group, known = isinstance(given, dict), list(keys())
    if group:
        groups = {one.key for one in settings() if one.type.startswith("group")}
        known, here = (
            [key for key in known if key in groups],
            [key for key in here if key in groups],
        )
    elsewhere = [] if path in keys() else sorted(known, key=lambda key: key.count("."))
    return next(filter(None, _guesses(path, here, elsewhere, group)), [])


def _guesses(
    path: str, here: Sequence[str], elsewhere: Sequence[str], group: bool
) -> Iterator[list[str]]:
    """The keys that may be meant, the likeliest first: `generations` is loop.generations.

    A group that is like no other is none: then what stands in it is looked for.
    """
    name, own = _leaf(path), {_leaf(key): key for key in here}
    same = [key for key in elsewhere if _leaf(key) == name]
    distant = [key for key in elsewhere if name in (_leaf(key), *_short(_leaf(key)))]
    yield same if len(same) == 1 else []
    yield [own[one] for one in difflib.get_close_matches(name, own, 1, cutoff=CLOSE)]
    yield [key for one, key in own.items() if name in _short(one)]
    yield [] if "." in path else distant
    yield [] if group else [own[one] for one in difflib.get_close_matches(name, own, 1, cutoff=0.5)]
    yield difflib.get_close_matches(path, elsewhere, 1, cutoff=CLOSE)
    close = difflib.get_close_matches(name, [_leaf(key) for key in elsewhere], 1, cutoff=CLOSE)
    yield distant or [key for key in elsewhere if _leaf(key) in close]


def _leaf(key: str) -> str:
    return key.rpartition(".")[2]


def _short(name: str) -> list[str]:
    """What people write for a name of several words: lr or rate, for learning_rate."""
    parts = name.split("_")
    return ["".join(part[:1] for part in parts), *parts] if len(parts) > 1 else []
