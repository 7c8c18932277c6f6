"""A password in the address of the MLflow server is shown nowhere."""

import pytest
from conftest import MICRO
from job_server import JobServer, serving

from ray_selfloop.__main__ import main
from ray_selfloop.config import load
from ray_selfloop.config.plain import masked, shown
from ray_selfloop.distributed.jobs.job import ADDRESS
from ray_selfloop.errors import ConfigError
from ray_selfloop.planning import TRACKING_MARK, tracking_uri


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://me:secret@host:5000/x", "https://me:***@host:5000/x"),
        ("MLflow at http://me:se/cr:et@host, gone", "MLflow at http://me:***@host, gone"),
        ("'tracking.uri=http://me:s@cret@host'", "'tracking.uri=http://me:***@host'"),
        ("postgresql+psycopg2://me:secret@host/db", "postgresql+psycopg2://me:***@host/db"),
        ("http://:secret@host", "http://:***@host"),
        ("http://me@corp.com:secret@host/x", "http://***@corp.com:***@host/x"),
        ("https://secrettoken@host:5000/x", "https://***@host:5000/x"),
        (
            "postgresql://h/db?user=u&password=secret now",
            "postgresql://h/db?user=u&password=*** now",
        ),
        ("http://host:5000/x", "http://host:5000/x"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("sqlite:////tmp/me:you@here.db", "sqlite:////tmp/me:you@here.db"),
        ("s3://bucket/sweep as me: you@here", "s3://bucket/sweep as me: you@here"),
    ],
)
def test_only_a_password_is_masked(text: str, said: str) -> None:
    assert masked(text) == said
    assert masked(said) == said


def test_a_text_is_masked_before_it_is_cut() -> None:
    assert shown(f"http://me:{'secret' * 99}@host", 40) == "http://me:***@host"


@pytest.mark.parametrize("password", ["secret", "secret" * 20])
def test_an_error_of_the_settings_shows_none(password: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load.load(None, [f"tracking.uri=ftp://me:{password}@host"])
    assert str(caught.value) == (
        "tracking.uri: 'ftp://me:***@host' is not a tracking URI; use sqlite:///PATH/mlflow.db or "
        "http(s)://HOST:PORT (found 'ftp://me:***@host')"
    )


def test_an_error_of_the_environment_shows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    sweep, _ = load.load(None, [])
    monkeypatch.setenv(TRACKING_MARK, "ftp://me:secret@host")
    with pytest.raises(ConfigError, match=r"^MLFLOW_TRACKING_URI: ftp://me:\*\*\*@host is not a "):
        tracking_uri(sweep, "s3://bucket/sweep")


def test_an_error_of_the_command_line_shows_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "quickstart", "http://me:secret@host"]) == 2
    assert capsys.readouterr().err.startswith("error: 'http://me:***@host' is not understood")


def test_the_command_that_follows_a_job_shows_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*MICRO, "storage=/shared/results", "tracking.uri=https://me:secret@host"]
    with serving(JobServer()) as found:
        monkeypatch.setenv(ADDRESS, found.address)
        assert main(["submit", "--no-wait", *words]) == 0
    said = capsys.readouterr().out
    assert "tracking.uri=https://me:***@host" in said
    assert "secret" not in said
