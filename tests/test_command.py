"""How commands begin and end: their words, their output, their exit codes."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest
from conftest import MICRO

from ray_selfloop import __version__, cli, command, errors, sweep
from ray_selfloop.__main__ import main
from ray_selfloop.config import load
from ray_selfloop.config.words import arguments
from ray_selfloop.planning import prepare

LIMIT = 120  # s
SWEEP, VERBS = "ray_selfloop.sweep", "ray_selfloop"
READING = ("plan", "status", "results", "report", "sync-mlflow")
"""The verbs that ask the storage."""
KEYS = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}
BUCKET = ("storage=s3://bucket/sweep", "tracking.uri=http://127.0.0.1:9")


def start(*words: str, stdout: int = subprocess.PIPE, **env: str) -> subprocess.Popen[str]:
    """``python -m words``, with Ctrl-C as in a terminal."""
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, **env},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def own(folder: Path, line: str) -> subprocess.Popen[str]:
    """``python -m`` of a module of its own, which knows the function `interrupted`."""
    (folder / "own.py").write_text(f"""
import sys
from ray_selfloop import command
def interrupted():
    raise KeyboardInterrupt
{line}
""")
    return start("own", PYTHONPATH=os.pathsep.join([str(folder), *sys.path]))


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=LIMIT)
    return process.returncode, out or "", err


# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "config", "overrides"),
    [
        (["own.yaml", "name=a"], "own.yaml", ["name=a"]),
        (["lr=0.1.yaml", "name=a"], "lr=0.1.yaml", ["name=a"]),
        (["runs/lr=0.1/own.yaml", "name=a"], "runs/lr=0.1/own.yaml", ["name=a"]),
        (["./runs/lr=0.1/gone.yaml"], "./runs/lr=0.1/gone.yaml", []),
        (["/a=b.yaml"], "/a=b.yaml", []),
        (["lr=0.2.yaml"], None, ["lr=0.2.yaml"]),  # no file: a key that is not known
        (["name=x.yaml"], None, ["name=x.yaml"]),  # a file too, but first of all a setting
        (["./name=x.yaml"], "./name=x.yaml", []),
        (["storage=a/b=c"], None, ["storage=a/b=c"]),
        (["axes.a/b=[{loop.regime: stack}]"], None, ["axes.a/b=[{loop.regime: stack}]"]),
        (["lop/x=1"], "lop/x=1", []),
    ],
)
def test_a_sweep_file_may_have_an_equals_sign_in_its_path(
    words: Sequence[str],
    config: str | None,
    overrides: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("lr=0.1.yaml", "name=x.yaml", "runs/lr=0.1/own.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("extends: quickstart")
    assert arguments(words) == (config, overrides)


def test_such_a_file_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lr=0.1").mkdir()
    file = tmp_path / "lr=0.1" / "a=b.yaml"
    file.write_text("extends: quickstart\nname: own")
    assert main(["validate", str(file)]) == 0
    assert capsys.readouterr().out.startswith("valid: sweep own, 3 scenarios\n")


# --- exit codes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("x"), 2),
        (errors.DataError("x"), 2),
        (errors.ResourceError("x"), 2),
        (errors.StorageError("x"), 2),
        (errors.HeadSilent("x"), 75),
        (errors.StorageOutage("x"), 75),
        (errors.CorruptRecord("x"), 75),
        (errors.WorkerLost("x"), 75),
        (errors.StageError("x"), 1),
        (KeyboardInterrupt(), 130),
        (ValueError("x"), 75),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_error_has_one_exit_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> int:
        raise error

    words = ["python", "-m", VERBS, "plan", "tracking.uri=http://me:secret@host"]
    assert command.ended(work, words) == code
    said = capsys.readouterr().err
    again = "go on with: python -m ray_selfloop plan tracking.uri=http://me:***@host"
    assert (again in said) == (code in (75, 130))
    assert ("Traceback" in said) == isinstance(error, ValueError)


@pytest.mark.parametrize(
    ("text", "line"),
    [("", "ValueError"), (" \n ", "ValueError"), ("one", "one"), ("Trace:\n at\nlast \n", "last")],
)
def test_an_error_without_words_is_named_by_its_type(text: str, line: str) -> None:
    assert errors.last_line(ValueError(text)) == line


def test_every_error_has_an_exit_code_of_the_table() -> None:
    table = {errors.DONE, errors.FAILED, errors.BAD_INPUT, errors.TRY_AGAIN, errors.INTERRUPTED}
    assert table == {0, 1, 2, 75, 130}
    kinds = [errors.SelfLoopError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert len(kinds) > 9
    assert {kind.exit_code for kind in kinds} == {1, 2, 75}


@pytest.mark.slow  # a bucket is waited for
def test_an_outage_is_75_in_every_command() -> None:
    """A bucket that does not answer, asked by all at once."""
    endpoint = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", **KEYS}
    commands = [(SWEEP, *BUCKET), *((VERBS, verb, *BUCKET) for verb in READING)]
    for words, process in [(words, start(*words, **endpoint)) for words in commands]:
        code, out, err = ended(process)
        assert (code, out) == (75, ""), err
        (line,) = err.splitlines()
        assert line.startswith("error: storage: s3://bucket/sweep/")
        assert " at http://127.0.0.1:9 cannot" in line
        assert "Could not connect to the endpoint" in line
        assert f"; go on with: python -m {' '.join(words[:2])}" in line


# --- Ctrl-C --------------------------------------------------------------------------------------


def silent() -> socket.socket:
    """A server that never answers."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(LIMIT)
    return server


@pytest.mark.slow
def test_ctrl_c_ends_every_command_with_130_and_without_a_traceback() -> None:
    asked = [(SWEEP, *BUCKET), *((VERBS, verb, *BUCKET) for verb in READING)]
    asked.append((VERBS, "submit", "storage=/shared"))
    with contextlib.ExitStack() as stack:
        running = []
        for words in asked:
            server = stack.enter_context(silent())
            at = f"http://127.0.0.1:{server.getsockname()[1]}"
            ends = {"AWS_ENDPOINT_URL": at, "RAY_API_SERVER_ADDRESS": at, **KEYS}
            running.append((words, server, start(*words, **ends)))
        for words, server, process in running:
            stack.enter_context(server.accept()[0])  # now it waits for an answer
            process.send_signal(signal.SIGINT)
            code, out, err = ended(process)
            assert (code, out) == (130, ""), (words, err)
            assert "Traceback" not in err
            assert err.startswith("\ninterrupted; go on with: python -m ray_selfloop"), words


def test_ctrl_c_while_much_is_validated() -> None:
    values = f"[{', '.join(f'0.{n:04}' for n in range(1, 1000))}]"
    process = start(VERBS, "validate", "axes={}", f"axes.filter.drop={values}")
    ticks = os.sysconf("SC_CLK_TCK")
    while process.poll() is None and seconds_used(process.pid) * ticks < 0.5 * ticks:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    code, out, err = ended(process)
    assert (code, out) == (130, ""), err
    assert err.startswith("\ninterrupted; go on with: python -m ray_selfloop validate")
    assert "Traceback" not in err


def seconds_used(pid: int) -> float:
    """CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("module", [VERBS, SWEEP])
@pytest.mark.parametrize("loaded", ["yaml", "yaml.cyaml", "pydantic", "numpy"])
def test_ctrl_c_while_libraries_are_loaded(module: str, loaded: str) -> None:
    program = f"""
import runpy, sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {loaded!r}:
            sys.meta_path.remove(self)
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
sys.argv = ["x", *{["status"] if module == VERBS else []!r}]
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode == 130, done.stderr
    assert done.stderr.startswith("\ninterrupted; go on with: python -m ray_selfloop")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("passed", ["exec", "eval"])
def test_ctrl_c_where_a_class_is_made_from_text(passed: str, tmp_path: Path) -> None:
    """As dataclasses and others do: then Python itself would end by the signal, caught or not."""
    work = f"lambda: {passed}('interrupted()')"
    process = own(tmp_path, f"sys.exit(command.program(lambda: command.ended({work}, ['it'])))")
    assert ended(process) == (130, "", "\ninterrupted; go on with: it\n")


@pytest.mark.parametrize("other", ["ImportError", "BaseException"])
def test_ctrl_c_of_which_a_library_makes_another_error(other: str, tmp_path: Path) -> None:
    """As pydantic's core does while it is loaded."""
    process = own(
        tmp_path,
        f"""
import signal
def work():
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise {other} from None
sys.exit(command.program(lambda: command.ended(work, ['it'])))
""",
    )
    assert ended(process) == (130, "", "\ninterrupted; go on with: it\n")


def test_a_second_ctrl_c_does_not_change_how_a_command_ends(tmp_path: Path) -> None:
    """It comes while the first one is told of."""
    assert ended(own(tmp_path, "sys.exit(command.program(interrupted))")) == (130, "", "")


def test_little_is_loaded_before_ctrl_c_is_waited_for() -> None:
    """Python, told to run a module, loads some of its library by itself."""
    program = (
        "import runpy, sys\nbefore = set(sys.modules)\nimport ray_selfloop.{}\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    for module in ("__main__", "sweep"):
        words = [sys.executable, "-c", program.format(module)]
        loaded = subprocess.check_output(words, text=True, timeout=LIMIT).split()
        own = {"ray_selfloop", f"ray_selfloop.{module}", "ray_selfloop.command"}
        assert set(loaded) <= {*own, "ray_selfloop.errors", "errno", "collections.abc"}


# --- output --------------------------------------------------------------------------------------


@contextlib.contextmanager
def closed_pipe() -> Iterator[int]:
    """The end of a pipe whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        yield writing
    finally:
        os.close(writing)


@pytest.mark.parametrize("words", [(VERBS, "plan"), pytest.param((SWEEP,), marks=pytest.mark.slow)])
def test_a_reader_that_has_gone_is_no_fault(published: list[str], words: tuple[str, ...]) -> None:
    with closed_pipe() as out:
        assert ended(start(*words, *published, stdout=out)) == (0, "", "")


def test_output_that_is_lost_otherwise_is_said(published: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        process = start(VERBS, "results", *published, stdout=full.fileno())
        assert ended(process)[::2] == (75, "error: the output is lost: No space left on device\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_output_is_no_fault(closed: str) -> None:
    shell = f'{sys.executable} -m {VERBS} validate "$@" {closed}'
    assert subprocess.run(["sh", "-c", shell, "sh", *MICRO], timeout=LIMIT).returncode == 0


@pytest.mark.slow
def test_a_terminal_that_is_not_utf_8_shows_the_results(published: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", SWEEP, *published],
        capture_output=True,
        timeout=LIMIT,
        env={**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert "results.parquet" in done.stdout.decode("ascii")


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "? ? ? ? ?"),
        ("ascii:strict", "? ? ? ? ?"),
        ("latin-1", "± ? ? · ?"),
        ("gbk", "± – ─ · ?"),
        ("utf-8", "± – ─ · 😀"),
        ("utf-16-le", "± – ─ · 😀"),
    ],
)
@pytest.mark.parametrize("option", [(), ("-u",)])
def test_every_encoding_can_be_written(encoding: str, shown: str, option: tuple[str, ...]) -> None:
    program = (
        "import sys\nfrom ray_selfloop import command\ndef main():\n"
        "    for out in (sys.stdout, sys.stderr):\n        print('± – ─ · 😀', file=out)\n"
        "    return 0\nsys.exit(command.program(main))"
    )
    done = subprocess.run(
        [sys.executable, *option, "-c", program],
        capture_output=True,
        timeout=LIMIT,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
    )
    assert (done.returncode, done.stdout.decode(encoding.partition(":")[0])) == (0, f"{shown}\n")
    assert done.stderr


@pytest.mark.parametrize(
    "verb", ["results", pytest.param("sync-mlflow", marks=pytest.mark.slow), "report"]
)
def test_table_and_report_are_always_of_the_same_settings(published: list[str], verb: str) -> None:
    folder = prepare(published).folder
    level = {"results": 0.91, "sync-mlflow": 0.92, "report": 0.93}[verb]
    assert main([verb, *published, f"evaluation.level={level}", "evaluation.samples=200"]) == 0
    assert f"level: {level}" in (folder / "report.html").read_text(encoding="utf-8")
    assert len(pd.read_parquet(folder / "results.parquet"))


def test_main_of_the_sweep_answers_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep.main(["--help"]) == 0
    assert "75 something outside" in capsys.readouterr().out


@pytest.mark.parametrize("verb", [*cli.VERBS, ""])
@pytest.mark.parametrize("asked", ["-h", "--help"])
def test_every_verb_answers_help_with_an_example(
    verb: str, asked: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, "quickstart", asked] if verb else [asked]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"Usage: python -m ray_selfloop {verb or 'VERB'}")
    assert (f"Example: ray-selfloop {verb}" if verb else "130 interrupted") in said
    assert all(len(line) <= 80 for line in said.splitlines())


def test_without_words_the_verbs_are_listed_each_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {verb} " in said for verb in cli.VERBS)
    assert "..." not in said.partition("Commands:")[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["my.yaml"], "no sweep file my.yaml; shipped sweeps: breeds, "),
        (["./quikstart.yaml"], "no sweep file ./quikstart.yaml; did you mean quickstart?"),
        (["quikstart"], "'quikstart' is not a verb; did you mean run quickstart?"),
        (
            ["quickstart", "a.b=x y"],
            "'quickstart' is not a verb; to run it: python -m ray_selfloop run quickstart "
            "'a.b=x y'",
        ),
        (
            ["loop.generations=1"],
            "'loop.generations=1' is not a verb; to run it: python -m ray_selfloop run "
            "loop.generations=1",
        ),
        (["valdate"], "'valdate' is not a verb; did you mean validate?"),
        (["--verbose"], "'--verbose' is not a verb; verbs: run, validate, plan, status, results, "),
        (
            ["plan", "--loop.generations=3"],
            "'--loop.generations=3' is not understood; write loop.",
        ),
        (
            ["plan", "quickstart", "again"],
            "'again' is not understood; usage: python -m ray_selfloop",
        ),
        (["list", "all"], "'all' is not understood; see list --help"),
        (["settings", "generations"], "'generations' is not a setting; did you mean loop.generat"),
        (
            ["settings", "training.lr"],
            "'training.lr' is not a setting; did you mean training.learn",
        ),
        (["settings", "trainin.max_steps"], "'trainin.max_steps' is not a setting; did you mean t"),
        (["settings", "xyzzy"], "'xyzzy' is not a setting; groups: name, storage, storage_shared"),
        (["submit", "--retries"], "Option '--retries' requires an argument."),
    ],
)
def test_words_that_are_no_command_are_answered_with_what_to_write(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == errors.BAD_INPUT
    assert capsys.readouterr().err.startswith(f"error: {said}")


def test_the_sweep_says_that_a_verb_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep.main(["validate", "my.yaml"]) == errors.BAD_INPUT
    assert capsys.readouterr().err == (
        "error: 'validate' is a verb of python -m ray_selfloop: "
        "python -m ray_selfloop validate my.yaml\n"
    )


@pytest.mark.parametrize("main", [main, sweep.main], ids=["verbs", "sweep"])
def test_the_version_is_said_with_the_commit(
    main: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--version"]) == 0
    said = re.fullmatch(
        r"ray-selfloop (\S+)( \(commit [0-9a-f]{40}(-dirty)?\))?\n", capsys.readouterr().out
    )
    assert said
    assert said[1] == __version__
    assert bool(said[2]) == (Path(__file__).parents[1] / ".git").exists()


def test_the_shipped_sweeps_are_listed_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [path.stem for path in load.shipped()]
    (quickstart,) = [line for line in lines if line.startswith("quickstart ")]
    assert quickstart.split(maxsplit=1)[1] == (
        "does training on generated data amplify colour bias in digit classifiers? "
        "[under 6 minutes on 2 CPU cores]"
    )
    assert all(line.endswith("]") and "[]" not in line for line in lines)
    assert all("GPUs" in line or "minutes on 2 CPU cores" in line for line in lines)


def test_the_program_is_called_by_its_own_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/venv/bin/ray-selfloop", "a.b=1"])
    assert main() == errors.BAD_INPUT
    assert capsys.readouterr().err.endswith("; to run it: ray-selfloop run a.b=1\n")


LOADED = """
import contextlib, io, sys
from ray_selfloop.__main__ import main
with contextlib.redirect_stdout(io.StringIO()):
    codes = [main(words.split()) for words in {commands}]
print(codes, sorted({heavy} & sys.modules.keys()))
"""
SLOW = {"torch", "ray", "mlflow", "sklearn", "pandas", "matplotlib", "open_clip"} | {
    f"scipy.{name}" for name in ("stats", "optimize", "linalg", "sparse")
}


@pytest.mark.parametrize(
    ("commands", "heavy"),
    [
        (
            ["--help", "plan --help", "list", "settings loop", "validate"],
            SLOW | {"numpy", "pyarrow", "rich"},
        ),
        (["plan storage=./none"], SLOW),
    ],
    ids=["settings alone", "plan"],
)
def test_what_computes_nothing_loads_nothing_that_is_slow(
    commands: list[str], heavy: set[str], tmp_path: Path
) -> None:
    program = LOADED.format(commands=commands, heavy=heavy)
    said = subprocess.check_output(
        [sys.executable, "-c", program], text=True, timeout=LIMIT, cwd=tmp_path
    )
    assert said.splitlines()[-1] == f"{[0] * len(commands)} []"
