"""Every setting as a person asks for it: type, bounds, default, description, read off its field.

The verb `settings` and docs/settings.md come from here. Knows the schema and nothing of a sweep.
"""

import json
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ray_selfloop.config import networks
from ray_selfloop.config.sweep import Sweep
from ray_selfloop.config.training import Training

WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false", Any: "value"}
NULL = type(None)
UNIONS = (Union, types.UnionType)
BOUNDS = {
    "ge": ">= {}",
    "gt": "> {}",
    "le": "<= {}",
    "lt": "< {}",
    "min_length": "at least {} long",
    "max_length": "at most {} long",
    "pattern": "form {}",
}
LONGEST = 70  # characters of a type in a line
ANY_NETWORK = "NETWORK"
REQUIRED = "required"
HEAD = """# Settings

Written from the fields of `ray_selfloop/config/` by `ray-selfloop settings --markdown`; a test
keeps it fresh. `ray-selfloop settings KEY` shows one. How a sweep file is written: the README.
"""


@dataclass(frozen=True)
class Setting:
    """One setting. kind: of the group that it stands in, like `name: breeds`; "" of the only one.

    default: as in a sweep file; "" of a group, which has those of its fields.
    """

    key: str
    kind: str
    type: str
    bounds: str
    default: str
    description: str
    group: bool


# --- types ---------------------------------------------------------------------------------------


def models_of(annotation: Any) -> list[type[BaseModel]]:
    """The groups of settings that a type allows."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (*UNIONS, typing.Annotated):
        return [model for part in get_args(annotation) for model in models_of(part)]
    return []


def tag_of(model: type[BaseModel]) -> str:
    """What tells a group from others that may stand in its place."""
    field = model.model_fields.get("name") or model.model_fields.get("kind")
    return str(field.default) if field else ""


def fields_of(annotation: Any) -> dict[str, Any]:
    """Name -> type of all that can stand in a group."""
    return {
        name: field.annotation
        for model in models_of(annotation)
        for name, field in model.model_fields.items()
    }


def _type(annotation: Any) -> str:
    """A type in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(_yaml(value) for value in inner)
    if origin in UNIONS:
        return " or ".join(dict.fromkeys(_type(part) for part in inner if part is not NULL)) + (
            " or null" if NULL in inner else ""
        )
    if origin is typing.Annotated:
        titles = [mark.title for mark in inner[1:] if isinstance(mark, FieldInfo) and mark.title]
        return titles[0] if titles else _type(inner[0]) + _bracketed(_bounds(inner[1:]))
    if origin in (tuple, list):
        return _list(inner)
    if origin is dict:
        return f"group: {_type(inner[0])} -> {_type(inner[1])}"
    return "group" if models_of(annotation) else WORDS.get(annotation, "text")


def _list(inner: Sequence[Any]) -> str:
    several = [part for part in inner if part is not Ellipsis]
    one = f"list of {_type(several[0])}"
    return f"{one}, {len(several)} of them" if len(several) > 1 else one


def _bracketed(text: str) -> str:
    return f" ({text})" if text else ""


def _bounds(metadata: Sequence[Any]) -> str:
    """Bounds and forms in words; others are said by the description."""
    said = []
    for one in metadata:
        found = {name: getattr(one, name, None) for name in BOUNDS}
        said += [BOUNDS[name].format(end) for name, end in found.items() if end is not None]
        said += [_bounds(one.metadata)] if isinstance(one, FieldInfo) else []
    return ", ".join(filter(None, said))


def _yaml(value: Any) -> str:
    """A value as it is written in a sweep file."""
    if isinstance(value, BaseModel):
        return ""
    if isinstance(value, tuple | list):
        return f"[{', '.join(_yaml(inner) for inner in value)}]"
    return value if isinstance(value, str) else json.dumps(value)


# --- settings ------------------------------------------------------------------------------------


def _setting(key: str, kind: str, field: FieldInfo) -> Setting:
    default = field.get_default(call_default_factory=True, validated_data={})
    required = default is PydanticUndefined
    kinds = [tag_of(model) for model in models_of(field.annotation)]
    group = bool(kinds)
    several = f"; kinds: {', '.join(kinds)}" if len(kinds) > 1 else ""
    description = " ".join((field.description or _doc(field.annotation)).split())
    return Setting(
        key,
        kind,
        f"{_type(field.annotation)}{several}",
        _bounds(field.metadata),
        REQUIRED if required else _yaml(default),
        description,
        group,
    )


def _doc(annotation: Any) -> str:
    """What a group's own class says of it, where the field says nothing."""
    found = models_of(annotation)
    return str(found[0].__doc__).partition("\n\n")[0] if len(found) == 1 else ""


def _below(model: type[BaseModel], above: str, kind: str) -> Iterator[Setting]:
    """The settings of a group, each followed by what stands in it."""
    for name, field in model.model_fields.items():
        key = f"{above}.{name}" if above else name
        yield _setting(key, kind, field)
        inner = models_of(field.annotation)
        for one in inner:
            tag = "kind" if "kind" in one.model_fields else "name"
            yield from _below(one, key, f"{tag}: {tag_of(one)}" if len(inner) > 1 else kind)
        if key == "training_of":
            yield from _below(Training, f"{key}.{ANY_NETWORK}", kind)


@cache
def settings() -> tuple[Setting, ...]:
    """All of them, in the order of the schema."""
    return tuple(_below(Sweep, "", ""))


@cache
def keys() -> tuple[str, ...]:
    """All dotted keys, each once; those of `training_of` are those of `training`."""
    return tuple(dict.fromkeys(s.key for s in settings() if ANY_NETWORK not in s.key))


def asked(key: str) -> list[Setting]:
    """The settings of a key, one for each kind of group that has it; none of an unknown key."""
    first, *rest = networks.parts(key)
    if first == "training_of" and rest:
        key = ".".join([first, ANY_NETWORK, *rest[1:]])
        if not rest[1:]:
            return asked("training")
    return [one for one in settings() if one.key == key]


def inside(key: str) -> list[Setting]:
    """The settings one level below a key; "" for the top."""
    start = f"{key}." if key else ""
    return [s for s in settings() if s.key.startswith(start) and "." not in s.key[len(start) :]]


# --- as text -------------------------------------------------------------------------------------


def sentences(key: str) -> Iterator[str]:
    """All about a setting, or of a group what stands in it; nothing of an unknown key."""
    found = asked(key)
    for one, kinds in _same(found).items():
        yield f"{key}{_bracketed(', '.join(filter(None, kinds)))}: {one.type}"
        if one.description:
            yield f"  {one.description}"
        if one.bounds:
            yield f"  bounds: {one.bounds}"
        if not one.group:
            yield f"  default: {one.default}"
    if found:
        yield from lines(found[0].key)


def _same(found: Sequence[Setting]) -> dict[Setting, list[str]]:
    """Settings that differ in the kind of their group alone, with these kinds."""
    kinds: dict[Setting, list[str]] = {}
    for one in found:
        kinds.setdefault(replace(one, kind=""), []).append(one.kind)
    return kinds


def lines(key: str = "") -> Iterator[str]:
    """What stands in a group, a line each, kind by kind; "" for the top level."""
    kind = ""
    for one in inside(key):
        if one.kind != kind and (kind := one.kind):
            yield f"  with {kind}:"
        default = "" if one.group else f"; default {one.default}"
        said = f"{one.type}{_bracketed(one.bounds)}"
        said = said if len(said) <= LONGEST else f"{said[: LONGEST - 3]}..."
        yield f"    {one.key.rpartition('.')[2]}: {said}{default}"


def page() -> str:
    """All settings as a page of Markdown: a table for each group, of each kind."""
    tables: dict[tuple[str, str], list[Setting]] = {}
    for one in settings():
        if ANY_NETWORK not in one.key:
            tables.setdefault((one.key.rpartition(".")[0], one.kind), []).append(one)
    return "\n".join([HEAD, *(_table(*of, ones) for of, ones in tables.items())])


def _table(key: str, kind: str, ones: Sequence[Setting]) -> str:
    of_kind = f", {kind}" if kind else ""
    rows = [
        f"| `{one.key.rpartition('.')[2]}` | {_cell(one.type)} | {_cell(one.bounds)} | "
        f"{_code(one.default)} | {_cell(one.description)} |"
        for one in ones
    ]
    title = f"## {key or 'Top level'}{of_kind}"
    head = "| setting | type | bounds | default | meaning |\n|---|---|---|---|---|"
    return "\n".join([title, "", head, *rows, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{_cell(text)}`" if text else ""
