"""Thousands of malformed sweep files and words: each is one line that names the place, exit code 2.

Faults of single settings come from the schema (`schema_cases.py`); what YAML, files, `extends` and
overrides can do besides stands here.
"""

import contextlib
import io
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import schema_cases
from schema_cases import BASES, CATEGORIES, near_edges, text

from ray_selfloop.__main__ import main
from ray_selfloop.config import load, plain
from ray_selfloop.errors import BAD_INPUT, DONE

LIMIT = 20  # s for one case: what takes longer counts as a hang
MOST = 2_000  # characters of a message
LAUGHS = ", ".join(
    [
        "a: &a [x, x, x, x, x, x, x, x, x, x]",
        *(
            f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]"
            for a, b in zip("abcdefgh", "bcdefghi", strict=True)
        ),
    ]
)
"""Eight lines that stand for a billion values."""
VALID = "filter: {expert: {classifier: lenet}}"
MERGES = ", ".join(
    [
        "a: &a {k: 1}",
        *(
            f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 10)}]}}"
            for a, b in zip("abcdefgh", "bcdefghi", strict=True)
        ),
    ]
)


class HangError(Exception):
    """A case took too long."""


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def answer(*words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the program's own main."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), time_limit():
        code = main(words)
    return code, out.getvalue(), err.getvalue()


def refused(*words: str) -> str:
    """The one line with which words are refused, without the place in the file."""
    (line,) = mistakes(*words)
    return line


def mistakes(*words: str) -> list[str]:
    """The lines with which words are refused, one for each mistake, without places in the file."""
    code, out, err = answer(*words)
    assert (code, out) == (BAD_INPUT, "")
    lines = err.splitlines()
    for line in lines:
        assert line.startswith("error: ")
        assert line.isprintable()
        assert len(line) < MOST
    return [re.sub(r"^error: (\S*sweep\.yaml:\d+: )?", "", line) for line in lines]


def names(said: str, path: str) -> bool:
    """Whether a message begins with the path, or with its group's and then says the name."""
    named, leaf = said.split(": ")[0], path.rpartition(".")[2]
    return f"{named}.".startswith(f"{path}.") or (path.startswith(f"{named}.") and leaf in said)


# --- from the schema -----------------------------------------------------------------------------


@pytest.mark.parametrize("base", BASES)
def test_what_the_cases_are_made_from_is_valid(base: str, tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(text(BASES[base]))
    code, out, err = answer("validate", str(file))
    assert (code, err) == (DONE, "")
    assert out.startswith("valid: ")


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_malformed_setting_is_refused_by_its_path(category: str, tmp_path: Path) -> None:
    make, least = CATEGORIES[category]
    cases = list(make())
    assert len(cases) >= least
    file = tmp_path / "sweep.yaml"
    for case in cases:
        file.write_text(case.file)
        said = mistakes("validate", str(file))
        assert all(names(line, case.path) for line in said), (case, said)
        assert any(case.says in line for line in said), (case, said)


@pytest.mark.parametrize("seed", range(4))
def test_junk_anywhere_is_refused_or_valid_but_never_breaks(seed: int, tmp_path: Path) -> None:
    rng, file = random.Random(seed), tmp_path / "sweep.yaml"
    junk = (
        *schema_cases.OTHER_TYPES,
        *schema_cases.NUMBERS,
        *schema_cases.NOT_FINITE,
        True,
        10**30,
    )
    codes = set()
    for _ in range(150):
        tree = BASES[rng.choice(list(BASES))]
        for field in rng.sample(schema_cases.FIELDS, 3):
            tree = schema_cases.with_value(tree, field.path, rng.choice(junk))
        file.write_text(text(tree))
        code, out, err = answer("validate", str(file))
        codes.add(code)
        assert (bool(err), bool(out)) == ((True, False) if code else (False, True)), err
        assert all(line.startswith("error: ") for line in err.splitlines())
    assert codes <= {DONE, BAD_INPUT}
    assert BAD_INPUT in codes


@pytest.mark.parametrize("seed", range(4))
def test_settings_near_the_edges_are_planned_or_refused(seed: int, tmp_path: Path) -> None:
    """`plan` builds the graph of every stage, and the smallest effect that can be detected."""
    rng, file = random.Random(seed), tmp_path / "sweep.yaml"
    codes = []
    for _ in range(25):
        file.write_text(text(near_edges(rng)))
        code, out, err = answer("plan", str(file), f"storage={tmp_path / 'store'}")
        assert (bool(err), bool(out)) == ((True, False) if code else (False, True)), err
        assert all(line.startswith("error: ") for line in err.splitlines())
        codes.append(code)
    assert set(codes) == {DONE, BAD_INPUT}


# --- what YAML can do besides --------------------------------------------------------------------

VERB = "validate"

TEXTS: dict[str, tuple[str | bytes, str]] = {
    # expansion
    "a billion laughs": (f"loop: {{{LAUGHS}}}", "more than 20,000 values"),
    "laughs in an axis": (f"axes: {{loop.regime: [{{{LAUGHS}}}]}}", "more than 20,000 values"),
    "merges of merges": (f"training_of: {{lenet: {{{MERGES}}}}}", "training_of.lenet.a: unknown"),
    "aliases": (f"a: &a 1\nb: [{'*a, ' * 101}]", "more than 100 aliases"),
    "itself in itself": ("loop: &a {generations: *a}", "loop: nested more than 20 levels"),
    "a list in itself": ("name: &a [*a]", "name: nested more than 20 levels"),
    "very deep": ("name: " + "[" * 5_000, "nested too deeply"),
    "very deep groups": ("loop: " + "{a: " * 5_000, "nested too deeply"),
    "very deep blocks": ("".join(f"{' ' * i}a:\n" for i in range(600)), "nested too deeply"),
    "deep": ("name: " + "[" * 30 + "]" * 30, "name: nested more than 20 levels"),
    "huge": ("# " + "x" * plain.MOST_BYTES, "it is larger than 200,000 bytes"),
    "many values": ("loop: {loop_seeds: [" + "0," * 21_000 + "]}", "more than 20,000 values"),
    "many scenarios": (
        "axes: {" + ", ".join(f"a{i}: [1, 2, 3, 4, 5, 6, 7, 8, 9]" for i in range(12)) + "}",
        "axes: 282,429,536,481 scenarios; at most 1,000",
    ),
    "many trials": (
        f"loop: {{generations: 2000000000}}\n{VALID}",
        "the sweep has 8,000,000,004 trials",
    ),
    # numbers and texts
    "5,000 digits": (f"loop: {{generations: {'9' * 5_000}}}", "Exceeds the limit"),
    "5,000 hex digits": (f"loop: {{generations: 0x{'f' * 5_000}}}", "loop.generations: must be at"),
    "a long text": (f"name: {'a' * 5_000}", "name: must have at most 1,000 characters"),
    "a long name": (f"name: {'a' * 101}", "name: must have at most 100 characters"),
    "two lines": ('storage: "a\\nb"', "storage: must be one line of printable characters"),
    "a zero byte": ('storage: "a\\0b"', "storage: must be one line of printable characters"),
    "an escape": ('storage: "\\e[31m"', "storage: must be one line of printable characters"),
    "reversed text": ('storage: "\\u202e"', "storage: must be one line of printable characters"),
    "half a character": ('storage: "\\ud800"', "storage: must be one line of printable characters"),
    "an escape in a key": ('loop: {"\\e[31m": 1}', "loop: must be one line of printable"),
    # types that no setting has
    "a number as key": ("loop: {1: 2}", "loop: a key must be a text (found 1)"),
    "null as key": ("loop: {null: 2}", "loop: a key must be a text (found None)"),
    "a list as key": ("loop: {? [a] : 2}", "unhashable key"),
    "a number as axis": ("axes: {1: [2]}", "axes: a key must be a text (found 1)"),
    "a number as dotted key": ("axes: {a: [{1.5: 2}]}", "axes.a.0: a key must be a text (found 1"),
    "bytes": (
        "name: !!binary YQ==",
        "name: must be a text, a number, a list or a group (found a b",
    ),
    "a set": ("classifiers: !!set {lenet}", "classifiers: must be a text, a number, a list or a g"),
    "pairs": ("loop: !!pairs [generations: 1]", "loop.0: must be a text, a number, a list or a gr"),
    "a time": ("name: !!timestamp 2020-01-01", "name: must be a text, a number, a list or a group"),
    "no time": ("name: !!timestamp x", "a value is not what its tag says"),
    "no integer": ("loop: {generations: !!int x}", "a value is not what its tag says"),
    "no truth": ("dataset: {download: !!bool x}", "a value is not what its tag says"),
    "no binary number": ("loop: {generations: !!int 0b_}", "a value is not what its tag says"),
    "a number in sixties": (
        f"compute: {{threads: !!float 1{':59' * 400}.5}}",
        "a value is not what its tag says",
    ),
    "a number as name": ("name: 007", "name: must be a text, in quotes where it looks like anoth"),
    "no mapping": ("loop: !!map x", "a value is not what its tag says"),
    "no bytes": ("name: !!binary a", "failed to decode base64"),
    # tags of Python's
    "a call": ("name: !!python/object/apply:os.mkdir [harm]", "could not determine a constructor"),
    "a new object": ("name: !!python/object/new:os.mkdir [harm]", "could not determine a constr"),
    "a function": ("name: !!python/name:os.mkdir", "could not determine a constructor"),
    "a module": ("name: !!python/module:os", "could not determine a constructor"),
    "a renamed tag": (
        "%TAG ! tag:yaml.org,2002:python/object/apply:\n---\nname: !os.mkdir [harm]\n",
        "could not determine a constructor",
    ),
    # form
    "a key twice": ("loop: {generations: 1}\nloop: {}", "the key loop is there twice"),
    "a quoted key twice": ("name: a\n'name': b", "the key name is there twice"),
    "a tab": ("loop:\n\tgenerations: 1", "found character '\\t'"),
    "two documents": ("name: a\n---\nname: b", "found another document"),
    "another YAML": ("%YAML 9.9\n---\nname: a", "incompatible YAML document"),
    "an unknown alias": ("name: *a", "found undefined alias"),
    "a merge of a value": ("loop: {<<: 3}", "expected a mapping"),
    "no text": (b"name: \xff", "cannot be read: 'utf-8' codec"),
    "UTF-16": ("name: a".encode("utf-16"), "cannot be read: 'utf-8' codec"),
    "raw zero bytes": (b"name: a\0", "special characters are not allowed"),
    "a picture": (bytes(range(256)) * 10, "cannot be read: "),
    "nothing": ("", "is not a sweep file"),
    "a cut file": ("loop: {generations: [3", "while parsing a flow sequence"),
    # extends
    "extends itself": ("extends: sweep", "extends: sweep extends this file in turn"),
    "extends above": ("extends: ../sweep", "extends: must be the name of a sweep file"),
    "extends anywhere": ("extends: /etc/passwd", "extends: must be the name of a sweep file"),
    "extends here": ("extends: .", "extends: must be the name of a sweep file"),
    "extends a list": ("extends: [quickstart]", "extends: must be the name of a sweep file"),
    "extends nothing": ("extends:", "extends: must be the name of a sweep file (found None)"),
    "extends the unknown": ("extends: nowhere", "no sweep file nowhere; shipped sweeps: "),
    # names that the storage needs, or that lead out of it
    "the stages": ("name: stages", "name: must be none of stages, unfinished, leases, "),
    "above": ("name: ..", "name: must be letters, digits and . _ -"),
    "elsewhere": ("name: a/../../b", "name: must be letters, digits and . _ -"),
    # axes
    "an axis without name": ("axes: {'': [1]}", "axes: '' is no dotted key"),
    "an axis of dots": ("axes: {a..b: [1]}", "axes: 'a..b' is no dotted key"),
    "an axis of axes": ("axes: {axes.name: [1]}", "axes: axes.name cannot differ"),
    "an axis beneath a value": (
        f"axes: {{loop.generations.x: [1]}}\n{VALID}",
        "loop.generations: must be",
    ),
    "one key on two axes": (
        "axes: {a: [{loop.regime: stack}], loop.regime: [stack]}",
        "axes: loop.regime is set by two axes: a and loop.regime",
    ),
    "two equal scenarios": (
        f"axes: {{filter.drop: [0.1, 1e-1]}}\n{VALID}",
        "axes: two scenarios have the same",
    ),
}


@pytest.mark.parametrize("what", TEXTS)
def test_a_hostile_text_is_refused(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, said = TEXTS[what]
    whole = content if isinstance(content, bytes) else content.encode()
    file = tmp_path / "sweep.yaml"
    file.write_bytes(whole)
    assert said in mistakes(VERB, str(file))[0]
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]


WORDS: dict[str, tuple[str, str]] = {
    "an empty part": ("a..b=1", "'a..b=1' is not an override"),
    "no key": ("=1", "'=1' is not an override"),
    "no value": ("name=", "name: must be letters, digits and . _ -"),
    "beneath a value": ("loop.loop_seeds.x.y=1", "loop.loop_seeds.x.y: loop_seeds is a value, not"),
    "half a group": ("loop={", "'loop={': while parsing a flow node"),
    "a list in itself": ("loop=&a [*a]", "loop: nested more than 20 levels"),
    "laughs": (f"training_of.lenet={{{LAUGHS}}}", "more than 20,000 values"),
    "very deep": ("loop=" + "[" * 1_000, "nested too deeply"),
    "a zero byte": ("name=a\0b", "name: must be one line of printable characters"),
    "a zero byte in a key": ("lo\0op=1", "'lo\\x00op=1' is not an override"),
    "two lines in a key": ("lo\nop=1", "'lo\\nop=1' is not an override"),
    "an escape in a key": ("\x1b[31m=1", "'\\x1b[31m=1' is not an override"),
    "half a character": ("name=\udcff", "name: must be one line of printable characters"),
    "a long key": ("a" * 5_000 + "=1", "is not an override"),
    "a deep key": (".".join("a" * 200) + "=1", "a: nested more than 20 levels"),
    "many digits": ("loop.generations=" + "9" * 5_000, "Exceeds the limit"),
    "a function": ("loop=!!python/name:os.mkdir", "could not determine a constructor"),
    "a file's key": ("extends=quickstart", "extends: unknown key"),
    "an axis of dots": ("axes.a..b=[1]", "'axes.a..b=[1]' is not an override"),
    "an axis without values": ("axes.loop.regime=", "axes.loop.regime: must be a list"),
    "a name too long": ("a" * 300, "cannot be read: File name too long"),
    "a name of two lines": ("a\nb", "no sweep file a b; shipped sweeps: "),
    "a name with a zero byte": ("a\0b", "no sweep file a\\x00b; shipped sweeps: "),
    "a folder": ("/", "no sweep file /; shipped sweeps: "),
    "an endless device": ("/dev/zero", "no sweep file /dev/zero; shipped sweeps: "),
    "an option": (
        "--verbose=3",
        "'--verbose=3' is not understood; write verbose=3, without dashes",
    ),
}


@pytest.mark.parametrize("what", WORDS)
def test_a_hostile_word_is_refused(what: str) -> None:
    word, said = WORDS[what]
    assert said in refused(VERB, word)


def test_a_pipe_is_no_sweep_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "sweep.yaml")
    assert "no sweep file" in refused(VERB, str(tmp_path / "sweep.yaml"))


def test_files_that_extend_each_other_are_refused(tmp_path: Path) -> None:
    for name, other in zip("abc", "bca", strict=True):
        (tmp_path / f"{name}.yaml").write_text(f"extends: {other}")
    assert "extends: a extends this file in turn" in refused(VERB, str(tmp_path / "a.yaml"))


def test_settings_that_share_an_alias_are_changed_one_by_one(tmp_path: Path) -> None:
    shared = "training_of: {lenet: &a {max_steps: 3}, alexnet: *a}\n"
    file = tmp_path / "sweep.yaml"
    file.write_text(f"{shared}axes: {{training_of.lenet.max_steps: [5, 6]}}\n{VALID}")
    _, scenarios = load.load(str(file), ["training_of.lenet.batch_size=16"])
    found = [scenario.sweep.training_for("alexnet") for scenario in scenarios]
    assert [(own.max_steps, own.batch_size) for own in found] == [(3, 64), (3, 64)]


def test_scenarios_that_share_an_axis_value_are_changed_one_by_one(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    axes = "axes: {filter.clip: [{steps: 1}], filter.drop: [0.1, 0.2]}"
    file.write_text(f"{axes}\n{VALID}")
    _, scenarios = load.load(str(file), ())
    assert [scenario.values["filter.clip"] for scenario in scenarios] == [{"steps": 1}] * 2
    assert [scenario.sweep.filter.drop for scenario in scenarios] == [0.1, 0.2]


# --- the real program ----------------------------------------------------------------------------


def test_the_program_itself_says_one_line_and_writes_nothing(tmp_path: Path) -> None:
    chosen = ["a billion laughs", "very deep", "5,000 digits", "a call", "no text", "an escape"]
    processes = []
    for number, what in enumerate(chosen):
        content = TEXTS[what][0]
        file = tmp_path / f"{number}.yaml"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        processes.append((_program(tmp_path, str(file)), TEXTS[what][1]))
    for word in ("a\nb=1", "loop.generations=1.5"):
        processes.append((_program(tmp_path, word), "1"))
    before = sorted(tmp_path.iterdir())
    for process, said in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == BAD_INPUT, err
        (line,) = err.splitlines()
        assert line.startswith("error: ")
        assert said in line
        assert out == ""
    assert sorted(tmp_path.iterdir()) == before


def _program(folder: Path, word: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ray_selfloop.sweep", word, f"storage={folder / 'store'}"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
