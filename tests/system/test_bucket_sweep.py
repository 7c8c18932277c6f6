"""A whole sweep on a bucket that throttles, errs and drops: the table of a sweep in a folder."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import buckets
import pandas as pd
import pytest
from conftest import MICRO

from ray_selfloop.planning import TRACKING_MARK, prepare
from ray_selfloop.store.artifacts import CACHE
from sweeps import LIMIT, records, results, run, start

pytestmark = pytest.mark.slow

WORDS = [*MICRO, "loop.generations=1"]
TROUBLE = 0.1  # share of all requests


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[buckets.Proxy]:
    for name, value in buckets.KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    monkeypatch.setenv(TRACKING_MARK, f"sqlite:///{tmp_path / 'runs.db'}")
    with buckets.s3_server() as endpoint, buckets.proxy(endpoint) as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL", found.endpoint)
        yield found


def test_a_sweep_killed_in_an_upload_and_run_again_in_trouble_ends_as_one_in_a_folder(
    proxy: buckets.Proxy, undisturbed: list[str]
) -> None:
    folder = undisturbed
    bucket = [*WORDS, f"storage=s3://{buckets.new_bucket(f'http://{proxy.target}')}/sweeps"]
    proxy.share = TROUBLE
    proxy.hold = lambda method, path: method == "PUT" and path.endswith("/images.npy")
    process = start(bucket)
    assert proxy.held.wait(LIMIT)
    process.send_signal(signal.SIGKILL)
    process.wait(LIMIT)
    proxy.hold = lambda method, path: False
    published = len(prepare(bucket).records)
    code, output = run(bucket)
    assert code == 0, output
    assert 0 < published < len(records(bucket)) == len(records(folder))
    _same(bucket, folder)
    assert all(proxy.trouble[kind] for kind in buckets.TROUBLE)
    before = prepare(bucket).store.blobs.list("stages")
    code, output = run(bucket)
    assert code == 0, output
    assert prepare(bucket).store.blobs.list("stages") == before, "nothing was computed again"
    _same(bucket, folder)
    assert not os.path.exists("s3:"), "no folder was made of the address"


def _same(bucket: list[str], folder: list[str]) -> None:
    pd.testing.assert_frame_equal(results(bucket), results(folder))
    mine, theirs = records(bucket), records(folder)
    loop = [key for key, record in theirs.items() if record.kind not in ("claims", "dynamics")]
    assert {key: mine[key].files for key in loop} == {key: theirs[key].files for key in loop}
