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

from ray_selfloop.config.passwords import masked as masked  # for all who show what they have read
from ray_selfloop.errors import ConfigError

MOST_BYTES = 200_000  # of a text
MOST_ALIASES = 100  # uses of anchors in a text
MOST_VALUES = 20_000  # in a text, aliases written out
MOST_DEPTH = 20  # groups and lists inside one another
MOST_CHARACTERS = 1_000  # of one value
LARGEST = 2**31 - 1  # of integers, in either direction
TAG = "tag:yaml.org,2002:"
MERGE, TIME = f"{TAG}merge", f"{TAG}timestamp"
NOT_READ = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""What PyYAML raises, besides its own errors, for values that their tags do not fit."""
NOT_ITS_TAG = "a value is not what its tag says"
BASES = {"0o": 8, "0x": 16}
INTEGER = r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"
FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
FORMS = (
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", "true|True|TRUE|false|False|FALSE", ["t", "T", "f", "F"]),
    ("int", INTEGER, list("-+0123456789")),
    ("float", FLOAT, list("-+.0123456789")),
    ("merge", "<<", ["<"]),
)
"""The plain values that are no texts in YAML 1.2's core schema, by their first characters."""
RESOLVERS: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
for _kind, _form, _firsts in FORMS:
    for _first in _firsts:
        RESOLVERS.setdefault(_first, []).append((f"{TAG}{_kind}", re.compile(f"({_form})$")))


class Yaml11(yaml.SafeLoader):
    """YAML 1.1, as Ray reads it; a key twice in a group is an error, and a date is a text."""

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

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except NOT_READ as error:
            raise yaml.MarkedYAMLError(
                problem=f"{NOT_ITS_TAG}: {error}", problem_mark=node.start_mark
            ) from error

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


class Yaml12(Yaml11):
    """The same with the plain values of YAML 1.2 (its core schema).

    In 1.1 a leading zero is octal, and colons are a number to the base 60: 010 is 8, 1:30 is 90.
    """

    yaml_implicit_resolvers = RESOLVERS

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text = _of_form(INTEGER, node)
        return int(text, BASES.get(text[:2], 10))

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        text = _of_form(f"{INTEGER}|{FLOAT}", node)
        return float(int(text, 0) if text[:2] in BASES else re.sub(r"\.(?=[in])", "", text.lower()))


Yaml12.add_constructor(f"{TAG}int", Yaml12.construct_yaml_int)
Yaml12.add_constructor(f"{TAG}float", Yaml12.construct_yaml_float)


class _Dumper(yaml.SafeDumper):
    """Quotes what `Yaml12` would read as something else than a text."""

    yaml_implicit_resolvers = RESOLVERS


def _of_form(form: str, node: yaml.ScalarNode) -> str:
    """The text of a node, which may be tagged by hand; raises ValueError for another form."""
    text = str(node.value)
    if not re.fullmatch(form, text):
        raise ValueError(f"{shown(text, 80)!r} is no such number")
    return text


def read(path: Path) -> str:
    """The text of a file; raises OSError, UnicodeDecodeError, or ConfigError for too much."""
    if not path.is_file():  # a pipe would never end
        raise ConfigError(f"{shown(path)} is no file")
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ConfigError(f"{shown(path)} is no sweep file: it is larger than {MOST_BYTES:,} bytes")
    return content.decode()


def parsed(text: str, rules: type[Yaml11] = Yaml12) -> Any:
    """What YAML makes of a text, not yet plain; raises yaml.YAMLError."""
    try:
        return yaml.load(text, rules)  # a SafeLoader
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply") from error
    except NOT_READ as error:
        raise yaml.YAMLError(f"{NOT_ITS_TAG}: {error}") from error


def lines(text: str) -> dict[tuple[str, ...], int]:
    """Key, as its parts -> the line, from 1, on which a text that can be parsed has it.

    Of what is merged or repeated by an alias, the line on which that is written.
    """
    found: dict[tuple[str, ...], int] = {}
    _numbered(yaml.compose(text, Yaml12), (), found)
    return found


def _numbered(node: yaml.Node | None, above: tuple[str, ...], found: dict[Any, int]) -> None:
    for name, mark, inner in _entries(node) if len(above) < MOST_DEPTH else ():
        if len(found) > MOST_VALUES:
            return
        key = (*above, name)
        found[key] = mark.line + 1
        _numbered(inner, key, found)


def _entries(node: yaml.Node | None) -> Iterator[tuple[str, Any, yaml.Node]]:
    """What stands in a group or list: its name there, where, and what it is."""
    if isinstance(node, yaml.MappingNode):
        yield from ((str(key.value), key.start_mark, value) for key, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        yield from ((str(i), inner.start_mark, inner) for i, inner in enumerate(node.value))


def dumped(tree: Any) -> str:
    """Plain values as YAML from which they are read again as they are."""
    return str(yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


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


def shown(what: object, most: int = 500) -> str:
    """A text from anywhere as one printable line of at most so many characters; `masked`."""
    line = masked(" ".join(str(what).split()))
    cut = line if len(line) <= most else f"{line[: most - 3]}..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)
