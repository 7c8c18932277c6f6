"""A sweep as a job: what is sent, under which name, which end is a reason to send it again."""

import io
import os
import random
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MICRO
from job_server import JobServer, serving

from ray_selfloop import cli
from ray_selfloop.__main__ import main
from ray_selfloop.config import load
from ray_selfloop.distributed.jobs import follow
from ray_selfloop.distributed.jobs.follow import Pace, Printed, outcome
from ray_selfloop.distributed.jobs.head import State
from ray_selfloop.distributed.jobs.job import ADDRESS, Options, address, described, options, pack
from ray_selfloop.errors import ConfigError, ResourceError

QUICK = Pace(backoff=0.01, longest=0.05, quiet=5, patience=5, again=0.01)
WORDS = (*MICRO, "storage=/shared/results")
AGAIN = "python -m ray_selfloop submit --follow micro"
SHIPPED = sorted(path.stem for path in load.sweep_file("quickstart").parent.glob("*.yaml"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JobServer]:
    with serving(JobServer()) as found:
        monkeypatch.setenv(ADDRESS, found.address)
        yield found


def submitted(
    server: JobServer, *, follows: bool = False, wait: bool = True, retries: int = 3
) -> int:
    chosen = Options(server.address, retries, wait, follows)
    return follow.submit(described(None, WORDS), chosen, QUICK, AGAIN)


# What is sent


@pytest.mark.parametrize("name", SHIPPED)
def test_one_file_holds_all_settings_of_a_shipped_sweep(name: str, tmp_path: Path) -> None:
    words = ["storage=/shared", "loop.classifier_seeds=[0, 1, 2]", "axes.loop.chain=[shared]"]
    path = tmp_path / "sent.yaml"
    path.write_text(described(name, words).settings)
    assert load.load(str(path), []) == load.load(name, words)


def test_one_file_holds_what_a_file_extends(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("extends: quickstart\nname: base\nstorage: /shared\n")
    own = tmp_path / "own.yaml"
    own.write_text("extends: base\nname: own\ntraining: {learning_rate: 1e-4}\n")
    sent = tmp_path / "sent.yaml"
    sent.write_text(described(str(own), []).settings)
    found = load.load(str(sent), [])
    assert found == load.load(str(own), [])
    assert (found[0].name, found[0].training.learning_rate) == ("own", 1e-4)


def test_a_job_gets_its_settings_and_this_package_and_nothing_else(tmp_path: Path) -> None:
    job = described(None, WORDS)
    pack(job, tmp_path)
    package = Path(load.__file__).parents[1]
    files = {
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()
    }
    sources = {f"ray_selfloop/{p.relative_to(package).as_posix()}" for p in package.rglob("*.py")}
    assert {"micro.yaml", "ray_selfloop/report/page.css"} | sources <= files
    assert {path.split("/")[0] for path in files} == {"micro.yaml", "ray_selfloop"}
    kinds = {".py", ".css", ".jinja", ".json", ".mplstyle", ".typed", ".yaml"}
    assert {Path(path).suffix for path in files} <= kinds
    assert sum((tmp_path / path).stat().st_size for path in files) < 5e6


def test_settings_are_sent_as_utf_8_from_any_terminal(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path\nfrom ray_selfloop.distributed.jobs.job import described, pack\n"
        f"pack(described(None, ['storage=/s', 'dataset.root=\\xe9']), Path({str(tmp_path)!r}))"
    )
    plainest = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, **plainest})
    found, _ = load.load(str(tmp_path / "quickstart.yaml"), [])
    assert found.dataset.root == "é"


def test_what_a_job_gets_runs_in_its_folder(tmp_path: Path) -> None:
    pack(described(None, WORDS), tmp_path)
    code = (
        "import ray_selfloop; print(ray_selfloop.__file__); from ray_selfloop import __main__ as m"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; m.main(['validate', 'micro.yaml'])"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[0] == str(tmp_path / "ray_selfloop" / "__init__.py")
    assert done.stdout.splitlines()[1] == "valid: sweep micro, 1 scenarios"


# Its name


def test_the_same_sweep_has_one_name_however_it_is_run() -> None:
    stem = described(None, WORDS).stem
    assert stem.startswith("micro-")
    for other in (
        "resources.num_cpus=1",
        "storage=/shared/results/",
        "tracking.uri=http://there:5000",
    ):
        assert described(None, [*WORDS, other]).stem == stem
    for other in (
        "loop.generations=3",
        "storage=/elsewhere",
        "name=other",
        "axes.loop.chain=[shared]",
    ):
        assert described(None, [*WORDS, other]).stem != stem


def test_attempts_are_those_of_this_sweep_alone() -> None:
    job = described(None, WORDS)
    others = [f"{job.stem}-x", f"other-{job.stem}-7", f"{job.stem}-12-3", "raysubmit_abc", job.stem]
    assert job.attempts([job.attempt(10), job.attempt(9), *others]) == [9, 10]


def test_a_storage_that_a_job_would_take_for_its_own_folder_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        described(None, ["storage=./results"])
    assert str(error.value) == (
        "storage: ./results is relative, and a Ray job's working folder is a temporary copy; "
        "give an absolute path that every node sees, or a URL"
    )


# Which end is a reason to submit it again


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (State("SUCCEEDED", 0, ""), 0),
        (State("FAILED", 1, ""), 1),  # some stages failed
        (State("FAILED", 2, ""), 2),  # bad input
        (State("FAILED", 130, ""), 130),  # interrupted
        (State("FAILED", -2, ""), 130),  # the same, before the sweep listens to signals
        (State("STOPPED", None, ""), 130),
        (State("FAILED", 127, ""), 1),  # no python on the head's PATH
        (State("FAILED", -9, ""), None),  # killed
        (State("FAILED", 137, ""), None),  # killed below a shell
        (State("FAILED", -15, ""), None),
        (State("FAILED", -11, ""), None),
        (State("FAILED", None, "Job supervisor actor died: its node"), None),
        (None, None),  # a head that was started anew
        (State("FAILED", 75, ""), None),  # the sweep itself asks for another try
    ],
)
def test_only_a_dead_process_or_machine_is_a_reason(state: State | None, code: int | None) -> None:
    assert outcome(state) == code


def test_a_job_that_dies_is_submitted_again_under_the_next_number(
    server: JobServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.ends = [("FAILED", -9), ("FAILED", None), ("SUCCEEDED", 0)]
    stem = described(None, WORDS).stem
    server.add(f"{stem}-4", "FAILED")
    assert submitted(server) == 0
    assert [body["submission_id"] for body in server.sent] == [f"{stem}-{n}" for n in (5, 6, 7)]
    assert len({body["entrypoint"] for body in server.sent}) == 1
    assert len({body["runtime_env"]["working_dir"] for body in server.sent}) == 1
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == f"job {stem}-7: SUCCEEDED, exit code 0"
    assert printed.err.splitlines() == [
        f"job {stem}-5 died: FAILED, killed by signal 9",
        "submitting it again in 0.01 s (1 of 3)",
        f"job {stem}-6 died: FAILED (as told)",
        "submitting it again in 0.02 s (2 of 3)",
    ]


@pytest.mark.parametrize("end", [("FAILED", 1), ("FAILED", 2), ("FAILED", 130), ("STOPPED", None)])
def test_a_job_that_ended_by_itself_is_not(server: JobServer, end: tuple[str, int | None]) -> None:
    server.ends = [end]
    assert submitted(server) == (end[1] or 130)
    assert len(server.sent) == 1


def test_retries_end(server: JobServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.ends = [("FAILED", -9)] * 9
    assert submitted(server, retries=2) == 75
    assert len(server.sent) == 3
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"error: died 3 times; submit it again with: {AGAIN}"


def test_a_job_that_a_new_head_does_not_know_is_submitted_again(server: JobServer) -> None:
    server.ends, server.forgets = [("FAILED", -9), ("SUCCEEDED", 0)], True
    assert submitted(server) == 0
    assert [body["submission_id"][-2:] for body in server.sent] == ["-1", "-2"]


# Once at a time


def test_a_sweep_that_runs_is_refused_with_the_way_to_follow_it(server: JobServer) -> None:
    name = f"{described(None, WORDS).stem}-3"
    server.add(name, "RUNNING")
    with pytest.raises(ResourceError) as error:
        submitted(server)
    assert str(error.value) == (
        f"sweep micro runs already, as job {name}; follow it with: {AGAIN}; "
        f"stop it with: ray job stop --address {server.address} {name}"
    )
    assert server.sent == []


def test_a_sweep_that_runs_is_followed_on_request(
    server: JobServer, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"{described(None, WORDS).stem}-3"
    server.add(name, "PENDING")
    server.ends = [("SUCCEEDED", 0)]
    assert submitted(server, follows=True) == 0
    assert server.sent == []
    assert capsys.readouterr().out.splitlines() == [
        f"job {name} at {server.address}",
        *("one", "two", "three"),
        f"job {name}: SUCCEEDED, exit code 0",
    ]


def test_of_two_that_submit_in_one_moment_the_second_is_refused(
    server: JobServer, tmp_path: Path
) -> None:
    """The name of the next attempt is what both choose, and the head takes it once."""
    from ray_selfloop.distributed.jobs.head import Head

    job, head = described(None, WORDS), Head(server.address)
    pack(job, tmp_path)
    first = follow.Submission(job, head, tmp_path, QUICK, AGAIN)
    first.begin(follow=False)
    assert not head.send(first.name, job.entrypoint, tmp_path, {})
    assert len(server.sent) == 1


def test_no_wait_submits_and_says_how_to_follow(
    server: JobServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submitted(server, wait=False) == 0
    name = f"{described(None, WORDS).stem}-1"
    assert list(server.jobs) == [name]
    assert f"follow it with: {AGAIN}" in capsys.readouterr().out


# The log


def test_a_log_is_printed_once_however_its_connections_are_cut() -> None:
    for seed in range(200):
        rng = random.Random(seed)
        text = "".join(rng.choices("ab\nä", k=rng.randrange(40)))
        written: list[str] = []
        printed = Printed(written.append)
        for reach in [*(rng.randrange(len(text) + 1) for _ in range(rng.randrange(5))), len(text)]:
            printed.begin()
            at = 0
            while at < reach:
                size = rng.randrange(1, 9)
                printed(text[at : min(at + size, reach)])
                at += size
        assert "".join(written) == text


def test_a_log_is_followed_through_lost_connections(
    server: JobServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.log = "".join(f"line {number}\n" for number in range(100)) + "no end"
    server.cuts, server.unwell = [0, 42, 333, 300, len(server.log)], 2
    server.ends = [("SUCCEEDED", 0)]
    assert submitted(server) == 0
    name = f"{described(None, WORDS).stem}-1"
    assert capsys.readouterr().out == (
        f"job {name} at {server.address}\n{server.log}\njob {name}: SUCCEEDED, exit code 0\n"
    )


def test_a_silent_connection_counts_as_lost(server: JobServer) -> None:
    server.add(f"{described(None, WORDS).stem}-1", "RUNNING")
    job, head = described(None, WORDS), follow.Head(server.address)
    written: list[str] = []
    assert not head.tail(job.attempt(1), 0.2, written.append)
    assert "".join(written) == server.log


def test_patience_with_a_head_that_does_not_answer_ends(
    server: JobServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.ends, server.unwell = [("SUCCEEDED", 0)], 10**9
    short = Pace(backoff=0.01, longest=0.05, quiet=5, patience=0.1, again=0.01)
    chosen = Options(server.address, 3, wait=True, follow=False)
    assert follow.submit(described(None, WORDS), chosen, short, AGAIN) == 75
    assert capsys.readouterr().err.splitlines() == [
        f"{server.address}: RuntimeError: not now; trying again for up to 0.1 s",
        f"error: {server.address}: RuntimeError: not now; go on with: {AGAIN}",
    ]


def test_a_head_that_another_ray_has_left_without_an_agent_is_told_how_to_get_one(
    server: JobServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.agent = False
    short = Pace(backoff=0.01, longest=0.05, quiet=5, patience=0.1, again=0.01)
    chosen = Options(server.address, 3, wait=True, follow=False)
    assert follow.submit(described(None, WORDS), chosen, short, AGAIN) == 75
    first = capsys.readouterr().err.splitlines()[0]
    assert "No available agent" in first
    assert "start the head with --dashboard-agent-listen-port=PORT; trying again" in first


# The command line


def command(*words: str, **environment: str) -> subprocess.Popen[str]:
    """Start ``python -m ray_selfloop submit WORDS`` without what this shell knows of tokens."""
    mine = {key: value for key, value in os.environ.items() if not key.startswith("RAY_AUTH")}
    return subprocess.Popen(
        [sys.executable, "-m", "ray_selfloop", "submit", *words],
        env={**mine, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a shell has its background processes ignore Ctrl-C, and theirs too
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def refused(*words: str, code: int = 2, **environment: str) -> str:
    """The one line with which the command is refused."""
    process = command(*words, **environment)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == code, output + errors
    assert output == ""
    (line,) = errors.splitlines()
    return line.removeprefix("error: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["loop.generatons=3"], "loop.generatons: unknown key; did you mean loop.generations?"),
        (["storage=results"], "storage: results is relative, and a Ray job's working folder is a "),
        (["--retries", "-1"], "Invalid value for '--retries': -1 is not in the range x>=0."),
        (["--no-wait", "--follow"], "--no-wait and --follow exclude each other; usage: python -m "),
        (["--adress=x"], "'--adress=x' is not understood; write adress=x, without dashes"),
        (["--quiet"], "'--quiet' is not understood"),
    ],
)
def test_bad_input_is_refused_before_ray_is_loaded(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = (
        "import sys; from ray_selfloop.__main__ import main; code = main(sys.argv[1:]); "
        "assert not {'ray', 'torch'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "submit", *WORDS, *words],
        env={**os.environ, ADDRESS: "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {said}")


def test_flags_and_words_may_stand_in_any_order() -> None:
    words = ["quickstart", "--retries", "5", "a.b=-1", "--follow"]
    given = cli._submit.make_context("submit", words).params
    rest = given.pop("words")
    found = options(**given)
    assert (found.retries, found.wait, found.follow) == (5, True, True)
    assert rest == ("quickstart", "a.b=-1")
    assert options().retries == 3


@pytest.mark.parametrize(
    ("api", "ray", "found"),
    [
        ("", "", "http://127.0.0.1:8265"),
        ("https://head:443/", "http://other:8265", "https://head:443"),
        ("", "http://other:8265", "http://other:8265"),
        ("", "10.0.0.1:6379", "http://127.0.0.1:8265"),  # a cluster, not its dashboard
    ],
)
def test_the_address_is_the_one_that_rays_own_command_uses(
    api: str, ray: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ADDRESS, api)
    monkeypatch.setenv("RAY_ADDRESS", ray)
    assert address() == found


def test_another_kind_of_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ADDRESS, "ray://head:10001")
    with pytest.raises(ConfigError) as error:
        address()
    assert str(error.value) == (
        "RAY_API_SERVER_ADDRESS=ray://head:10001 is not the address of a dashboard; "
        "give one like http://127.0.0.1:8265"
    )


def test_no_head_at_the_address_is_said_within_seconds() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        where = f"http://127.0.0.1:{taken.getsockname()[1]}"
        begun = time.monotonic()
        said = refused(*WORDS, code=75, **{ADDRESS: where})
    assert time.monotonic() - begun < 10
    begin = f"{where}: no answer ([Errno 111] Connection refused)"
    assert said.startswith(f"{begin}; go on with: python -m ray_selfloop submit ")


def test_another_server_at_the_address_is_said(server: JobServer) -> None:
    said = refused(*WORDS, **{ADDRESS: f"{server.address}/elsewhere"})
    assert said.startswith(f"{server.address}/elsewhere answers, but is not the dashboard of a Ray")


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, "RAY_AUTH_MODE is not set, so none was sent; export RAY_AUTH_MODE=token"),
        (
            {"RAY_AUTH_MODE": "disabled"},
            "RAY_AUTH_MODE is disabled, so none was sent; export RAY_AUTH_MODE=token",
        ),
        ({"RAY_AUTH_MODE": "token"}, "there is none in {home}/.ray/auth_token"),
        (
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "wrong"},
            "it does not know the one in RAY_AUTH_TOKEN",
        ),
    ],
)
def test_a_refused_token_is_said_with_where_it_was_looked_for(
    server: JobServer, tmp_path: Path, environment: dict[str, str], found: str
) -> None:
    server.token = "right"
    said = refused(*WORDS, **{**environment, ADDRESS: server.address, "HOME": str(tmp_path)})
    assert said == (
        f"{server.address} asks for the cluster's token: {found.format(home=tmp_path)}. The token "
        "is what `ray get-auth-token` prints on the head; here it belongs in ~/.ray/auth_token, or "
        "in the file that RAY_AUTH_TOKEN_PATH names"
    )
    assert server.sent == []


def test_interrupting_ends_following_and_not_the_job(server: JobServer) -> None:
    process = command(*WORDS, **{ADDRESS: server.address})
    assert process.stdout is not None
    name = f"{described(None, WORDS).stem}-1"
    lines = [process.stdout.readline() for _ in range(4)]
    assert lines == [f"job {name} at {server.address}\n", "one\n", "two\n", "three\n"]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    again = f"python -m ray_selfloop submit --follow {' '.join(WORDS[:1])}"
    assert f"job {name} goes on; follow it with: {again}" in errors
    assert f"stop it with: ray job stop --address {server.address} {name}" in errors
    assert "Traceback" not in errors
    assert server.jobs[name]["status"] == "RUNNING"


def test_no_credentials_are_sent(server: JobServer) -> None:
    server.token, server.ends = "the-token", [("SUCCEEDED", 0)]
    secrets = {"RAY_AUTH_TOKEN": "the-token", "AWS_SECRET_ACCESS_KEY": "the-key"}
    process = command(*WORDS, **{ADDRESS: server.address, "RAY_AUTH_MODE": "token", **secrets})
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    (body,), (package,) = server.sent, server.packages.values()
    assert set(body["runtime_env"]) == {"working_dir", "env_vars"}
    assert body["runtime_env"]["env_vars"] == {"OMP_NUM_THREADS": "1"}
    with zipfile.ZipFile(io.BytesIO(package)) as files:
        held = b"".join(files.read(name) for name in files.namelist()) + repr(body).encode()
    assert b"micro" in held
    assert not [secret for secret in secrets.values() if secret.encode() in held]


def test_help_tells_the_flags_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "--help"]) == 0
    told = capsys.readouterr().out
    assert all(
        word in told for word in ("--retries", "--no-wait", "--follow", ADDRESS, "75", "130")
    )
