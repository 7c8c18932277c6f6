"""The words of a command line: which names the sweep, and what the others mean.

A word's meaning depends on the type of the setting that it sets. Where that is a text, the word is
it: YAML would cut it at ` #`, and not take an `@` or `%` at its start, and the quotes that would
help are the shell's. Else a word is YAML, all of it.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from ray_selfloop.config import networks
from ray_selfloop.config.plain import parsed
from ray_selfloop.config.sweep import Sweep

TEXTS = frozenset({str, Path})
NUMBERS = frozenset({int, float})
NULLS = ("", "null", "Null", "NULL")  # `~`, YAML's too, is a folder where a path can stand


def arguments(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """``[CONFIG] [a.b=value ...]`` -> config, and all other words."""
    others = list(words)
    config = next((w for w in words if not w.startswith("-") and not _is_override(w)), None)
    if config is not None:
        others.remove(config)
    return config, others


def _is_override(word: str) -> bool:
    """Whether a word sets a key; what it sets else may be the path of a file, `lr=0.1/own.yaml`."""
    key, sign, _ = word.partition("=")
    known = key.partition(".")[0] in Sweep.model_fields
    return bool(sign) and (known or not ("/" in key or os.path.isfile(word)))


def meant(key: str, word: str) -> Any:
    """The value that a word gives a dotted key; raises yaml.YAMLError.

    Of an unknown key it is a text: what is said of it is said of the key.
    """
    types = kinds(key)
    return _text(word.strip(), types) if TEXTS & types or not types else _whole(word)


def kinds(key: str) -> set[Any]:
    """The types that a dotted key can have, whichever kinds its groups are; none where unknown."""
    first, *rest = networks.parts(key)
    if first == "axes":
        return {list}
    parts = ["training", *rest[1:]] if first == "training_of" and rest[1:] else [first, *rest]
    found: list[Any] = [Sweep]
    for part in parts:
        found = [inner for one in found for inner in _inside(one, part)]
    return set(found)


def _inside(group: Any, name: str) -> Iterator[Any]:
    """The types of what stands in a group under a name."""
    if isinstance(group, type) and issubclass(group, BaseModel):
        if name in group.model_fields:
            yield from _members(group.model_fields[name].annotation)
    elif get_origin(group) is dict:
        yield from _members(get_args(group)[1])


def _members(annotation: Any) -> Iterator[Any]:
    """A type, or those of a union; of literals the types of their values."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        yield from map(type, inner)
    elif origin in (Union, UnionType, Annotated):
        for member in inner[:1] if origin is Annotated else inner:
            yield from _members(member)
    else:
        yield annotation


def _text(word: str, types: set[Any]) -> Any:
    """The word itself, or what is in its quotes, or what else YAML finds that the key can be."""
    try:
        value = _whole(word)
    except yaml.YAMLError:
        return word
    if isinstance(value, str):
        return value if word[0] in "'\"" else word
    number = type(value) in NUMBERS and NUMBERS & types
    plain = value is not None or word in NULLS
    return value if plain and (number or type(value) in types) else word


def _whole(word: str) -> Any:
    """What YAML makes of a word; raises yaml.YAMLError where it would pass over a part of it."""
    value, end = parsed(word), 0
    for token in yaml.scan(word, yaml.SafeLoader):
        skipped = word[end : token.start_mark.index].strip()
        if skipped:
            raise yaml.YAMLError(f"YAML takes {skipped!r} for a comment; leave it out, or quote it")
        end = token.end_mark.index
    return value
