"""What a word of the command line and a scalar of a file mean: by hand, not by the code's rules.

A word is what a person would say: a text where the setting is a text, whatever YAML makes of such a
text elsewhere, and else YAML's. A file is YAML 1.2. What is neither is `REFUSED`, in one line.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from ray_selfloop.config import load
from ray_selfloop.distributed.clouds import check
from ray_selfloop.distributed.jobs.job import described
from ray_selfloop.errors import ConfigError

REFUSED = ConfigError
Meanings = Mapping[str, Any]

# --- words ---------------------------------------------------------------------------------------

AS_THEY_ARE = (
    "/mnt/Disk #2/results", "/mnt/a #b #c", "#1", "/r/#1", "# all", "@scratch/r", "%TMP%/r", "%",
    "*x", "*", "!x", "!", "&x", "&x /a", "!!str a", "!!python/name:os.mkdir", "|", "|x", ">", ">x",
    "`x`", "?x", "? x", "- x", "-", "--- x", "--", "/mnt/My: Disk", "a: b", "x:", ": x",
    r"C:\data\x", "{a: 1}", "{}", "[a, b]", "[]", "[a", "}", "a, b", "a,", "007", "010", "1_000",
    "1e-4", ".5", "0x10", "0b1", "0o17", "1:30", "12:30:45", "190:20:30", "2024-01-01",
    "2024-01-01 10:00:00", "no", "No", "yes", "on", "off", "y", "true", "False", "3", "-1", "3.14",
    ".inf", ".nan", "<<", "=", "=a", "a=b", "a==b=c", "😀", "Läufe/äöü 🎲 #3", "日本語", "it's",
    "a'b'c", '"a" b', '"a', "'a'b'", "a  b", "x # y: z", "s3://b/a#b", "../a%20b?c#d;é", "+",
    "$HOME", "a\\ b", "'", "a~~",
)  # fmt: skip
"""Texts that mean themselves."""

QUOTED = {
    "'single'": "single",
    '"double"': "double",
    '"/mnt/Disk #2"': "/mnt/Disk #2",
    "'/mnt/My: Disk'": "/mnt/My: Disk",
    "'it''s'": "it's",
    r'"caf\u00e9"': "café",
    "'007'": "007",
    "'no'": "no",
    " /padded ": "/padded",
    " '/quoted' ": "/quoted",
    "' kept '": " kept ",
}
"""Quotes that have passed the shell, and blanks around a word, are no part of it."""

TEXTS: Meanings = {**{text: text for text in AS_THEY_ARE}, **QUOTED}
NOT_A_WHOLE_NUMBER = (
    "0b1", "1:30", "1:30:00", "2024-01-01", "no", "yes", "true", "three", "3 # three", "#3", ".5",
    "-1", "1 000", "1,000", "5 5", "[5]", "{a: 5}", "@5", "%5", "*5", "1e400", ".inf", "１２",
    "2.5", "0x", "1__0", "5 #", "!x 5", "'a'b",
)  # fmt: skip

WORDS: Mapping[str, Meanings] = {
    "storage": {**TEXTS, "null": "null", "~": "~", "": REFUSED, "a\nb": REFUSED, "'\\t": "'\\t"},
    "dataset.root": {**TEXTS, "null": None, "": None, "a\0b": REFUSED, "\udcff": REFUSED},
    "evaluation.inception": {"/w #2/i.pth": "/w #2/i.pth", "null": None, "0123": "0123"},
    "name": {
        "007": "007", "5": "5", "1e3": "1e3", "no": "no", "2024-01-01": "2024-01-01",
        "1_000": "1_000", "a #b": REFUSED, "😀": REFUSED, "": REFUSED, "'a'": "a", "true": "true",
        "0x10": "0x10", "null": "null", "[a]": REFUSED, "1:30": REFUSED, "4.5": "4.5",
    },
    "filter.clip.prompt": {
        "{}": "{}", "a {} #1": "a {} #1", "~{}": "~{}", "{}: x": "{}: x", "@{}": "@{}",
        "{} 😀": "{} 😀", "a": REFUSED, "100% {}": "100% {}", "[{}]": "[{}]", "'{}'": "{}",
        "*{}*": "*{}*", "null": REFUSED, "👨\u200d👩 {}": REFUSED,
    },
    "tracking.uri": {
        "sqlite:////m #1/m.db": "sqlite:////m #1/m.db", "null": None, "": None,
        "http://me:a#b@h:5000": "http://me:a#b@h:5000", "@h": REFUSED, "5000": REFUSED,
    },
    "loop.regime": {
        "stack": "stack", "'stack'": "stack", "@stack": REFUSED, "stack # x": REFUSED,
        "no": REFUSED, "null": REFUSED, "3": REFUSED, "[stack]": REFUSED,
    },
    "loop.generations": {
        **dict.fromkeys(NOT_A_WHOLE_NUMBER, REFUSED), "7": 7, "007": 7, "010": 10, "0": 0, "00": 0,
        "+5": 5, "'7'": 7, "'010'": 10, "1_0": 10, "0x10": 16, "0o10": 8, "1e1": 10, "2.0": 2,
        " 3 ": 3, "089": 89, "-0": 0, "": REFUSED, "null": REFUSED, "~": REFUSED,
    },
    "training.max_steps": {
        "null": None, "~": None, "": None, "1_000": 1000, "0100": 100, "1e3": 1000, "None": REFUSED,
        "null # x": REFUSED, "0x1F": 31,
    },
    "filter.drop": {
        "0.5": 0.5, ".5": 0.5, "5e-1": 0.5, "5E-1": 0.5, "00.5": 0.5, "0": 0.0, "1e-4": 0.0001,
        "+.5": 0.5, "0x0": 0.0, "50%": REFUSED, "0,5": REFUSED, ",5": REFUSED, "1/2": REFUSED,
        "no": REFUSED, "~": REFUSED, ".nan": REFUSED, "0.5 # half": REFUSED, "0:30": REFUSED,
        ".": REFUSED,
    },
    "training.learning_rate": {
        "1e-4": 0.0001, "1e-04": 0.0001, "1.e-4": 0.0001, "0001e-4": 0.0001, "010": 10.0,
        "null": None, "1:30": REFUSED, "1_0.5": 10.5,
    },
    "storage_shared": {
        "true": True, "True": True, "TRUE": True, "false": False, "yes": True, "no": False,
        "on": True, "off": False, "Yes": True, "NO": False, "1": REFUSED, "0": REFUSED,
        "~": REFUSED, "maybe": REFUSED, "true # x": REFUSED, "": REFUSED,
    },
    "training.pretrained": {
        "true": True, "false": False, "True": True, "w #2.pth": "w #2.pth", "yes": REFUSED,
        "no": REFUSED, "off": REFUSED, "1": REFUSED, "null": REFUSED, "": REFUSED,
        "./yes": "./yes", "@w": "@w", "007": "007",
    },
    "queue.volume": {
        "120": 120, "0120": 120, "1_200": 1200, "1e2": 100, "0x10": 16, "D0/9": "D0/9",
        "D0/9 # x": REFUSED, "D0/09": REFUSED, "no": REFUSED, "2:00": REFUSED, "~": REFUSED,
    },
    "queue.mixing.ratio": {
        "all": "all", "1": 1.0, ".5": 0.5, "1e-1": 0.1, "all # x": REFUSED, "on": REFUSED,
    },
    "queue.mixing": {
        "{ratio: 1e-1, of: total} # x": REFUSED, "{ratio: 1e-1": REFUSED, "@x": REFUSED,
    },
    "loop.loop_seeds": {
        "[000, 001, 010]": (0, 1, 10), "[1_000]": (1000,), "[0x10, 1e1]": (16, 10),
        "[1:30]": REFUSED, "[no]": REFUSED, "[1, 2] # x": REFUSED, "[1, # x\n 2]": REFUSED,
        "[1, 2 # x": REFUSED, "0": REFUSED, "[0b1]": REFUSED, "['01']": (1,),
    },
    "classifiers": {
        "[lenet, alexnet]": ("lenet", "alexnet"), "lenet": REFUSED, "[lenet] #": REFUSED,
    },
    "evaluation.claims.accuracy.colorized_digits": {".9": 0.9, "9e-1": 0.9, "90%": REFUSED},
    "training_of.lenet.pretrained": {"w #2.pth": "w #2.pth", "true": True, "@w": "@w"},
    "training_of.lenet.max_steps": {"0100": 100, "1:30": REFUSED, "5 # x": REFUSED},
    "axes.dataset.root": {'["/a #1"]': "/a #1", "[/a #1]": REFUSED, "[010]": REFUSED},
    "axes.loop.generations": {"[010]": 10, "[1:30]": REFUSED},
}  # fmt: skip

# --- scalars of a file ---------------------------------------------------------------------------

YAML_TEXTS: Meanings = {
    "/mnt/Disk #2/r": "/mnt/Disk", '"/mnt/Disk #2/r"': "/mnt/Disk #2/r",
    "/mnt/Disk#2": "/mnt/Disk#2",
    "'/mnt/My: Disk'": "/mnt/My: Disk", "a:b": "a:b", r"C:\x": r"C:\x", "s3://b/a": "s3://b/a",
    "~/r": "~/r", "a@b": "a@b", "100%": "100%", "a*": "a*", "a!": "a!", "a, b": "a, b",
    "it's": "it's",
    "no": "no", "No": "No", "NO": "NO", "yes": "yes", "on": "on", "off": "off", "y": "y", "n": "n",
    "1_000": "1_000", "0b1": "0b1", "1:30": "1:30", "12:30:45": "12:30:45",
    "190:20:30": "190:20:30", "2024-01-01": "2024-01-01",
    "2024-01-01 10:00:00": "2024-01-01 10:00:00", "=": "=", ".": ".",
    "-x": "-x", "1,000": "1,000", "50%": "50%", "007b": "007b", "'007'": "007", '"1e-4"': "1e-4",
    '"no"': "no", "'~'": "~", "'.5'": ".5", "'0x10'": "0x10", "😀": "😀",
    "Läufe/äöü 🎲": "Läufe/äöü 🎲",
    "日本語": "日本語", "a  b": "a  b", "<": "<", "-0x10": "-0x10", "0O17": "0O17", "1__0": "1__0",
    "0x": "0x", "1e": "1e", "e5": "e5", "+": "+", "1:30.5": "1:30.5", "!!str 007": "007",
    "!!str no": "no",
    "truE": "truE", "nuLL": "nuLL", "infinity": "infinity", "nan": "nan",
}  # fmt: skip
NO_TEXT = (
    "@x", "%x", "*x", "!x", "&x", "`x`", "a: b", "- x", "? x", "{}", "[a]", "{a", "|", ">x", "true",
    "False", "007", "1e-4", ".5", "5.", "0x10", "0o17", "3", "-1", "3.14", "~", "null", "", ".inf",
    ".nan", "<<", "# x", "'a", '"a" b', "!!int 3", "!!float 1:30", "!!int 0b1", "!!int 1:30",
)  # fmt: skip

SCALARS: Mapping[str, Meanings] = {
    "storage": {**YAML_TEXTS, **dict.fromkeys(NO_TEXT, REFUSED)},
    "dataset.root": {
        "~": None, "null": None, "": None, "# x": None, "no": "no", "010": REFUSED, "1:30": "1:30",
        "/d #1": "/d", "2024-01-01": "2024-01-01", "1_0": "1_0",
    },
    "name": {
        "no": "no", "007": REFUSED, "2024-01-01": "2024-01-01", "1_000": "1_000", "1e3": REFUSED,
        "0b1": "0b1", "5": REFUSED, "'5'": "5", "y": "y", "true": REFUSED,
    },
    "filter.clip.prompt": {"'{}'": "{}", "{}": REFUSED, "a {} #1": "a {}", "'a {} #1'": "a {} #1"},
    "loop.regime": {"stack": "stack", "stack # x": "stack", "no": REFUSED, "~": REFUSED},
    "loop.generations": {
        "7": 7, "007": 7, "010": 10, "089": 89, "0": 0, "00": 0, "+5": 5, "'7'": 7, "1_0": 10,
        "0x10": 16, "0o10": 8, "1e1": 10, "2.0": 2, "3 # three": 3, "-0": 0, "0b1": REFUSED,
        "1:30": REFUSED, "1:00": REFUSED, "2024-01-01": REFUSED, "no": REFUSED, "yes": REFUSED,
        "true": REFUSED, "three": REFUSED, ".5": REFUSED, "1 000": REFUSED, "1,000": REFUSED,
        "@5": REFUSED, "~": REFUSED, "!!int 010": 10, "!!int 0x10": 16, "!!int 1_0": REFUSED,
        "!!float 5": 5, ".inf": REFUSED, "1__0": REFUSED,
    },
    "training.max_steps": {"~": None, "": None, "0100": 100, "1_000": 1000, "1e3": 1000},
    "filter.drop": {
        "0.5": 0.5, ".5": 0.5, "5e-1": 0.5, "00.5": 0.5, "0": 0.0, "1e-4": 0.0001, "+.5": 0.5,
        "50%": REFUSED, "0,5": REFUSED, "1/2": REFUSED, "0:30": REFUSED, ".nan": REFUSED,
        "0.5 # half": 0.5, "!!float .5": 0.5, "!!float 0:30.5": REFUSED, "no": REFUSED,
    },
    "training.learning_rate": {
        "1e-4": 0.0001, "1.e-4": 0.0001, "0001e-4": 0.0001, "010": 10.0, "1:30": REFUSED, "~": None,
        "1:30.5": REFUSED, "1_0.5": 10.5,
    },
    "storage_shared": {
        "true": True, "TRUE": True, "yes": True, "no": False, "on": True, "Off": False,
        "1": REFUSED, "0": REFUSED, "~": REFUSED, "maybe": REFUSED,
    },
    "training.pretrained": {
        "true": True, "w.pth": "w.pth", "yes": REFUSED, "no": REFUSED, "./no": "./no", "~": REFUSED,
        "1": REFUSED, "'1'": REFUSED,
    },
    "queue.volume": {
        "120": 120, "0120": 120, "1_200": 1200, "1e2": 100, "D0/9": "D0/9", "2:00": REFUSED,
    },
    "queue.mixing.ratio": {"all": "all", ".5": 0.5, "1e-1": 0.1, "1:30": REFUSED, "on": REFUSED},
    "loop.loop_seeds": {
        "[000, 001, 010]": (0, 1, 10), "[1_000]": (1000,), "[0x10, 1e1]": (16, 10),
        "[1:30]": REFUSED, "[1, 2] # x": (1, 2), "[no]": REFUSED, "[0b1]": REFUSED,
        "[1, # x\n 2]": (1, 2),
    },
    "training_of.lenet.max_steps": {"0100": 100, "1:30": REFUSED},
    "axes.dataset.root": {"[no]": "no", "[010]": REFUSED, '["/a #1"]': "/a #1"},
    "axes.loop.generations": {"[010]": 10, "[1:30]": REFUSED, "[1e1]": 10},
    "axes.loop.regime": {"[no]": REFUSED},
}  # fmt: skip


def cases(table: Mapping[str, Meanings]) -> list[tuple[str, str, Any]]:
    return [(key, text, meaning) for key, row in table.items() for text, meaning in row.items()]


def found(config: str | None, overrides: list[str], key: str) -> Any:
    """What a setting is, in the only scenario where the key is an axis."""
    sweep, scenarios = load.load(config, overrides)
    path, value = key.removeprefix("axes."), sweep
    if path != key:
        (scenario,) = [s for s in scenarios if path in s.values]
        value = scenario.sweep
    if path.startswith("training_of."):
        value = value.training_for("lenet")
        path = path.removeprefix("training_of.lenet.")
    for part in path.split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return value


def at_home(value: Any) -> Any:
    """A path with its `~` written out, as one setting may do and another not."""
    return os.path.expanduser(value) if isinstance(value, str) else value


def judge(config: str | None, overrides: list[str], key: str, meaning: Any) -> None:
    if meaning is not REFUSED:
        value = found(config, overrides, key)
        assert at_home(value) == at_home(meaning)
        assert type(value) is type(meaning)
        return
    with pytest.raises(ConfigError) as error:
        load.load(config, overrides)
    said = str(error.value)
    assert said.isprintable()
    named = key.rpartition(".")[2] in said
    assert named or (config is not None and said.startswith(f"{config}:"))


@pytest.mark.parametrize(("key", "word", "meaning"), cases(WORDS))
def test_a_word_means_what_a_person_would_say(key: str, word: str, meaning: Any) -> None:
    axes = ["axes={}"] if key.startswith("axes.") else []
    judge(None, [*axes, f"{key}={word}"], key, meaning)


@pytest.mark.parametrize(("key", "scalar", "meaning"), cases(SCALARS))
def test_a_scalar_of_a_file_is_yaml_1_2(
    tmp_path: Path, key: str, scalar: str, meaning: Any
) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("".join(nested(key, scalar)), encoding="utf-8")
    judge(str(file), [], key, meaning)


def nested(key: str, scalar: str) -> Iterator[str]:
    """A setting as lines of a file."""
    yield "extends: quickstart\n"
    axis = key.startswith("axes.")
    parts = ["axes", key.removeprefix("axes.")] if axis else key.split(".")
    for depth, part in enumerate(parts[:-1]):
        yield f"{'  ' * depth}{part}:\n"
    yield f"{'  ' * (len(parts) - 1)}{parts[-1]}: {scalar}\n"


@pytest.mark.parametrize("text", [*AS_THEY_ARE, "1e+5", "0x1F"])
def test_a_job_is_sent_the_texts_that_were_given(tmp_path: Path, text: str) -> None:
    """The settings go to the cluster as a file, which is read by the rules of files."""
    (tmp_path / "sent.yaml").write_text(
        described(None, ["storage=/s", f"dataset.root={text}"]).settings, encoding="utf-8"
    )
    assert found(str(tmp_path / "sent.yaml"), [], "dataset.root") == text


def test_a_cluster_file_is_read_as_ray_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("cluster_name: a\nmax_workers: 010\nprovider: {use_internal_ips: yes}\n")
    tree = check.read(str(file))
    assert tree == yaml.safe_load(file.read_text())
    assert (tree["max_workers"], tree["provider"]) == (8, {"use_internal_ips": True})


def test_the_tables_are_of_the_promised_size() -> None:
    assert (len(cases(WORDS)) >= 200, len(cases(SCALARS)) >= 200) == (True, True)
