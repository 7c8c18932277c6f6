"""From YAML text to plain values; whatever else YAML can express is refused.

Plain are groups with texts as keys, lists, one-line texts, numbers, true, false and null, within
limits that no sweep comes near. An alias counts as often as it is used and each use is a copy, so
that a few lines cannot stand for a billion values, nor one setting change another. Knows nothing of
what a value means.
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ray_selfloop.errors import ConfigError

MOST_BYTES = 200_000  # of a text
MOST_ALIASES = 100  # uses of anchors in a text
MOST_VALUES = 20_000  # in a text, aliases written out
MOST_DEPTH = 20  # groups and lists inside one another
MOST_CHARACTERS = 1_000  # of one value
LARGEST = 2**31 - 1  # of integers, in either direction
MERGE = "tag:yaml.org,2002:merge"
TIME = "tag:yaml.org,2002:timestamp"
NOT_READ = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""What PyYAML raises, besides its own errors, for values that their tags do not fit."""


class _Loader(yaml.SafeLoader):
    """YAML in which a key twice in a group is an error, and a date is a text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (yaml's own name and form)
        first: [(tag, form) for tag, form in resolvers if tag != TIME]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.aliases = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            self.aliases += 1
            if self.aliases > MOST_ALIASES:
                raise yaml.MarkedYAMLError(problem=f"more than {MOST_ALIASES} aliases")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen and key.tag != MERGE:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {shown(key.value)} is there twice",
                    problem_mark=key.start_mark,
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merged keys once each: else merges of merges grow without limit."""
        super().flatten_mapping(node)
        last = {
            key.value if isinstance(key, yaml.ScalarNode) else id(key): (key, value)
            for key, value in node.value
        }
        node.value = list(last.values())


def read(path: Path) -> str:
    """The text of a file; raises OSError, UnicodeDecodeError, or ConfigError for too much."""
    if not path.is_file():  # a pipe would never end
        raise ConfigError(f"{shown(path)} is no file")
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ConfigError(f"{shown(path)} is no sweep file: it is larger than {MOST_BYTES:,} bytes")
    return content.decode()


def parsed(text: str) -> Any:
    """What YAML makes of a text, not yet plain; raises yaml.YAMLError."""
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply") from error
    except NOT_READ as error:
        raise yaml.YAMLError(f"a value is not what its tag says: {error}") from error


def plain(value: Any, path: str = "") -> Any:
    """A copy of plain values; raises ConfigError for any other. path: where they will stand."""
    return _copied(value, path.split(".") if path else [], itertools.count(1))


def _copied(value: Any, path: list[str], count: Iterator[int]) -> Any:
    if next(count) > MOST_VALUES:
        raise ConfigError(f"more than {MOST_VALUES:,} values, with every alias written out")
    if len(path) > MOST_DEPTH:
        raise ConfigError(f"{shown(path[0])}: nested more than {MOST_DEPTH} levels deep")
    if isinstance(value, dict):
        return {_key(key, path): _copied(value[key], [*path, str(key)], count) for key in value}
    if isinstance(value, list):
        return [_copied(inner, [*path, str(i)], count) for i, inner in enumerate(value)]
    return _checked(value, path)


def _key(key: Any, path: list[str]) -> str:
    if not isinstance(key, str):
        raise ConfigError(f"{_dotted(path)}: a key must be a text (found {shown(key, 40)})")
    return str(_checked(key, path))


def _checked(value: Any, path: list[str]) -> Any:
    fault = _fault(value)
    if fault:
        raise ConfigError(f"{_dotted(path)}: {fault}")
    return value


def _dotted(path: list[str]) -> str:
    return shown(".".join(path)) or "top level"


def _fault(value: Any) -> str:
    """What is wrong with a single value; empty where nothing is."""
    if value is None or isinstance(value, bool | float):
        return ""
    if isinstance(value, int):
        most = f"must be at most {LARGEST:,}, above zero or below (found {_number(value)})"
        return most if abs(value) > LARGEST else ""
    if not isinstance(value, str):
        return f"must be a text, a number, a list or a group (found a {type(value).__name__})"
    if len(value) > MOST_CHARACTERS:
        return f"must have at most {MOST_CHARACTERS:,} characters (found {value!r:.60}...)"
    if not value.isprintable():
        return f"must be one line of printable characters (found {value!r:.80})"
    return ""


def _number(value: int) -> str:
    """An integer of any length: Python writes out no more than some thousand digits."""
    return str(value) if value.bit_length() < 150 else f"one of {value.bit_length()} bits"


def masked(text: str) -> str:
    """A text in which the password of an address, `scheme://user:password@host`, is `***`.

    So are a token in place of both, and a password among the parameters.
    """
    text = re.sub(r"(://[^/:\s]*):\S*@", r"\1:***@", text)  # user and password may hold an @
    text = re.sub(r"(https?://)[^/?#:@\s]+@", r"\1***@", text)
    return re.sub(r"([?&](?:password|token)=)[^&\s']*", r"\1***", text)


def shown(what: object, most: int = 500) -> str:
    """A text from anywhere as one printable line of at most so many characters; `masked`."""
    line = masked(" ".join(str(what).split()))
    cut = line if len(line) <= most else f"{line[: most - 3]}..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)
