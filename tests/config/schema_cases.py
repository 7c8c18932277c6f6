"""Malformed sweep files derived from the schema, and valid settings near the edges of it.

The JSON schema of `Sweep` is the oracle: what it refuses of a value, the program must refuse too.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jsonschema
import yaml

from ray_selfloop.config.sweep import Sweep, why_no_axis

Tree = dict[str, Any]
Schema = Mapping[str, Any]
Path = tuple[str, ...]

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # libyaml is ten times as fast
ROOT = Sweep.model_json_schema()
DEFAULT_KINDS = {"dataset": "colorized_digits", "generator": "conditional_gan", "clip": "domain"}
SMALLEST: Tree = {"name": "a"}
OPEN = {"training_of", "axes", "storage"}  # of any keys; their faults are not in the schema


def merged(*trees: Tree) -> Tree:
    """Groups key by key, the last one's values."""
    found: Tree = {}
    for tree in trees:
        for key, value in tree.items():
            both = isinstance(value, dict) and isinstance(found.get(key), dict)
            found[key] = merged(found[key], value) if both else value
    return found


def with_value(tree: Tree, path: Path, value: Any) -> Tree:
    """The tree with ``value`` at ``path``, whatever was there."""
    name, *rest = path
    under = tree.get(name)
    inner = under if isinstance(under, dict) else {}
    return {**tree, name: with_value(inner, tuple(rest), value) if rest else value}


BASES: Mapping[str, Tree] = {
    "digits": SMALLEST,
    "mnist": merged(SMALLEST, {"dataset": {"name": "colorized_mnist"}}),
    "cifar": merged(SMALLEST, {"dataset": {"name": "cifar20_100"}}),
    "hard_imagenet": merged(
        SMALLEST,
        {"dataset": {"name": "hard_imagenet"}, "generator": {"name": "stable_diffusion"}},
    ),
    "breeds": merged(
        SMALLEST, {"dataset": {"name": "breeds"}, "generator": {"name": "stable_diffusion"}}
    ),
    "folder": merged(
        SMALLEST,
        {
            "dataset": {"name": "folder", "table": "t.csv"},
            "generator": {"name": "duplicate_real"},
        },
    ),
    "images": merged(SMALLEST, {"generator": {"name": "folder", "root": "images"}}),
    "duplicate_real": merged(SMALLEST, {"generator": {"name": "duplicate_real"}}),
    "held_out_real": merged(SMALLEST, {"generator": {"name": "held_out_real"}}),
    "open_clip": merged(SMALLEST, {"filter": {"clip": {"kind": "open_clip"}}}),
    "tune": merged(
        SMALLEST,
        {
            "tune": {
                "learning_rates": {"low": 0.1, "high": 0.2},
                "weight_decays": {"low": 0.1, "high": 0.2},
            }
        },
    ),
}
"""A valid sweep with each member of each union."""

# --- fields --------------------------------------------------------------------------------------


class Field(NamedTuple):
    """A setting, in a base that has it."""

    base: str
    path: Path
    schema: Schema

    @property
    def dotted(self) -> str:
        return ".".join(self.path)

    def file(self, value: Any) -> str:
        """A sweep file whose only fault can be this value."""
        return text(with_value(BASES[self.base], self.path, value))

    def refuses(self, value: Any) -> bool:
        """Whether the schema does."""
        whole = {**self.schema, "$defs": ROOT["$defs"]}
        return not jsonschema.Draft202012Validator(whole).is_valid(value)

    @property
    def kinds(self) -> set[str]:
        """JSON types of single values that are taken."""
        return {str(member.get("type")) for member in members(self.schema)}


def text(tree: Tree) -> str:
    """A sweep file."""
    return str(yaml.dump(tree, Dumper=DUMPER, default_flow_style=True, width=1_000_000))


def resolved(schema: Schema) -> Schema:
    """What a reference points to."""
    while "$ref" in schema:
        schema = ROOT["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def members(schema: Schema) -> list[Schema]:
    """The schema, or those of a union."""
    known = resolved(schema)
    return [m for part in known["anyOf"] for m in members(part)] if "anyOf" in known else [known]


def group_of(name: str, schema: Schema, tree: Any) -> Schema | None:
    """The schema of a group of settings, of the kind that it has in ``tree``; None of a value."""
    known = resolved(schema)
    if "discriminator" in known:
        tag = known["discriminator"]["propertyName"]
        kind = (tree or {}).get(tag, DEFAULT_KINDS[name])
        return resolved({"$ref": known["discriminator"]["mapping"][kind]})
    if "anyOf" in known and tree is None:
        return None
    return next((member for member in members(known) if "properties" in member), None)


def walk(base: str, schema: Schema, tree: Any, above: Path = ()) -> Iterator[Field]:
    """Every setting below a group."""
    for name, inner in schema["properties"].items():
        field, under = Field(base, (*above, name), inner), (tree or {}).get(name)
        if field.path[0] in OPEN:
            continue
        yield field
        group = group_of(name, inner, under)
        if group:
            yield from walk(base, group, under, field.path)


def every_field() -> list[Field]:
    """Each setting once, and those of `training_of` one network."""
    found: dict[tuple[Path, str], Field] = {}
    for base, tree in BASES.items():
        for field in walk(base, ROOT, tree):
            found.setdefault((field.path, json.dumps(field.schema, sort_keys=True)), field)
    training = ROOT["$defs"]["Training"]
    own = [f._replace(path=("training_of", "lenet", *f.path)) for f in walk("digits", training, {})]
    return [*found.values(), *own]


FIELDS = every_field()
GROUPS = [field for field in FIELDS if group_of(field.path[-1], field.schema, {})]

# --- malformed -----------------------------------------------------------------------------------


class Case(NamedTuple):
    """path: which the message must begin with. says: what must stand in it."""

    file: str
    path: str
    says: str = ""


OTHER_TYPES = (None, "xyzzy", [], [[[]]], [{"a": 1}], {"a": {"b": [1]}})
NUMBERS = (-1, -0.5, 0, 1, 1.5, 2.5, -(10**6), 10**6)
NOT_FINITE = (float("nan"), float("inf"), float("-inf"), "1e400", "-1e400")
TOO_LARGE = (2**31, 10**30, "9" * 400)


def wrong_types() -> Iterator[Case]:
    for field in FIELDS:
        for value in OTHER_TYPES:
            if field.refuses(value):
                yield Case(field.file(value), field.dotted)


def out_of_range() -> Iterator[Case]:
    for field in FIELDS:
        for value in NUMBERS if field.kinds & {"integer", "number"} else ():
            if field.refuses(value):
                yield Case(field.file(value), field.dotted)


def not_finite() -> Iterator[Case]:
    for field in FIELDS:
        if field.kinds & {"integer", "number"} and "string" not in field.kinds:
            yield from (Case(field.file(value), field.dotted) for value in NOT_FINITE)


def too_large() -> Iterator[Case]:
    for field in FIELDS:
        if "integer" in field.kinds:
            yield from (Case(field.file(value), field.dotted) for value in TOO_LARGE)


def numbers_and_truth() -> Iterator[Case]:
    for field in FIELDS:
        numbers, truth = field.kinds & {"integer", "number"}, "boolean" in field.kinds
        for value in (True, False) if numbers and not truth else ():
            yield Case(field.file(value), field.dotted)
        for number in (0, 1, 2, 0.0) if truth else ():
            yield Case(field.file(number), field.dotted, "must be")


def unknown_keys() -> Iterator[Case]:
    for field in GROUPS:
        path = (*field.path, "xyzzy")
        yield Case(text(with_value(BASES[field.base], path, 1)), ".".join(path), "unknown key")
    yield Case(text({**SMALLEST, "xyzzy": 1}), "xyzzy", "unknown key; known keys: name, storage")


def misspelt_keys() -> Iterator[Case]:
    for field in FIELDS:
        *above, name = field.path
        path = (*above, f"{name[:2]}{name[1:]}")  # one letter twice
        file = text(with_value(BASES[field.base], path, 1))
        yield Case(file, ".".join(path), f"unknown key; did you mean {field.dotted}?")


def misspelt_values() -> Iterator[Case]:
    for field in FIELDS:
        for known in (v for member in members(field.schema) for v in member.get("enum", ())):
            says = f"; did you mean {known}?"
            yield Case(field.file(f"{known[:1]}{known}"), field.dotted, says)


def wrong_kinds() -> Iterator[Case]:
    tags = {"dataset": "name", "generator": "name", "filter.clip": "kind"}
    for field in GROUPS:
        tag = tags.get(field.dotted)
        for value in (*OTHER_TYPES, 0, True, "colorized_mnst") if tag else ():
            path = (*field.path, str(tag))
            yield Case(text(with_value(SMALLEST, path, value)), ".".join(path), "must be one of")


def bad_axes() -> Iterator[Case]:
    for field in FIELDS:
        if why_no_axis(field.dotted):
            says = "cannot differ between scenarios"
            yield Case(text({**SMALLEST, "axes": {field.dotted: [1]}}), "axes", says)
        elif field.refuses({"a": 1}):
            axes = {field.dotted: [{"a": 1}]}
            yield Case(text({**BASES[field.base], "axes": axes}), field.dotted, " (in scenario ")
            for value in (None, "a"):
                file = text({**BASES[field.base], "axes": {field.dotted: value}})
                yield Case(file, f"axes.{field.dotted}", "must be a list")


CATEGORIES: Mapping[str, tuple[Callable[[], Iterator[Case]], int]] = {
    "wrong types": (wrong_types, 1_300),
    "out of range": (out_of_range, 700),
    "not finite": (not_finite, 600),
    "too large": (too_large, 250),
    "numbers and truth": (numbers_and_truth, 300),
    "unknown keys": (unknown_keys, 20),
    "misspelt keys": (misspelt_keys, 250),
    "misspelt values": (misspelt_values, 100),
    "wrong kinds": (wrong_kinds, 20),
    "bad axes": (bad_axes, 600),
}
"""Kinds of faults, and how many cases of each there are at least."""

# --- valid, near the edges -----------------------------------------------------------------------

HEAVY = {"simulations", "most_chains", "generations", "inception"}  # slow, or a file's place


def near_edges(rng: random.Random) -> Tree:
    """A sweep of the digits in which one to three settings have an odd value that they may have."""
    tree = SMALLEST
    tree = merged(tree, {"evaluation": {"claims": {"simulations": 50, "most_chains": 3}}})
    fields = [f for f in FIELDS if f.base == "digits" and f.path[-1] not in HEAVY]
    for field in rng.sample(fields, rng.choice((1, 2, 3))):
        odd = [value for member in members(field.schema) for value in _odd(member)]
        if odd and field.path[0] not in ("name", "tracking"):
            tree = with_value(tree, field.path, rng.choice(odd))
    reserve, arms = rng.choice((0, 0, 0.1, 0.9)), ROOT["$defs"]["Loop"]["properties"]["arm"]["enum"]
    return merged(tree, {"dataset": {"reserve": reserve}, "loop": {"arm": rng.choice(arms)}})


def _odd(schema: Schema) -> list[Any]:
    if "enum" in schema:
        return list(schema["enum"])
    kind = schema.get("type")
    least = schema.get("minimum", schema.get("exclusiveMinimum", -5))
    most = schema.get("maximum", schema.get("exclusiveMaximum", 2**31 - 1))
    if kind == "integer":
        candidates: list[Any] = [least, least + 1, 2, 3, 17, 33, 1000, most]
    elif kind == "number":
        candidates = [float(least), float(most), 0.0, 1e-300, 1e-9, 0.3, 1.0, 2.5, 1e9]
    else:
        return {"boolean": [True, False], "null": [None], "string": ["a", "D0/99999", "x {}"]}.get(
            str(kind), []
        )
    whole = {**schema, "$defs": ROOT["$defs"]}
    valid = jsonschema.Draft202012Validator(whole)
    return [value for value in candidates if valid.is_valid(value)]
